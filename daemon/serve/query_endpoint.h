#ifndef CONDUCTOR_DAEMON_SERVE_QUERY_ENDPOINT_H_
#define CONDUCTOR_DAEMON_SERVE_QUERY_ENDPOINT_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "daemon/serve/query_stats.h"
#include "lib/base/result.h"

namespace conductor::serve {

struct BodyRoute;
struct RouteContext;

// The ZeroMQ endpoint of `conductor serve`, for routers that ask thousands of times a second: a
// ROUTER that takes what BodyRoutes() answers, in MessagePack, pipelined, and answers each request
// as soon as it is done, by its id. docs/zeromq-api.md has the frames.
//
// No thread stands between ZeroMQ's own and the one that answers. All threads share the socket
// under a lock: whoever holds it sends its answer, takes everything that has come into the queue
// (where others wait in it, once a millisecond), and leaves with the next request. One thread more
// than may answer looks each millisecond while all others answer, so that what goes beyond the
// bounds is refused at once. (A thread that owns the socket and hands out requests would cost two
// more wake-ups a request.)
//
// One thread more looks ten times a second at what peers have sent that is no whole message yet
// (lib/stream/unfinished_messages.h), for which ZeroMQ knows no limit.
//
// Nobody is waited for. An answer whose client is gone, or has kMostUnread unread already, is
// dropped and counted.
class QueryEndpoint {
 public:
  struct Options {
    std::string address;   // "tcp://ADDRESS:PORT", "tcp://ADDRESS:*" (a free one), "ipc://PATH"
    uint32_t threads = 0;  // that answer; 0: one for each processor
    // Requests that wait for one of them, and their bodies together; beyond: status 503.
    uint32_t max_queued = 1024;
    uint64_t max_queued_bytes = 256 << 20;
    // Beyond: status 413. A frame of twice as much or more cuts its connection off.
    uint64_t max_body_bytes = 16 << 20;
  };

  // Answers that one client has not read.
  static constexpr int kMostUnread = 1024;

  // Answers BodyRoutes(), or `routes`. They, and what `context` refers to, must outlive it.
  QueryEndpoint(const RouteContext& context, Options options);
  QueryEndpoint(const RouteContext& context, Options options, std::span<const BodyRoute> routes);
  ~QueryEndpoint();  // Stop()
  QueryEndpoint(const QueryEndpoint&) = delete;
  QueryEndpoint& operator=(const QueryEndpoint&) = delete;

  // Binds and starts to answer on threads of its own; the address that was bound. The error names
  // the address.
  [[nodiscard]] Result<std::string> Start();

  // Ends all threads within a second: what is being answered is cut short and answered with 503, as
  // what waits is.
  void Stop();

  [[nodiscard]] QueryStats stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// What can be told about an address before it is bound; the error's `where` is empty.
[[nodiscard]] Status CheckQueryAddress(std::string_view address);

// Whether only this machine reaches it.
[[nodiscard]] bool IsLocalQueryAddress(std::string_view address);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_QUERY_ENDPOINT_H_
