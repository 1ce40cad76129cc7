#include "daemon/serve/http_connection.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

namespace conductor::serve {
namespace {

constexpr size_t kReadBytes = 64 << 10;
constexpr size_t kKeptInputBytes = 4 << 10;  // of a connection that waits for its next request
constexpr auto kStopGrace = std::chrono::milliseconds(250);  // for an answer that is on its way

HttpRefusal Busy(const HttpBodyBudget& bodies) {
  return {503, "busy",
          fmt::format("the bodies of the requests under way have reached their limit of {} bytes "
                      "together (--http-max-inflight)",
                      bodies.bytes())};
}

// Makes room for `more` bytes and a parser's padding behind them, so that a body that has come to
// its end need not be moved for the padding. Doubles: never more than what has come.
void Grow(std::string& body, size_t more) {
  const size_t needed = body.size() + more + HttpRequest::kBodyPadding;
  if (needed > body.capacity()) body.reserve(std::max(needed, 2 * body.size()));
}

// While it lives its thread waits for the client.
class Waiting {
 public:
  explicit Waiting(HttpWaits* waits) : waits_(waits) {
    if (waits_ != nullptr) waits_->BeginWait();
  }
  ~Waiting() {
    if (waits_ != nullptr) waits_->EndWait();
  }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  HttpWaits* const waits_;
};

HttpRefusal TooSlow() { return {408, "request_timeout", "the request did not come in time"}; }

}  // namespace

int MillisecondsUntil(MonoTime until) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - MonoNow()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 60'000));
}

HttpConnection::HttpConnection(Shared& shared, std::unique_ptr<HttpTransport> transport)
    : shared_(shared), transport_(std::move(transport)), wanted_(EPOLLIN | EPOLLOUT) {}

bool HttpConnection::Open() {
  const MonoTime until = MonoNow() + shared_.limits.request_timeout;
  for (;;) {
    const HttpTransport::Io io = transport_->Open();
    if (io == HttpTransport::Io::kDone) return true;
    if (io == HttpTransport::Io::kClosed) return false;
    if (WaitFor(io, until, true) != Filled::kBytes || MonoNow() >= until) return false;
  }
}

HttpConnection::Served HttpConnection::Serve() {
  if (!opened_ && !Open()) {
    shared_.unopened.fetch_add(1, std::memory_order_relaxed);
    return Served::kForGood;
  }
  opened_ = true;
  for (int served = 0; !shared_.stopping; ++served) {
    if (served == kMostInARow) {
      // Others first; a socket that can be written is ready at once.
      wanted_ = EPOLLIN | EPOLLOUT;
      return Served::kForNow;
    }
    (void)SkipLineBreaks();
    while (input_.empty()) {
      const HttpTransport::Io io = ReadSome();
      if (io == HttpTransport::Io::kClosed) return Served::kForGood;
      if (io != HttpTransport::Io::kDone) {
        wanted_ = io == HttpTransport::Io::kWantsWrite ? EPOLLOUT : EPOLLIN;
        if (input_.capacity() > kKeptInputBytes) input_ = std::string();
        return Served::kForNow;
      }
      (void)SkipLineBreaks();
    }
    if (!ServeOne()) return Served::kForGood;
  }
  return Served::kForGood;
}

bool HttpConnection::SkipLineBreaks() {
  const size_t before = input_.size();
  while (input_.starts_with("\r\n")) input_.erase(0, 2);
  return input_.size() != before;
}

HttpConnection::Filled HttpConnection::Wait(int16_t events, MonoTime until, bool heed_stop) const {
  const Waiting waiting(shared_.waits);
  for (;;) {
    pollfd waited[2] = {{transport_->fd(), events, 0}, {shared_.stop_event.get(), POLLIN, 0}};
    const int ready = ::poll(waited, heed_stop ? 2 : 1, MillisecondsUntil(until));
    if (ready < 0 && errno != EINTR) return Filled::kClosed;
    if (heed_stop && waited[1].revents != 0) return Filled::kStopped;
    if (ready > 0 && waited[0].revents != 0) return Filled::kBytes;
    if (MonoNow() >= until) return Filled::kTimeout;
  }
}

HttpConnection::Filled HttpConnection::WaitFor(HttpTransport::Io wanted, MonoTime until,
                                               bool heed_stop) const {
  return Wait(wanted == HttpTransport::Io::kWantsWrite ? POLLOUT : POLLIN, until, heed_stop);
}

HttpTransport::Io HttpConnection::ReadSome() {
  char bytes[kReadBytes];
  const auto [io, got] = transport_->Read(bytes, sizeof bytes);
  // With room for what parsers want behind a body that is all of it.
  if (got > 0) Grow(input_, got);
  input_.append(bytes, got);
  return io;
}

HttpConnection::Filled HttpConnection::Fill(MonoTime until) {
  for (;;) {
    if (shared_.stopping) return Filled::kStopped;
    const HttpTransport::Io io = ReadSome();
    if (io == HttpTransport::Io::kDone) {
      return MonoNow() < until ? Filled::kBytes : Filled::kTimeout;
    }
    if (io == HttpTransport::Io::kClosed) return Filled::kClosed;
    if (const Filled waited = WaitFor(io, until, true); waited != Filled::kBytes) return waited;
  }
}

bool HttpConnection::Send(std::string_view bytes, Duration time) const {
  MonoTime until = MonoNow() + time;
  bool stopping = false;
  while (!bytes.empty()) {
    const auto [io, sent] = transport_->Write(bytes);
    if (io == HttpTransport::Io::kDone) {
      bytes.remove_prefix(sent);
      continue;
    }
    if (io == HttpTransport::Io::kClosed) return false;
    const Filled waited = WaitFor(io, until, !stopping);
    if (waited == Filled::kStopped) {
      stopping = true;
      until = std::min(until, MonoNow() + kStopGrace);
    } else if (waited != Filled::kBytes || MonoNow() >= until) {
      return false;
    }
  }
  return true;
}

void HttpConnection::Linger() {
  transport_->EndWriting();
  const MonoTime until = MonoNow() + kHttpLingerTime;
  do {
    input_.clear();
  } while (Fill(until) == Filled::kBytes);
}

bool HttpConnection::Refuse(const HttpRefusal& refusal, const HttpHead& head,
                            std::string_view route, bool keep_alive) {
  const bool sent =
      Send(RefusalBytes(shared_.router.Written(refusal, head), keep_alive, head.method == "HEAD"));
  shared_.Observe({route, refusal.status, refusal.reason, -1});
  if (sent && !keep_alive) Linger();
  return sent && keep_alive;
}

HttpResult<size_t> HttpConnection::ReadHead(MonoTime until) {
  const size_t limit = shared_.limits.max_head_bytes;
  size_t scanned = 0;
  for (;;) {
    if (scanned < 2 && SkipLineBreaks()) scanned = 0;
    auto size = FindHeadEnd(input_, scanned);
    if (!size) return size;
    if (*size > limit || (*size == 0 && input_.size() > limit)) {
      return tl::unexpected(HttpRefusal{431, "head_too_large",
                                        fmt::format("the head is larger than {} bytes", limit)});
    }
    if (*size > 0) return size;
    const Filled filled = Fill(until);
    if (filled == Filled::kTimeout && !input_.empty()) return tl::unexpected(TooSlow());
    if (filled != Filled::kBytes) return 0;
  }
}

bool HttpConnection::ServeOne() {
  const MonoTime until = MonoNow() + shared_.limits.request_timeout;
  const auto head_size = ReadHead(until);
  if (!head_size) return Refuse(head_size.error(), HttpHead(), "other", false);
  if (*head_size == 0) return false;
  HttpHead refused;
  const auto head = ParseHead(std::string_view(input_).substr(0, *head_size), &refused);
  if (!head) return Refuse(head.error(), refused, "other", false);
  input_.erase(0, *head_size);
  return ServeParsed(*head, until);
}

bool HttpConnection::ServeParsed(const HttpHead& head, MonoTime until) {
  const HttpRouter::Match match = shared_.router.Find(head.method, head.path);
  const std::string_view route = match.path;
  const bool reusable = head.keep_alive && !head.has_body();
  const bool known = !route.empty() && match.allow.empty();
  const Access access = known ? shared_.router.access(match.route) : Access::kRead;
  if (const auto refusal = shared_.gate.Refusal(head.authorization, access)) {
    return Refuse(*refusal, head, route.empty() ? "other" : route, reusable);
  }
  if (route.empty()) {
    return Refuse(HttpRouter::UnknownPath(), head, "other", reusable);
  }
  if (!known) {
    return Refuse(HttpRouter::WrongMethod(match), head, route, reusable);
  }
  HttpBodyBudget::Share share(shared_.bodies);
  std::string body;
  if (head.has_body()) {
    const auto whole = ReadBody(head, route, until, share, body);
    if (!whole) {
      body = std::string();
      share.GiveBack();
      return Refuse(whole.error(), head, route, false);
    }
    if (!*whole) return false;
  }
  return Answer(head, match, std::move(body), share);
}

HttpResult<bool> HttpConnection::ReadBody(const HttpHead& head, std::string_view route,
                                          MonoTime until, HttpBodyBudget::Share& share,
                                          std::string& body) {
  const uint64_t limit = shared_.limits.max_body_bytes;
  if (head.content_length > limit) {
    return tl::unexpected(HttpRefusal{
        413, "body_too_large",
        fmt::format("the body of {} is larger than {} bytes (--http-max-body)", route, limit)});
  }
  if (head.expects_continue && input_.empty() && !Send("HTTP/1.1 100 Continue\r\n\r\n")) {
    return false;
  }
  ChunkedDecoder chunks(limit);
  for (;;) {
    const size_t before = body.size();
    if (head.chunked) {
      std::string_view bytes = input_;
      Grow(body, bytes.size());
      const auto done = chunks.Decode(bytes, body);
      input_.erase(0, input_.size() - bytes.size());
      if (!share.Take(body.size() - before)) return tl::unexpected(Busy(shared_.bodies));
      if (!done) return tl::unexpected(done.error());
      if (*done) return true;
    } else {
      const size_t take =
          std::min<size_t>(input_.size(), static_cast<size_t>(head.content_length) - body.size());
      if (!share.Take(take)) return tl::unexpected(Busy(shared_.bodies));
      if (take == head.content_length && take == input_.size() && take > kKeptInputBytes) {
        // The usual prompt: it came at once, and nothing else with it.
        body = std::exchange(input_, {});
        return true;
      }
      Grow(body, take);
      body.append(input_, 0, take);
      input_.erase(0, take);
      if (body.size() == head.content_length) return true;
    }
    // A client with Nagle's algorithm that sends head and body apart keeps the body back until
    // the head is acknowledged, which the kernel would put off for 40 ms.
    const int yes = 1;
    ::setsockopt(transport_->fd(), IPPROTO_TCP, TCP_QUICKACK, &yes, sizeof yes);
    const Filled filled = Fill(until);
    if (filled == Filled::kTimeout) return tl::unexpected(TooSlow());
    if (filled != Filled::kBytes) return false;
  }
}

void HttpConnection::SendStream(HttpStream& stream) {
  const Duration patience = shared_.limits.idle_timeout;
  MonoTime next_beat = MonoNow() + shared_.limits.heartbeat;
  while (!shared_.stopping) {
    std::string piece = stream.Take();
    if (piece.empty() && MonoNow() >= next_beat) piece = stream.Heartbeat();
    if (!piece.empty()) {
      if (!Send(piece, patience)) return;
      next_beat = MonoNow() + shared_.limits.heartbeat;
      continue;
    }
    pollfd waited[3] = {{transport_->fd(), POLLIN, 0},
                        {shared_.stop_event.get(), POLLIN, 0},
                        {stream.ready(), POLLIN, 0}};
    {
      const Waiting waiting(shared_.waits);
      ::poll(waited, 3, MillisecondsUntil(next_beat));
    }
    // Whatever it still says is nobody's request; that it says no more is what is looked for.
    if (waited[0].revents != 0) {
      if (ReadSome() == HttpTransport::Io::kClosed) return;
      input_.clear();
    }
  }
}

bool HttpConnection::Answer(const HttpHead& head, const HttpRouter::Match& match, std::string body,
                            HttpBodyBudget::Share& share) {
  const MonoTime begin = MonoNow();
  const bool keep_alive = head.keep_alive && !shared_.stopping;
  const HttpAnswer answer = shared_.router.Answer(head, match, std::move(body), keep_alive);
  share.GiveBack();
  const bool sent = Send(answer.bytes);
  constexpr size_t kStatusAt = sizeof("HTTP/1.1 ") - 1;
  const int status =
      answer.bytes.size() < kStatusAt + 3 ? 0 : std::atoi(answer.bytes.c_str() + kStatusAt);
  const double seconds = std::chrono::duration<double>(MonoNow() - begin).count();
  shared_.Observe({match.path, status, {}, seconds});
  if (answer.stream) {
    if (sent && head.method != "HEAD") SendStream(*answer.stream);
    return false;
  }

  return sent && keep_alive;
}

}  // namespace conductor::serve
