#include "daemon/proxy/demo.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "daemon/proxy/assembly.h"
#include "daemon/proxy/choreographies.h"
#include "daemon/proxy/demo_engine.h"
#include "daemon/serve/stop_signals.h"
#include "lib/base/log.h"
#include "lib/trace/workload.h"

namespace conductor::proxy {
namespace {

using std::chrono::milliseconds;

constexpr int kDone = 0;
constexpr int kFailed = 1;

constexpr size_t kPrefillers = 4;
constexpr milliseconds kRequestEvery(25);
constexpr milliseconds kTellEvery(2000);
// Where a machine is too slow for the workload, requests are left out rather than piled up.
constexpr uint64_t kMostInHand = 64;
constexpr size_t kMaxAnswer = 1 << 20;

// One fleet, the proxy before it, and what became of the workload there.
struct Side {
  std::vector<std::unique_ptr<DemoEngine>> engines;
  std::unique_ptr<Assembly> proxy;
  std::unique_ptr<Engine> address;  // of the proxy, for the workload
  uint64_t answered = 0;
  uint64_t failed = 0;
  Duration took{};  // of all that were answered, together
};

Status StartSide(Side& side, Policy policy, const std::string& host, uint16_t port, Lane& lane,
                 uint64_t seed) {
  ProxyOptions options;
  options.host = host;
  options.port = port;
  options.threads = 1;
  options.policy = policy;
  options.embedded = AsksConductor(policy);
  options.prompts.model = kDemoModel;
  options.prompts.block_size = kDemoBlockSize;
  for (size_t i = 0; i <= kPrefillers; ++i) {
    const Role role = i < kPrefillers ? Role::kPrefill : Role::kDecode;
    auto engine = DemoEngine::Create(role, fmt::format("demo-{}", i + 1), seed * 1000 + i, lane);
    if (!engine) return tl::unexpected(std::move(engine.error()));
    (role == Role::kPrefill ? options.prefillers : options.decoders).push_back((*engine)->spec());
    side.engines.push_back(*std::move(engine));
  }
  auto proxy = Assembly::Start(options);
  if (!proxy) return tl::unexpected(std::move(proxy.error()));
  side.proxy = *std::move(proxy);
  EngineSpec spec;
  spec.host = host;
  spec.port = side.proxy->port();
  side.address = std::make_unique<Engine>(Role::kUnified, spec);
  return side.address->Resolve();
}

double HitRate(const Side& side) {
  DemoEngine::Counts all;
  for (const auto& engine : side.engines) {
    all.tokens += engine->counts().tokens;
    all.cached_tokens += engine->counts().cached_tokens;
  }
  if (all.tokens == 0) return 0;
  return 100 * static_cast<double>(all.cached_tokens) / static_cast<double>(all.tokens);
}

double MeanMilliseconds(const Side& side) {
  const double took = std::chrono::duration<double, std::milli>(side.took).count();
  return took / static_cast<double>(std::max<uint64_t>(side.answered, 1));
}

// One prompt through one proxy.
Awaitable<void> Ask(Lane& lane, Side& side, std::shared_ptr<const std::string> body) {
  const std::string head = fmt::format(
      "POST /v1/completions HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n"
      "Content-Length: {}\r\n\r\n",
      side.address->name(), body->size());
  const MonoTime began = MonoNow();
  Exchange exchange(lane.upstreams, lane.ending);
  const auto asked = co_await exchange.Ask(*side.address, head, *body);
  bool is_well = asked && exchange.head().status == 200;
  if (asked) {
    const auto answer = co_await exchange.ReadAll(kMaxAnswer);
    is_well = is_well && answer.has_value();
  }
  if (is_well) {
    ++side.answered;
    side.took += MonoNow() - began;
  } else if (!lane.ending.happened()) {
    ++side.failed;
  }
}

// All that happens on the demo's lane.
class Demo {
 public:
  explicit Demo(const DemoOptions& options) : options_(options), lane_(Upstreams::Options{}) {}
  ~Demo() { Stop(); }
  Demo(const Demo&) = delete;
  Demo& operator=(const Demo&) = delete;

  // The fleets, and the proxies before them.
  [[nodiscard]] Status Start() {
    auto started =
        StartSide(score_, Policy::kScore, options_.host, options_.port, lane_, options_.seed);
    if (!started) return started;
    // The seeds of their engines' block names differ, as those of any two engines.
    started = StartSide(turns_, Policy::kRoundRobin, "127.0.0.1", 0, lane_, options_.seed + 1);
    if (!started) return started;
    for (Side* const side : {&score_, &turns_}) {
      for (const auto& engine : side->engines) engine->Start();
    }
    net::co_spawn(
        lane_.io, [this] { return SendWorkload(); }, net::detached);
    net::co_spawn(
        lane_.io, [this] { return Narrate(); }, net::detached);
    thread_ = std::thread([this] { lane_.io.run(); });
    return {};
  }

  // The traffic first, so that no proxy takes an engine for one that died.
  void Stop() {
    if (thread_.joinable()) {
      for (Side* const side : {&score_, &turns_}) side->proxy->Drain(milliseconds(0));
      net::post(lane_.io, [this] { lane_.ending.Happen(); });
    }
    for (Side* const side : {&score_, &turns_}) {
      if (side->proxy != nullptr) side->proxy->Stop();
    }
    if (!thread_.joinable()) return;
    net::post(lane_.io, [this] { lane_.upstreams.Clear(); });
    thread_.join();
  }

  [[nodiscard]] std::string url() const { return HttpUrl(options_.host, score_.proxy->port()); }

 private:
  Awaitable<void> SendWorkload() {
    trace::Workload workload({.seed = options_.seed});
    while (co_await Pause(lane_, kRequestEvery)) {
      if (in_hand_ >= kMostInHand) continue;
      const auto body = std::make_shared<const std::string>(
          fmt::format(R"({{"model": "{}", "prompt": [{}], "max_tokens": 8}})", kDemoModel,
                      fmt::join(workload.Next().tokens, ",")));
      ++requests_;
      for (Side* const side : {&score_, &turns_}) {
        ++in_hand_;
        net::co_spawn(lane_.io, Ask(lane_, *side, body),
                      [this](const std::exception_ptr&) { --in_hand_; });
      }
    }
  }

  Awaitable<void> Narrate() {
    Tell(fmt::format(
        "conductor: listening on {1}\n\nThe same chat workload goes to two fleets of {0} "
        "prefillers and a decoder. Ask the one "
        "with\nscore, twice, and see in X-Conductor-Route who held your prompt:\n\n"
        "  curl -si {1}/v1/completions -H 'Content-Type: application/json' -d "
        "\"{{\\\"model\\\": \\\"{2}\\\", \\\"prompt\\\": \\\"$(seq -s' ' 200)\\\"}}\"\n\n"
        "Tokens that the prefillers had in their caches (Ctrl-C ends):\n\n",
        kPrefillers, url(), kDemoModel));
    while (co_await Pause(lane_, kTellEvery)) {
      std::string line = fmt::format(
          "  {:>6} requests   hit rate: score {:4.1f}%, round-robin {:4.1f}%   "
          "mean answer: {:.0f} ms, {:.0f} ms",
          requests_, HitRate(score_), HitRate(turns_), MeanMilliseconds(score_),
          MeanMilliseconds(turns_));
      if (const uint64_t failed = score_.failed + turns_.failed; failed > 0) {
        line += fmt::format("   {} failed", failed);
      }
      Tell(line + "\n");
    }
  }

  // Where nobody reads it any more, the demo ends as by a signal.
  static void Tell(const std::string& text) {
    const bool told =
        std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
    if (!told) ::kill(::getpid(), SIGTERM);
  }

  const DemoOptions& options_;
  Lane lane_;
  Side score_;
  Side turns_;
  uint64_t requests_ = 0;
  uint64_t in_hand_ = 0;  // at both
  std::thread thread_;
};

}  // namespace

int RunDemo(const DemoOptions& options) {
  serve::StopSignals signals;
  std::signal(SIGPIPE, SIG_IGN);
  Demo demo(options);
  if (const auto started = demo.Start(); !started) {
    fmt::print(stderr, "conductor: {}\n", Error(started.error()).Within("--demo").Message());
    return kFailed;
  }
  log::Info("{}: ending", signals.Wait());
  signals.Ending("the demo");
  demo.Stop();
  return kDone;
}

}  // namespace conductor::proxy
