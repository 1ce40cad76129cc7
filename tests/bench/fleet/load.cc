#include "load.h"

#include <algorithm>
#include <fstream>
#include <random>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "lib/trace/simulated_engine.h"
#include "lib/trace/workload.h"

namespace conductor::bench {
namespace {

using Json = nlohmann::json;

Result<TraceRequest> ReadLine(const std::string& line) {
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Fail("is no JSON object", {}, "an object with hash_ids");
  TraceRequest request;
  const auto number = [&json](const char* key) -> const Json* {
    const auto found = json.find(key);
    return found != json.end() && found->is_number() && *found >= 0 ? &*found : nullptr;
  };
  const Json* timestamp = number("timestamp");
  const Json* length = number("input_length");
  if (timestamp == nullptr) return Fail("timestamp is no number", {}, "milliseconds from 0 on");
  if (length == nullptr) return Fail("input_length is no number", {}, "tokens from 0 on");
  request.seconds = timestamp->get<double>() / 1000;
  request.prompt_tokens = length->get<uint64_t>();
  const auto ids = json.find("hash_ids");
  if (ids == json.end() || !ids->is_array()) return Fail("hash_ids is no array");
  for (const Json& id : *ids) {
    if (!id.is_number_unsigned()) return Fail("a hash id is no integer from 0 on");
    request.block_ids.push_back(id.get<uint64_t>());
  }
  return request;
}

// The tokens that an id stands for: the same ones always.
void AppendTokens(uint64_t id, uint64_t count, std::vector<TokenId>& tokens) {
  std::mt19937_64 random(id * 0x9e3779b97f4a7c15u + 1);
  for (uint64_t i = 0; i < count; ++i) tokens.push_back(static_cast<TokenId>(random() % 128'000));
}

// Where prompts went, by the ids that they begin with.
class Router {
 public:
  explicit Router(const FleetOptions& options) : options_(options), random_(options.seed) {}

  uint32_t Place(const TraceRequest& request) {
    uint32_t engine = static_cast<uint32_t>(random_() % options_.engines);
    if (options_.placement == Placement::kRandom) return engine;
    // The engine that ran the longest beginning of it last, unless it is of the whole fleet's: a
    // system prompt decides nothing.
    uint64_t prefix = 0;
    std::vector<uint64_t> prefixes;
    for (const uint64_t id : request.block_ids) {
      prefix = (prefix ^ id) * 0x9e3779b97f4a7c15u + 1;
      prefixes.push_back(prefix);
    }
    for (size_t i = prefixes.size(); i-- > 1;) {
      const auto known = last_.find(prefixes[i]);
      if (known == last_.end()) continue;
      engine = known->second;
      break;
    }
    for (const uint64_t each : prefixes) last_[each] = engine;
    return engine;
  }

 private:
  FleetOptions options_;
  std::mt19937_64 random_;
  std::unordered_map<uint64_t, uint32_t> last_;
};

uint64_t BlocksOf(const std::vector<wire::KvEvent>& events) {
  uint64_t blocks = 0;
  for (const wire::KvEvent& event : events) {
    if (const auto* stored = std::get_if<wire::BlockStored>(&event))
      blocks += stored->hashes.size();
    if (const auto* removed = std::get_if<wire::BlockRemoved>(&event)) {
      blocks += removed->hashes.size();
    }
  }
  return blocks;
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
                            .system_prompts = 8,
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
    std::vector<PrefixHash> chain(made.tokens.size() / trace.block_tokens);
    hash::HashChain(made.tokens, trace.block_tokens, nullptr, hash::kDefaultSeed, chain);
    for (const PrefixHash prefix : chain)
      request.block_ids.push_back(static_cast<uint64_t>(prefix));
    trace.requests.push_back(std::move(request));
  }
  return trace;
}

std::vector<Step> Plan(const Trace& trace, const FleetOptions& options) {
  std::vector<trace::SimulatedEngine> engines;
  for (uint32_t i = 0; i < options.engines; ++i) {
    engines.emplace_back(trace::SimulatedEngine::Options{
        .block_size = options.block_size, .capacity_blocks = options.capacity_blocks});
  }
  Router router(options);
  std::vector<Step> steps;
  for (const TraceRequest& request : trace.requests) {
    Step step;
    step.seconds = request.seconds;
    step.engine = router.Place(request);
    for (const uint64_t id : request.block_ids) AppendTokens(id, trace.block_tokens, step.prompt);
    // The last id may stand for less than a block.
    const uint64_t tokens = std::min<uint64_t>(step.prompt.size(), request.prompt_tokens);
    step.prompt.resize(tokens - tokens % options.block_size);
    trace::SimulatedEngine& engine = engines[step.engine];
    step.cached_blocks = engine.CachedBlocks(step.prompt);
    step.events = engine.Run(step.prompt);
    step.event_blocks = BlocksOf(step.events);
    steps.push_back(std::move(step));
  }
  return steps;
}

}  // namespace conductor::bench
