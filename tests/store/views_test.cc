// The views of a snapshot, against the index that it is of.

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "lib/index/prefix_source.h"
#include "lib/ingest/publisher_ingest.h"
#include "saved_examples.h"
#include "snapshot_fixture.h"

namespace conductor::store {
namespace {

class LongestPrefixes : public SnapshotTest {
 protected:
  // Copies the publisher's life, piece by piece, and lets `between` happen in the middle.
  template <typename Between>
  static SavedPublisher Saved(const ingest::PublisherIngest& ingest, const std::string& key,
                              Between between) {
    SavedPublisher saved{
        .key = key, .registration = "{}", .state = "live", .reason = {}, .detail = {}};
    saved.resume.emplace();
    const auto copy = ingest.BeginCopy({});
    copy->Step();
    between();
    while (copy->Step()) {
    }
    saved.life = copy->Take();
    return saved;
  }

  // The longest match that the index has for any chain of it.
  [[nodiscard]] uint32_t ByTheIndex(const index::PackedChains& chains, Tier tier) const {
    std::vector<std::vector<PrefixHash>> paths;  // up to each run's end
    size_t at = 0;
    uint32_t longest = 0;
    for (const auto& run : chains.runs) {
      std::vector<PrefixHash> path;
      if (run.parent != index::PackedChains::kNoRun) {
        path = paths[run.parent];
        path.resize(path.size() - (chains.runs[run.parent].length - run.parent_block - 1u));
      }
      path.insert(path.end(), chains.prefixes.begin() + static_cast<ptrdiff_t>(at),
                  chains.prefixes.begin() + static_cast<ptrdiff_t>(at + run.length));
      at += run.length;
      index::PrefixList source(path);
      const index::Matches matches = index_.Match({"default", "m", "", 4, ""}, source);
      for (const index::RankMatch& rank : matches.ranks) {
        longest = std::max(longest, tier == Tier::kGpu ? rank.gpu : rank.cpu);
      }
      paths.push_back(std::move(path));
    }
    return longest;
  }

  [[nodiscard]] uint32_t ByTheView(const std::string& instance, Tier tier) const {
    auto database = Database::Open(path_, Database::Mode::kRead);
    EXPECT_TRUE(database);
    const auto blocks =
        database->Number("SELECT blocks FROM longest_prefixes WHERE instance_id = '" + instance +
                         "' AND tier = '" + std::string(TierName(tier)) + "'");
    EXPECT_TRUE(blocks) << blocks.error().Message();
    return static_cast<uint32_t>(blocks->value_or(0));
  }
};

// Events of one, two and three blocks a name, in chains that branch, with holes.
TEST_F(LongestPrefixes, AreThoseThatTheIndexAnswersWithSpansAndHoles) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    std::mt19937_64 random(seed);
    const Tier tier = seed % 3 == 0 ? Tier::kCpu : Tier::kGpu;
    const char* medium = tier == Tier::kCpu ? "CPU" : "GPU";
    const std::string instance = "i" + std::to_string(seed);
    ingest::PublisherIngest ingest(
        index_,
        {.name = instance + "|default|0", .instance_id = instance, .model = "m", .block_size = 4},
        {}, 0);
    std::vector<uint64_t> names;
    for (uint64_t i = 1; i <= 40; ++i) {
      std::optional<uint64_t> parent;
      if (!names.empty() && random() % 8 != 0) {
        // Mostly at the end, so that chains become long.
        parent = random() % 3 == 0 ? names[random() % names.size()] : names.back();
      }
      std::vector<uint64_t> event;
      for (size_t k = 1 + random() % 40; k > 0; --k)
        event.push_back(seed * 100'000 + names.size() + event.size() + 1);
      const auto span = static_cast<uint32_t>(1 + random() % 3);
      // What no parent stands before on the host begins no prompt, so it is told of the device too.
      if (tier == Tier::kCpu) ingest.Apply(Stored(event, parent, "GPU", 4 * span));
      ingest.Apply(Stored(event, parent, medium, 4 * span));
      names.insert(names.end(), event.begin(), event.end());
    }
    if (tier == Tier::kCpu) {
      wire::EventBatch batch;
      batch.events.emplace_back(wire::AllBlocksCleared{});
      ingest.Apply(batch);
    }
    for (int i = 0; i < 3; ++i) {
      wire::EventBatch batch;
      batch.events.emplace_back(wire::BlockRemoved{
          .hashes = {EngineHash{names[random() % names.size()]}}, .medium = medium, .group = {}});
      ingest.Apply(batch);
    }
    const SavedPublisher saved = Saved(ingest, instance + "|default|0", [] {});
    Write({saved});
    EXPECT_EQ(ByTheView(instance, tier), ByTheIndex(saved.life->chains, tier)) << seed;
  }
}

// Of two who hold the same chain the second is copied when it has become longer, and has another
// end besides.
TEST_F(LongestPrefixes, AreRightWhereARunGrewBetweenTwoCopies) {
  ingest::PublisherIngest a(
      index_, {.name = "a|default|0", .instance_id = "a", .model = "m", .block_size = 4}, {}, 0);
  ingest::PublisherIngest b(
      index_, {.name = "b|default|0", .instance_id = "b", .model = "m", .block_size = 4}, {}, 1);
  a.Apply(Stored({1, 2, 3}, {}));
  const SavedPublisher of_a = Saved(a, "a|default|0", [] {});
  b.Apply(Stored({1, 2, 3, 4, 5}, {}));
  b.Apply(Stored({12, 13}, 2));
  b.Apply(Stored({6}, 5));
  const SavedPublisher of_b = Saved(b, "b|default|0", [] {});
  const SnapshotInfo info = Write({of_a, of_b});
  EXPECT_EQ(info.blocks, 8u) << "each once";
  EXPECT_EQ(info.holdings, 11u);
  EXPECT_EQ(WhyNot(), "");
  EXPECT_EQ(ByTheView("a", Tier::kGpu), 3u);
  EXPECT_EQ(ByTheView("b", Tier::kGpu), 6u);
  auto database = Database::Open(path_, Database::Mode::kRead);
  EXPECT_EQ(database->Number("SELECT count(DISTINCT hash) FROM blocks").value_or(0), 8);
  EXPECT_EQ(database->Number("SELECT count(*) FROM shared_by WHERE instances = 2").value_or(0), 3);
}

}  // namespace
}  // namespace conductor::store
