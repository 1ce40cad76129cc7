#include "daemon/serve/http_router.h"

#include <fmt/format.h>
#include <httplib.h>

#include <algorithm>
#include <cstring>
#include <exception>

#include "lib/base/log.h"

namespace conductor::serve {
namespace {

// A request's head in memory as the library's idea of a connection, and the answer's bytes.
class MemoryStream : public httplib::Stream {
 public:
  explicit MemoryStream(std::string head) : head_(std::move(head)) {}

  [[nodiscard]] bool is_readable() const override { return true; }
  [[nodiscard]] bool is_writable() const override { return true; }

  ssize_t read(char* to, size_t size) override {
    const size_t take = std::min(size, unread_.size());
    std::memcpy(to, unread_.data(), take);
    unread_.remove_prefix(take);
    return static_cast<ssize_t>(take);
  }

  ssize_t write(const char* from, size_t size) override {
    answer_.append(from, size);
    return static_cast<ssize_t>(size);
  }

  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  // The library only compares it with FD_SETSIZE, for a select() that never comes.
  [[nodiscard]] socket_t socket() const override { return 0; }

  [[nodiscard]] std::string TakeAnswer() { return std::move(answer_); }

 private:
  const std::string head_;
  std::string_view unread_ = head_;
  std::string answer_;
};

}  // namespace

class HttpRouter::Server : public httplib::Server {
 public:
  Server() {
    set_post_routing_handler([](const httplib::Request&, httplib::Response& response) {
      response.headers.erase("Keep-Alive");  // it would promise the library's limits
    });
  }

  void Route(const std::string& method, const std::string& path, HttpHandler handler) {
    auto guarded = [handler = std::move(handler), path](HttpRequest request) {
      try {
        return handler(std::move(request));
      } catch (const std::exception& error) {
        log::Error("http: {} failed: {}", path, error.what());
      } catch (...) {
        log::Error("http: {} failed", path);
      }
      return HttpResponse{500, R"({"error":"internal error","reason":"internal_error"})"};
    };
    if (method == "GET") {
      Get(path, [guarded](const httplib::Request&, httplib::Response& response) {
        Fill(response, guarded(HttpRequest{}));
      });
    } else {
      Post(path, [guarded](const httplib::Request& request, httplib::Response& response,
                           const httplib::ContentReader&) {
        // The library only shows it as const; Handle() put the body there for this.
        auto& body = const_cast<httplib::Request&>(request).body;  // NOLINT
        Fill(response,
             guarded(HttpRequest{request.get_header_value("Content-Type"), std::move(body)}));
      });
    }
  }

  // The body goes around the library, which would copy it: of the request in `stream` it only
  // reads a head that promises none.
  void Handle(MemoryStream& stream, std::string body, bool close) {
    bool closed = false;
    process_request(stream, close, closed,
                    [&body](httplib::Request& request) { request.body = std::move(body); });
  }

 private:
  static void Fill(httplib::Response& to, HttpResponse from) {
    to.status = from.status;
    to.body = std::move(from.body);
    to.set_header("Content-Type", from.content_type);
  }
};

HttpRouter::HttpRouter() : server_(std::make_unique<Server>()) {}
HttpRouter::~HttpRouter() = default;

void HttpRouter::Add(const std::string& method, const std::string& path, HttpHandler handler) {
  routes_.emplace_back(method, path);
  server_->Route(method, path, std::move(handler));
}

const std::vector<std::pair<std::string, std::string>>& HttpRouter::routes() const {
  return routes_;
}

HttpRouter::Match HttpRouter::Find(std::string_view method, std::string_view path) const {
  Match match;
  for (const auto& [known_method, known_path] : routes_) {
    if (known_path != path) continue;
    const bool is_get = known_method == "GET";
    if (known_method == method || (is_get && method == "HEAD")) return {known_path, {}};
    match = {known_path, is_get ? "GET, HEAD" : "POST"};
  }
  return match;
}

std::string HttpRouter::Answer(const HttpHead& head, std::string body, bool keep_alive) {
  std::string canonical =
      fmt::format("{} {} HTTP/1.1\r\nContent-Length: 0\r\n", head.method, head.path);
  if (!head.content_type.empty()) {
    canonical += fmt::format("Content-Type: {}\r\n", head.content_type);
  }
  canonical += "\r\n";
  body.reserve(body.size() + HttpRequest::kBodyPadding);
  MemoryStream stream(std::move(canonical));
  server_->Handle(stream, std::move(body), !keep_alive);
  return stream.TakeAnswer();
}

}  // namespace conductor::serve
