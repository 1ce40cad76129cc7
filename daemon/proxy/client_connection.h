#ifndef CONDUCTOR_DAEMON_PROXY_CLIENT_CONNECTION_H_
#define CONDUCTOR_DAEMON_PROXY_CLIENT_CONNECTION_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "daemon/proxy/asio.h"
#include "daemon/proxy/departure.h"
#include "daemon/proxy/http_head.h"
#include "daemon/proxy/time_limits.h"
#include "lib/base/clock.h"

namespace conductor::proxy {

// The bytes of request bodies that all connections hold together, against a limit. Any thread.
class BodyBudget {
 public:
  explicit BodyBudget(uint64_t limit) : limit_(limit) {}

  [[nodiscard]] bool Take(uint64_t bytes) {
    if (used_.fetch_add(bytes, std::memory_order_relaxed) + bytes <= limit_) return true;
    Give(bytes);
    return false;
  }
  // Of what goes on whatever the limit says; it keeps others out.
  void Add(uint64_t bytes) { used_.fetch_add(bytes, std::memory_order_relaxed); }
  void Give(uint64_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }
  [[nodiscard]] uint64_t used() const { return used_.load(std::memory_order_relaxed); }

  // What grows and shrinks while it lives, and goes on whatever the limit says.
  class Part {
   public:
    explicit Part(BodyBudget& budget) : budget_(budget) {}
    ~Part() { Holds(0); }
    Part(const Part&) = delete;
    Part& operator=(const Part&) = delete;

    void Holds(uint64_t bytes) {
      if (bytes == bytes_) return;
      budget_.Add(bytes);
      budget_.Give(std::exchange(bytes_, bytes));
    }

   private:
    BodyBudget& budget_;
    uint64_t bytes_ = 0;
  };

 private:
  const uint64_t limit_;
  std::atomic<uint64_t> used_ = 0;  // a count, which orders nothing
};

struct ClientRequest {
  RequestHead head;
  std::string body;
};

// Why a request cannot be taken; the connection is closed behind the answer that says so.
struct RefusedRequest {
  // 0: nobody can be answered, for the rest of the request did not come; `what` is "client_left" or
  // "request_timeout" then.
  int status = 400;
  std::string what;
  RequestHead head = {};        // as far as it was read: without a method it was not
  uint64_t body_bytes = 0;      // that came, or that were announced
  Duration took = Duration(0);  // since its first byte
};

// A client's connection: requests one after the other, and the answer to each. HTTP/1.1 with
// keep-alive and pipelining, and HTTP/1.0. One thread.
//
// While a request is worked on the connection is watched: when the client leaves, the request's
// Departure happens at once, whatever the proxy waits for. A client that closes its side for
// writing has left too, as most servers take it.
class ClientConnection : public std::enable_shared_from_this<ClientConnection> {
 public:
  struct Options {
    Duration request = std::chrono::seconds(30);     // for head and body
    Duration keep_alive = std::chrono::seconds(75);  // without a request
    Duration write = std::chrono::seconds(60);       // while it takes nothing of an answer
    uint64_t max_body = 32 << 20;
    // Whether a request is work, whose body must find room in the budget; none: all are. By others
    // the work that is in hand goes on: they would wait for room that only they can make, so
    // kMaxAside bytes of each are taken in any case.
    bool (*is_work)(std::string_view method, std::string_view path) = nullptr;
  };
  // Where a decoder wants the blocks of a long prompt, many times over.
  static constexpr uint64_t kMaxAside = 256 << 10;

  ClientConnection(tcp::socket socket, TimeLimits& limits, BodyBudget& budget,
                   const Options& options);
  ~ClientConnection();
  ClientConnection(const ClientConnection&) = delete;
  ClientConnection& operator=(const ClientConnection&) = delete;

  // The next request, whole; nothing when there is none: the connection is closed then. Of one that
  // had begun there is always something.
  [[nodiscard]] Awaitable<std::optional<tl::expected<ClientRequest, RefusedRequest>>> Next();

  // Watches until Unwatch(), or the end of the answer. `departure` must live that long.
  void Watch(Departure& departure);
  void Unwatch();

  // An answer: Begin(), any number of Write(), End(). Nothing is sent before the first Write() or
  // Flush(), so that head and first bytes go together. False when the client has left.
  //
  // Of `head` its framing is not taken: the body is chunked unless its length is known, or the
  // client cannot have it that way.
  void Begin(const ResponseHead& head);
  [[nodiscard]] Awaitable<bool> Flush();
  [[nodiscard]] Awaitable<bool> Write(std::string_view piece);
  [[nodiscard]] Awaitable<bool> End();
  [[nodiscard]] bool has_begun() const { return has_begun_; }
  // A whole one.
  [[nodiscard]] Awaitable<bool> Answer(int status, std::string_view content_type,
                                       std::string_view body, const Fields& more = {});

  // Behind the answer to what was refused, of which more may come: to close at once would take the
  // answer away from the client before it has read it.
  [[nodiscard]] Awaitable<void> Linger();
  // Cut off in the middle of an answer, so that the client sees that it is not whole: where only
  // the connection's end tells the body's, that is no clean one.
  void Abort();
  // As if the client had left.
  void Cut() { Close(); }
  // No request is taken behind the present one; when none has begun, it is closed.
  void Drain();
  // The request's body is no longer needed.
  void ReleaseBody(ClientRequest& request);

  [[nodiscard]] bool is_idle() const { return is_idle_; }
  [[nodiscard]] const std::string& peer() const { return peer_; }

 private:
  using Buffers = std::array<net::const_buffer, 4>;

  [[nodiscard]] Awaitable<error_code> ReadMore();
  [[nodiscard]] Awaitable<std::optional<RefusedRequest>> ReadBody(const RequestHead& head,
                                                                  std::string& body);
  [[nodiscard]] Awaitable<bool> Send(Buffers buffers);
  void WaitForClient();
  // The same while no more is read.
  void LookForClient();
  void Close();

  tcp::socket socket_;
  const std::string peer_;  // its address
  TimeLimits::Limit limit_;
  BodyBudget& budget_;
  const Options options_;
  std::string in_;                           // read and not used yet
  std::string out_;                          // a head that was not sent yet
  uint64_t body_bytes_ = 0;                  // taken from the budget
  MonoTime began_;                           // the request
  std::unique_ptr<net::steady_timer> look_;  // where the client has sent too much ahead
  Departure* departure_ = nullptr;
  uint64_t watch_ = 0;  // which one; handlers of former ones do nothing
  bool is_idle_ = true;
  bool drains_ = false;
  bool keep_alive_ = true;
  bool to_head_ = false;  // the request is HEAD
  bool is_http_1_1_ = true;
  bool has_begun_ = false;
  bool is_chunked_ = false;
  bool ends_by_close_ = false;  // the answer that has begun
};

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_CLIENT_CONNECTION_H_
