#include "load.h"

#include <algorithm>
#include <fstream>
#include <random>
#include <span>
#include <unordered_map>
#include <utility>
#include <variant>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "lib/trace/simulated_engine.h"
#include "lib/trace/workload.h"

namespace conductor::bench {
namespace {

using Json = nlohmann::json;

constexpr double kMostMilliseconds = 1e12;  // thirty years, so that no clock overflows

Result<TraceRequest> ReadLine(const std::string& line) {
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Fail("is no JSON object", {}, "an object with hash_ids");
  const auto field = [&json](const char* key) { return json.value(key, Json()); };
  const Json timestamp = field("timestamp");
  if (!timestamp.is_number() || !(timestamp >= 0 && timestamp <= kMostMilliseconds)) {
    return Fail("timestamp is no number of milliseconds", {}, "one from 0 to 1e12");
  }
  const Json length = field("input_length");
  if (!length.is_number_unsigned()) {
    return Fail("input_length is no number of tokens", {}, "an integer from 0 on");
  }
  const Json ids = field("hash_ids");
  if (!ids.is_array()) return Fail("hash_ids is no array", {}, "one integer for each 512 tokens");
  TraceRequest request;
  request.seconds = timestamp.get<double>() / 1000;
  request.prompt_tokens = length.get<uint64_t>();
  for (const Json& id : ids) {
    if (!id.is_number_unsigned()) {
      return Fail(fmt::format("hash_ids[{}] is {}", request.block_ids.size(), id.dump()), {},
                  "an integer from 0 on");
    }
    request.block_ids.push_back(id.get<uint64_t>());
  }
  return request;
}

// The tokens that an id stands for: the same ones always.
void AppendTokens(uint64_t id, uint64_t count, std::vector<TokenId>& tokens) {
  std::mt19937_64 random(id * 0x9e3779b97f4a7c15u + 1);
  for (uint64_t i = 0; i < count; ++i) tokens.push_back(static_cast<TokenId>(random() % 128'000));
}

// What the engines hold together, by Conductor's own identity of a block, for engines need not have
// the same names. An engine never holds a block without those before it, so neither do all of them.
class HeldBlocks {
 public:
  explicit HeldBlocks(uint32_t engines) : names_(engines) {}

  // Leading blocks of the prompt that some engine holds.
  [[nodiscard]] uint32_t Leading(std::span<const PrefixHash> chain) const {
    const auto missing =
        std::ranges::find_if(chain, [this](PrefixHash block) { return !holders_.contains(block); });
    return static_cast<uint32_t>(missing - chain.begin());
  }

  // What the engine announced when it ran the prompt, of which it had the first `cached` blocks.
  void Apply(uint32_t engine, const std::vector<wire::KvEvent>& events,
             std::span<const PrefixHash> chain, size_t cached) {
    for (const wire::KvEvent& event : events) {
      if (const auto* removed = std::get_if<wire::BlockRemoved>(&event)) {
        for (const EngineHash name : removed->hashes) Remove(engine, name);
      } else if (const auto* stored = std::get_if<wire::BlockStored>(&event)) {
        for (const EngineHash name : stored->hashes) Store(engine, name, chain[cached++]);
      }
    }
  }

 private:
  void Store(uint32_t engine, EngineHash name, PrefixHash block) {
    names_[engine].emplace(name, block);
    ++holders_[block];
  }
  void Remove(uint32_t engine, EngineHash name) {
    const auto named = names_[engine].find(name);
    const auto held = holders_.find(named->second);
    if (--held->second == 0) holders_.erase(held);
    names_[engine].erase(named);
  }

  std::vector<std::unordered_map<EngineHash, PrefixHash>> names_;  // by engine
  std::unordered_map<PrefixHash, uint32_t> holders_;               // how many; never 0
};

uint32_t BlocksOf(const std::vector<wire::KvEvent>& events) {
  size_t blocks = 0;
  for (const wire::KvEvent& event : events) {
    if (const auto* stored = std::get_if<wire::BlockStored>(&event)) {
      blocks += stored->hashes.size();
    } else if (const auto* removed = std::get_if<wire::BlockRemoved>(&event)) {
      blocks += removed->hashes.size();
    }
  }
  return static_cast<uint32_t>(blocks);
}

// The prompt's tokens, without those after the last whole block.
std::vector<TokenId> PromptOf(const TraceRequest& request, uint32_t block_tokens,
                              uint32_t block_size) {
  std::vector<TokenId> prompt;
  for (const uint64_t id : request.block_ids) AppendTokens(id, block_tokens, prompt);
  // The last id may stand for less than a block.
  const uint64_t tokens = std::min<uint64_t>(prompt.size(), request.prompt_tokens);
  prompt.resize(tokens - tokens % block_size);
  return prompt;
}

std::vector<PrefixHash> ChainOf(std::span<const TokenId> prompt, uint32_t block_size) {
  std::vector<PrefixHash> chain(prompt.size() / block_size);
  hash::HashChain(prompt, block_size, nullptr, hash::kDefaultSeed, chain);
  return chain;
}

std::vector<trace::SimulatedEngine> MakeEngines(const FleetOptions& options) {
  std::vector<trace::SimulatedEngine> engines;
  for (uint32_t i = 0; i < options.engines; ++i) {
    engines.emplace_back(
        trace::SimulatedEngine::Options{.seed = options.own_names ? i + 1 : 0,
                                        .block_size = options.block_size,
                                        .capacity_blocks = options.capacity_blocks});
  }
  return engines;
}

}  // namespace

Result<Trace> ReadTrace(const std::string& path) {
  std::ifstream file(path);
  if (!file) return Fail("cannot be read", path);
  Trace trace;
  std::string line;
  for (size_t number = 1; std::getline(file, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    auto request = ReadLine(line);
    if (!request) {
      return tl::unexpected(Error(request.error()).Within(fmt::format("{}:{}", path, number)));
    }
    trace.requests.push_back(std::move(*request));
  }
  if (trace.requests.empty()) return Fail("has no requests", path);
  std::ranges::stable_sort(trace.requests, {}, &TraceRequest::seconds);
  return trace;
}

Trace MakeTrace(uint32_t requests, uint64_t seed) {
  trace::Workload workload({.seed = seed,
                            .system_prompts = 4,
                            .system_prompt_tokens = 1024,
                            .conversations = 200,
                            .turns = 8,
                            .turn_tokens = 400});
  Trace trace;
  trace.block_tokens = 16;
  for (uint32_t i = 0; i < requests; ++i) {
    const trace::Workload::Request made = workload.Next();
    TraceRequest request;
    request.seconds = i / 1000.0;
    request.prompt_tokens = made.tokens.size();
    for (const PrefixHash prefix : ChainOf(made.tokens, trace.block_tokens)) {
      request.block_ids.push_back(static_cast<uint64_t>(prefix));
    }
    trace.requests.push_back(std::move(request));
  }
  return trace;
}

std::vector<Step> Plan(const Trace& trace, const FleetOptions& options) {
  std::vector<trace::SimulatedEngine> engines = MakeEngines(options);
  Router router(options.placement, options.engines, options.seed);
  HeldBlocks held(options.engines);
  std::vector<Step> steps;
  steps.reserve(trace.requests.size());
  for (const TraceRequest& request : trace.requests) {
    Step step;
    step.seconds = request.seconds;
    step.prompt = PromptOf(request, trace.block_tokens, options.block_size);
    step.engine = router.Place(request.block_ids, step.prompt.size());
    const std::vector<PrefixHash> chain = ChainOf(step.prompt, options.block_size);
    trace::SimulatedEngine& engine = engines[step.engine];
    step.prompt_blocks = static_cast<uint32_t>(chain.size());
    step.cached_blocks = engine.CachedBlocks(step.prompt);
    step.held_blocks = held.Leading(chain);
    step.events = engine.Run(step.prompt);
    step.event_blocks = BlocksOf(step.events);
    held.Apply(step.engine, step.events, chain, step.cached_blocks);
    steps.push_back(std::move(step));
  }
  return steps;
}

Totals Sum(const std::vector<Step>& steps) {
  Totals totals;
  for (const Step& step : steps) {
    totals.events += step.event_blocks;
    totals.prompts += step.prompt_blocks;
    totals.held += step.held_blocks;
    totals.walks += step.WalkBlocks();
  }
  return totals;
}

}  // namespace conductor::bench
