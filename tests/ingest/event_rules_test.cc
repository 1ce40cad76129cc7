// Every rule of what a publisher's events mean, one a test, with figures computed by hand. Each is
// asked of PublisherIngest over PrefixIndex and of the reference model: the first is what it is
// for, the second shows that the model may be trusted elsewhere.

#include <gtest/gtest.h>

#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "lib/ingest/reference_model.h"
#include "tests/ingest/event_builders.h"
#include "tests/ingest/index_subject.h"

namespace conductor::ingest {
namespace {

using Figures = ReferenceModel::Figures;

constexpr Figures kNothing{0, 0, 0};

}  // namespace

// Found by argument-dependent lookup, for messages of failed tests.
void PrintTo(const ReferenceModel::Figures& figures, std::ostream* out) {
  *out << "{gpu " << figures.gpu << ", cpu " << figures.cpu << ", disk " << figures.disk << "}";
}

namespace {

// One publisher, number 0, of instance "i" with blocks of two tokens; others can be added.
template <typename Subject>
class EventRules : public testing::Test {
 protected:
  EventRules() { subject_.AddPublisher(0, Profile()); }

  static PublisherProfile Profile() { return {.instance_id = "i", .model = "m", .block_size = 2}; }

  // Starts again with another registration of publisher 0.
  void Register(const PublisherProfile& profile) {
    subject_.RemovePublisher(0);
    subject_.AddPublisher(0, profile);
  }

  template <typename... Events>
  void Apply(Events... events) {
    subject_.Apply(0, Batch(std::move(events)...));
  }

  // What one rank of "i" holds of the prompt.
  Figures Ask(const std::vector<PromptBlock>& prompt, uint32_t dp_rank = 0,
              const std::string& lora_name = "") {
    const auto block_size = static_cast<uint32_t>(prompt.front().tokens.size());
    const auto answer = subject_.Query(
        [&](const index::NamespaceKey& key) {
          return key.block_size == block_size && key.lora_name == lora_name;
        },
        prompt);
    for (const auto& [rank, figures] : answer) {
      if (rank.instance_id == "i" && rank.dp_rank == dp_rank) return figures;
    }
    return kNothing;
  }
  Figures Ask(std::string_view prompt, uint32_t dp_rank = 0, const std::string& lora_name = "") {
    return Ask(Prompt(prompt), dp_rank, lora_name);
  }

  Subject subject_;
};

using Subjects = testing::Types<IndexSubject, ReferenceModel>;
TYPED_TEST_SUITE(EventRules, Subjects);

// --- What an answer counts.

TYPED_TEST(EventRules, NobodyHoldsAnythingAtFirst) {
  EXPECT_EQ(this->Ask("11 12"), kNothing);
  EXPECT_TRUE(this->subject_.HoldsNothing(0));
}

TYPED_TEST(EventRules, AStoredChainIsHeldFromItsFirstBlock) {
  this->Apply(Stored({1, 2, 3}, "11 12 21"));
  EXPECT_EQ(this->Ask("11 12 21"), (Figures{3, 3, 3}));
  EXPECT_EQ(this->Ask("11 12 21 22"), (Figures{3, 3, 3}));
  EXPECT_EQ(this->Ask("11 12 22"), (Figures{2, 2, 2}));
  EXPECT_EQ(this->Ask("12 21"), kNothing);
  EXPECT_FALSE(this->subject_.HoldsNothing(0));
}

TYPED_TEST(EventRules, ABlockIsOnlyTheSameBehindTheSamePrefix) {
  this->Apply(Stored({1, 2}, "11 12"));
  EXPECT_EQ(this->Ask("22 12"), kNothing);
}

TYPED_TEST(EventRules, AnEventContinuesItsParent) {
  this->Apply(Stored({1}, "11"));
  this->Apply(Stored({2, 3}, "12 21", 1));
  EXPECT_EQ(this->Ask("11 12 21"), (Figures{3, 3, 3}));
}

TYPED_TEST(EventRules, PromptsShareTheirPrefix) {
  this->Apply(Stored({1, 2}, "11 12"), Stored({3}, "22", 1));
  EXPECT_EQ(this->Ask("11 12"), (Figures{2, 2, 2}));
  EXPECT_EQ(this->Ask("11 22"), (Figures{2, 2, 2}));
}

TYPED_TEST(EventRules, TheRunEndsAtAHole) {
  this->Apply(Stored({1, 2, 3}, "11 12 21"), Removed({2}));
  EXPECT_EQ(this->Ask("11 12 21"), (Figures{1, 1, 1}));
}

TYPED_TEST(EventRules, TheRunGoesOnWhenTheHoleIsFilled) {
  this->Apply(Stored({1, 2, 3}, "11 12 21"), Removed({2}));
  this->Apply(Stored({2}, "12", 1));
  EXPECT_EQ(this->Ask("11 12 21"), (Figures{3, 3, 3}));
}

TYPED_TEST(EventRules, WithoutTheFirstBlockNothingCounts) {
  this->Apply(Stored({1, 2}, "11 12"), Removed({1}));
  EXPECT_EQ(this->Ask("11 12"), kNothing);
}

TYPED_TEST(EventRules, HostContinuesWhereTheDeviceEnds) {
  this->Apply(Stored({1, 2, 3, 4}, "11 12 21 22"), Offloaded({3, 4}), Removed({3, 4}));
  EXPECT_EQ(this->Ask("11 12 21 22"), (Figures{2, 4, 4}));
}

TYPED_TEST(EventRules, DiskContinuesThroughHostAndDiskInAnyMix) {
  this->Apply(Stored({1, 2, 3, 4, 5}, "11 12 21 22 11"), Offloaded({2}), Offloaded({3}, "DISK"),
              Offloaded({4}), Offloaded({5}, "DISK"), Removed({2, 3, 4, 5}));
  EXPECT_EQ(this->Ask("11 12 21 22 11"), (Figures{1, 2, 5}));
}

TYPED_TEST(EventRules, NobodyClimbsBackToTheDevice) {
  this->Apply(Stored({1, 2, 3}, "11 12 21"), Offloaded({2}), Removed({2}));
  EXPECT_EQ(this->Ask("11 12 21"), (Figures{1, 2, 2}));
}

TYPED_TEST(EventRules, APromptMayBeHeldOnLowerTiersAlone) {
  this->Apply(Stored({1, 2}, "11 12"), Offloaded({1}), Offloaded({2}, "DISK"), Removed({1, 2}));
  EXPECT_EQ(this->Ask("11 12"), (Figures{0, 1, 2}));
}

TYPED_TEST(EventRules, TwoPublishersOfOneRankHoldTogether) {
  this->subject_.AddPublisher(1, this->Profile());
  this->Apply(Stored({1}, "11"));
  this->subject_.Apply(1, Batch(Stored({1, 2}, "11 12")));
  this->subject_.Apply(1, Batch(Removed({1})));
  EXPECT_EQ(this->Ask("11 12"), (Figures{2, 2, 2}));
}

TYPED_TEST(EventRules, OneInstancesFigureSaysNothingOfAnother) {
  PublisherProfile other = this->Profile();
  other.instance_id = "other";
  this->subject_.AddPublisher(1, other);
  this->subject_.Apply(1, Batch(Stored({1}, "11")));
  EXPECT_EQ(this->Ask("11"), kNothing);
}

TYPED_TEST(EventRules, TenantsModelsAndSaltsAreApart) {
  PublisherProfile other = this->Profile();
  other.tenant = "t2";
  this->subject_.AddPublisher(1, other);
  this->subject_.Apply(1, Batch(Stored({1}, "11")));
  const auto answer = this->subject_.Query(
      [](const index::NamespaceKey& key) { return key.tenant == "default"; }, Prompt("11"));
  EXPECT_TRUE(answer.empty());
}

// --- Removal.

TYPED_TEST(EventRules, ARemovalOfOneTierLeavesTheOthers) {
  this->Apply(Stored({1}, "11"), Offloaded({1}));
  this->Apply(Removed({1}, "CPU"));
  EXPECT_EQ(this->Ask("11"), (Figures{1, 1, 1}));
  this->Apply(Offloaded({1}), Removed({1}));
  EXPECT_EQ(this->Ask("11"), (Figures{0, 1, 1}));
}

TYPED_TEST(EventRules, RemovalOfWhatIsNotHeldChangesNothing) {
  this->Apply(Removed({1}), Stored({1}, "11"), Removed({7}), Removed({1}, "CPU"));
  EXPECT_EQ(this->Ask("11"), (Figures{1, 1, 1}));
}

TYPED_TEST(EventRules, OneUnknownNameDoesNotStopTheRemovalOfTheOthers) {
  this->Apply(Stored({1, 2}, "11 12"), Removed({7, 2}));
  EXPECT_EQ(this->Ask("11 12"), (Figures{1, 1, 1}));
}

TYPED_TEST(EventRules, CopiesOnTheDeviceAreCounted) {
  this->Apply(Stored({1}, "11"), Stored({1}, "11"), Removed({1}));
  EXPECT_EQ(this->Ask("11"), (Figures{1, 1, 1}));
  this->Apply(Removed({1}));
  EXPECT_EQ(this->Ask("11"), kNothing);
}

TYPED_TEST(EventRules, CopiesDoNotFallBelowZero) {
  this->Apply(Stored({1}, "11"), Removed({1}), Removed({1}), Removed({1}));
  this->Apply(Stored({1}, "11"));
  EXPECT_EQ(this->Ask("11"), (Figures{1, 1, 1}));
}

TYPED_TEST(EventRules, CopiesOnOtherTiersAreNotCounted) {
  this->Apply(Stored({1}, "11"), Offloaded({1}), Offloaded({1}), Removed({1}));
  EXPECT_EQ(this->Ask("11"), (Figures{0, 1, 1}));
  this->Apply(Removed({1}, "CPU"));
  EXPECT_EQ(this->Ask("11"), kNothing);
}

TYPED_TEST(EventRules, CopiesAreNotCountedWhereTheRegistrationSaysSet) {
  PublisherProfile profile = this->Profile();
  profile.copies = index::CopyMode::kSet;
  this->Register(profile);
  this->Apply(Stored({1}, "11"), Stored({1}, "11"), Removed({1}));
  EXPECT_EQ(this->Ask("11"), kNothing);
}

TYPED_TEST(EventRules, CopiesAreCountedForEachPublisherByItself) {
  this->subject_.AddPublisher(1, this->Profile());
  this->Apply(Stored({1}, "11"));
  this->subject_.Apply(1, Batch(Stored({1}, "11")));
  this->Apply(Removed({1}), Removed({1}));
  EXPECT_EQ(this->Ask("11"), (Figures{1, 1, 1}));
}

TYPED_TEST(EventRules, OnePublishersNamesMeanNothingToAnother) {
  this->subject_.AddPublisher(1, this->Profile());
  this->Apply(Stored({1}, "11"));
  this->subject_.Apply(1, Batch(Removed({1}), Stored({2}, "12", 1)));
  EXPECT_EQ(this->Ask("11 12"), (Figures{1, 1, 1}));
  EXPECT_EQ(this->subject_.WaitingEvents(1), 1U);
}

TYPED_TEST(EventRules, ClearedEmptiesTheDeviceAndNoOtherTier) {
  this->Apply(Stored({1, 2}, "11 12"), Stored({1}, "11"), Offloaded({1}));
  this->Apply(Cleared());
  EXPECT_EQ(this->Ask("11 12"), (Figures{0, 1, 1}));
}

TYPED_TEST(EventRules, ClearedEmptiesOnlyItsRank) {
  this->subject_.Apply(0, BatchOfRank(0, Stored({1}, "11")));
  this->subject_.Apply(0, BatchOfRank(1, Stored({1}, "11")));
  this->subject_.Apply(0, BatchOfRank(1, Cleared()));
  EXPECT_EQ(this->Ask("11", 0), (Figures{1, 1, 1}));
  EXPECT_EQ(this->Ask("11", 1), kNothing);
}

TYPED_TEST(EventRules, ClearedEmptiesEveryAdapterOfItsRank) {
  this->Apply(Stored({1}, "11"), WithLora("a", Stored({2}, "11")));
  this->Apply(Cleared());
  EXPECT_TRUE(this->subject_.HoldsNothing(0));
}

TYPED_TEST(EventRules, ClearedEmptiesOnlyItsPublisher) {
  this->subject_.AddPublisher(1, this->Profile());
  this->Apply(Stored({1}, "11"));
  this->subject_.Apply(1, Batch(Cleared()));
  EXPECT_EQ(this->Ask("11"), (Figures{1, 1, 1}));
}

// --- Parents, orphans and detached events.

TYPED_TEST(EventRules, AnOrphanWaitsForItsParent) {
  this->Apply(Stored({2}, "12", 1));
  EXPECT_EQ(this->subject_.WaitingEvents(0), 1U);
  EXPECT_EQ(this->Ask("12"), kNothing);
  EXPECT_FALSE(this->subject_.HoldsNothing(0));
  this->Apply(Stored({1}, "11"));
  EXPECT_EQ(this->subject_.WaitingEvents(0), 0U);
  EXPECT_EQ(this->Ask("11 12"), (Figures{2, 2, 2}));
}

TYPED_TEST(EventRules, OrphansOfOrphansJoinTogether) {
  this->Apply(Stored({4}, "22", 3), Stored({3}, "21", 2), Stored({2}, "12", 1));
  EXPECT_EQ(this->subject_.WaitingEvents(0), 3U);
  this->Apply(Stored({1}, "11"));
  EXPECT_EQ(this->subject_.WaitingEvents(0), 0U);
  EXPECT_EQ(this->Ask("11 12 21 22"), (Figures{4, 4, 4}));
}

TYPED_TEST(EventRules, AnOrphanJoinsBehindAnyBlockOfAnEvent) {
  this->Apply(Stored({3}, "22", 1));
  this->Apply(Stored({1, 2}, "11 12"));
  EXPECT_EQ(this->Ask("11 22"), (Figures{2, 2, 2}));
}

TYPED_TEST(EventRules, AJoinIsSeenByTheNextEventOfTheBatch) {
  this->Apply(Stored({2}, "12", 1));
  this->Apply(Stored({1}, "11"), Removed({2}));
  EXPECT_EQ(this->Ask("11 12"), (Figures{1, 1, 1}));
}

TYPED_TEST(EventRules, WhatIsRemovedWhileItWaitsIsNotHeldAfterwards) {
  this->Apply(Stored({2, 3}, "12 21", 1), Removed({3}));
  this->Apply(Stored({1}, "11"));
  EXPECT_EQ(this->Ask("11 12 21"), (Figures{2, 2, 2}));
}

TYPED_TEST(EventRules, AWaitingBlockThatWasRemovedStillLeadsToItsChildren) {
  this->Apply(Stored({2}, "12", 1), Stored({3}, "21", 2), Removed({2}));
  this->Apply(Stored({1}, "11"));
  EXPECT_EQ(this->Ask("11 12 21"), (Figures{1, 1, 1}));
  this->Apply(Stored({2}, "12", 1));
  EXPECT_EQ(this->Ask("11 12 21"), (Figures{3, 3, 3}));
}

TYPED_TEST(EventRules, ARemovalTakesAHeldCopyBeforeAWaitingOne) {
  this->Apply(Stored({1}, "11"), Stored({1}, "11", 9), Removed({1}));
  EXPECT_EQ(this->Ask("11"), kNothing);
  this->Apply(Stored({9}, "22"));
  EXPECT_EQ(this->Ask("22 11"), (Figures{2, 2, 2}));
}

TYPED_TEST(EventRules, ARemovalTakesOneWaitingCopyWhereCopiesCount) {
  this->Apply(Stored({2}, "12", 1), Stored({2}, "12", 1), Removed({2}));
  this->Apply(Stored({1}, "11"));
  EXPECT_EQ(this->Ask("11 12"), (Figures{2, 2, 2}));
  this->Apply(Removed({2}));
  EXPECT_EQ(this->Ask("11 12"), (Figures{1, 1, 1}));
}

TYPED_TEST(EventRules, ARemovalTakesAllWaitingCopiesWhereTheyDoNotCount) {
  this->Apply(Offloaded({1}), Offloaded({1}), Removed({1}, "CPU"));
  EXPECT_EQ(this->subject_.WaitingEvents(0), 0U);
  this->Apply(Stored({1}, "11"), Removed({1}));
  EXPECT_EQ(this->Ask("11"), kNothing);
}

TYPED_TEST(EventRules, ARemovalOnAnotherTierLeavesWhatWaits) {
  this->Apply(Stored({2}, "12", 1), Removed({2}, "CPU"));
  this->Apply(Stored({1}, "11"));
  EXPECT_EQ(this->Ask("11 12"), (Figures{2, 2, 2}));
}

TYPED_TEST(EventRules, ARemovalOfAnotherRankLeavesWhatWaits) {
  this->subject_.Apply(0, BatchOfRank(1, Stored({2}, "12", 1)));
  this->subject_.Apply(0, BatchOfRank(0, Removed({2})));
  this->subject_.Apply(0, BatchOfRank(1, Stored({1}, "11")));
  EXPECT_EQ(this->Ask("11 12", 1), (Figures{2, 2, 2}));
}

TYPED_TEST(EventRules, ClearedDropsWaitingDeviceEventsAndNoOthers) {
  this->Apply(Stored({2}, "12", 1), Offloaded({1}), Cleared());
  EXPECT_EQ(this->subject_.WaitingEvents(0), 1U);
  this->Apply(Stored({1}, "11"));
  EXPECT_EQ(this->Ask("11 12"), (Figures{1, 1, 1}));
  this->Apply(Removed({1}));
  EXPECT_EQ(this->Ask("11"), (Figures{0, 1, 1}));
}

TYPED_TEST(EventRules, AParentThatIsNoLongerHeldIsStillKnown) {
  this->Apply(Stored({1}, "11"), Removed({1}));
  this->Apply(Stored({2}, "12", 1));
  EXPECT_EQ(this->subject_.WaitingEvents(0), 0U);
  this->Apply(Stored({1}, "11"));
  EXPECT_EQ(this->Ask("11 12"), (Figures{2, 2, 2}));
}

TYPED_TEST(EventRules, AnEventWithoutTokensJoinsByAKnownName) {
  this->Apply(Stored({1, 2}, "11 12"), Offloaded({2, 1}));
  this->Apply(Removed({1, 2}));
  EXPECT_EQ(this->Ask("11 12"), (Figures{0, 2, 2}));
}

TYPED_TEST(EventRules, AnEventWithoutTokensWaitsForItsName) {
  this->Apply(Offloaded({1}));
  EXPECT_EQ(this->subject_.WaitingEvents(0), 1U);
  this->Apply(Stored({1}, "11"), Removed({1}));
  EXPECT_EQ(this->subject_.WaitingEvents(0), 0U);
  EXPECT_EQ(this->Ask("11"), (Figures{0, 1, 1}));
}

TYPED_TEST(EventRules, EachNameOfAnEventWithoutTokensWaitsForItself) {
  this->Apply(Stored({1}, "11"), Offloaded({2, 1}), Removed({1}));
  EXPECT_EQ(this->Ask("11"), (Figures{0, 1, 1}));
  EXPECT_EQ(this->subject_.WaitingEvents(0), 1U);
}

TYPED_TEST(EventRules, TokensWithoutAParentBeginAPromptOnTheDeviceOnly) {
  this->Apply(On("CPU", Stored({1}, "11")));
  EXPECT_EQ(this->subject_.WaitingEvents(0), 1U);
  EXPECT_EQ(this->Ask("11"), kNothing);
  this->Apply(Stored({5, 1}, "22 11"), Removed({5, 1}));
  EXPECT_EQ(this->Ask("11"), kNothing) << "it was announced in mid-chain";
  this->Apply(Stored({5}, "22"));
  EXPECT_EQ(this->Ask("22 11"), (Figures{1, 2, 2}));
}

TYPED_TEST(EventRules, AChainOnTheHostJoinsByItsFirstNameAndGoesOnFromThere) {
  this->Apply(Stored({1}, "11"), On("CPU", Stored({1, 2}, "11 12")));
  this->Apply(Removed({1}));
  EXPECT_EQ(this->Ask("11 12"), (Figures{0, 2, 2}));
}

TYPED_TEST(EventRules, AMediumOfNoTierIsPartOfNoFigure) {
  this->Apply(On("TAPE", Stored({1}, "11")));
  EXPECT_EQ(this->Ask("11"), kNothing);
  EXPECT_TRUE(this->subject_.HoldsNothing(0));
}

TYPED_TEST(EventRules, NoMediumIsTheDevice) {
  wire::BlockStored stored = Stored({1}, "11");
  stored.medium.reset();
  this->Apply(stored);
  EXPECT_EQ(this->Ask("11"), (Figures{1, 1, 1}));
  wire::BlockRemoved removed = Removed({1});
  removed.medium.reset();
  this->Apply(removed);
  EXPECT_EQ(this->Ask("11"), kNothing);
}

// --- Names.

TYPED_TEST(EventRules, ANameMovesWithADeviceStoreAndTheOldBlockIsDropped) {
  this->Apply(Stored({1, 2}, "11 12"), Offloaded({1}));
  this->Apply(Stored({1}, "22"));
  EXPECT_EQ(this->Ask("11 12"), kNothing);
  EXPECT_EQ(this->Ask("22"), (Figures{1, 1, 1}));
  this->Apply(Removed({1}));
  EXPECT_EQ(this->Ask("22"), kNothing);
}

TYPED_TEST(EventRules, AMovedNameDropsTheOldBlockOnEveryRank) {
  this->subject_.Apply(0, BatchOfRank(1, Stored({1}, "11")));
  this->subject_.Apply(0, BatchOfRank(2, Stored({1}, "22")));
  EXPECT_EQ(this->Ask("11", 1), kNothing);
  EXPECT_EQ(this->Ask("22", 2), (Figures{1, 1, 1}));
}

TYPED_TEST(EventRules, AMovedNameLeavesWhatOtherPublishersHold) {
  this->subject_.AddPublisher(1, this->Profile());
  this->subject_.Apply(1, Batch(Stored({1}, "11")));
  this->Apply(Stored({1}, "11"), Stored({1}, "22"));
  EXPECT_EQ(this->Ask("11"), (Figures{1, 1, 1}));
}

TYPED_TEST(EventRules, OnTheHostAKnownNameWinsOverTheTokens) {
  const auto item = hash::ItemKey("img", 0);
  this->Apply(WithExtraKeys({{item}, {}}, Stored({1, 2}, "11 12")));
  this->Apply(On("CPU", Stored({1, 2}, "11 12")), Removed({1, 2}));
  auto prompt = Prompt("11 12");
  EXPECT_EQ(this->Ask(prompt), kNothing);
  prompt[0].extra_keys = {item};
  EXPECT_EQ(this->Ask(prompt), (Figures{0, 2, 2}));
}

TYPED_TEST(EventRules, OneNameTwiceInAnEventStandsForTheLaterBlock) {
  this->Apply(Stored({1, 2, 1}, "11 12 21"));
  EXPECT_EQ(this->Ask("11 12 21"), kNothing);
  this->Apply(Stored({3}, "11"));
  EXPECT_EQ(this->Ask("11 12 21"), (Figures{3, 3, 3}));
}

// --- Adapters, salts and extra keys.

TYPED_TEST(EventRules, AnAdapterIsANamespaceOfItsOwn) {
  this->Apply(WithLora("a", Stored({1}, "11")));
  EXPECT_EQ(this->Ask("11"), kNothing);
  EXPECT_EQ(this->Ask("11", 0, "a"), (Figures{1, 1, 1}));
}

TYPED_TEST(EventRules, TheRegisteredAdapterIsMeantWhereAnEventNamesNone) {
  PublisherProfile profile = this->Profile();
  profile.lora_name = "base";
  this->Register(profile);
  wire::BlockStored numbered = Stored({3}, "21");
  numbered.lora_id = 7;
  this->Apply(Stored({1}, "11"), WithLora("a", Stored({2}, "12")), numbered);
  EXPECT_EQ(this->Ask("11", 0, "base"), (Figures{1, 1, 1}));
  EXPECT_EQ(this->Ask("12", 0, "a"), (Figures{1, 1, 1}));
  EXPECT_EQ(this->Ask("21", 0, "base"), (Figures{1, 1, 1}));
}

TYPED_TEST(EventRules, ANumberedAdapterWithoutANameIsNamedByItsNumber) {
  wire::BlockStored event = Stored({1}, "11");
  event.lora_id = 7;
  this->Apply(event);
  EXPECT_EQ(this->Ask("11", 0, "7"), (Figures{1, 1, 1}));
}

TYPED_TEST(EventRules, AnAdaptersNameBeforeTheExtraKeysIsNotOneOfThem) {
  const auto lora = hash::TextKey("a");
  const auto item = hash::ItemKey("img", 0);
  this->Apply(WithLora("a", WithExtraKeys({{lora}, {lora, item}}, Stored({1, 2}, "11 12"))));
  auto prompt = Prompt("11 12");
  EXPECT_EQ(this->Ask(prompt, 0, "a"), (Figures{1, 1, 1}));
  prompt[1].extra_keys = {item};
  EXPECT_EQ(this->Ask(prompt, 0, "a"), (Figures{2, 2, 2}));
}

TYPED_TEST(EventRules, ANameOfAnotherAdapterStaysAnExtraKey) {
  this->Apply(WithLora("a", WithExtraKeys({{hash::TextKey("b")}}, Stored({1}, "11"))));
  EXPECT_EQ(this->Ask("11", 0, "a"), kNothing);
  EXPECT_EQ(this->Ask(Salted(Prompt("11"), "b"), 0, "a"), (Figures{1, 1, 1}));
}

TYPED_TEST(EventRules, ASaltSeparatesEveryBlockOfAPrompt) {
  this->Apply(WithExtraKeys({{hash::TextKey("s")}, {}}, Stored({1, 2}, "11 12")));
  EXPECT_EQ(this->Ask("11 12"), kNothing);
  EXPECT_EQ(this->Ask(Salted(Prompt("11 12"), "s")), (Figures{2, 2, 2}));
}

TYPED_TEST(EventRules, ASaltInTheEventsMetadataIsTheSameAsInItsExtraKeys) {
  wire::BlockStored event = Stored({1, 2}, "11 12");
  event.cache_salt = "s";
  this->Apply(event);
  EXPECT_EQ(this->Ask("11 12"), kNothing);
  EXPECT_EQ(this->Ask(Salted(Prompt("11 12"), "s")), (Figures{2, 2, 2}));
}

TYPED_TEST(EventRules, ASaltInTheMetadataOfAContinuationChangesNothing) {
  wire::BlockStored first = Stored({1}, "11");
  wire::BlockStored second = Stored({2}, "12", 1);
  first.cache_salt = second.cache_salt = "s";
  this->Apply(first, second);
  EXPECT_EQ(this->Ask(Salted(Prompt("11 12"), "s")), (Figures{2, 2, 2}));
}

TYPED_TEST(EventRules, AnOffloadThatDoesNotSayItsAdapterIsFoundByItsName) {
  this->Apply(WithLora("a", Stored({1}, "11")), Offloaded({1}), Removed({1}));
  EXPECT_EQ(this->Ask("11", 0, "a"), (Figures{0, 1, 1}));
  this->Apply(Removed({1}, "CPU"));
  EXPECT_TRUE(this->subject_.HoldsNothing(0));
}

TYPED_TEST(EventRules, AParentOfAnotherAdapterIsUnknown) {
  this->Apply(WithLora("a", Stored({1}, "11")), WithLora("b", Stored({2}, "12", 1)));
  EXPECT_EQ(this->subject_.WaitingEvents(0), 1U);
  EXPECT_EQ(this->Ask("11 12", 0, "a"), (Figures{1, 1, 1}));
  EXPECT_EQ(this->Ask("11 12", 0, "b"), kNothing);
}

TYPED_TEST(EventRules, AHostChainWithoutAParentBelongsToTheAdapterOfItsFirstName) {
  this->Apply(WithLora("a", Stored({1}, "11")));
  this->Apply(On("CPU", Stored({1, 2}, "11 12")));
  EXPECT_EQ(this->Ask("11 12", 0, "a"), (Figures{1, 2, 2}));
  EXPECT_EQ(this->subject_.WaitingEvents(0), 0U);
}

// --- Ranks.

TYPED_TEST(EventRules, TheBatchesRankWinsOverTheRegisteredOne) {
  this->subject_.Apply(0, BatchOfRank(2, Stored({1}, "11")));
  EXPECT_EQ(this->Ask("11", 0), kNothing);
  EXPECT_EQ(this->Ask("11", 2), (Figures{1, 1, 1}));
}

TYPED_TEST(EventRules, WithoutARankTheRegisteredOneIsMeant) {
  PublisherProfile profile = this->Profile();
  profile.dp_rank = 3;
  this->Register(profile);
  this->Apply(Stored({1}, "11"));
  EXPECT_EQ(this->Ask("11", 3), (Figures{1, 1, 1}));
}

TYPED_TEST(EventRules, AConstantZeroMeansTheRegisteredRank) {
  PublisherProfile profile = this->Profile();
  profile.dp_rank = 3;
  this->Register(profile);
  this->subject_.Apply(0, BatchOfRank(0, Stored({1}, "11")));
  EXPECT_EQ(this->Ask("11", 3), (Figures{1, 1, 1}));
  EXPECT_EQ(this->Ask("11", 0), kNothing);
}

TYPED_TEST(EventRules, AZeroAfterAnotherRankMeansZero) {
  PublisherProfile profile = this->Profile();
  profile.dp_rank = 3;
  this->Register(profile);
  this->subject_.Apply(0, BatchOfRank(1, Stored({1}, "11")));
  this->subject_.Apply(0, BatchOfRank(0, Stored({1}, "11")));
  EXPECT_EQ(this->Ask("11", 0), (Figures{1, 1, 1}));
  EXPECT_EQ(this->Ask("11", 3), kNothing);
}

TYPED_TEST(EventRules, ANewLifeMaySayAConstantZeroAgain) {
  PublisherProfile profile = this->Profile();
  profile.dp_rank = 3;
  this->Register(profile);
  this->subject_.Apply(0, BatchOfRank(1, Stored({1}, "11")));
  this->subject_.NewLife(0);
  this->subject_.Apply(0, BatchOfRank(0, Stored({1}, "11")));
  EXPECT_EQ(this->Ask("11", 3), (Figures{1, 1, 1}));
}

TYPED_TEST(EventRules, NamesAreSharedByTheRanksOfAPublisher) {
  this->subject_.Apply(0, BatchOfRank(1, Stored({1}, "11")));
  this->subject_.Apply(0, BatchOfRank(2, Stored({2}, "12", 1)));
  EXPECT_EQ(this->subject_.WaitingEvents(0), 0U);
  this->subject_.Apply(0, BatchOfRank(2, Removed({1})));
  EXPECT_EQ(this->Ask("11", 1), (Figures{1, 1, 1}));
}

// --- Block sizes and spans.

TYPED_TEST(EventRules, AnUnregisteredBlockSizeIsLearntFromTheFirstStoredEvent) {
  PublisherProfile profile = this->Profile();
  profile.block_size = 0;
  this->Register(profile);
  EXPECT_EQ(this->subject_.BlockSize(0), 0U);
  this->Apply(Offloaded({9}), Stored({1, 2}, "111 222"));
  EXPECT_EQ(this->subject_.BlockSize(0), 3U);
  EXPECT_EQ(this->Ask("111 222"), (Figures{2, 2, 2}));
  this->Apply(Stored({3}, "11"));
  EXPECT_EQ(this->subject_.BlockSize(0), 3U);
  EXPECT_EQ(this->Ask("11"), kNothing);
}

TYPED_TEST(EventRules, ABlockSizeThatIsNoMultipleIsRefused) {
  this->Apply(Stored({1}, "111"), Stored({2}, "1"), Stored({3}, "12", 1));
  EXPECT_EQ(this->Ask("11"), kNothing);
  EXPECT_EQ(this->subject_.WaitingEvents(0), 1U) << "names of refused events are unknown";
}

TYPED_TEST(EventRules, AMultipleOfTheBlockSizeIsASpan) {
  this->Apply(Stored({1, 2}, "1112 2122"));
  EXPECT_EQ(this->Ask("11 12 21 22"), (Figures{4, 4, 4}));
}

TYPED_TEST(EventRules, OnlyWholeSpansCount) {
  this->Apply(Stored({1, 2}, "1112 2122"));
  EXPECT_EQ(this->Ask("11 12 21"), (Figures{2, 2, 2})) << "the prompt ends within the span";
  EXPECT_EQ(this->Ask("11 12 21 11"), (Figures{2, 2, 2})) << "the prompt leaves the span";
  EXPECT_EQ(this->Ask("11"), kNothing);
}

TYPED_TEST(EventRules, ThePartOfASpanDoesNotCountThoughTheNextBlockIsHeld) {
  this->Apply(Stored({1, 2, 3}, "11 12 21"), Removed({2}), Stored({4}, "1222", 1));
  EXPECT_EQ(this->Ask("11 12 21"), (Figures{1, 1, 1}));
  EXPECT_EQ(this->Ask("11 12 22"), (Figures{3, 3, 3}));
}

TYPED_TEST(EventRules, ASpanIsRemovedWhole) {
  this->Apply(Stored({1, 2}, "1112 2122"), Removed({1}));
  EXPECT_EQ(this->Ask("11 12 21 22"), kNothing);
}

TYPED_TEST(EventRules, BlocksContinueASpan) {
  this->Apply(Stored({1}, "1112"), Stored({2}, "21", 1));
  EXPECT_EQ(this->Ask("11 12 21"), (Figures{3, 3, 3}));
}

TYPED_TEST(EventRules, SpansOnTheHostContinueTheDevicesBlocks) {
  this->Apply(Stored({1, 2}, "11 12"), On("CPU", Stored({3}, "2122", 2)));
  EXPECT_EQ(this->Ask("11 12 21 22"), (Figures{2, 4, 4}));
}

TYPED_TEST(EventRules, OneNameMayStandForABlockHereAndASpanThere) {
  // An offload in larger blocks names each by its last one's hash.
  this->Apply(Stored({1, 2}, "11 12"), On("CPU", Stored({3, 2}, "2122 2211", 2)));
  this->Apply(Stored({4, 5}, "21 22", 2), On("CPU", Stored({5}, "2122", 2)), Removed({4, 5}));
  EXPECT_EQ(this->Ask("11 12 21 22"), (Figures{2, 4, 4}));
}

TYPED_TEST(EventRules, WhatIsHeldOfABlockHasTheSpanThatWasAnnouncedLast) {
  this->Apply(Stored({2}, "1112"));
  EXPECT_EQ(this->Ask("11 12"), (Figures{2, 2, 2}));
  this->Apply(Stored({1, 2}, "11 12"), Removed({1}));
  EXPECT_EQ(this->Ask("11 12"), kNothing) << "2 is now block 12 alone";
  this->Apply(Stored({1}, "11"), Removed({2}));
  EXPECT_EQ(this->Ask("11 12"), (Figures{2, 2, 2})) << "one of two copies is left";
}

TYPED_TEST(EventRules, AnEventWithoutTokensHasTheSpanOfItsName) {
  this->Apply(Stored({1}, "1112"), Offloaded({1}), Removed({1}));
  EXPECT_EQ(this->Ask("11 12"), (Figures{0, 2, 2}));
  EXPECT_EQ(this->Ask("11"), kNothing);
}

TYPED_TEST(EventRules, TokensThatDoNotFitTheHashesAreRefused) {
  wire::BlockStored event = Stored({1, 2}, "11 12");
  event.tokens.pop_back();
  this->Apply(event);
  EXPECT_TRUE(this->subject_.HoldsNothing(0));
}

// --- Cache groups of hybrid models.

TYPED_TEST(EventRules, OnlyGroupsOfWholePrefixesAreIndexed) {
  this->Apply(InGroup(1, "sliding_window", Stored({1}, "11")),
              InGroup(2, "mamba", Stored({1}, "11")),
              InGroup(3, "chunked_local_attention", Stored({1}, "11")));
  EXPECT_TRUE(this->subject_.HoldsNothing(0));
  uint64_t name = 1;
  for (const char* kind : {"full_attention", "mla_attention", "sink_full_attention"}) {
    this->Apply(InGroup(0, kind, Stored({name}, std::to_string(name) + "1")));
    EXPECT_EQ(this->Ask(std::to_string(name) + "1"), (Figures{1, 1, 1})) << kind;
    ++name;
  }
}

TYPED_TEST(EventRules, AGroupsNamesMeanNothingInAnother) {
  this->Apply(InGroup(0, "full_attention", Stored({1}, "11")));
  this->Apply(InGroup(1, "full_attention", Stored({2}, "12", 1)));
  EXPECT_EQ(this->subject_.WaitingEvents(0), 1U);
  this->Apply(InGroup(1, std::nullopt, Removed({1})));
  EXPECT_EQ(this->Ask("11"), (Figures{1, 1, 1}));
  this->Apply(InGroup(0, std::nullopt, Removed({1})));
  EXPECT_EQ(this->Ask("11"), kNothing);
}

TYPED_TEST(EventRules, NoGroupIsGroupZero) {
  this->Apply(InGroup(0, "full_attention", Stored({1}, "11")), Offloaded({1}));
  EXPECT_EQ(this->Ask("11"), (Figures{1, 1, 1}));
  this->Apply(Removed({1}));
  EXPECT_EQ(this->Ask("11"), (Figures{0, 1, 1}));
}

// --- Lives and rebuilds.

TYPED_TEST(EventRules, ANewLifeOwnsNothingOfTheOld) {
  this->Apply(Stored({1}, "11"), Offloaded({1}), Stored({3}, "12", 7));
  this->subject_.NewLife(0);
  EXPECT_TRUE(this->subject_.HoldsNothing(0));
  EXPECT_EQ(this->Ask("11"), kNothing);
  this->Apply(Stored({2}, "12", 1));
  EXPECT_EQ(this->subject_.WaitingEvents(0), 1U) << "old names are unknown";
}

TYPED_TEST(EventRules, ANewLifeLearnsItsOwnBlockSize) {
  PublisherProfile profile = this->Profile();
  profile.block_size = 0;
  this->Register(profile);
  this->Apply(Stored({1}, "11"));
  this->subject_.NewLife(0);
  EXPECT_EQ(this->subject_.BlockSize(0), 0U);
  this->Apply(Stored({1}, "111"));
  EXPECT_EQ(this->Ask("111"), (Figures{1, 1, 1}));
}

TYPED_TEST(EventRules, ARebuildIsHiddenUntilItIsComplete) {
  this->Apply(Stored({1}, "11"));
  this->subject_.BeginRebuild(0);
  this->Apply(Stored({2}, "22"));
  EXPECT_EQ(this->Ask("11"), (Figures{1, 1, 1}));
  EXPECT_EQ(this->Ask("22"), kNothing);
  this->subject_.CommitRebuild(0);
  EXPECT_EQ(this->Ask("11"), kNothing);
  EXPECT_EQ(this->Ask("22"), (Figures{1, 1, 1}));
}

TYPED_TEST(EventRules, ARebuildKnowsNoNameOfTheVisibleSet) {
  this->Apply(Stored({1}, "11"));
  this->subject_.BeginRebuild(0);
  this->Apply(Stored({2}, "12", 1), Removed({1}));
  EXPECT_EQ(this->Ask("11"), (Figures{1, 1, 1}));
  this->subject_.CommitRebuild(0);
  EXPECT_EQ(this->subject_.WaitingEvents(0), 1U);
}

TYPED_TEST(EventRules, ANameThatMovesInARebuildLeavesTheVisibleSet) {
  this->Apply(Stored({1}, "11"));
  this->subject_.BeginRebuild(0);
  this->Apply(Stored({1}, "11"), Stored({1}, "22"));
  EXPECT_EQ(this->Ask("11"), (Figures{1, 1, 1}));
}

TYPED_TEST(EventRules, AnAbandonedRebuildLeavesTheVisibleSet) {
  this->Apply(Stored({1}, "11"));
  this->subject_.BeginRebuild(0);
  this->Apply(Stored({2}, "22"));
  this->subject_.AbandonRebuild(0);
  EXPECT_EQ(this->Ask("11"), (Figures{1, 1, 1}));
  this->Apply(Stored({3}, "12", 1));
  EXPECT_EQ(this->Ask("11 12"), (Figures{2, 2, 2}));
  EXPECT_EQ(this->Ask("22"), kNothing);
}

TYPED_TEST(EventRules, ANewLifeDuringARebuildDropsBothAndTheRebuildGoesOn) {
  this->Apply(Stored({1}, "11"));
  this->subject_.BeginRebuild(0);
  this->Apply(Stored({2}, "22"));
  this->subject_.NewLife(0);
  EXPECT_EQ(this->Ask("11"), kNothing);
  this->Apply(Stored({3}, "12"));
  EXPECT_EQ(this->Ask("12"), kNothing) << "still hidden";
  this->subject_.CommitRebuild(0);
  EXPECT_EQ(this->Ask("12"), (Figures{1, 1, 1}));
  EXPECT_EQ(this->Ask("22"), kNothing);
}

TYPED_TEST(EventRules, RebuildsFollowOneAnother) {
  for (int i = 0; i < 5; ++i) {
    this->subject_.BeginRebuild(0);
    this->Apply(Stored({1}, i % 2 == 0 ? "11" : "22"));
    this->subject_.CommitRebuild(0);
    EXPECT_EQ(this->Ask("11"), i % 2 == 0 ? (Figures{1, 1, 1}) : kNothing);
    EXPECT_EQ(this->subject_.Holdings(), 1U);
  }
}

TYPED_TEST(EventRules, APublisherThatLeavesTakesWhatItHeld) {
  this->subject_.AddPublisher(1, this->Profile());
  this->Apply(Stored({1, 2}, "11 12"));
  this->subject_.Apply(1, Batch(Stored({1}, "11")));
  this->subject_.RemovePublisher(0);
  EXPECT_EQ(this->Ask("11 12"), (Figures{1, 1, 1}));
  EXPECT_EQ(this->subject_.Holdings(), 1U);
}

// --- Memory of released names.

TYPED_TEST(EventRules, ANameIsForgottenWhenEnoughYoungerOnesWereReleased) {
  TypeParam subject(1);
  subject.AddPublisher(0, this->Profile());
  subject.Apply(0, Batch(Stored({1}, "11"), Stored({2}, "12")));
  subject.Apply(0, Batch(Removed({1})));
  subject.Apply(0, Batch(Removed({2})));
  subject.Apply(0, Batch(Stored({3}, "21", 1), Stored({4}, "21", 2)));
  EXPECT_EQ(subject.WaitingEvents(0), 1U) << "1 is forgotten, 2 is known";
}

TYPED_TEST(EventRules, ANameLivesWhileAChildIsHeld) {
  TypeParam subject(0);
  subject.AddPublisher(0, this->Profile());
  subject.Apply(0, Batch(Stored({1, 2}, "11 12")));
  subject.Apply(0, Batch(Removed({1})));
  subject.Apply(0, Batch(Stored({3}, "21", 1)));
  EXPECT_EQ(subject.WaitingEvents(0), 0U);
}

TYPED_TEST(EventRules, ANameLivesWhileAnotherPublisherHoldsItsBlock) {
  TypeParam subject(0);
  subject.AddPublisher(0, this->Profile());
  subject.AddPublisher(1, this->Profile());
  subject.Apply(0, Batch(Stored({1}, "11")));
  subject.Apply(1, Batch(Stored({1}, "11")));
  subject.Apply(0, Batch(Removed({1})));
  subject.Apply(0, Batch(Stored({2}, "12", 1)));
  EXPECT_EQ(subject.WaitingEvents(0), 0U);
}

TYPED_TEST(EventRules, AReleasedBlockThatIsStoredAgainIsRememberedAnew) {
  TypeParam subject(1);
  subject.AddPublisher(0, this->Profile());
  subject.Apply(0, Batch(Stored({1}, "11"), Stored({2}, "12")));
  subject.Apply(0, Batch(Removed({1})));
  subject.Apply(0, Batch(Stored({1}, "11")));
  subject.Apply(0, Batch(Removed({2})));
  subject.Apply(0, Batch(Removed({1})));
  subject.Apply(0, Batch(Stored({3}, "21", 1), Stored({4}, "21", 2)));
  EXPECT_EQ(subject.WaitingEvents(0), 1U) << "2 is forgotten, 1 is known";
}

}  // namespace
}  // namespace conductor::ingest
