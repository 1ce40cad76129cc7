#include "daemon/serve/tls_transport.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <utility>

#include "lib/base/log.h"

namespace conductor::serve {
namespace {

constexpr std::string_view kCertificate = "a certificate in PEM, and those of its authorities";
constexpr std::string_view kKey = "the certificate's private key in PEM, without a passphrase";

// What OpenSSL says was wrong, the first of it.
std::string Reason() {
  const unsigned long code = ::ERR_get_error();
  ::ERR_clear_error();
  if (code == 0) return "no reason is known";
  if (const char* reason = ::ERR_reason_error_string(code)) return reason;
  std::array<char, 256> text{};
  ::ERR_error_string_n(code, text.data(), text.size());
  return text.data();
}

Status CheckReadable(const std::string& path, std::string_view expected) {
  struct stat status {};
  errno = 0;
  int error = 0;
  if (::stat(path.c_str(), &status) != 0) {
    error = errno;
  } else if (S_ISDIR(status.st_mode)) {
    error = EISDIR;
  } else if (!std::ifstream(path)) {
    error = errno;
  }
  if (error == 0) return {};
  return Fail(fmt::format("cannot be read: {}", std::strerror(error)), path, std::string(expected));
}

bool OthersCanOpen(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 &&
         (status.st_mode & (S_IRGRP | S_IWGRP | S_IROTH | S_IWOTH)) != 0;
}

}  // namespace

void TlsContext::Free::operator()(ssl_ctx_st* context) const { ::SSL_CTX_free(context); }

TlsContext::TlsContext(std::unique_ptr<ssl_ctx_st, Free> context) : context_(std::move(context)) {}

Result<std::shared_ptr<const TlsContext>> TlsContext::Load(const std::string& cert_path,
                                                           const std::string& key_path) {
  if (auto readable = CheckReadable(cert_path, kCertificate); !readable) {
    return tl::unexpected(std::move(readable.error()));
  }
  if (auto readable = CheckReadable(key_path, kKey); !readable) {
    return tl::unexpected(std::move(readable.error()));
  }
  ::ERR_clear_error();
  std::unique_ptr<ssl_ctx_st, Free> made(::SSL_CTX_new(::TLS_server_method()));
  if (!made) return Fail(fmt::format("TLS cannot be used: {}", Reason()));
  SSL_CTX* const context = made.get();
  ::SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  // An end without a goodbye is an end: HTTP has lengths of its own.
  ::SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
  // Idle connections keep no buffers; a write may be taken up again from another place.
  ::SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  // Nobody is there to be asked for one.
  ::SSL_CTX_set_default_passwd_cb(context, [](char*, int, int, void*) { return -1; });

  if (::SSL_CTX_use_certificate_chain_file(context, cert_path.c_str()) != 1) {
    return Fail(fmt::format("cannot be used: {}", Reason()), cert_path, std::string(kCertificate));
  }
  if (::SSL_CTX_use_PrivateKey_file(context, key_path.c_str(), SSL_FILETYPE_PEM) != 1) {
    const unsigned long code = ::ERR_peek_error();
    if (ERR_GET_LIB(code) == ERR_LIB_X509 && ERR_GET_REASON(code) == X509_R_KEY_VALUES_MISMATCH) {
      ::ERR_clear_error();
      return Fail(fmt::format("is not the key of the certificate {}", cert_path), key_path,
                  std::string(kKey));
    }
    return Fail(fmt::format("cannot be used: {}", Reason()), key_path, std::string(kKey));
  }
  if (::SSL_CTX_check_private_key(context) != 1) {
    return Fail(fmt::format("is not the key of the certificate {}: {}", cert_path, Reason()),
                key_path, std::string(kKey));
  }

  std::vector<std::string> warnings;
  const X509* certificate = ::SSL_CTX_get0_certificate(context);
  if (::X509_cmp_current_time(::X509_get0_notAfter(certificate)) < 0) {
    warnings.push_back(fmt::format("{}: the certificate has expired", cert_path));
  }
  if (OthersCanOpen(key_path)) {
    warnings.push_back(fmt::format(
        "{}: others than its owner can open the private key; `chmod 600` mends that", key_path));
  }
  auto loaded = std::shared_ptr<TlsContext>(new TlsContext(std::move(made)));
  loaded->warnings_ = std::move(warnings);
  return loaded;
}

void TlsTransport::Free::operator()(ssl_st* ssl) const { ::SSL_free(ssl); }

TlsTransport::TlsTransport(FileDescriptor socket, std::shared_ptr<const TlsContext> context)
    : HttpTransport(std::move(socket)),
      context_(std::move(context)),
      ssl_(::SSL_new(context_->context_.get())) {
  if (ssl_ && ::SSL_set_fd(ssl_.get(), fd()) != 1) ssl_.reset();
}

TlsTransport::~TlsTransport() { SayGoodbye(); }

HttpTransport::Io TlsTransport::After(int result) {
  switch (::SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      return Io::kWantsRead;
    case SSL_ERROR_WANT_WRITE:
      return Io::kWantsWrite;
    case SSL_ERROR_ZERO_RETURN:
      return Io::kClosed;
    default:
      // Nothing may be said any more, not even goodbye.
      if (log::Enabled(log::Level::kDebug)) log::Debug("http: TLS ended: {}", Reason());
      open_ = false;
      return Io::kClosed;
  }
}

HttpTransport::Io TlsTransport::Open() {
  if (!ssl_) return Io::kClosed;
  ::ERR_clear_error();
  const int result = ::SSL_accept(ssl_.get());
  if (result != 1) return After(result);
  open_ = true;
  return Io::kDone;
}

HttpTransport::Moved TlsTransport::Read(char* to, size_t size) {
  ::ERR_clear_error();
  size_t got = 0;
  const int result = ::SSL_read_ex(ssl_.get(), to, size, &got);
  return result == 1 ? Moved{Io::kDone, got} : Moved{After(result)};
}

HttpTransport::Moved TlsTransport::Write(std::string_view bytes) {
  ::ERR_clear_error();
  size_t sent = 0;
  const int result = ::SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &sent);
  return result == 1 ? Moved{Io::kDone, sent} : Moved{After(result)};
}

void TlsTransport::SayGoodbye() {
  if (!std::exchange(open_, false)) return;
  ::ERR_clear_error();
  ::SSL_shutdown(ssl_.get());
  ::ERR_clear_error();
}

void TlsTransport::EndWriting() {
  SayGoodbye();
  HttpTransport::EndWriting();
}

}  // namespace conductor::serve
