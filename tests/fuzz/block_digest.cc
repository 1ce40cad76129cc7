// A block with any tokens and any extra keys, hashed under every profile.

#include <cstring>
#include <string>
#include <vector>

#include "fuzz_target.h"
#include "lib/hash/extra_key.h"
#include "lib/hash/hash_profile.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using conductor::fuzz::Require;
  namespace hash = conductor::hash;
  conductor::fuzz::Decisions input(data, size);
  hash::ExtraKeys extras;
  bool readable = true;
  for (unsigned left = input.Below(4); left > 0; --left) {
    extras.emplace_back(input.Bytes(input.Byte()));
    readable = readable && hash::ReadExtraKey(extras.back()).has_value();
  }
  const std::string_view rest = input.Rest();
  std::vector<conductor::TokenId> tokens(rest.size() / sizeof(conductor::TokenId));
  if (!tokens.empty()) {
    std::memcpy(tokens.data(), rest.data(), tokens.size() * sizeof(conductor::TokenId));
  }
  for (const auto algorithm : {hash::HashAlgorithm::kSha256, hash::HashAlgorithm::kSha256Cbor,
                               hash::HashAlgorithm::kXxhash, hash::HashAlgorithm::kXxhashCbor}) {
    hash::VllmHasher hasher({.algorithm = algorithm, .seed = std::string(rest.substr(0, 16))});
    const auto digest = hasher.Next(hasher.root(), tokens, extras);
    Require(digest.has_value() == readable, "a block has a digest exactly if its keys can be read");
    Require(!digest || digest->size() == hasher.root().size(), "all digests have one size");
  }
  return 0;
}
