#include "load.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <variant>

#include "lib/trace/simulated_engine.h"

namespace conductor::bench {
namespace {

// A trace with these lines, gone with the test.
class TraceFile {
 public:
  explicit TraceFile(const std::string& lines)
      : path_(testing::TempDir() + "fleet_load_test_" +
              testing::UnitTest::GetInstance()->current_test_info()->name() + ".jsonl") {
    std::ofstream(path_) << lines;
  }
  ~TraceFile() { std::filesystem::remove(path_); }
  TraceFile(const TraceFile&) = delete;
  TraceFile& operator=(const TraceFile&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST(ReadTrace, GivesRequestsInTheOrderOfTheirTime) {
  const TraceFile file(
      "{\"timestamp\": 2500.5, \"input_length\": 600, \"output_length\": 1, \"hash_ids\": [7, 8]}\n"
      "\n"
      "{\"timestamp\": 0, \"input_length\": 3, \"hash_ids\": []}\n");
  const auto trace = ReadTrace(file.path());
  ASSERT_TRUE(trace) << trace.error().Message();
  EXPECT_EQ(trace->block_tokens, 512u);
  ASSERT_EQ(trace->requests.size(), 2u);
  EXPECT_EQ(trace->requests[0].prompt_tokens, 3u);
  EXPECT_DOUBLE_EQ(trace->requests[1].seconds, 2.5005);
  EXPECT_EQ(trace->requests[1].prompt_tokens, 600u);
  EXPECT_EQ(trace->requests[1].block_ids, (std::vector<uint64_t>{7, 8}));
}

TEST(ReadTrace, ErrorsNameFileLineAndWhatWasExpected) {
  const std::string good = R"({"timestamp": 0, "input_length": 512, "hash_ids": [1]})";
  const struct {
    std::string line;
    std::string error;
  } cases[] = {
      {"7", "is no JSON object (expected an object with hash_ids)"},
      {"{", "is no JSON object (expected an object with hash_ids)"},
      {R"({"input_length": 5, "hash_ids": []})",
       "timestamp is no number of milliseconds (expected one from 0 to 1e12)"},
      {R"({"timestamp": -1, "input_length": 5, "hash_ids": []})",
       "timestamp is no number of milliseconds (expected one from 0 to 1e12)"},
      {R"({"timestamp": 1e300, "input_length": 5, "hash_ids": []})",
       "timestamp is no number of milliseconds (expected one from 0 to 1e12)"},
      {R"({"timestamp": 0, "input_length": 5.5, "hash_ids": []})",
       "input_length is no number of tokens (expected an integer from 0 on)"},
      {R"({"timestamp": 0, "input_length": 5})",
       "hash_ids is no array (expected one integer for each 512 tokens)"},
      {R"({"timestamp": 0, "input_length": 5, "hash_ids": [1, -2]})",
       "hash_ids[1] is -2 (expected an integer from 0 on)"},
      {R"({"timestamp": 0, "input_length": 5, "hash_ids": ["a"]})",
       "hash_ids[0] is \"a\" (expected an integer from 0 on)"},
  };
  for (const auto& each : cases) {
    const TraceFile file(good + "\n" + each.line + "\n" + good + "\n");
    const auto trace = ReadTrace(file.path());
    ASSERT_FALSE(trace) << each.line;
    EXPECT_EQ(trace.error().Message(), file.path() + ":2: " + each.error);
  }
}

TEST(ReadTrace, AFileWithoutRequestsAndNoFileAreErrors) {
  const TraceFile empty("\n \n");
  EXPECT_EQ(ReadTrace(empty.path()).error().Message(), empty.path() + ": has no requests");
  EXPECT_EQ(ReadTrace("/nowhere/at.all").error().Message(), "/nowhere/at.all: cannot be read");
}

// What an engine holds, as only its events tell.
class Replayed {
 public:
  void Apply(const Step& step) {
    for (const wire::KvEvent& event : step.events) {
      if (const auto* stored = std::get_if<wire::BlockStored>(&event)) {
        EXPECT_TRUE(!stored->parent || names_.contains(*stored->parent));
        for (const EngineHash name : stored->hashes) {
          EXPECT_TRUE(names_.insert(name).second) << "stored twice";
        }
      } else {
        for (const EngineHash name : std::get<wire::BlockRemoved>(event).hashes) {
          EXPECT_EQ(names_.erase(name), 1u) << "removed what is not there";
        }
      }
    }
  }
  [[nodiscard]] const std::set<EngineHash>& names() const { return names_; }

 private:
  std::set<EngineHash> names_;
};

TEST(Plan, BlocksStoredAndNotRemovedAreWhatTheCachesHold) {
  const FleetOptions options{.engines = 4, .capacity_blocks = 400};
  const std::vector<Step> steps = Plan(MakeTrace(600, 3), options);
  std::vector<Replayed> replayed(options.engines);
  std::vector<trace::SimulatedEngine> engines(
      options.engines, trace::SimulatedEngine({.block_size = options.block_size,
                                               .capacity_blocks = options.capacity_blocks}));
  uint64_t changed = 0;
  for (const Step& step : steps) {
    replayed[step.engine].Apply(step);
    (void)engines[step.engine].Run(step.prompt);
    EXPECT_EQ(replayed[step.engine].names().size(), engines[step.engine].size_blocks());
    EXPECT_LE(replayed[step.engine].names().size(), options.capacity_blocks);
    changed += step.event_blocks;
  }
  EXPECT_EQ(Sum(steps).events, changed);
  EXPECT_GT(changed, uint64_t{4} * 2 * options.capacity_blocks) << "the caches were exchanged";
}

// Without cleverness: each engine is asked.
TEST(Plan, TellsHowMuchOfAPromptItsEngineAndTheBestOneHoldBefore) {
  for (const bool own_names : {false, true}) {
    const FleetOptions options{.engines = 3, .capacity_blocks = 500, .own_names = own_names};
    std::vector<trace::SimulatedEngine> engines(
        options.engines, trace::SimulatedEngine({.block_size = options.block_size,
                                                 .capacity_blocks = options.capacity_blocks}));
    for (const Step& step : Plan(MakeTrace(300, 5), options)) {
      uint32_t most = 0;
      for (const trace::SimulatedEngine& engine : engines) {
        most = std::max(most, engine.CachedBlocks(step.prompt));
      }
      ASSERT_EQ(step.prompt_blocks, step.prompt.size() / options.block_size);
      ASSERT_EQ(step.held_blocks, most);
      ASSERT_EQ(step.cached_blocks, engines[step.engine].CachedBlocks(step.prompt));
      (void)engines[step.engine].Run(step.prompt);
    }
  }
}

TEST(Plan, IsTheSameForTheSameSeed) {
  for (const Placement placement : {Placement::kRandom, Placement::kCacheAware}) {
    const Trace trace = MakeTrace(200, 1);
    const auto plan = [&](uint64_t seed) {
      std::vector<std::pair<uint32_t, std::vector<wire::KvEvent>>> told;
      for (Step& step : Plan(trace, {.placement = placement, .seed = seed})) {
        told.emplace_back(step.engine, std::move(step.events));
      }
      return told;
    };
    EXPECT_EQ(plan(7), plan(7));
    EXPECT_NE(plan(7), plan(8));
  }
}

TEST(Plan, EnginesCallABlockAlikeUnlessTheyHaveNamesOfTheirOwn) {
  const Trace trace = MakeTrace(200, 1);
  const auto engines_by_name = [&](bool own_names) {
    std::map<EngineHash, std::set<uint32_t>> engines;
    for (const Step& step : Plan(trace, {.engines = 4, .own_names = own_names})) {
      for (const wire::KvEvent& event : step.events) {
        const auto* stored = std::get_if<wire::BlockStored>(&event);
        if (stored == nullptr) continue;
        for (const EngineHash name : stored->hashes) engines[name].insert(step.engine);
      }
    }
    return engines;
  };
  const auto of_several = [](const auto& each) { return each.second.size() > 1; };
  EXPECT_TRUE(std::ranges::any_of(engines_by_name(false), of_several));
  EXPECT_TRUE(std::ranges::none_of(engines_by_name(true), of_several));
}

std::vector<uint64_t> LoadsOf(const std::vector<Step>& steps, uint32_t engines) {
  std::vector<uint64_t> loads(engines);
  for (const Step& step : steps) loads[step.engine] += step.prompt_blocks;
  return loads;
}

TEST(Plan, CacheAwarePlacementBalances) {
  const Trace trace = MakeTrace(2000, 1);
  for (const uint32_t engines : {8u, 128u}) {
    for (const uint64_t seed : {1u, 2u}) {
      const auto loads = LoadsOf(Plan(trace, {.engines = engines, .seed = seed}), engines);
      const auto sum = std::accumulate(loads.begin(), loads.end(), uint64_t{0});
      const auto mean = static_cast<double>(sum) / engines;
      EXPECT_LE(static_cast<double>(std::ranges::max(loads)), 1.5 * mean) << engines;
      EXPECT_GE(static_cast<double>(std::ranges::min(loads)), 0.5 * mean) << engines;
    }
  }
}

TEST(Plan, CacheAwarePlacementFindsMoreCachedThanRandom) {
  const Trace trace = MakeTrace(2000, 1);
  const auto cached_share = [&](Placement placement) {
    const std::vector<Step> steps = Plan(trace, {.placement = placement});
    uint64_t blocks = 0;
    for (const Step& step : steps) blocks += step.cached_blocks;
    return static_cast<double>(blocks) / static_cast<double>(Sum(steps).prompts);
  };
  EXPECT_GT(cached_share(Placement::kCacheAware), cached_share(Placement::kRandom) + 0.1);
}

// How many engines were sent prompts with this first block, by first block.
std::map<std::vector<TokenId>, std::set<uint32_t>> EnginesBySystemPrompt(
    const std::vector<Step>& steps, uint32_t block_size) {
  std::map<std::vector<TokenId>, std::set<uint32_t>> engines;
  for (const Step& step : steps) {
    engines[{step.prompt.begin(), step.prompt.begin() + block_size}].insert(step.engine);
  }
  return engines;
}

TEST(Plan, PopularSystemPromptsComeToBeHeldByManyEngines) {
  const Trace trace = MakeTrace(2000, 1);
  const struct {
    uint32_t engines;
    size_t least;  // that hold each system prompt
  } cases[] = {{8, 2}, {128, 64}};
  for (const auto& each : cases) {
    const FleetOptions options{.engines = each.engines};
    for (const auto& [prompt, held_by] :
         EnginesBySystemPrompt(Plan(trace, options), options.block_size)) {
      EXPECT_GE(held_by.size(), each.least) << each.engines;
    }
  }
}

}  // namespace
}  // namespace conductor::bench
