#include "engine.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <optional>
#include <queue>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "answer.h"
#include "process.h"

namespace conductor::bench {
namespace {

constexpr std::string_view kStreamHead =
    "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    "transfer-encoding: chunked\r\n\r\n";
constexpr std::string_view kLastChunk = "0\r\n\r\n";

void AppendChunk(std::string& bytes, std::string_view data) {
  fmt::format_to(std::back_inserter(bytes), "{:x}\r\n{}\r\n", data.size(), data);
}

// The number behind `key` in `text`; none when the key is not there.
std::optional<uint32_t> NumberBehind(std::string_view text, std::string_view key) {
  const size_t at = text.find(key);
  if (at == std::string_view::npos) return std::nullopt;
  return static_cast<uint32_t>(std::strtoul(text.data() + at + key.size(), nullptr, 10));
}

struct Connection {
  int fd = -1;
  uint64_t id = 0;
  std::string in;
  std::string out;  // what the kernel did not take yet
  bool waits_for_room = false;
  std::optional<Events> events;  // of the stream that is on
  double interval = 0;           // seconds, of its tokens
};

// When the next token of a stream is due.
struct Due {
  double at;
  uint64_t connection;
  bool operator>(const Due& other) const { return at > other.at; }
};

class Engine {
 public:
  explicit Engine(int listener) : listener_(listener), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    Watch(EPOLL_CTL_ADD, listener_, EPOLLIN, 0);
  }

  [[noreturn]] void Run() {
    epoll_event events[256];
    for (;;) {
      const double wait = due_.empty() ? 1 : std::max(0.0, due_.top().at - Now());
      // To the microsecond: open loop means in time.
      const timespec timeout{.tv_sec = static_cast<time_t>(wait),
                             .tv_nsec = static_cast<long>((wait - std::floor(wait)) * 1e9)};
      const int ready = ::epoll_pwait2(epoll_, events, std::size(events), &timeout, nullptr);
      for (int i = 0; i < ready; ++i) {
        const uint64_t id = events[i].data.u64;
        if (id == 0) {
          Accept();
          continue;
        }
        if ((events[i].events & EPOLLOUT) != 0) Flush(id);
        if ((events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) Receive(id);
      }
      SendDue();
    }
  }

 private:
  void Watch(int operation, int fd, uint32_t events, uint64_t id) const {
    epoll_event event{.events = events, .data = {.u64 = id}};
    if (::epoll_ctl(epoll_, operation, fd, &event) != 0) DieOfErrno("epoll");
  }

  Connection* Find(uint64_t id) {
    const auto found = connections_.find(id);
    return found == connections_.end() ? nullptr : found->second.get();
  }

  void Accept() {
    for (;;) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) return;
      const int yes = 1;
      ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
      auto connection = std::make_unique<Connection>();
      connection->fd = fd;
      connection->id = ++last_id_;
      Watch(EPOLL_CTL_ADD, fd, EPOLLIN, connection->id);
      connections_.emplace(connection->id, std::move(connection));
    }
  }

  void Close(Connection& connection) {
    ::close(connection.fd);
    connections_.erase(connection.id);
  }

  void Receive(uint64_t id) {
    Connection* connection = Find(id);
    if (connection == nullptr) return;
    char bytes[64 << 10];
    const ssize_t got = ::recv(connection->fd, bytes, sizeof bytes, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return Close(*connection);
    connection->in.append(bytes, static_cast<size_t>(got));
    TakeRequests(*connection);
  }

  // Those that are whole, one after the other.
  void TakeRequests(Connection& connection) {
    while (!connection.events) {
      const size_t end = connection.in.find("\r\n\r\n");
      if (end == std::string::npos) return;
      std::string head = connection.in.substr(0, end + 2);
      std::ranges::transform(head, head.begin(),
                             [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      if (head.find("\r\ntransfer-encoding:") != std::string::npos) {
        Die("a relay sends the request's body in chunks: the engine wants content-length");
      }
      const size_t body = NumberBehind(head, "\r\ncontent-length:").value_or(0);
      if (connection.in.size() < end + 4 + body) return;
      const std::string taken = connection.in.substr(end + 4, body);
      connection.in.erase(0, end + 4 + body);
      if (!Answer(connection, head, taken)) return;
    }
  }

  // False when the connection is gone.
  bool Answer(Connection& connection, std::string_view head, const std::string& body) {
    const std::string_view line = head.substr(0, head.find("\r\n"));
    for (const Form form : {Form::kCompletions, Form::kChat}) {
      if (line.starts_with(fmt::format("post {} ", PathOf(form)))) {
        return Begin(connection, form, body);
      }
    }
    if (line.starts_with("get /health ")) return AnswerWhole(connection, "200 OK", "");
    if (line.starts_with("get /v1/models ")) {
      return AnswerWhole(connection, "200 OK",
                         R"({"object":"list","data":[{"id":"bench","object":"model"}]})");
    }
    if (line.starts_with("post /tokenize ")) {
      return AnswerWhole(connection, "200 OK",
                         R"({"count":4,"max_model_len":8192,"tokens":[1,2,3,4]})");
    }
    return AnswerWhole(connection, "404 Not Found", R"({"detail":"Not Found"})");
  }

  bool AnswerWhole(Connection& connection, std::string_view status, std::string_view body) {
    return Send(connection, fmt::format("HTTP/1.1 {}\r\ncontent-type: application/json\r\n"
                                        "content-length: {}\r\n\r\n{}",
                                        status, body.size(), body));
  }

  bool Begin(Connection& connection, Form form, const std::string& body) {
    const auto user = NumberBehind(body, R"("user":")");
    const auto tokens = NumberBehind(body, R"("max_tokens":)");
    const auto interval = NumberBehind(body, R"("interval_us":)");
    if (!user || !interval || !tokens || *tokens == 0) {
      return AnswerWhole(connection, "400 Bad Request",
                         R"({"error":{"message":"wants user, interval_us, max_tokens above 0"}})");
    }
    connection.interval = *interval * 1e-6;
    connection.events.emplace(form, *user, *tokens);
    return SendToken(connection, std::string(kStreamHead), Now());
  }

  // Sends `bytes` and behind it the next token, and after the last one the end; `at`: when it was
  // due.
  bool SendToken(Connection& connection, std::string bytes, double at) {
    Events& events = *connection.events;
    AppendChunk(bytes, events.text());
    events.Advance();
    if (events.is_token()) {
      due_.push({at + connection.interval, connection.id});
    } else {
      AppendChunk(bytes, kDone);
      bytes += kLastChunk;
      connection.events.reset();
    }
    return Send(connection, bytes);
  }

  void SendDue() {
    const double now = Now();
    while (!due_.empty() && due_.top().at <= now) {
      const Due due = due_.top();
      due_.pop();
      Connection* connection = Find(due.connection);
      if (connection == nullptr || !SendToken(*connection, {}, due.at)) continue;
      if (!connection->events) TakeRequests(*connection);
    }
  }

  bool Send(Connection& connection, std::string_view bytes) {
    if (!connection.waits_for_room) {
      const ssize_t sent = ::send(connection.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno != EAGAIN) {
        Close(connection);
        return false;
      }
      bytes.remove_prefix(static_cast<size_t>(std::max<ssize_t>(sent, 0)));
      if (bytes.empty()) return true;
      connection.waits_for_room = true;
      Watch(EPOLL_CTL_MOD, connection.fd, EPOLLIN | EPOLLOUT, connection.id);
    }
    connection.out += bytes;
    return true;
  }

  void Flush(uint64_t id) {
    Connection* connection = Find(id);
    if (connection == nullptr) return;
    const std::string waiting = std::exchange(connection->out, {});
    connection->waits_for_room = false;
    Watch(EPOLL_CTL_MOD, connection->fd, EPOLLIN, connection->id);
    (void)Send(*connection, waiting);
  }

  const int listener_;
  const int epoll_;
  uint64_t last_id_ = 0;
  std::unordered_map<uint64_t, std::unique_ptr<Connection>> connections_;
  std::priority_queue<Due, std::vector<Due>, std::greater<>> due_;
};

}  // namespace

EngineProcess::EngineProcess() {
  const int listener = Listen(port_);
  child_ = ::fork();
  if (child_ < 0) DieOfErrno("cannot fork");
  if (child_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::prctl(PR_SET_NAME, "bench_engine");  // apart from the client in profiles
    ::prctl(PR_SET_TIMERSLACK, 1);         // nanoseconds
    Engine(listener).Run();
  }
  ::close(listener);
}

EngineProcess::~EngineProcess() {
  ::kill(child_, SIGKILL);
  ::waitpid(child_, nullptr, 0);
}

}  // namespace conductor::bench
