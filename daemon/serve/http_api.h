#ifndef CONDUCTOR_DAEMON_SERVE_HTTP_API_H_
#define CONDUCTOR_DAEMON_SERVE_HTTP_API_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/serve/document.h"
#include "daemon/serve/http_router.h"
#include "daemon/serve/min_state.h"
#include "daemon/serve/mooncake_generation.h"
#include "daemon/serve/query_stats.h"
#include "daemon/serve/registry.h"
#include "daemon/serve/snapshots.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/index/score.h"

namespace conductor::serve {

struct RouteContext;

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
    // Of the paths that the generations share, where a request does not say.
    Generation compat = Generation::kGo;
    std::string auth_token_file;  // empty: nobody is asked for a token
    // In PEM. Both, or both empty: no TLS.
    std::string tls_cert;
    std::string tls_key;

    [[nodiscard]] bool has_tls() const { return !tls_cert.empty(); }
    [[nodiscard]] bool names_files() const { return has_tls() || !auth_token_file.empty(); }
  };

  // `registry` must outlive it.
  HttpApi(Registry& registry, const Options& options);
  ~HttpApi();  // Stop()
  HttpApi(const HttpApi&) = delete;
  HttpApi& operator=(const HttpApi&) = delete;

  // Binds and starts to answer on threads of its own; the port that was bound. The error names
  // host and port, or the file that cannot be used.
  [[nodiscard]] Result<uint16_t> Start();

  // What a request is answered that comes from inside this process, with the right to read and to
  // change; needs no Start(). `target` is a path, with its query behind a '?'. Any thread.
  [[nodiscard]] HttpResponse Answer(std::string_view method, std::string_view target,
                                    std::string body, BodyForm form = BodyForm::kJson);

  // Reads the files that the options name again. One that cannot be used changes nothing, but for a
  // line in the log. Any thread.
  void ReloadFiles();

  // What its handlers work with, for the ZeroMQ endpoint; it lives as long as this.
  [[nodiscard]] const RouteContext& context() const;

  // Before Start(): GET /metrics tells what `stats` says too.
  void ShowQueryEndpoint(std::function<QueryStats()> stats);

  // Before Start(): POST /v1/snapshot saves it, and GET /metrics tells of it. It must outlive this,
  // or its Stop().
  void Serve(Snapshots& snapshots);

  // What GET /readyz answers: 503 until set.
  void SetReady(bool ready);

  // Ends all connections and threads within a second: queries that are being answered are cut short
  // and answered with 503.
  void Stop();

  // (method, path) of every route.
  [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& routes() const;
  // Of routes()[route].
  [[nodiscard]] Access access(size_t route) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_HTTP_API_H_
