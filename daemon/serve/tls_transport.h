#ifndef CONDUCTOR_DAEMON_SERVE_TLS_TRANSPORT_H_
#define CONDUCTOR_DAEMON_SERVE_TLS_TRANSPORT_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/serve/http_transport.h"
#include "lib/base/result.h"

// OpenSSL's SSL_CTX and SSL, whose headers stay out of ours.
struct ssl_ctx_st;
struct ssl_st;

namespace conductor::serve {

// A certificate with its key, and how TLS is spoken with them: 1.2 and above, without
// renegotiation. Immutable; any thread may use it.
class TlsContext {
 public:
  // Both files in PEM; the certificate's has those of the authorities between it and the root
  // behind it, and the key has no passphrase. Errors name the file and what was expected of it.
  [[nodiscard]] static Result<std::shared_ptr<const TlsContext>> Load(const std::string& cert_path,
                                                                      const std::string& key_path);

  // What is not wrong but unwise, a line for the log each: a key that others read, a certificate
  // that has expired.
  [[nodiscard]] const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  friend class TlsTransport;
  struct Free {
    void operator()(ssl_ctx_st* context) const;
  };
  explicit TlsContext(std::unique_ptr<ssl_ctx_st, Free> context);

  std::unique_ptr<ssl_ctx_st, Free> context_;
  std::vector<std::string> warnings_;
};

// The server's side of TLS on one connection. The thread that uses it blocks SIGPIPE, or the
// process ignores it: OpenSSL writes without MSG_NOSIGNAL.
class TlsTransport : public HttpTransport {
 public:
  TlsTransport(FileDescriptor socket, std::shared_ptr<const TlsContext> context);
  ~TlsTransport() override;

  // The handshake.
  [[nodiscard]] Io Open() override;
  [[nodiscard]] Moved Read(char* to, size_t size) override;
  [[nodiscard]] Moved Write(std::string_view bytes) override;
  void EndWriting() override;

 private:
  // What became of a call that returned `result`, which is no success.
  [[nodiscard]] Io After(int result);
  // Tells the other side that the end is meant, and no attacker's.
  void SayGoodbye();

  const std::shared_ptr<const TlsContext> context_;
  struct Free {
    void operator()(ssl_st* ssl) const;
  };
  std::unique_ptr<ssl_st, Free> ssl_;
  bool open_ = false;  // the handshake is done, and nothing has broken it since
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_TLS_TRANSPORT_H_
