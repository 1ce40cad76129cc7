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

// However often that happens while one question is on its way.
TEST(PrefixIndexThreads, ASetThatIsReplacedAllTheTimeIsNotMissing) {
  PrefixIndex index({.hash_seed = kSeed});
  constexpr uint32_t kLong = 200;  // so that it is read in several steps
  std::vector<LocalHash> locals;
  std::vector<EngineHash> names;
  std::vector<PrefixHash> prefixes;
  for (uint64_t i = 1; i <= kLong; ++i) {
    locals.push_back(LocalHash{i});
    names.push_back(EngineHash{100 + i});
    prefixes.push_back(prefixes.empty() ? hash::FirstPrefix(locals.back())
                                        : hash::NextPrefix(prefixes.back(), locals.back(), kSeed));
  }
  {
    // A question asks what the blocks are called where a pool with a profile has something, and so
    // tells how far it is.
    auto writer = index.Write();
    const PoolId pool = writer.AddPool("pool", PoolLookup::kFromStart, hash::HashProfile{});
    writer.SetPoolBlock(pool, {"", "m", ""}, {0, EngineHash{1}}, Tier::kCpu);
  }
  std::atomic<uint32_t> wanted = 0;    // replacements; one at a time
  std::atomic<uint32_t> replaced = 0;  // in order with what was written
  std::atomic<bool> done = false;      // order does not matter: it only ends the writer
  std::optional<std::pair<HolderId, AliasSpace>> visible;
  const auto replace = [&] {
    auto writer = index.Write();
    const std::pair fresh(writer.AddHolder(Rank(0), 0, false), writer.AddSpace(0));
    StoreRequest request{.holder = fresh.first, .space = fresh.second, .tier = Tier::kGpu};
    request.hashes = names;
    request.locals = locals;
    EXPECT_EQ(writer.Store(request), StoreOutcome::kStored);
    writer.SetVisible(fresh.first, true);
    if (visible) {
      writer.DropHolder(visible->first);
      writer.DropSpace(visible->second);
    }
    visible = fresh;
  };
  replace();
  std::thread replacing([&] {
    while (!done) {
      if (replaced == wanted) {
        std::this_thread::yield();
        continue;
      }
      replace();
      ++replaced;
    }
  });

  // Between the first step and the next one all is replaced. Not for ever: a question may keep
  // writers out.
  int pauses = 100;
  const PrefixIndex::NameSource hesitating = [&](const hash::HashProfile&, size_t block) {
    if (block == 0 && pauses > 0) {
      --pauses;
      ++wanted;
      for (int i = 0; i < 10'000 && replaced < wanted; ++i) std::this_thread::yield();
      if (replaced < wanted) pauses = 0;
    }
    return std::optional<EngineHash>();
  };
  PrefixList source(prefixes);
  const Matches matches = index.Match(Scope{"", "m", "", 16, std::nullopt}, source, hesitating);
  done = true;
  replacing.join();
  ASSERT_EQ(matches.ranks.size(), 1U);
  EXPECT_EQ(matches.ranks[0].gpu, kLong);
}

}  // namespace
}  // namespace conductor::index
