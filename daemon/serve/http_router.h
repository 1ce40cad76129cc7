#ifndef CONDUCTOR_DAEMON_SERVE_HTTP_ROUTER_H_
#define CONDUCTOR_DAEMON_SERVE_HTTP_ROUTER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/serve/http_framing.h"

namespace conductor::serve {

// A request as a handler sees it: complete, and within the limits.
struct HttpRequest {
  std::string content_type;
  std::string accept;  // of all its Accept lines
  std::string compat;  // X-Conductor-Compat
  std::string query;   // of the target, behind the '?', as it was sent
  // Its capacity leaves kBodyPadding bytes behind the end, for parsers that read ahead.
  std::string body;
  // What stands in the request's path for the {...} of the route's, percent-decoded.
  std::string parameter;

  static constexpr size_t kBodyPadding = 64;
};

// What a client must be allowed to ask for a route, where tokens are required at all.
enum class Access : uint8_t {
  kOpen,   // nothing: probes
  kRead,   // whatever changes nothing
  kAdmin,  // what changes what is followed, held or answered
};

// An answer that goes on until the client leaves or the server stops. Used by one thread, and
// destroyed at its end.
class HttpStream {
 public:
  virtual ~HttpStream() = default;
  // A descriptor that poll() finds readable once Take() has something.
  [[nodiscard]] virtual int ready() const = 0;
  // The next piece to send; empty while there is none.
  [[nodiscard]] virtual std::string Take() = 0;
  // What is sent after a while without a piece, so that either end notices that the other has left.
  [[nodiscard]] virtual std::string Heartbeat() const = 0;
};

struct HttpResponse {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers = {};  // more of them
  // In place of `body`, with a status of 200; the connection ends with it.
  std::shared_ptr<HttpStream> stream = nullptr;
};

// What goes out for a response: all of it, or the head and what then follows piece by piece.
struct HttpAnswer {
  std::string bytes;
  std::shared_ptr<HttpStream> stream;
};

using HttpHandler = std::function<HttpResponse(HttpRequest request)>;

// From a complete request to the bytes of its answer, which httplib::Server writes. The library
// sees only complete, canonical requests, from memory, and not their bodies, which it would copy;
// what Debian's 0.11.4 would do with others is in http_listener.h.
//
// Add() all routes first; after that any thread may call the rest.
class HttpRouter {
 public:
  HttpRouter();
  ~HttpRouter();
  HttpRouter(const HttpRouter&) = delete;
  HttpRouter& operator=(const HttpRouter&) = delete;

  // `method` is GET (HEAD follows), POST, PUT or DELETE. `path` is literal, but that one segment
  // may be a parameter: "/v1/publishers/{id}/resync". No two routes of one method may match one
  // path.
  void Add(const std::string& method, const std::string& path, HttpHandler handler,
           Access access = Access::kRead);
  // How a refusal is told to a client that reads errors in a form of its own: the body and its
  // type; nothing: {"error", "reason"} in JSON. `path` and `request`, which has no body, are what
  // was asked for, both empty where that could not be read.
  using RefusalWriter = std::function<std::optional<HttpResponse>(
      const HttpRefusal& refusal, std::string_view path, const HttpRequest& request)>;
  void WriteRefusals(RefusalWriter writer) { refusal_writer_ = std::move(writer); }
  // (method, path), in the order of Add().
  [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& routes() const;
  // Of routes()[route].
  [[nodiscard]] Access access(size_t route) const { return access_[route]; }

  struct Match {
    std::string_view path;       // as added; empty: nobody knows it
    std::string allow;           // what it takes instead of this method; empty: it takes it
    std::string_view parameter;  // as it stands in the request's path
    size_t route = 0;            // in routes(), where it takes the method
  };
  [[nodiscard]] Match Find(std::string_view method, std::string_view path) const;

  // Of a request that Find() did not match: its path, or its method alone.
  [[nodiscard]] static HttpRefusal UnknownPath();
  [[nodiscard]] static HttpRefusal WrongMethod(const Match& match);

  // A refusal of the request with this head, in the form that its client reads.
  [[nodiscard]] HttpRefusal Written(HttpRefusal refusal, const HttpHead& head) const;

  // The answer to a request that Find() matched; a handler that throws is status 500 and a line in
  // the log. Without `keep_alive` it says that the connection ends.
  [[nodiscard]] HttpAnswer Answer(const HttpHead& head, const Match& match, std::string body,
                                  bool keep_alive);

  // The response to a request that came by no connection: what Answer() writes, or the refusal of a
  // path or a method that nobody knows. Whether the caller may ask that is for the caller to know.
  [[nodiscard]] HttpResponse Respond(const HttpHead& head, std::string body) const;

 private:
  class Server;

  // What the route's handler says, or what is said in its place.
  [[nodiscard]] HttpResponse Handle(const HttpHead& head, const Match& match,
                                    std::string body) const;
  [[nodiscard]] HttpResponse Refused(const HttpRefusal& refusal, const HttpHead& head) const;

  std::unique_ptr<Server> server_;
  std::vector<std::pair<std::string, std::string>> routes_;
  std::vector<HttpHandler> handlers_;  // of routes_
  std::vector<Access> access_;         // of routes_
  RefusalWriter refusal_writer_;       // nothing: all in JSON
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_HTTP_ROUTER_H_
