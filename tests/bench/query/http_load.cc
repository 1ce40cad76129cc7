#include "http_load.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
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

// One client's connection: a request on its way, or none.
struct Connection {
  int fd = -1;
  bool busy = false;
  double asked = 0;   // when it was to be asked
  size_t sent = 0;    // bytes of the request
  size_t needed = 0;  // bytes of the whole answer; 0: its head is not there yet
  std::string answer;
};

// The size of the answer whose head is at the front of `bytes`; 0 while it is incomplete.
size_t SizeOf(std::string_view bytes) {
  const size_t end = bytes.find("\r\n\r\n");
  if (end == std::string_view::npos) return 0;
  constexpr std::string_view kField = "Content-Length: ";
  const size_t at = bytes.find(kField);
  if (at == std::string_view::npos || at > end) return 0;
  return end + 4 + std::strtoull(bytes.data() + at + kField.size(), nullptr, 10);
}

class Client {
 public:
  explicit Client(const HttpLoad& load) : load_(load), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    connections_.resize(load.connections);
    result_.of_connection.resize(load.connections);
    for (size_t i = 0; i < connections_.size(); ++i) {
      connections_[i].fd = Connect();
      epoll_event event{.events = EPOLLIN, .data = {.u64 = i}};
      if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, connections_[i].fd, &event) != 0) Die("epoll");
      idle_.push_back(i);
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
    return fd;
  }

  void Begin(size_t at, double asked) {
    Connection& connection = connections_[at];
    connection.busy = true;
    connection.asked = asked;
    connection.sent = 0;
    connection.needed = 0;
    connection.answer.clear();
    Send(connection);
  }

  void Send(Connection& connection) {
    while (connection.sent < load_.request.size()) {
      const ssize_t sent =
          ::send(connection.fd, load_.request.data() + connection.sent,
                 load_.request.size() - connection.sent, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && errno == EAGAIN) {
        Watch(connection, EPOLLIN | EPOLLOUT);
        return;
      }
      if (sent < 0) Die("send");
      connection.sent += static_cast<size_t>(sent);
    }
  }

  void Watch(Connection& connection, uint32_t events) const {
    epoll_event event{.events = events,
                      .data = {.u64 = static_cast<uint64_t>(&connection - connections_.data())}};
    if (::epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.fd, &event) != 0) Die("epoll");
  }

  void Wait(double seconds) {
    epoll_event events[64];
    const int ready = ::epoll_wait(epoll_, events, 64, static_cast<int>(seconds * 1000));
    for (int i = 0; i < ready; ++i) {
      Connection& connection = connections_[events[i].data.u64];
      if ((events[i].events & EPOLLOUT) != 0) {
        Send(connection);
        if (connection.sent == load_.request.size()) Watch(connection, EPOLLIN);
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
    connection.answer.append(bytes, static_cast<size_t>(got));
    if (connection.needed == 0) connection.needed = SizeOf(connection.answer);
    if (connection.needed == 0 || connection.answer.size() < connection.needed) return;
    result_.answer_bytes = connection.needed - connection.answer.find("\r\n\r\n") - 4;
    if (!connection.answer.starts_with("HTTP/1.1 200")) ++result_.failed;
    result_.latencies.push_back(Now() - connection.asked);
    ++result_.of_connection[at];
    connection.busy = false;
    idle_.push_back(at);
  }

  const HttpLoad& load_;
  const int epoll_;
  std::vector<Connection> connections_;
  std::deque<size_t> idle_;
  std::deque<double> waiting_;  // open loop: when they were to be asked
  LoadResult result_;
};

}  // namespace

double LoadResult::Percentile(double part) const {
  if (latencies.empty()) return 0;
  return latencies[static_cast<size_t>(part * static_cast<double>(latencies.size() - 1))] * 1e6;
}

std::string PostRequest(const std::string& path, const std::string& content_type,
                        const std::string& body) {
  return fmt::format(
      "POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n{}",
      path, content_type, body.size(), body);
}

LoadResult Run(const HttpLoad& load) { return Client(load).Run(); }

}  // namespace conductor::bench
