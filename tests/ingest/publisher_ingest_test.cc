// What PublisherIngest counts, bounds and refuses. What events mean for answers is in
// event_rules_test.cc.

#include "lib/ingest/publisher_ingest.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/ingest/event_builders.h"
#include "tests/ingest/index_subject.h"

namespace conductor::ingest {
namespace {

PublisherProfile Profile() { return {.instance_id = "i", .model = "m", .block_size = 2}; }

class PublisherIngestTest : public testing::Test {
 protected:
  void Register(const PublisherProfile& profile, const IngestLimits& limits = IngestLimits{}) {
    subject_.AddPublisher(0, profile, limits);
  }

  template <typename... Events>
  IngestCounters Apply(Events... events) {
    subject_.Apply(0, Batch(std::move(events)...));
    return subject_.Counters(0);
  }

  uint32_t BlocksOnDevice(std::string_view prompt) {
    const auto answer =
        subject_.Query([](const index::NamespaceKey&) { return true; }, Prompt(prompt));
    return answer.empty() ? 0 : answer.begin()->second.gpu;
  }

  IndexSubject subject_;
};

TEST_F(PublisherIngestTest, EventsAreCountedByKind) {
  Register(Profile());
  IngestCounters counters = Apply(Stored({1, 2}, "11 12"), Removed({1}));
  EXPECT_EQ(counters.removed_blocks, 1U);
  counters = Apply(Cleared());
  EXPECT_EQ(counters.batches, 2U);
  EXPECT_EQ(counters.stored_events, 1U);
  EXPECT_EQ(counters.removed_events, 1U);
  EXPECT_EQ(counters.cleared_events, 1U);
  EXPECT_EQ(counters.stored_blocks, 2U);
  EXPECT_EQ(counters.removed_blocks, 2U) << "those cleared among them";
}

TEST_F(PublisherIngestTest, AnEmptyBatchIsABatch) {
  Register(Profile());
  EXPECT_EQ(Apply().batches, 1U);
  EXPECT_TRUE(subject_.HoldsNothing(0));
}

TEST_F(PublisherIngestTest, RemovalsOfWhatIsNotHeldAreCountedApart) {
  Register(Profile());
  const IngestCounters counters = Apply(Stored({1}, "11"), Removed({1, 1, 9}));
  EXPECT_EQ(counters.removed_blocks, 1U);
  EXPECT_EQ(counters.removed_unknown, 2U);
}

TEST_F(PublisherIngestTest, OrphansAreCountedWhenTheyWaitAndWhenTheyJoin) {
  Register(Profile());
  IngestCounters counters = Apply(Stored({2}, "12", 1));
  EXPECT_EQ(counters.orphaned, 1U);
  EXPECT_EQ(counters.joined, 0U);
  EXPECT_EQ(counters.waiting_events, 1U);
  EXPECT_GT(counters.waiting_bytes, 0U);
  counters = Apply(Stored({1}, "11"));
  EXPECT_EQ(counters.orphaned, 1U);
  EXPECT_EQ(counters.joined, 1U);
  EXPECT_EQ(counters.waiting_events, 0U);
  EXPECT_EQ(counters.waiting_bytes, 0U);
  EXPECT_EQ(counters.stored_blocks, 2U);
}

TEST_F(PublisherIngestTest, WaitingEventsAreBoundedInBytesOldestFirst) {
  Register(Profile());
  const uint64_t one_event = Apply(Stored({100}, "11", 99)).waiting_bytes;
  subject_.RemovePublisher(0);

  Register(Profile(), {.max_waiting_bytes = 3 * one_event});
  IngestCounters counters;
  for (uint64_t i = 0; i < 10; ++i) {
    counters = Apply(Stored({100 + i}, "11", 200 + i));
    EXPECT_LE(counters.waiting_bytes, 3 * one_event);
  }
  EXPECT_EQ(counters.orphaned, 10U);
  EXPECT_EQ(counters.waiting_events, 3U);
  EXPECT_EQ(counters.waiting_dropped, 7U);

  counters = Apply(Stored({200}, "12"), Stored({209}, "21"));
  EXPECT_EQ(BlocksOnDevice("12 11"), 1U) << "the oldest was dropped";
  EXPECT_EQ(BlocksOnDevice("21 11"), 2U) << "the youngest was kept";
}

TEST_F(PublisherIngestTest, AnEventLargerThanTheBoundIsDroppedAndCountedAndTheOthersStay) {
  Register(Profile());
  const uint64_t one_event = Apply(Stored({100}, "11", 99)).waiting_bytes;
  subject_.RemovePublisher(0);

  Register(Profile(), {.max_waiting_bytes = 2 * one_event});
  Names names;
  std::string tokens;
  for (uint64_t i = 0; i < 1000; ++i) {
    names.push_back(1000 + i);
    tokens += i == 0 ? "11" : " 11";
  }
  IngestCounters counters = Apply(Stored({100}, "11", 99), Stored(names, tokens, 98));
  EXPECT_EQ(counters.waiting_dropped, 1U);
  EXPECT_LE(counters.waiting_bytes, 2 * one_event);
  counters = Apply(Stored({99}, "22"));
  EXPECT_EQ(BlocksOnDevice("22 11"), 2U);
}

TEST_F(PublisherIngestTest, NothingMayWaitWhereTheBoundIsZero) {
  Register(Profile(), {.max_waiting_bytes = 0});
  const IngestCounters counters = Apply(Stored({2}, "12", 1), Offloaded({3}));
  EXPECT_EQ(counters.waiting_events, 0U);
  EXPECT_EQ(counters.waiting_dropped, 2U);
}

TEST_F(PublisherIngestTest, ARefusedBlockSizeIsCountedAndShown) {
  Register(Profile());
  const IngestCounters counters = Apply(Stored({1}, "111"));
  EXPECT_EQ(counters.refused_block_size, 1U);
  EXPECT_EQ(counters.last_refused_block_size, 3U);
  EXPECT_EQ(counters.block_size, 2U);
}

TEST_F(PublisherIngestTest, ALearntBlockSizeIsShown) {
  PublisherProfile profile = Profile();
  profile.block_size = 0;
  Register(profile);
  EXPECT_EQ(subject_.Counters(0).block_size, 0U);
  EXPECT_EQ(Apply(Stored({1}, "1112")).block_size, 4U);
}

TEST_F(PublisherIngestTest, ShapesThatDoNotFitAreCounted) {
  Register(Profile());
  wire::BlockStored too_few = Stored({1, 2}, "11 12");
  too_few.tokens.pop_back();
  wire::BlockStored no_size = Stored({1}, "11");
  no_size.block_size = 0;
  wire::BlockStored full = InGroup(0, "full_attention", Stored({1}, "11"));
  full.tokens.push_back(1);
  EXPECT_EQ(Apply(too_few, no_size, full).refused_shape, 3U);
  EXPECT_TRUE(subject_.HoldsNothing(0));
}

TEST_F(PublisherIngestTest, AHugeBlockSizeIsRefusedAndNotReserved) {
  Register(Profile());
  wire::BlockStored event = Stored({1}, "11");
  event.block_size = 0xfffffffe;
  const IngestCounters counters = Apply(event);
  EXPECT_EQ(counters.refused_shape + counters.refused_block_size, 1U);
}

TEST_F(PublisherIngestTest, GroupsAndMediaThatAreNotIndexedAreCounted) {
  Register(Profile());
  const IngestCounters counters =
      Apply(InGroup(1, "sliding_window", Stored({1}, "11")), On("TAPE", Stored({2}, "11")));
  EXPECT_EQ(counters.ignored_group, 1U);
  EXPECT_EQ(counters.ignored_medium, 1U);
  EXPECT_EQ(counters.waiting_events, 0U);
}

TEST_F(PublisherIngestTest, ABatchOfAnotherRankIsAMismatch) {
  PublisherProfile profile = Profile();
  profile.dp_rank = 1;
  Register(profile);
  subject_.Apply(0, Batch(Stored({1}, "11")));
  subject_.Apply(0, BatchOfRank(1, Stored({1}, "11")));
  EXPECT_EQ(subject_.Counters(0).rank_mismatches, 0U);
  subject_.Apply(0, BatchOfRank(2, Stored({1}, "11")));
  EXPECT_EQ(subject_.Counters(0).rank_mismatches, 1U);
}

TEST_F(PublisherIngestTest, CountersGoOnThroughNewLivesAndRebuilds) {
  Register(Profile());
  (void)Apply(Stored({1}, "11"));
  subject_.NewLife(0);
  subject_.BeginRebuild(0);
  EXPECT_EQ(Apply(Stored({1}, "11")).stored_events, 2U);
  subject_.CommitRebuild(0);
  EXPECT_EQ(subject_.Counters(0).batches, 2U);
}

TEST_F(PublisherIngestTest, AbandonAndCommitWithoutARebuildChangeNothing) {
  Register(Profile());
  (void)Apply(Stored({1}, "11"));
  subject_.AbandonRebuild(0);
  subject_.CommitRebuild(0);
  EXPECT_EQ(BlocksOnDevice("11"), 1U);
}

TEST_F(PublisherIngestTest, ARebuildThatBeginsAgainForgetsItsFirstHalf) {
  Register(Profile());
  subject_.BeginRebuild(0);
  (void)Apply(Stored({1}, "11"));
  subject_.BeginRebuild(0);
  (void)Apply(Stored({2}, "22"));
  subject_.CommitRebuild(0);
  EXPECT_EQ(BlocksOnDevice("11"), 0U);
  EXPECT_EQ(BlocksOnDevice("22"), 1U);
  EXPECT_EQ(subject_.Holdings(), 1U);
}

TEST_F(PublisherIngestTest, LeavingDuringARebuildLeavesNothingBehind) {
  Register(Profile());
  (void)Apply(Stored({1}, "11"), Stored({5}, "11", 4));
  subject_.BeginRebuild(0);
  (void)Apply(Stored({2}, "22"));
  subject_.RemovePublisher(0);
  const index::IndexStats stats = subject_.index().Stats();
  EXPECT_EQ(stats.holdings + stats.holders + stats.aliases + stats.blocks, 0U);
}

// What the index remembers of a publisher's ways to lose blocks, by cause and sequence.
TEST(PublisherHistory, SaysHowBlocksLeftAndWithWhichSequence) {
  struct Case {
    const char* name;
    std::function<void(PublisherIngest&)> loses;
    index::RemovalCause cause;
    std::optional<uint64_t> sequence;
    double unix_time;
  };
  const auto at = [](wire::EventBatch batch, double timestamp) {
    batch.timestamp = timestamp;
    return batch;
  };
  const index::Occasion later{std::nullopt, 99};
  const Case cases[] = {
      {"removed",
       [&](auto& ingest) {
         ingest.Apply(at(Batch(Removed({1})), 7), {}, {4, 8});
       },
       index::RemovalCause::kRemoved, 4, 7},
      {"removed at no time",
       [&](auto& ingest) {
         ingest.Apply(Batch(Removed({1})), {}, {4, 8});
       },
       index::RemovalCause::kRemoved, 4, 8},
      {"cleared",
       [&](auto& ingest) {
         ingest.Apply(at(Batch(Cleared()), 7), {}, {5, 8});
       },
       index::RemovalCause::kCleared, 5, 7},
      {"new life", [&](auto& ingest) { ingest.NewLife(later); }, index::RemovalCause::kNewLife,
       std::nullopt, 99},
      {"unregistered", [&](auto& ingest) { ingest.Leave(later); },
       index::RemovalCause::kUnregistered, std::nullopt, 99},
      {"replaced",
       [&](auto& ingest) {
         ingest.BeginRebuild();
         ingest.CommitRebuild(later);
       },
       index::RemovalCause::kReplaced, std::nullopt, 99},
      {"expired", [&](auto& ingest) { ingest.Tick(MonoTime{} + std::chrono::hours(1), later); },
       index::RemovalCause::kExpired, std::nullopt, 99},
  };
  for (const Case& test : cases) {
    index::PrefixIndex index{index::PrefixIndex::Options{}};
    PublisherProfile profile = Profile();
    profile.name = "i|default|0";
    profile.ttl[static_cast<size_t>(Tier::kGpu)] = std::chrono::minutes(1);
    PublisherIngest ingest(index, profile, IngestLimits{}, 0);
    ingest.Apply(Batch(Stored({1}, "11")), MonoTime{}, {3, 1});
    test.loses(ingest);
    const std::vector<PromptBlock> prompt = Prompt("11");
    const std::vector<PrefixHash> block{hash::FirstPrefix(
        hash::HashBlock(prompt[0].tokens, prompt[0].extra_keys, index.options().hash_seed))};
    const auto found = index.Removals({"default", "m", "", 2, ""}, "i", block);
    ASSERT_EQ(found.size(), 1U) << test.name;
    EXPECT_EQ(found[0].cause, test.cause) << test.name;
    EXPECT_EQ(found[0].occasion.sequence, test.sequence) << test.name;
    EXPECT_EQ(found[0].occasion.unix_time, test.unix_time) << test.name;
    EXPECT_EQ(found[0].publisher, "i|default|0") << test.name;
  }
}

TEST(PublisherHistory, ARebuildThatIsAbandonedLeavesNoTrace) {
  index::PrefixIndex index{index::PrefixIndex::Options{}};
  PublisherIngest ingest(index, Profile(), IngestLimits{}, 0);
  ingest.BeginRebuild();
  ingest.Apply(Batch(Stored({1}, "11")));
  ingest.AbandonRebuild();
  EXPECT_FALSE(index.LastLeft("i"));
}

// `blocks` new blocks that begin a prompt, named from `first` on.
wire::BlockStored NewBlocks(uint64_t first, uint64_t blocks) {
  wire::BlockStored stored;
  stored.block_size = 2;
  stored.medium = "GPU";
  for (uint64_t i = 0; i < blocks; ++i) {
    stored.hashes.push_back(EngineHash{first + i});
    stored.tokens.push_back(static_cast<TokenId>(first + i));
    stored.tokens.push_back(7);
  }
  return stored;
}

TEST(PublisherCopies, SayWhatWasGivenUpForOthersWhileTheyWereMade) {
  index::PrefixIndex index({.memory_limit = 4 << 20});
  PublisherIngest mine(index, Profile(), {}, 0);
  for (uint64_t i = 0; i < 200; ++i) mine.Apply(Batch(NewBlocks(1 + i * 64, 64)));
  const auto copy = mine.BeginCopy({});
  ASSERT_TRUE(copy->Step());
  PublisherIngest other(index, {.instance_id = "other", .model = "m", .block_size = 2}, {}, 1);
  for (uint64_t i = 0; mine.Counters().trimmed_blocks == 0; ++i) {
    ASSERT_LT(i, 10'000U);
    other.Apply(Batch(NewBlocks(1'000'000 + i * 64, 64)));
  }
  while (copy->Step()) {
  }
  const SavedLife saved = copy->Take();
  EXPECT_EQ(saved.trimmed, mine.Counters().trimmed_blocks);
  EXPECT_LT(saved.chains.prefixes.size(), 200U * 64U);
}

TEST(PublisherCopies, SayWhichWaitingEventsFindNoRoomAnyMore) {
  index::PrefixIndex index(index::PrefixIndex::Options{});
  PublisherIngest mine(index, Profile(), {}, 0);
  for (uint64_t i = 0; i < 20; ++i) {
    wire::BlockStored orphan = NewBlocks(1000 + i * 100, 10);
    orphan.parent = EngineHash{1 + i};
    mine.Apply(Batch(orphan));
  }
  const auto copy = mine.BeginCopy({});
  while (copy->Step()) {
  }
  const SavedLife saved = copy->Take();
  ASSERT_EQ(saved.waiting.size(), 20U);
  index::PrefixIndex next(index::PrefixIndex::Options{});
  PublisherIngest restored(next, Profile(), {.max_waiting_bytes = 10'000}, 0);
  auto writer = next.Write();
  const uint64_t dropped = restored.Restore(writer, saved, {}, {}).waiting_dropped;
  EXPECT_GT(dropped, 0U);
  EXPECT_LT(dropped, 20U);
}

}  // namespace
}  // namespace conductor::ingest
