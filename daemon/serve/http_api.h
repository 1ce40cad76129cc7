#ifndef CONDUCTOR_DAEMON_SERVE_HTTP_API_H_
#define CONDUCTOR_DAEMON_SERVE_HTTP_API_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/serve/min_state.h"
#include "daemon/serve/registry.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/index/score.h"

namespace conductor::serve {

// The HTTP server of `conductor serve`; docs/http-api.md describes every route.
class HttpApi {
 public:
  struct Options {
    std::string host = "127.0.0.1";
    uint16_t port = 13333;  // 0: a free one
    uint32_t max_connections = 1024;
    uint64_t max_body_bytes = 16 << 20;
    uint64_t max_inflight_bytes = 512 << 20;  // of the bodies of all requests together
    // A request whose head and body have not come in this time is cut; so is an idle connection
    // after `idle_timeout`.
    Duration request_timeout = std::chrono::seconds(10);
    Duration idle_timeout = std::chrono::minutes(5);
    // Of one query: the time that its walk may take, the prompts of a batch, a prompt's blocks.
    Duration query_timeout = std::chrono::seconds(5);
    uint32_t max_prompts = 256;
    uint32_t max_query_blocks = 1 << 22;
    index::ScoreWeights score_weights;
    // Of /query and /cache, whose answers have no room for a state.
    MinState legacy_min_state = MinState::kAny;
  };

  // `registry` must outlive it.
  HttpApi(Registry& registry, const Options& options);
  ~HttpApi();  // Stop()
  HttpApi(const HttpApi&) = delete;
  HttpApi& operator=(const HttpApi&) = delete;

  // Binds and starts to answer on threads of its own; the port that was bound. The error names
  // host and port.
  [[nodiscard]] Result<uint16_t> Start();

  // What GET /readyz answers: 503 until set.
  void SetReady(bool ready);

  // Ends all connections and threads within a second: queries that are being answered are cut short
  // and answered with 503.
  void Stop();

  // (method, path) of every route.
  [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& routes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_HTTP_API_H_
