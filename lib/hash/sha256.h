#ifndef CONDUCTOR_LIB_HASH_SHA256_H_
#define CONDUCTOR_LIB_HASH_SHA256_H_

#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>

// OpenSSL's EVP_MD_CTX, whose headers stay out of ours.
struct evp_md_ctx_st;

namespace conductor::hash {

// SHA-256 by OpenSSL's libcrypto. Keeps one context, because looking the algorithm up costs more
// than hashing a block: one object a thread. Throws std::runtime_error only where this machine's
// libcrypto has no SHA-256.
class Sha256 {
 public:
  Sha256();

  // The 32 bytes of the digest of all `parts`, one after the other.
  [[nodiscard]] std::string Digest(std::initializer_list<std::string_view> parts);
  [[nodiscard]] std::string Digest(std::string_view bytes) { return Digest({bytes}); }

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };

  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

}  // namespace conductor::hash

#endif  // CONDUCTOR_LIB_HASH_SHA256_H_
