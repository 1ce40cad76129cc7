#ifndef CONDUCTOR_DAEMON_PROXY_UPSTREAM_H_
#define CONDUCTOR_DAEMON_PROXY_UPSTREAM_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/proxy/asio.h"
#include "daemon/proxy/body_decoder.h"
#include "daemon/proxy/departure.h"
#include "daemon/proxy/engine.h"
#include "daemon/proxy/http_head.h"
#include "daemon/proxy/time_limits.h"
#include "lib/base/clock.h"

namespace conductor::proxy {

// One thread's connections to engines: those that are kept between two requests.
class Upstreams {
 public:
  struct Options {
    Duration connect = std::chrono::seconds(2);
    Duration first_byte = std::chrono::minutes(10);
    Duration idle = std::chrono::minutes(2);  // between two pieces of an answer
    size_t max_kept = 128;                    // of each engine
    // An engine may close a kept connection while a request is on its way there, and says so at
    // once. Where a request was sent whole and its connection ends later, it was worked on.
    Duration stale = std::chrono::seconds(1);
  };

  Upstreams(net::io_context& io, TimeLimits& limits, const Options& options)
      : io_(io), limits_(limits), options_(options) {}
  Upstreams(const Upstreams&) = delete;
  Upstreams& operator=(const Upstreams&) = delete;

  [[nodiscard]] net::io_context& io() const { return io_; }
  [[nodiscard]] TimeLimits& limits() const { return limits_; }
  [[nodiscard]] const Options& options() const { return options_; }

  // A connection that is still open, as far as that can be seen.
  [[nodiscard]] std::optional<tcp::socket> Take(const std::string& engine);
  void Keep(const std::string& engine, tcp::socket socket);
  // To be called now and then: closes what is kept of engines that are not known any more, and of
  // one of the others, the next with each call, what the engine has closed.
  void Sweep(const std::function<bool(const std::string& engine)>& is_known);
  void Clear() { kept_.clear(); }

 private:
  net::io_context& io_;
  TimeLimits& limits_;
  const Options options_;
  std::map<std::string, std::vector<tcp::socket>> kept_;  // the youngest last
  std::string swept_;                                     // the last engine that was looked at
};

// Why there is no answer, or no more of it.
struct UpstreamError {
  enum class Kind : uint8_t {
    kConnect,    // nobody there, or not within the time
    kFirstByte,  // no head within the time
    kIdle,       // nothing more within the time
    kBroken,     // it closed the connection too early, or sent what is no HTTP
    kLeft,       // nobody wants it any more (Departure)
  };

  Kind kind = Kind::kBroken;
  std::string what;  // "127.0.0.1:8100: cannot connect: Connection refused"
};

// "connect", "first_byte", "idle", "broken", "left": for metrics and logs.
[[nodiscard]] std::string_view KindName(UpstreamError::Kind kind);

// One request to one engine and its answer, piece by piece. Its connection is closed at once when
// `departure` happens or this is destroyed before the answer's end; otherwise it is kept for the
// next request. At most one coroutine at a time.
class Exchange {
 public:
  Exchange(Upstreams& upstreams, Departure& departure);
  ~Exchange() = default;

  // All of it must be done within so much time from now, whatever is tried: what is not then fails
  // as kFirstByte. Once, before Ask().
  void Within(Duration whole);
  [[nodiscard]] bool is_late() const { return whole_ && whole_->passed(); }

  // Sends the request and waits for the head of the answer. `head` is the whole head; both must
  // live until this is done. A kept connection that the engine had closed meanwhile is replaced by
  // a new one: that is no failure of the engine. One that ends without an answer long after it has
  // got the request is: the request is not sent again. An engine that refuses before it has got the
  // whole body, as for one that is too large, gets no more of it: its refusal is the answer.
  [[nodiscard]] Awaitable<tl::expected<void, UpstreamError>> Ask(const Engine& engine,
                                                                 std::string_view head,
                                                                 std::string_view body);
  [[nodiscard]] const ResponseHead& head() const { return head_; }
  // Whether the engine may have got the request, or a part of it.
  [[nodiscard]] bool has_sent() const { return has_sent_; }

  // The next bytes of the body as they come, without framing; empty at its end. They are valid
  // until the next call. The first may take as long as the head: engines send the head of a stream
  // before they begin to work.
  [[nodiscard]] Awaitable<tl::expected<std::string_view, UpstreamError>> Read();
  // Whether Read() will not have to wait.
  [[nodiscard]] bool has_bytes() const { return decoder_.done() || begin_ < end_; }
  // Whether the last piece that Read() gave was the end.
  [[nodiscard]] bool is_done() const { return decoder_.done(); }

  // The whole body; kBroken when it is larger than `limit` bytes.
  [[nodiscard]] Awaitable<tl::expected<std::string, UpstreamError>> ReadAll(size_t limit);

  void Close();

 private:
  [[nodiscard]] Awaitable<tl::expected<void, UpstreamError>> Connect(const Engine& engine);
  // On the connection that there is.
  [[nodiscard]] Awaitable<tl::expected<void, UpstreamError>> AskOnce(std::string_view head,
                                                                     std::string_view body);
  // Hands the request to the kernel; or not all of it, where there is an answer to the rest.
  [[nodiscard]] Awaitable<tl::expected<void, UpstreamError>> Send(std::string_view head,
                                                                  std::string_view body);
  // Until there is room for more of the request. True: there is something to read, if `watches`.
  [[nodiscard]] Awaitable<bool> WaitForRoom(bool watches);
  // The answer's head, from what has been read; false while it is not whole.
  [[nodiscard]] tl::expected<bool, UpstreamError> TakeHead();
  [[nodiscard]] Awaitable<tl::expected<void, UpstreamError>> ReadHead();
  // More bytes behind end_; an error also at the end of the stream.
  [[nodiscard]] Awaitable<error_code> Fill();
  // Nobody waits for the answer any more.
  [[nodiscard]] bool is_over() const { return departure_.happened() || is_late(); }
  [[nodiscard]] tl::unexpected<UpstreamError> Failed(UpstreamError::Kind kind,
                                                     std::string_view what);
  void Finish();

  Upstreams& upstreams_;
  Departure& departure_;
  tcp::socket socket_;
  TimeLimits::Limit limit_;                 // of the present step
  std::optional<TimeLimits::Limit> whole_;  // of all
  Departure::Listener leaves_;
  std::string engine_;  // its name
  ResponseHead head_;
  BodyDecoder decoder_;
  std::vector<char> buffer_;
  size_t begin_ = 0;  // of what was read and not given out
  size_t end_ = 0;
  bool to_head_ = false;    // the request is HEAD
  MonoTime sent_;           // where is_sent_
  bool has_sent_ = false;   // some of the request
  bool is_sent_ = false;    // the whole request
  bool has_head_ = false;   // head_ is the answer's
  bool got_bytes_ = false;  // of the answer
  bool has_begun_ = false;  // Read() has given something
  bool finished_ = false;
};

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_UPSTREAM_H_
