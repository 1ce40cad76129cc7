#include "daemon/serve/http_router.h"

#include <fmt/format.h>
#include <httplib.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <optional>

#include "daemon/serve/query_string.h"
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

// What stands in `path` for the parameter of `route`, or nothing when they do not match. Empty for
// a route without one.
std::optional<std::string_view> ParameterIn(std::string_view path, std::string_view route) {
  const size_t open = route.find('{');
  if (open == std::string_view::npos) {
    return path == route ? std::optional(std::string_view()) : std::nullopt;
  }
  const std::string_view prefix = route.substr(0, open);
  const std::string_view suffix = route.substr(route.find('}') + 1);
  if (path.size() <= prefix.size() + suffix.size() || !path.starts_with(prefix) ||
      !path.ends_with(suffix)) {
    return std::nullopt;
  }
  const std::string_view parameter =
      path.substr(prefix.size(), path.size() - prefix.size() - suffix.size());
  if (parameter.find('/') != std::string_view::npos) return std::nullopt;
  return parameter;
}

HttpRequest RequestOf(const HttpHead& head, std::string body, std::string parameter) {
  return {.content_type = head.content_type,
          .accept = head.accept,
          .compat = head.compat,
          .query = head.query,
          .body = std::move(body),
          .parameter = std::move(parameter)};
}

// The head of an answer that ends with its connection.
std::string StreamHead(const HttpResponse& response) {
  std::string head = fmt::format("HTTP/1.1 {} OK\r\nContent-Type: {}\r\nConnection: close\r\n",
                                 response.status, response.content_type);
  for (const auto& [name, value] : response.headers) {
    head += fmt::format("{}: {}\r\n", name, value);
  }
  return head + "\r\n";
}

}  // namespace

// What the library is told of a request, and what comes back.
class HttpRouter::Server : public httplib::Server {
 public:
  using Handler = std::function<HttpResponse()>;

  Server() {
    set_post_routing_handler([](const httplib::Request&, httplib::Response& response) {
      response.headers.erase("Keep-Alive");  // it would promise the library's limits
    });
    const auto answer = [](const httplib::Request&, httplib::Response& to) {
      HttpResponse from = (*Current())();
      to.status = from.status;
      to.body = std::move(from.body);
      to.set_header("Content-Type", from.content_type);
      for (auto& [name, value] : from.headers) to.set_header(name, value);
    };
    Get(kPath, answer);
    Post(kPath, answer);
    Put(kPath, answer);
    Delete(kPath, answer);
  }

  // `handler` answers the request whose head is in `stream`.
  void Handle(MemoryStream& stream, const Handler& handler, bool close) {
    Current() = &handler;
    bool closed = false;
    process_request(stream, close, closed, [](httplib::Request&) {});
    Current() = nullptr;
  }

  static constexpr char kPath[] = "/";

 private:
  // The library hands nothing of ours through.
  static const Handler*& Current() {
    thread_local const Handler* current = nullptr;
    return current;
  }
};

HttpRouter::HttpRouter() : server_(std::make_unique<Server>()) {}
HttpRouter::~HttpRouter() = default;

void HttpRouter::Add(const std::string& method, const std::string& path, HttpHandler handler,
                     Access access) {
  routes_.emplace_back(method, path);
  handlers_.push_back(std::move(handler));
  access_.push_back(access);
}

const std::vector<std::pair<std::string, std::string>>& HttpRouter::routes() const {
  return routes_;
}

HttpRouter::Match HttpRouter::Find(std::string_view method, std::string_view path) const {
  Match match;
  for (size_t i = 0; i < routes_.size(); ++i) {
    const auto& [known_method, known_path] = routes_[i];
    const auto parameter = ParameterIn(path, known_path);
    if (!parameter) continue;
    const bool is_get = known_method == "GET";
    if (known_method == method || (is_get && method == "HEAD")) {
      return {.path = known_path, .allow = {}, .parameter = *parameter, .route = i};
    }
    match.path = known_path;
    match.allow.append(match.allow.empty() ? "" : ", ").append(is_get ? "GET, HEAD" : known_method);
  }
  return match;
}

HttpRefusal HttpRouter::Written(HttpRefusal refusal, const HttpHead& head) const {
  if (!refusal_writer_) return refusal;
  auto response = refusal_writer_(refusal, head.path, RequestOf(head, {}, {}));
  if (!response) return refusal;
  refusal.body = std::move(response->body);
  refusal.content_type = std::move(response->content_type);
  return refusal;
}

HttpResponse HttpRouter::Handle(const HttpHead& head, const Match& match, std::string body) const {
  try {
    return handlers_[match.route](
        RequestOf(head, std::move(body), PercentDecoded(match.parameter)));
  } catch (const std::exception& error) {
    log::Error("http: {} failed: {}", match.path, error.what());
  } catch (...) {
    log::Error("http: {} failed", match.path);
  }
  return Refused({500, "internal_error", "internal error"}, head);
}

HttpResponse HttpRouter::Refused(const HttpRefusal& refusal, const HttpHead& head) const {
  const HttpRefusal written = Written(refusal, head);
  HttpResponse response{.status = written.status, .body = BodyOf(written)};
  if (!written.content_type.empty()) response.content_type = written.content_type;
  return response;
}

HttpResponse HttpRouter::Respond(const HttpHead& head, std::string body) const {
  const Match match = Find(head.method, head.path);
  if (match.path.empty()) return Refused(UnknownPath(), head);
  if (!match.allow.empty()) return Refused(WrongMethod(match), head);
  body.reserve(body.size() + HttpRequest::kBodyPadding);
  return Handle(head, match, std::move(body));
}

HttpRefusal HttpRouter::UnknownPath() {
  return {404, "unknown_path", "there is nothing at this path"};
}

HttpRefusal HttpRouter::WrongMethod(const Match& match) {
  return {405, "method_not_allowed", fmt::format("{} takes {}", match.path, match.allow),
          fmt::format("Allow: {}", match.allow)};
}

HttpAnswer HttpRouter::Answer(const HttpHead& head, const Match& match, std::string body,
                              bool keep_alive) {
  body.reserve(body.size() + HttpRequest::kBodyPadding);
  MemoryStream memory(
      fmt::format("{} {} HTTP/1.1\r\nContent-Length: 0\r\n\r\n", head.method, Server::kPath));
  HttpAnswer answer;
  const Server::Handler handler = [&] {
    HttpResponse response = Handle(head, match, std::move(body));
    if (!response.stream) return response;
    answer.bytes = StreamHead(response);
    answer.stream = std::move(response.stream);
    return response;
  };
  server_->Handle(memory, handler, !keep_alive);
  // The library would give a stream the length of its body.
  if (answer.bytes.empty()) answer.bytes = memory.TakeAnswer();
  return answer;
}

}  // namespace conductor::serve
