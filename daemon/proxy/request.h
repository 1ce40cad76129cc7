#ifndef CONDUCTOR_DAEMON_PROXY_REQUEST_H_
#define CONDUCTOR_DAEMON_PROXY_REQUEST_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/proxy/access_log.h"
#include "daemon/proxy/advisor.h"
#include "daemon/proxy/choreography.h"
#include "daemon/proxy/client_connection.h"
#include "daemon/proxy/departure.h"
#include "daemon/proxy/fleet.h"
#include "daemon/proxy/lane.h"
#include "daemon/proxy/metaserver.h"
#include "daemon/proxy/options.h"
#include "daemon/proxy/proxy_metrics.h"

namespace conductor::proxy {

// What all threads of the proxy share. Each part is thread-safe, or does not change.
struct Shared {
  const ProxyOptions& options;
  const Choreography& choreography;
  Fleet& fleet;
  ProxyMetrics& metrics;
  AccessLog& access_log;
  BodyBudget& bodies;
  Metaserver& metaserver;
  Advisor* advisor = nullptr;  // none: nobody is asked
  // Counts, which order nothing.
  std::atomic<uint64_t> requests = 0;     // in hand
  std::atomic<uint64_t> connections = 0;  // of clients
  std::atomic<bool> drains = false;       // SIGTERM came
};

// A client's request while it is worked on, on its lane. Everything for it refers to this.
struct Request {
  Shared& shared;
  Lane& lane;
  ClientConnection& client;
  ClientRequest& asked;
  Departure& departure;
  AccessRecord& record;
  std::string_view path_label;  // in metrics
  MonoTime began;
};

// Errors as OpenAI's clients read them: {"error": {"message", "type", "param", "code"}}.
[[nodiscard]] std::string ErrorBody(int status, std::string_view type, std::string_view message);

// Answers the request with that, unless an answer has begun. `retry_after`: seconds; 0: not said.
[[nodiscard]] Awaitable<void> AnswerError(Request& request, int status, std::string_view type,
                                          std::string_view message, uint32_t retry_after = 0);
// Any whole answer.
[[nodiscard]] Awaitable<void> AnswerWhole(Request& request, int status,
                                          std::string_view content_type, std::string_view body,
                                          const Fields& more = {});

// Engines know the request by another id from now on (request_id.h). They name transfers by it, and
// remember those that they have begun: clients must not name them, and attempts must not meet. Both
// engines of one attempt have the same.
void RenameForEngines(Request& request);

// What engines are sent of a client's fields: all but for those of its connection and X-Request-Id,
// with the authorization, and without the rank, which is the proxy's to choose.
[[nodiscard]] Fields EngineFields(const Request& request);
// The head of a request to an engine, with those fields and `more`.
[[nodiscard]] std::string EngineHead(const Request& request, const Engine& engine,
                                     std::string_view method, std::string_view target,
                                     size_t body_bytes, const Fields& more);
// The same with `fields`, which may outlive the request.
[[nodiscard]] std::string EngineHead(const Engine& engine, std::string_view method,
                                     std::string_view target, size_t body_bytes, Fields fields,
                                     const Fields& more);

// What the client calls its request, in its answer and in the log: its X-Request-Id where that can
// be used, or a new one.
[[nodiscard]] std::string RequestIdOf(const Fields& fields);

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_REQUEST_H_
