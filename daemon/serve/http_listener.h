#ifndef CONDUCTOR_DAEMON_SERVE_HTTP_LISTENER_H_
#define CONDUCTOR_DAEMON_SERVE_HTTP_LISTENER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/serve/http_connection.h"
#include "daemon/serve/http_router.h"
#include "daemon/serve/tls_transport.h"
#include "lib/base/result.h"

namespace conductor::serve {

// Sizes at one moment.
struct HttpConnections {
  uint64_t open = 0;
  uint64_t accepted = 0;    // ever
  uint64_t rejected = 0;    // ever: answered 503 because max_connections were open
  uint64_t unopened = 0;    // ever: ended before their TLS handshake did
  uint64_t body_bytes = 0;  // of requests that are being received or handled
  uint64_t threads = 0;     // that serve them
};

// An HTTP/1.1 server for hundreds of routers that each keep a connection open and for clients that
// misbehave. httplib::Server matches routes, guards handlers and writes answers; what Debian's
// 0.11.4 leaves open is closed here: it reads bodies without end, takes as many headers as come,
// compresses every answer for clients that allow it, refuses descriptors above 1023 and ends when
// accept() fails once. So requests are read here, within limits and one absolute deadline each,
// and the library sees only complete, canonical ones, from memory.
//
// About as many threads as there are processors serve all connections (http_workers.h), more where
// clients are slow or handlers take long. One more thread accepts. An idle connection costs a
// descriptor and some hundred bytes.
//
// Errors that a client sees are JSON, {"error": text, "reason": word}, where WriteRefusals() does
// not say otherwise:
//   400 malformed_request
//   401 unauthorized, 403 forbidden: where tokens are required, and for unknown paths then too
//   404 unknown_path
//   405 method_not_allowed (with Allow)
//   408 request_timeout
//   413 body_too_large
//   415, 417, 501, 505 see ParseHead()
//   431 head_too_large
//   500 internal_error (a handler threw)
//   503 too_many_connections, busy (max_inflight_bytes are taken); both with Retry-After
// With TLS a connection beyond max_connections is closed without an answer, and so is one whose
// handshake fails (a client that speaks plain HTTP) or takes longer than a request may.
class HttpListener {
 public:
  struct Options {
    std::string host = "127.0.0.1";  // a name, an IPv4 or an IPv6 address (brackets allowed)
    uint16_t port = 0;               // 0: a free one
    uint32_t max_connections = 1024;
    HttpLimits limits;
  };

  explicit HttpListener(const Options& options);
  ~HttpListener();  // Stop()
  HttpListener(const HttpListener&) = delete;
  HttpListener& operator=(const HttpListener&) = delete;

  // Before Start(). See HttpRouter::Add(). Handlers are called on many threads at once.
  void Route(const std::string& method, const std::string& path, HttpHandler handler,
             Access access = Access::kRead);
  // See HttpRouter::WriteRefusals(); before Start().
  void WriteRefusals(HttpRouter::RefusalWriter writer);
  // (method, path), in the order of Route().
  [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& routes() const;
  // Of routes()[route].
  [[nodiscard]] Access access(size_t route) const;

  // TLS from the next connection on, with this certificate. Before Start(), if at all; after that
  // any thread may put another in its place.
  void Secure(std::shared_ptr<const TlsContext> tls);

  // From the next request on; any thread, at any time. Without a call nobody is asked for a token.
  void Require(AuthTokens tokens);

  // Before Start(); called on the connections' threads.
  void OnExchange(std::function<void(const HttpExchange&)> observer);

  // See HttpRouter::Respond(): asks no connection and no token, needs no Start(). Any thread.
  [[nodiscard]] HttpResponse Respond(const HttpHead& head, std::string body) const;

  // Binds and begins to accept; the port that was bound. A port that anyone listens on is an error;
  // it names host and port.
  [[nodiscard]] Result<uint16_t> Start();

  // Ends all connections and threads: what is being answered has a quarter of a second to get
  // out.
  void Stop();

  [[nodiscard]] HttpConnections connections() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_HTTP_LISTENER_H_
