#include "lib/hash/sha256.h"

#include <openssl/evp.h>

#include <stdexcept>

namespace conductor::hash {
namespace {

constexpr size_t kDigestBytes = 32;

void Require(int openssl_result) {
  if (openssl_result != 1) throw std::runtime_error("libcrypto cannot compute SHA-256");
}

}  // namespace

void Sha256::Free::operator()(evp_md_ctx_st* context) const { EVP_MD_CTX_free(context); }

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  Require(context_ != nullptr ? 1 : 0);
  Require(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr));
}

std::string Sha256::Digest(std::initializer_list<std::string_view> parts) {
  // Without an algorithm the context keeps the one that it has.
  Require(EVP_DigestInit_ex(context_.get(), nullptr, nullptr));
  for (const std::string_view part : parts) {
    Require(EVP_DigestUpdate(context_.get(), part.data(), part.size()));
  }
  std::string digest(kDigestBytes, '\0');
  Require(
      EVP_DigestFinal_ex(context_.get(), reinterpret_cast<unsigned char*>(digest.data()), nullptr));
  return digest;
}

}  // namespace conductor::hash
