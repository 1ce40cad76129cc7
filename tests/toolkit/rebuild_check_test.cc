#include "daemon/toolkit/rebuild_check.h"

#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tests/toolkit/source_frames.h"

namespace conductor::toolkit {
namespace {

using Answer = ingest::ReferenceModel::Answer;
using Holders = ingest::ReferenceModel::Holders;
using Chain = std::vector<PrefixHash>;

// An index with a mistake in it, once it is switched on.
class WrongIndex : public CheckedIndex {
 public:
  std::function<void(Answer&)> in_matches;
  std::function<void(Holders&)> in_holders;
  uint64_t too_much = 0;
  std::optional<PlainIndex> plain;

  [[nodiscard]] Answer Match(const index::NamespaceKey& name_space,
                             const Chain& chain) const override {
    Answer answer = plain->Match(name_space, chain);
    if (in_matches) in_matches(answer);
    return answer;
  }
  [[nodiscard]] Holders HoldersOf(const index::NamespaceKey& name_space,
                                  const Chain& chain) const override {
    Holders holders = plain->HoldersOf(name_space, chain);
    if (in_holders) in_holders(holders);
    return holders;
  }
  [[nodiscard]] uint64_t Holdings() const override { return plain->Holdings() + too_much; }
};

class RebuildCheckTest : public testing::Test {
 protected:
  explicit RebuildCheckTest(std::vector<SourcePublisher> publishers = Publishers({"tcp://a:1"}))
      : check_(index_, hash::kDefaultSeed), rebuild_({}, publishers, &check_) {
    index_.plain.emplace(rebuild_.index());
  }

  void Batch(std::vector<wire::KvEvent> events) {
    rebuild_.Feed(Live(next_++, Payload(std::move(events))));
  }

  WrongIndex index_;
  RebuildCheck check_;
  Rebuild rebuild_;
  uint64_t next_ = 0;
};

TEST_F(RebuildCheckTest, AnIndexThatIsRightAgrees) {
  Batch({Stored(1, 4)});
  Batch({Stored(5, 2, 2), Removed(4), Stored(1, 1, std::nullopt, "CPU")});
  Batch({Stored(10, 1, 9)});  // waits for its parent
  Batch({Stored(9, 1), Removed(3)});
  Batch({wire::AllBlocksCleared()});
  rebuild_.Feed(Live(0, Payload({Stored(1, 1)})));  // a restart
  check_.Finish();
  EXPECT_FALSE(check_.difference()) << check_.difference()->Describe();
  EXPECT_EQ(check_.batches(), 6U);
  EXPECT_GT(check_.compared(), 10U);
}

TEST_F(RebuildCheckTest, AFigureThatIsTooHighIsFoundWithItsEvent) {
  Batch({Stored(1, 3)});
  index_.in_matches = [](Answer& answer) {
    for (auto& [rank, figures] : answer) ++figures.disk;
  };
  Batch({Removed(3)});
  ASSERT_TRUE(check_.difference());
  EXPECT_EQ(check_.difference()->where,
            "tcp://a:1, sequence 1, event 0: removed 0x0000000000000003, GPU");
  EXPECT_EQ(check_.difference()->expected, "a:1/0 gpu 2 cpu 2 disk 2");
  EXPECT_EQ(check_.difference()->actual, "a:1/0 gpu 2 cpu 2 disk 3");
  EXPECT_TRUE(
      check_.difference()->what.starts_with("a prompt that ends with block 2 of its prompt"));
}

TEST_F(RebuildCheckTest, ABlockThatIsStillHeldIsFound) {
  Batch({Stored(1, 2)});
  index_.in_holders = [this](Holders& holders) {
    for (const auto& rank : rebuild_.index().Ranks()) holders[rank.rank] = {true, false, false};
  };
  Batch({Stored(20, 1), Removed(2)});
  ASSERT_TRUE(check_.difference());
  EXPECT_TRUE(check_.difference()->where.ends_with("event 1: removed 0x0000000000000002, GPU"));
  EXPECT_EQ(check_.difference()->expected, "nobody holds it");
  EXPECT_EQ(check_.difference()->actual, "a:1/0 on gpu");
}

TEST_F(RebuildCheckTest, AWrongTierIsFound) {
  index_.in_holders = [](Holders& holders) {
    for (auto& [rank, on] : holders) on = {false, true, false};
  };
  Batch({Stored(1, 1)});
  ASSERT_TRUE(check_.difference());
  EXPECT_EQ(check_.difference()->actual, "a:1/0 on cpu");
}

TEST_F(RebuildCheckTest, AHoldingThatNoEventNamedIsFound) {
  index_.too_much = 1;
  Batch({Stored(1, 1)});
  ASSERT_TRUE(check_.difference());
  EXPECT_EQ(check_.difference()->expected, "1");
  EXPECT_EQ(check_.difference()->actual, "2");
  EXPECT_TRUE(check_.difference()->where.starts_with("tcp://a:1, sequence 0, event 0: stored"));
}

TEST_F(RebuildCheckTest, WhatGoesWrongUnheardIsFoundAtTheEnd) {
  Batch({Stored(1, 2)});
  index_.in_matches = [](Answer& answer) { answer.clear(); };
  check_.Finish();
  ASSERT_TRUE(check_.difference());
  EXPECT_EQ(check_.difference()->where, "at the end");
  EXPECT_EQ(check_.difference()->actual, "nobody has any of it");
}

TEST_F(RebuildCheckTest, TheFirstDifferenceStays) {
  index_.too_much = 1;
  Batch({Stored(1, 1)});
  const std::string first = check_.difference()->Describe();
  Batch({Stored(2, 1)});
  check_.Finish();
  EXPECT_EQ(check_.difference()->Describe(), first);
}

TEST_F(RebuildCheckTest, EnvelopesOfRfc1527AreLeftOutAndTold) {
  wire::BlockStored event = Stored(1, 1);
  event.origin.emplace();
  wire::EventBatch batch;
  batch.events.emplace_back(event);
  check_.Begin(0, Publishers({"tcp://a:1"})[0]);
  check_.Before(0, stream::Sequence{0}, batch);
  check_.After(0, stream::Sequence{0}, batch);
  check_.Finish();
  EXPECT_FALSE(check_.difference());
  EXPECT_EQ(check_.batches(), 0U);
  ASSERT_EQ(check_.Notes().size(), 1U);
  EXPECT_NE(check_.Notes()[0].find("is not compared"), std::string::npos);
}

class SglangCheckTest : public RebuildCheckTest {
 protected:
  static std::vector<SourcePublisher> Sglang() {
    auto publishers = Publishers({"s"});
    Override(publishers[0], {.type = serve::PublisherType::kSglang});
    return publishers;
  }
  SglangCheckTest() : RebuildCheckTest(Sglang()) {}
};

TEST_F(SglangCheckTest, APromptMayBeginOnTheHost) {
  Batch({Stored(1, 2, std::nullopt, "CPU")});
  check_.Finish();
  EXPECT_FALSE(check_.difference()) << check_.difference()->Describe();
  EXPECT_EQ(rebuild_.index().Stats().holdings, 2U);
}

}  // namespace
}  // namespace conductor::toolkit
