#ifndef CONDUCTOR_DAEMON_SERVE_HTTP_CONNECTION_H_
#define CONDUCTOR_DAEMON_SERVE_HTTP_CONNECTION_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "daemon/serve/file_descriptor.h"
#include "daemon/serve/http_body_budget.h"
#include "daemon/serve/http_framing.h"
#include "daemon/serve/http_gate.h"
#include "daemon/serve/http_router.h"
#include "daemon/serve/http_transport.h"
#include "lib/base/clock.h"

namespace conductor::serve {

// What became of one request, for metrics.
struct HttpExchange {
  std::string_view route;  // as registered; "other" for unknown paths and unreadable requests
  int status;
  std::string_view reason;  // of a refusal: "unauthorized"; empty where a handler answered
  // From the complete request to the answer's last byte handed to the kernel; negative for
  // requests that no handler saw.
  double seconds;
};

struct HttpLimits {
  uint64_t max_body_bytes = 16 << 20;
  uint64_t max_inflight_bytes = 512 << 20;  // of all bodies; at least max_body_bytes
  size_t max_head_bytes = 64 << 10;
  // From a request's first byte to its last, and from an answer's first to its last.
  Duration request_timeout = std::chrono::seconds(10);
  Duration idle_timeout = std::chrono::minutes(5);
  // Of a stream without events. One whose client takes nothing for idle_timeout is cut off.
  Duration heartbeat = std::chrono::seconds(15);
};

// How long a connection that was refused stays half open, so that the client reads the answer
// before the kernel resets it for the bytes it sent meanwhile.
inline constexpr auto kHttpLingerTime = std::chrono::milliseconds(500);

// For poll(): the whole milliseconds until `until`, rounded up; 0 when it has passed.
[[nodiscard]] int MillisecondsUntil(MonoTime until);

// What is told when a connection's thread waits for its client: others may be served meanwhile.
class HttpWaits {
 public:
  virtual void BeginWait() = 0;
  virtual void EndWait() = 0;

 protected:
  ~HttpWaits() = default;
};

// One client's connection: reads requests one after the other, each within the limits and one
// absolute deadline, has them answered by the router, and refuses the others. Blocks its thread
// from a request's first byte to its answer's last. Used by one thread at a time.
class HttpConnection {
 public:
  // What the connections of one server share; outlives them.
  struct Shared {
    explicit Shared(const HttpLimits& given) : limits(given), bodies(given.max_inflight_bytes) {}

    const HttpLimits limits;
    HttpBodyBudget bodies;
    HttpRouter router;
    HttpGate gate;
    std::function<void(const HttpExchange&)> observer;
    // Set, and then readable and never read, once the server stops: every wait ends.
    std::atomic<bool> stopping = false;
    // Connections that ended before their transport was open, for metrics; stands for itself.
    std::atomic<uint64_t> unopened = 0;
    FileDescriptor stop_event;
    HttpWaits* waits = nullptr;  // nullptr: nobody is told

    void Observe(const HttpExchange& exchange) const {
      if (observer) observer(exchange);
    }
  };

  HttpConnection(Shared& shared, std::unique_ptr<HttpTransport> transport);

  enum class Served : uint8_t {
    kForNow,   // to be called again once the socket is ready for wanted()
    kForGood,  // the client has left or misbehaves, or the server stops
  };
  // What has come, at most kMostInARow requests.
  [[nodiscard]] Served Serve();

  [[nodiscard]] int fd() const { return transport_->fd(); }
  // EPOLLIN, EPOLLOUT.
  [[nodiscard]] uint32_t wanted() const { return wanted_; }

 private:
  static constexpr int kMostInARow = 16;
  enum class Filled : uint8_t { kBytes, kClosed, kTimeout, kStopped };

  // Within a request's time; false when it cannot be.
  [[nodiscard]] bool Open();
  // Waits for `events` on the socket; kBytes: they are there.
  [[nodiscard]] Filled Wait(int16_t events, MonoTime until, bool heed_stop) const;
  // The same for what the transport wants.
  [[nodiscard]] Filled WaitFor(HttpTransport::Io wanted, MonoTime until, bool heed_stop) const;
  // Some clients end a body with a line break of their own.
  // True when there were any.
  bool SkipLineBreaks();
  // Reads what is there into input_. Nothing waits.
  HttpTransport::Io ReadSome();
  // The same, waiting for it until `until`.
  [[nodiscard]] Filled Fill(MonoTime until);
  // False when the client does not take it in time.
  bool Send(std::string_view bytes, Duration time) const;
  bool Send(std::string_view bytes) const { return Send(bytes, shared_.limits.request_timeout); }
  // Says that nothing more comes and reads what the client still sends, for a moment.
  void Linger();

  // The size of the head that input_ begins with then; 0 when the client left before it was whole.
  [[nodiscard]] HttpResult<size_t> ReadHead(MonoTime until);
  // False when the client left before `body` was whole. Its memory is taken from `share` as it
  // comes.
  [[nodiscard]] HttpResult<bool> ReadBody(const HttpHead& head, std::string_view route,
                                          MonoTime until, HttpBodyBudget::Share& share,
                                          std::string& body);

  // Each is true when the connection can go on.
  bool ServeOne();
  bool ServeParsed(const HttpHead& head, MonoTime until);
  // `share` is given back before the answer is sent.
  bool Answer(const HttpHead& head, const HttpRouter::Match& match, std::string body,
              HttpBodyBudget::Share& share);
  // Until the client leaves or is not heard of, or the server stops.
  void SendStream(HttpStream& stream);
  // `head`: of the request that is refused, as far as it was read.
  bool Refuse(const HttpRefusal& refusal, const HttpHead& head, std::string_view route,
              bool keep_alive);

  Shared& shared_;
  const std::unique_ptr<HttpTransport> transport_;
  bool opened_ = false;
  uint32_t wanted_;
  std::string input_;  // received and not consumed yet: the rest of this request, or the next one
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_HTTP_CONNECTION_H_
