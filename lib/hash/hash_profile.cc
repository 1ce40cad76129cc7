#include "lib/hash/hash_profile.h"

#include <array>
#include <utility>

namespace conductor::hash {
namespace {

constexpr std::array<std::pair<HashAlgorithm, std::string_view>, 4> kNames = {{
    {HashAlgorithm::kSha256, "sha256"},
    {HashAlgorithm::kSha256Cbor, "sha256_cbor"},
    {HashAlgorithm::kXxhash, "xxhash"},
    {HashAlgorithm::kXxhashCbor, "xxhash_cbor"},
}};

}  // namespace

std::string_view HashAlgorithmName(HashAlgorithm algorithm) {
  for (const auto& [known, name] : kNames) {
    if (known == algorithm) return name;
  }
  return "";
}

Result<HashAlgorithm> ParseHashAlgorithm(std::string_view text) {
  for (const auto& [known, name] : kNames) {
    if (name == text) return known;
  }
  return Fail("no hash algorithm that can be computed outside of the engine: \"" +
                  std::string(text.substr(0, 64)) + "\"",
              {}, "sha256, sha256_cbor, xxhash or xxhash_cbor");
}

}  // namespace conductor::hash
