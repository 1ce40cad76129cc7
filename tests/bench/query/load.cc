#include "load.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string_view>

namespace conductor::bench {
namespace {

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

[[noreturn]] void Die(const char* what) {
  fmt::print(stderr, "query_bench: {}: {}\n", what, std::strerror(errno));
  std::exit(1);
}

// The answer at the front of what came; `size` 0: it is not whole yet.
struct Front {
  size_t size = 0;
  size_t body = 0;  // bytes
  bool good = false;
};

Front HttpFront(std::string_view bytes) {
  const size_t end = bytes.find("\r\n\r\n");
  if (end == std::string_view::npos) return {};
  constexpr std::string_view kField = "Content-Length: ";
  const size_t at = bytes.find(kField);
  if (at == std::string_view::npos || at > end) Die("an answer without a length");
  const size_t body = std::strtoull(bytes.data() + at + kField.size(), nullptr, 10);
  if (end + 4 + body > bytes.size()) return {};
  return {end + 4 + body, body, bytes.starts_with("HTTP/1.1 200")};
}

// https://rfc.zeromq.org/spec/23/: a frame is flags (1: more follow, 2: long), a size of one or of
// eight bytes, and a body.
constexpr uint8_t kMore = 1;
constexpr uint8_t kLong = 2;
constexpr uint8_t kCommand = 4;

void AppendFrame(std::string& bytes, uint8_t flags, std::string_view body) {
  if (body.size() <= UINT8_MAX) {
    bytes += static_cast<char>(flags);
    bytes += static_cast<char>(body.size());
  } else {
    bytes += static_cast<char>(flags | kLong);
    for (int shift = 56; shift >= 0; shift -= 8) {
      bytes += static_cast<char>(uint64_t{body.size()} >> shift);
    }
  }
  bytes += body;
}

// The frames of an answer: id, status, body.
Front ZmtpFront(std::string_view bytes) {
  Front front;
  for (size_t at = 0, frame = 0;; ++frame) {
    if (bytes.size() < at + 2) return {};
    const auto flags = static_cast<uint8_t>(bytes[at]);
    size_t head = 2;
    uint64_t size = static_cast<uint8_t>(bytes[at + 1]);
    if ((flags & kLong) != 0) {
      head = 9;
      if (bytes.size() < at + head) return {};
      size = 0;
      for (size_t i = 1; i < head; ++i) size = size << 8 | static_cast<uint8_t>(bytes[at + i]);
    }
    if (bytes.size() < at + head + size) return {};
    if (frame == 1) front.good = bytes.substr(at + head, size) == "200";
    at += head + size;
    if ((flags & kMore) == 0) {
      front.size = at;
      front.body = size;
      return front;
    }
  }
}

void SendAll(int fd, std::string_view bytes) {
  if (::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(bytes.size())) {
    Die("send");
  }
}

std::string ReceiveAll(int fd, size_t size) {
  std::string bytes(size, '\0');
  if (::recv(fd, bytes.data(), size, MSG_WAITALL) != static_cast<ssize_t>(size)) Die("recv");
  return bytes;
}

// ZMTP 3.0 without security, as a DEALER.
void ShakeHands(int fd) {
  std::string greeting("\xff\0\0\0\0\0\0\0\0\x7f\x03\0NULL", 16);
  greeting.resize(64);
  std::string ready("\5READY\13Socket-Type\0\0\0\6DEALER", 28);
  SendAll(fd, greeting);
  (void)ReceiveAll(fd, 64);
  std::string frame;
  AppendFrame(frame, kCommand, ready);
  SendAll(fd, frame);
  const std::string head = ReceiveAll(fd, 2);
  if (head[0] != kCommand) Die("no ZMTP there");
  (void)ReceiveAll(fd, static_cast<uint8_t>(head[1]));
}

// One client's connection.
struct Connection {
  int fd = -1;
  size_t to_send = 0;        // requests that are not on their way as a whole
  size_t sent = 0;           // bytes of the first of these
  std::deque<double> asked;  // when those that are not answered were to be asked
  std::string answers;       // what came and is not taken yet
};

class Client {
 public:
  explicit Client(const Load& load) : load_(load), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    connections_.resize(load.connections);
    result_.of_connection.resize(load.connections);
    for (size_t i = 0; i < connections_.size(); ++i) {
      connections_[i].fd = Connect();
      epoll_event event{.events = EPOLLIN, .data = {.u64 = i}};
      if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, connections_[i].fd, &event) != 0) Die("epoll");
    }
    for (size_t turn = 0; turn < load.window; ++turn) {
      for (size_t i = 0; i < connections_.size(); ++i) idle_.push_back(i);
    }
  }
  ~Client() {
    for (const Connection& connection : connections_) ::close(connection.fd);
    ::close(epoll_);
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  LoadResult Run() {
    const double begin = Now();
    const double end = begin + load_.seconds;
    double due = begin;  // open loop: when the next one is to be asked
    for (double now = begin; now < end; now = Now()) {
      if (load_.rate > 0) {
        for (; due <= now; due += 1 / load_.rate) waiting_.push_back(due);
      }
      while (!idle_.empty() && (load_.rate == 0 || !waiting_.empty())) {
        const size_t at = idle_.front();
        idle_.pop_front();
        Begin(at, load_.rate == 0 ? now : waiting_.front());
        if (load_.rate > 0) waiting_.pop_front();
      }
      Wait(load_.rate == 0 || waiting_.size() > idle_.size() ? 0.01 : std::max(0.0, due - Now()));
    }
    result_.seconds = Now() - begin;
    // What was to be asked and was not: as if it had been answered now.
    for (const double asked : waiting_) result_.latencies.push_back(Now() - asked);
    std::ranges::sort(result_.latencies);
    return std::move(result_);
  }

 private:
  int Connect() const {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(load_.port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      Die("connect");
    }
    const int yes = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (load_.protocol == Protocol::kZmtp) ShakeHands(fd);
    return fd;
  }

  void Begin(size_t at, double asked) {
    Connection& connection = connections_[at];
    connection.asked.push_back(asked);
    if (++connection.to_send == 1) Send(connection);
  }

  void Send(Connection& connection) {
    while (connection.to_send > 0) {
      const ssize_t sent =
          ::send(connection.fd, load_.request.data() + connection.sent,
                 load_.request.size() - connection.sent, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && errno == EAGAIN) {
        Watch(connection, EPOLLIN | EPOLLOUT);
        return;
      }
      if (sent < 0) Die("send");
      connection.sent += static_cast<size_t>(sent);
      if (connection.sent < load_.request.size()) continue;
      connection.sent = 0;
      --connection.to_send;
    }
  }

  void Watch(Connection& connection, uint32_t events) const {
    epoll_event event{.events = events,
                      .data = {.u64 = static_cast<uint64_t>(&connection - connections_.data())}};
    if (::epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.fd, &event) != 0) Die("epoll");
  }

  void Wait(double seconds) {
    epoll_event events[64];
    // To the microsecond: a client that spins until the next request is due takes a core from the
    // server.
    const timespec timeout{.tv_sec = static_cast<time_t>(seconds),
                           .tv_nsec = static_cast<long>((seconds - std::floor(seconds)) * 1e9)};
    const int ready = ::epoll_pwait2(epoll_, events, 64, &timeout, nullptr);
    for (int i = 0; i < ready; ++i) {
      Connection& connection = connections_[events[i].data.u64];
      if ((events[i].events & EPOLLOUT) != 0) {
        Send(connection);
        if (connection.to_send == 0) Watch(connection, EPOLLIN);
      }
      if ((events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) Receive(events[i].data.u64);
    }
  }

  void Receive(size_t at) {
    Connection& connection = connections_[at];
    char bytes[64 << 10];
    const ssize_t got = ::recv(connection.fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) Die("the server closed a connection");
    connection.answers.append(bytes, static_cast<size_t>(got));
    size_t taken = 0;
    for (;;) {
      const std::string_view rest = std::string_view(connection.answers).substr(taken);
      const Front front = load_.protocol == Protocol::kZmtp ? ZmtpFront(rest) : HttpFront(rest);
      if (front.size == 0) break;
      taken += front.size;
      result_.answer_bytes = front.body;
      if (!front.good) ++result_.failed;
      result_.latencies.push_back(Now() - connection.asked.front());
      connection.asked.pop_front();
      ++result_.of_connection[at];
      idle_.push_back(at);
    }
    connection.answers.erase(0, taken);
  }

  const Load& load_;
  const int epoll_;
  std::vector<Connection> connections_;
  std::deque<size_t> idle_;     // connections, once for each request that they may send
  std::deque<double> waiting_;  // open loop: when they were to be asked
  LoadResult result_;
};

}  // namespace

double LoadResult::Percentile(double part) const {
  if (latencies.empty()) return 0;
  return latencies[static_cast<size_t>(part * static_cast<double>(latencies.size() - 1))] * 1e6;
}

std::string HttpRequest(const std::string& path, const std::string& content_type,
                        const std::string& body, const std::string& header) {
  return fmt::format(
      "POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}\r\n{}",
      path, content_type, body.size(), header, body);
}

std::string ZmtpRequest(const std::string& path, const std::string& body) {
  std::string request;
  AppendFrame(request, kMore, "1");
  AppendFrame(request, kMore, path);
  AppendFrame(request, 0, body);
  return request;
}

LoadResult Run(const Load& load) {
  ::prctl(PR_SET_TIMERSLACK, 1);  // nanoseconds
  return Client(load).Run();
}

}  // namespace conductor::bench
