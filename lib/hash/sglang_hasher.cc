#include "lib/hash/sglang_hasher.h"

#include <bit>

#include "lib/base/bytes.h"

static_assert(std::endian::native == std::endian::little,
              "tokens are hashed where they lie, as little-endian integers");

namespace conductor::hash {

SglangHasher::SglangHasher(std::optional<std::string_view> cache_salt) {
  using std::string_view_literals::operator""sv;
  if (cache_salt) root_ = sha256_.Digest({"sglang-cache-salt-v1\0"sv, *cache_salt});
}

std::string SglangHasher::Next(std::string_view parent, std::span<const TokenId> tokens) {
  return sha256_.Digest(
      {parent, {reinterpret_cast<const char*>(tokens.data()), tokens.size_bytes()}});
}

EngineHash SglangHasher::NameOf(std::string_view digest) {
  return EngineHash{LoadBigEndian64(digest)};
}

}  // namespace conductor::hash
