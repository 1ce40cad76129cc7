#include <xxhash.h>

#include "lib/base/bytes.h"
#include "lib/hash/cbor_block.h"
#include "lib/hash/hash_profile.h"
#include "lib/hash/pickle_block.h"

namespace conductor::hash {
namespace {

bool IsPickled(HashAlgorithm algorithm) {
  return algorithm == HashAlgorithm::kSha256 || algorithm == HashAlgorithm::kXxhash;
}

bool IsSha256(HashAlgorithm algorithm) {
  return algorithm == HashAlgorithm::kSha256 || algorithm == HashAlgorithm::kSha256Cbor;
}

}  // namespace

VllmHasher::VllmHasher(const HashProfile& profile) : algorithm_(profile.algorithm) {
  IsPickled(algorithm_) ? PickleText(profile.seed, buffer_) : CborText(profile.seed, buffer_);
  root_ = Digest();
}

Result<std::string> VllmHasher::Next(std::string_view parent, std::span<const TokenId> tokens,
                                     const ExtraKeys& extras) {
  buffer_.clear();
  const Status written = IsPickled(algorithm_) ? PickleBlock(parent, tokens, extras, buffer_)
                                               : CborBlock(parent, tokens, extras, buffer_);
  if (!written) return tl::unexpected(written.error());
  return Digest();
}

EngineHash VllmHasher::NameOf(std::string_view digest) {
  return EngineHash{LoadBigEndian64(digest.substr(digest.size() - 8))};
}

std::string VllmHasher::Digest() {
  if (IsSha256(algorithm_)) return sha256_.Digest(buffer_);
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(buffer_.data(), buffer_.size()));
  return {reinterpret_cast<const char*>(canonical.digest), sizeof(canonical.digest)};
}

}  // namespace conductor::hash
