#include "daemon/serve/demo.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <httplib.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <nlohmann/json.hpp>
#include <numeric>
#include <span>
#include <stop_token>
#include <thread>
#include <utility>

#include "lib/trace/simulated_engine.h"
#include "lib/trace/simulated_publisher.h"
#include "lib/trace/workload.h"

namespace conductor::serve {
namespace {

using std::chrono::milliseconds;

constexpr const char* kModel = "demo-model";
constexpr uint32_t kBlockSize = 16;
// Small enough that a prompt which nobody asks for again is evicted within seconds.
constexpr uint32_t kCapacityBlocks = 384;
constexpr milliseconds kRequestEvery{60};
// The watched prompt comes up on one rank after another, at every so-many-th request.
constexpr uint32_t kWatchedEvery = 60;
constexpr milliseconds kAskEvery{200};
constexpr size_t kWatchedTokens = 64;

struct Rank {
  Registration registration;
  trace::SimulatedEngine engine;
  std::unique_ptr<trace::SimulatedPublisher> publisher;
};

std::vector<TokenId> WatchedPrompt() {
  std::vector<TokenId> tokens(kWatchedTokens);
  std::iota(tokens.begin(), tokens.end(), TokenId{1});
  return tokens;
}

Result<Rank> MakeRank(const std::string& instance_id, uint32_t dp_rank, uint64_t seed) {
  auto publisher = trace::SimulatedPublisher::Create({.dp_rank = dp_rank});
  if (!publisher) return tl::unexpected(std::move(publisher.error()));
  Registration registration;
  registration.endpoint = (*publisher)->endpoint();
  registration.replay_endpoint = (*publisher)->replay_endpoint();
  registration.model = kModel;
  registration.instance_id = instance_id;
  registration.dp_rank = dp_rank;
  return Rank{std::move(registration),
              trace::SimulatedEngine(
                  {.seed = seed, .block_size = kBlockSize, .capacity_blocks = kCapacityBlocks}),
              std::move(*publisher)};
}

// "demo-a 64, demo-b 0 tokens cached"; nothing when the answer is none.
std::string Summary(const std::string& body) {
  const auto answer = nlohmann::json::parse(body, nullptr, false);
  if (answer.is_discarded() || !answer.contains("instances")) return {};
  std::vector<std::pair<std::string, uint64_t>> figures;
  for (const auto& instance : answer["instances"]) {
    figures.emplace_back(instance.value("instance_id", std::string()),
                         instance.value("longest_matched", uint64_t{0}));
  }
  std::ranges::sort(figures);
  std::vector<std::string> parts;
  parts.reserve(figures.size());
  for (const auto& [name, matched] : figures) {
    parts.push_back(fmt::format("{} holds {:>2} of {}", name, matched, kWatchedTokens));
  }
  return fmt::format("{} tokens", fmt::join(parts, ", "));
}

}  // namespace

struct Demo::Impl {
  uint64_t seed = 0;
  std::vector<Rank> ranks;
  std::vector<Registration> registrations;
  std::mutex mutex;  // for `waker` alone: the threads share nothing else
  std::condition_variable_any waker;
  std::jthread fleet;
  std::jthread narrator;

  // False when the wait was ended by a stop request.
  bool Sleep(const std::stop_token& stop, milliseconds time) {
    std::unique_lock lock(mutex);
    return !waker.wait_for(lock, stop, time, [&] { return stop.stop_requested(); });
  }

  static void Serve(Rank& rank, std::span<const TokenId> prompt) {
    auto events = rank.engine.Run(prompt);
    if (!events.empty()) rank.publisher->Publish(std::move(events));
  }

  void RunFleet(const std::stop_token& stop) {
    trace::Workload workload({.seed = seed});
    const std::vector<TokenId> watched = WatchedPrompt();
    size_t next_watched = 0;
    for (uint32_t request = 0; Sleep(stop, kRequestEvery); ++request) {
      // A conversation stays on its rank, as a cache-aware router would have it.
      const auto prompt = workload.Next();
      Serve(ranks[prompt.conversation % ranks.size()], prompt.tokens);
      if (request % kWatchedEvery == 0) {
        // Half of it first, so that the match is seen to grow.
        Rank& rank = ranks[next_watched++ % ranks.size()];
        Serve(rank, std::span(watched).first(kWatchedTokens / 2));
        if (!Sleep(stop, milliseconds(600))) return;
        Serve(rank, watched);
      }
    }
  }

  void Narrate(const std::stop_token& stop, const std::string& url) {
    const std::string body = fmt::format(R"({{"model":"{}","token_ids":[{}]}})", kModel,
                                         fmt::join(WatchedPrompt(), ","));
    fmt::print(
        "\nThree simulated engine ranks publish KV events. Ask who holds a prompt:\n\n"
        "  curl -s {}/v1/query -d '{}'\n\n"
        "Its answer as blocks are stored and evicted (Ctrl-C ends):\n\n",
        url, body);
    std::fflush(stdout);
    httplib::Client client(url);
    client.set_keep_alive(true);
    client.set_connection_timeout(1);
    client.set_read_timeout(1);
    std::string last;
    do {
      const auto response = client.Post("/v1/query", body, "application/json");
      if (!response || response->status != 200) continue;
      std::string summary = Summary(response->body);
      if (summary.empty() || summary == last) continue;
      const auto now = std::chrono::system_clock::now();
      const auto seconds = std::chrono::floor<std::chrono::seconds>(now.time_since_epoch()).count();
      fmt::print("  {:02}:{:02}:{:02}Z  {}\n", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60,
                 summary);
      std::fflush(stdout);
      last = std::move(summary);
    } while (Sleep(stop, kAskEvery));
  }
};

Demo::Demo(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Demo::~Demo() { Stop(); }

void Demo::Stop() {
  impl_->fleet.request_stop();
  impl_->narrator.request_stop();
  if (impl_->fleet.joinable()) impl_->fleet.join();
  if (impl_->narrator.joinable()) impl_->narrator.join();
}

Result<std::unique_ptr<Demo>> Demo::Create(uint64_t seed) {
  auto impl = std::make_unique<Impl>();
  impl->seed = seed;
  const std::pair<const char*, uint32_t> fleet[] = {{"demo-a", 0}, {"demo-b", 0}, {"demo-b", 1}};
  for (const auto& [instance_id, dp_rank] : fleet) {
    auto rank = MakeRank(instance_id, dp_rank, seed * 1000 + impl->ranks.size());
    if (!rank) return tl::unexpected(std::move(rank.error()).Within("--demo"));
    impl->registrations.push_back(rank->registration);
    impl->ranks.push_back(std::move(*rank));
  }
  return std::unique_ptr<Demo>(new Demo(std::move(impl)));
}

const std::vector<Registration>& Demo::registrations() const { return impl_->registrations; }

void Demo::Start(const std::string& url) {
  Impl& impl = *impl_;
  impl.fleet = std::jthread([&impl](const std::stop_token& stop) { impl.RunFleet(stop); });
  impl.narrator =
      std::jthread([&impl, url](const std::stop_token& stop) { impl.Narrate(stop, url); });
}

}  // namespace conductor::serve
