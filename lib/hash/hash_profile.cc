#include "lib/hash/hash_profile.h"

#include <fmt/format.h>

#include <array>

namespace conductor::hash {
namespace {

constexpr std::array kAlgorithms = {HashAlgorithm::kSha256, HashAlgorithm::kSha256Cbor,
                                    HashAlgorithm::kXxhash, HashAlgorithm::kXxhashCbor};

}  // namespace

std::string_view HashAlgorithmName(HashAlgorithm algorithm) {
  switch (algorithm) {
    case HashAlgorithm::kSha256:
      return "sha256";
    case HashAlgorithm::kSha256Cbor:
      return "sha256_cbor";
    case HashAlgorithm::kXxhash:
      return "xxhash";
    case HashAlgorithm::kXxhashCbor:
      return "xxhash_cbor";
  }
  return "";
}

Result<HashAlgorithm> ParseHashAlgorithm(std::string_view text) {
  for (const HashAlgorithm algorithm : kAlgorithms) {
    if (text == HashAlgorithmName(algorithm)) return algorithm;
  }
  return Fail(fmt::format("'{}' is not a hash algorithm that can be computed", text), {},
              "sha256, sha256_cbor, xxhash or xxhash_cbor");
}

}  // namespace conductor::hash
