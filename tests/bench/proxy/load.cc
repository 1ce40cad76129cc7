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
#include <cctype>
#include <cerrno>
#include <cstring>
#include <functional>
#include <iterator>
#include <optional>
#include <queue>
#include <string_view>
#include <utility>

#include "answer.h"
#include "chunks.h"
#include "process.h"

namespace conductor::bench {
namespace {

// A connection that failed is tried again after so long.
constexpr double kPause = 0.1;
constexpr double kMemoryEvery = 0.05;

// One connection and the stream on it.
struct Stream {
  int fd = -1;
  std::string request;
  size_t sent = 0;  // bytes of it
  double asked = 0;
  std::string head;  // as far as it came
  bool in_body = false;
  bool has_byte = false;
  std::optional<Events> expected;
  size_t of_event = 0;  // bytes of the expected one that came
  Chunks chunks;
};

class Client {
 public:
  explicit Client(const Load& load)
      : load_(load), epoll_(::epoll_create1(EPOLL_CLOEXEC)), streams_(load.streams) {}
  ~Client() {
    for (const Stream& stream : streams_) {
      if (stream.fd >= 0) ::close(stream.fd);
    }
    ::close(epoll_);
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  LoadResult Run() {
    const double begin = Now();
    const double length = load_.interval * load_.tokens;
    // Spread over the time that one takes, so that they end and begin evenly for ever.
    for (size_t i = 0; i < streams_.size(); ++i) {
      starts_.push({begin + length * double(i) / double(streams_.size()), i});
    }
    Until(begin + length + 0.2);
    measures_ = true;
    measured_from_ = Now();
    const double cpu = Cpu();
    double now = measured_from_;
    while (now < measured_from_ + load_.seconds) {
      if (load_.watched != 0) {
        result_.resident_bytes = std::max(result_.resident_bytes, ResidentBytes(load_.watched));
      }
      Until(std::min(now + kMemoryEvery, measured_from_ + load_.seconds));
      now = Now();
    }
    result_.seconds = now - measured_from_;
    result_.cpu_seconds = Cpu() - cpu;
    std::ranges::sort(result_.first_bytes);
    return std::move(result_);
  }

 private:
  // A stream that is to begin.
  struct Start {
    double at;
    size_t stream;
    bool operator>(const Start& other) const { return at > other.at; }
  };

  [[nodiscard]] double Cpu() const { return load_.watched == 0 ? 0 : CpuSeconds(load_.watched); }

  void Until(double end) {
    epoll_event events[256];
    for (double now = Now(); now < end; now = Now()) {
      while (!starts_.empty() && starts_.top().at <= now) {
        const size_t stream = starts_.top().stream;
        starts_.pop();
        Begin(stream);
      }
      const double next = starts_.empty() ? end : std::min(end, starts_.top().at);
      const timespec timeout{.tv_sec = 0,
                             .tv_nsec = static_cast<long>(std::clamp(next - now, 0.0, 0.9) * 1e9)};
      const int ready = ::epoll_pwait2(epoll_, events, std::size(events), &timeout, nullptr);
      for (int i = 0; i < ready; ++i) {
        const size_t at = events[i].data.u64;
        if ((events[i].events & EPOLLOUT) != 0) Send(at);
        if ((events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) Receive(at);
      }
    }
  }

  void Watch(size_t at, int operation, uint32_t events) const {
    epoll_event event{.events = events, .data = {.u64 = at}};
    if (::epoll_ctl(epoll_, operation, streams_[at].fd, &event) != 0) DieOfErrno("epoll");
  }

  // False when nobody listens.
  bool Connect(size_t at) {
    Stream& stream = streams_[at];
    // Connecting over loopback takes no time: the kernel does it in the call.
    stream.fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(load_.port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(stream.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      Fail(at, fmt::format("cannot connect: {}", std::strerror(errno)));
      return false;
    }
    const int yes = 1;
    ::setsockopt(stream.fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    Watch(at, EPOLL_CTL_ADD, EPOLLIN);
    return true;
  }

  void Begin(size_t at) {
    Stream& stream = streams_[at];
    if (stream.fd < 0 && !Connect(at)) return;
    const uint32_t user = next_user_++ % 100'000'000;
    const Form form = user % 2 == 0 ? Form::kCompletions : Form::kChat;
    stream.request = RequestOf(form, user, load_.tokens, load_.interval, load_.prompt_bytes);
    stream.sent = 0;
    stream.head.clear();
    stream.in_body = stream.has_byte = false;
    stream.expected.emplace(form, user, load_.tokens);
    stream.of_event = 0;
    stream.chunks = {};
    stream.asked = Now();
    Send(at);
  }

  void Send(size_t at) {
    Stream& stream = streams_[at];
    if (stream.fd < 0) return;
    const bool had_to_wait = stream.sent > 0;
    const ssize_t sent = ::send(stream.fd, stream.request.data() + stream.sent,
                                stream.request.size() - stream.sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN) {
      return Fail(at, fmt::format("cannot send: {}", std::strerror(errno)));
    }
    stream.sent += static_cast<size_t>(std::max<ssize_t>(sent, 0));
    if (stream.sent < stream.request.size()) {
      Watch(at, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    } else if (had_to_wait) {
      Watch(at, EPOLL_CTL_MOD, EPOLLIN);
    }
  }

  void Receive(size_t at) {
    Stream& stream = streams_[at];
    if (stream.fd < 0) return;
    char buffer[64 << 10];
    const ssize_t got = ::recv(stream.fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return Fail(at, "closed within a stream");
    std::string_view bytes(buffer, static_cast<size_t>(got));
    if (!stream.in_body && !TakeHead(at, bytes)) return;
    if (bytes.empty()) return;
    if (!stream.has_byte) {
      stream.has_byte = true;
      if (measures_ && stream.asked >= measured_from_) {
        result_.first_bytes.push_back(Now() - stream.asked);
      }
    }
    bool same = true;
    const size_t taken = stream.chunks.Feed(
        bytes, [&](std::string_view piece) { same = same && Compare(stream, piece); });
    if (!same) return Fail(at, "another body than the engine sent");
    if (stream.chunks.is_bad()) return Fail(at, "no chunks");
    if (!stream.chunks.has_ended()) return;
    if (taken < bytes.size()) return Fail(at, "more than the answer");
    if (!stream.expected->ended()) return Fail(at, "ended too early");
    if (measures_) ++result_.ended;
    Begin(at);
  }

  // Takes the head off the front of `bytes`; false when it is not whole, or is not what it should
  // be.
  bool TakeHead(size_t at, std::string_view& bytes) {
    Stream& stream = streams_[at];
    const size_t before = stream.head.size();
    stream.head += bytes;
    const size_t end = stream.head.find("\r\n\r\n");
    if (end == std::string::npos) return false;
    bytes.remove_prefix(end + 4 - before);
    stream.head.resize(end + 2);
    std::ranges::transform(stream.head, stream.head.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    stream.in_body = true;
    if (stream.head.starts_with("http/1.1 200") &&
        stream.head.find("\r\ntransfer-encoding: chunked\r\n") != std::string::npos) {
      return true;
    }
    Fail(at, "answered " + stream.head.substr(0, stream.head.find('\r')));
    return false;
  }

  bool Compare(Stream& stream, std::string_view piece) {
    while (!piece.empty()) {
      if (stream.expected->ended()) return false;
      const std::string_view rest = stream.expected->text().substr(stream.of_event);
      const size_t size = std::min(rest.size(), piece.size());
      if (std::memcmp(rest.data(), piece.data(), size) != 0) return false;
      piece.remove_prefix(size);
      stream.of_event += size;
      if (size < rest.size()) continue;
      if (measures_ && stream.expected->is_token()) ++result_.tokens;
      stream.expected->Advance();
      stream.of_event = 0;
    }
    return true;
  }

  void Fail(size_t at, std::string what) {
    ++result_.failed;
    if (result_.failure.empty()) result_.failure = std::move(what);
    ::close(streams_[at].fd);
    streams_[at].fd = -1;
    starts_.push({Now() + kPause, at});
  }

  const Load& load_;
  const int epoll_;
  std::vector<Stream> streams_;
  std::priority_queue<Start, std::vector<Start>, std::greater<>> starts_;
  uint32_t next_user_ = 0;
  bool measures_ = false;
  double measured_from_ = 0;
  LoadResult result_;
};

}  // namespace

double LoadResult::FirstByte(double part) const {
  if (first_bytes.empty()) return 0;
  return first_bytes[static_cast<size_t>(part * static_cast<double>(first_bytes.size() - 1))] * 1e6;
}

LoadResult Run(const Load& load) {
  ::prctl(PR_SET_TIMERSLACK, 1);  // nanoseconds
  return Client(load).Run();
}

void AwaitAnswer(uint16_t port, const std::string& whose) {
  const double until = Now() + 10;
  for (;;) {
    const LoadResult result = Run({.port = port, .seconds = 0.2});
    if (result.ended > 0 && result.failed == 0) return;
    if (Now() > until) Die(fmt::format("{} does not answer: {}", whose, result.failure));
  }
}

}  // namespace conductor::bench
