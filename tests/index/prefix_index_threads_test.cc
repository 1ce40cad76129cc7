// Many threads on one index. Run under the thread sanitizer too.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "lib/index/prefix_index.h"

namespace conductor::index {
namespace {

constexpr uint64_t kSeed = 1337;
constexpr uint32_t kBlocks = 8;

std::vector<LocalHash> Chain() {
  std::vector<LocalHash> locals;
  for (uint64_t i = 1; i <= kBlocks; ++i) locals.push_back(LocalHash{i});
  return locals;
}

std::vector<EngineHash> Names() {
  std::vector<EngineHash> names;
  for (uint64_t i = 1; i <= kBlocks; ++i) names.push_back(EngineHash{100 + i});
  return names;
}

Matches Ask(const PrefixIndex& index) {
  const auto locals = Chain();
  size_t next = 0;
  std::optional<PrefixHash> last;
  index::FunctionSource source([&]() -> std::optional<PrefixHash> {
    if (next == locals.size()) return std::nullopt;
    const LocalHash local = locals[next++];
    last = last ? hash::NextPrefix(*last, local, kSeed) : hash::FirstPrefix(local);
    return last;
  });
  return index.Match(Scope{"", "m", "", 16, std::nullopt}, source);
}

RankKey Rank(uint32_t dp_rank) {
  NamespaceKey key;
  key.model = std::string("m");
  key.block_size = 16;
  return {key, std::string("i"), dp_rank};
}

// Each writer stores its whole chain in one batch and takes it away in the next, block by block
// within the batch.
TEST(PrefixIndexThreads, SizesBesideWritersAreThoseBetweenBatches) {
  constexpr uint32_t kWriters = 3;
  constexpr int kBatches = 400;
  PrefixIndex index({.hash_seed = kSeed, .released_limit = 4});
  std::atomic<uint32_t> running = kWriters;  // order does not matter: it only ends the readers

  std::vector<std::thread> threads;
  for (uint32_t id = 0; id < kWriters; ++id) {
    threads.emplace_back([&index, &running, id] {
      const auto locals = Chain();
      const auto names = Names();
      HolderId holder{};
      AliasSpace space{};
      {
        auto writer = index.Write();
        holder = writer.AddHolder(Rank(id), id, true);
        space = writer.AddSpace(id);
      }
      for (int batch = 0; batch < kBatches; ++batch) {
        auto writer = index.Write();
        for (size_t i = 0; i < kBlocks; ++i) {
          if (batch % 2 == 1) {
            (void)writer.Remove(holder, space, Tier::kGpu, names[i]);
            continue;
          }
          StoreRequest request{.holder = holder, .space = space, .tier = Tier::kGpu};
          if (i > 0) request.parent = names[i - 1];
          request.hashes = {&names[i], 1};
          request.locals = {&locals[i], 1};
          EXPECT_EQ(writer.Store(request), StoreOutcome::kStored);
        }
      }
      auto writer = index.Write();
      writer.DropHolder(holder);
      writer.DropSpace(space);
      --running;
    });
  }

  std::atomic<uint64_t> torn = 0;
  for (int reader = 0; reader < 2; ++reader) {
    threads.emplace_back([&index, &running, &torn] {
      do {
        for (const RankMatch& match : Ask(index).ranks) {
          if (match.gpu > kBlocks || match.cpu != match.gpu || match.disk != match.gpu) ++torn;
          if (match.rank->instance_id != "i") ++torn;
        }
        const IndexStats stats = index.Stats();
        if (stats.holdings % kBlocks != 0) ++torn;
      } while (running > 0);
    });
  }
  for (std::thread& thread : threads) thread.join();

  EXPECT_EQ(torn, 0U);
  EXPECT_EQ(index.Stats().holdings, 0U);
  EXPECT_EQ(index.Stats().holders, 0U);
  const Status valid = index.Validate();
  EXPECT_TRUE(valid) << valid.error().Message();
}

// A rebuilt set takes the place of the old one while questions are asked: never both, never none.
TEST(PrefixIndexThreads, AReplacedSetIsNeverMissing) {
  PrefixIndex index({.hash_seed = kSeed, .released_limit = 4});
  const auto locals = Chain();
  const auto names = Names();
  const auto build = [&](uint32_t publisher, bool visible) {
    auto writer = index.Write();
    const HolderId holder = writer.AddHolder(Rank(0), publisher, visible);
    const AliasSpace space = writer.AddSpace(publisher);
    StoreRequest request{.holder = holder, .space = space, .tier = Tier::kGpu};
    request.hashes = names;
    request.locals = locals;
    EXPECT_EQ(writer.Store(request), StoreOutcome::kStored);
    return std::pair(holder, space);
  };

  auto visible = build(0, true);
  std::atomic<bool> done = false;  // order does not matter: it only ends the reader
  std::atomic<uint64_t> wrong = 0;
  std::thread reader([&] {
    do {
      const Matches matches = Ask(index);
      if (matches.ranks.size() != 1 || matches.ranks[0].gpu != kBlocks) ++wrong;
    } while (!done);
  });
  for (uint32_t i = 1; i < 300; ++i) {
    const auto hidden = build(i % 2, false);
    auto writer = index.Write();
    writer.SetVisible(hidden.first, true);
    writer.DropHolder(visible.first);
    writer.DropSpace(visible.second);
    visible = hidden;
  }
  done = true;
  reader.join();
  EXPECT_EQ(wrong, 0U);
}

}  // namespace
}  // namespace conductor::index
