// The rules of pools, one by one, through PoolIngest, PublisherIngest and PrefixIndex.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lib/ingest/pool_ingest.h"
#include "lib/ingest/publisher_ingest.h"
#include "tests/ingest/event_builders.h"
#include "tests/ingest/pool_model.h"
#include "tests/ingest/pool_subject.h"

namespace conductor::ingest {
namespace {

using Figures = PoolModel::Figures;
using PoolFigures = PoolModel::PoolFigures;
using Pools = std::map<std::string, PoolFigures>;
using NameSource = index::PrefixIndex::NameSource;
using index::PoolLookup;

// The hash as it stands in a key: a digest of 64 digits that ends with it.
std::string Digest(uint64_t name) { return fmt::format("{:064x}", name); }

std::string VllmKey(uint64_t name, uint32_t tp = 0, uint32_t pp = 0, uint32_t group = 0,
                    const std::string& model = "llama") {
  return fmt::format("{}@tp_rank:{}@pcp0@dcp0@pp_rank:{}@group:{}@{}", model, tp, pp, group,
                     Digest(name));
}
std::string SglangKey(uint64_t name, const std::string& suffix) {
  return fmt::format("{:016x}{}_{}", name, std::string(48, '0'), suffix);
}

wire::ObjectStored Put(const std::string& key, std::optional<std::string> medium = "cpu",
                       std::optional<std::string> tenant = {}) {
  return {.key = key,
          .described = {},
          .tenant = std::move(tenant),
          .backend = "master",
          .medium = std::move(medium)};
}
wire::ObjectRemoved Evicted(const std::string& key, std::optional<std::string> medium = "cpu",
                            std::optional<std::string> tenant = {}) {
  return {
      .key = key, .tenant = std::move(tenant), .backend = "master", .medium = std::move(medium)};
}

// Two engines, "a" and "b", and pools; prompts are digits as in event_builders.h, blocks of two.
class PoolRules : public testing::Test {
 protected:
  PoolRules() {
    AddEngine(kA, "a");
    AddEngine(kB, "b");
  }

  void AddEngine(uint32_t id, const std::string& instance, const std::string& tenant = "default",
                 const std::string& salt = "") {
    PublisherProfile profile;
    profile.instance_id = instance;
    profile.tenant = tenant;
    profile.model = "org/llama";
    profile.additional_salt = salt;
    profile.block_size = 2;
    fleet_.AddEngine(id, profile);
  }
  static PoolProfile Profile(PoolLookup lookup = PoolLookup::kFromStart) {
    PoolProfile profile;
    profile.name = "pool";
    profile.model = "org/llama";
    profile.lookup = lookup;
    profile.tp_size = 1;
    profile.pp_size = 1;
    return profile;
  }
  void AddPool(const PoolProfile& profile, uint32_t id = kPool) { fleet_.AddPool(id, profile); }

  template <typename... Events>
  void Engine(uint32_t id, Events... events) {
    fleet_.ApplyToEngine(id, Batch(std::move(events)...));
    Validate();
  }
  template <typename... Events>
  void Pool(Events... events) {
    fleet_.ApplyToPool(kPool, Batch(std::move(events)...));
    Validate();
  }
  void Validate() {
    const Status valid = fleet_.index().Validate();
    ASSERT_TRUE(valid) << valid.error().Message();
  }

  static PoolModel::Tokens Tokens(std::string_view text) {
    PoolModel::Tokens tokens;
    for (const PromptBlock& block : Prompt(text)) {
      tokens.insert(tokens.end(), block.tokens.begin(), block.tokens.end());
    }
    return tokens;
  }
  static index::NamespaceKey Namespace(const std::string& tenant = "default") {
    return {tenant, "org/llama", "", 2, ""};
  }
  [[nodiscard]] Pools PoolsOf(std::string_view prompt, const NameSource& names = {}) const {
    return fleet_.PoolsOf(Namespace(), Tokens(prompt), names);
  }
  // What the one pool has of the prompt.
  [[nodiscard]] PoolFigures Has(std::string_view prompt, const NameSource& names = {}) const {
    const Pools pools = PoolsOf(prompt, names);
    const auto found = pools.find("pool");
    return found == pools.end() ? PoolFigures{} : found->second;
  }
  [[nodiscard]] Figures Of(const std::string& instance, std::string_view prompt) const {
    return fleet_.FiguresOf({Namespace(), instance, 0}, Tokens(prompt), {});
  }

  static constexpr uint32_t kA = 1;
  static constexpr uint32_t kB = 2;
  static constexpr uint32_t kPool = 3;
  static constexpr uint32_t kOtherPool = 4;
  PoolSubject fleet_;
};

constexpr PoolFigures kNothing{0, 0};

// --- joining ---

TEST_F(PoolRules, AnObjectIsJoinedWithWhatAnEngineAnnouncedBefore) {
  AddPool(Profile());
  Engine(kA, Stored({1, 2}, "11 12"));
  Pool(Put(VllmKey(1)), Put(VllmKey(2)));
  EXPECT_EQ(Has("11 12 13"), (PoolFigures{2, 2}));
}

TEST_F(PoolRules, AnObjectIsJoinedWithWhatAnEngineAnnouncesLater) {
  AddPool(Profile());
  Pool(Put(VllmKey(1)), Put(VllmKey(2)));
  EXPECT_EQ(PoolsOf("11 12"), Pools{});
  Engine(kA, Stored({1, 2}, "11 12"));
  EXPECT_EQ(Has("11 12"), (PoolFigures{2, 2}));
}

TEST_F(PoolRules, APoolThatComesLaterIsJoinedWithAllThatWasAnnounced) {
  Engine(kA, Stored({1}, "11"));
  AddPool(Profile());
  Pool(Put(VllmKey(1)));
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, EveryInstanceOfTheNamespaceCanLoadFromThePool) {
  AddPool(Profile());
  Engine(kA, Stored({1, 2}, "11 12"));
  Engine(kB, Stored({1}, "11"));
  Pool(Put(VllmKey(1)), Put(VllmKey(2)));
  EXPECT_EQ(Of("b", "11 12"), (Figures{1, 2, 2}));
}

TEST_F(PoolRules, AnEngineThatOnlyNamesABlockTellsThePoolWhatItIs) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"), Removed({1}));
  Pool(Put(VllmKey(1)));
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
  EXPECT_EQ(Of("a", "11"), (Figures{0, 1, 1}));
}

TEST_F(PoolRules, BlocksOfOtherTenantsAreNotJoined) {
  AddPool(Profile());
  AddEngine(7, "c", "other");
  fleet_.ApplyToEngine(7, Batch(Stored({1}, "11")));
  Pool(Put(VllmKey(1)));
  EXPECT_EQ(fleet_.PoolsOf(Namespace("other"), Tokens("11"), {}), Pools{});
}

TEST_F(PoolRules, AnObjectOfAnotherTenantIsJoinedWithThatTenantsEngines) {
  AddPool(Profile());
  AddEngine(7, "c", "other");
  fleet_.ApplyToEngine(7, Batch(Stored({1}, "11")));
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1), "cpu", "other"));
  EXPECT_EQ(fleet_.PoolsOf(Namespace("other"), Tokens("11"), {}), (Pools{{"pool", {1, 1}}}));
  EXPECT_EQ(PoolsOf("11"), Pools{});
}

TEST_F(PoolRules, TheDefaultTenantOfAnEventIsTheRegisteredOne) {
  PoolProfile profile = Profile();
  profile.tenant = "other";
  AddPool(profile);
  AddEngine(7, "c", "other");
  fleet_.ApplyToEngine(7, Batch(Stored({1}, "11")));
  Pool(Put(VllmKey(1), "cpu", "default"));
  EXPECT_EQ(fleet_.PoolsOf(Namespace("other"), Tokens("11"), {}), (Pools{{"pool", {1, 1}}}));
}

TEST_F(PoolRules, EnginesWithAnotherSaltAreNotJoined) {
  AddPool(Profile());
  AddEngine(7, "c", "default", "salt");
  fleet_.ApplyToEngine(7, Batch(Stored({1}, "11")));
  Pool(Put(VllmKey(1)));
  index::NamespaceKey salted = Namespace();
  salted.additional_salt = "salt";
  EXPECT_EQ(fleet_.PoolsOf(salted, Tokens("11"), {}), Pools{});
}

TEST_F(PoolRules, BlocksOfAdaptersAreJoinedInTheirNamespaces) {
  AddPool(Profile());
  Engine(kA, WithLora("lora", Stored({1}, "11")));
  Pool(Put(VllmKey(1)));
  index::NamespaceKey adapter = Namespace();
  adapter.lora_name = "lora";
  EXPECT_EQ(fleet_.PoolsOf(adapter, Tokens("11"), {}), (Pools{{"pool", {1, 1}}}));
  EXPECT_EQ(PoolsOf("11"), Pools{});
}

TEST_F(PoolRules, AnObjectIsJoinedWithinItsCacheGroup) {
  AddPool(Profile());
  Engine(kA, InGroup(1, "full_attention", Stored({1}, "11")));
  Pool(Put(VllmKey(1, 0, 0, 0)));
  EXPECT_EQ(PoolsOf("11"), Pools{});
  Pool(Put(VllmKey(1, 0, 0, 1)));
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, OneNameForTwoBlocksIsBoth) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Engine(kB, Stored({1}, "22"));
  Pool(Put(VllmKey(1)));
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
  EXPECT_EQ(Has("22"), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, AHoleEndsThePoolsRun) {
  AddPool(Profile());
  Engine(kA, Stored({1, 2, 3}, "11 12 13"));
  Pool(Put(VllmKey(1)), Put(VllmKey(3)));
  EXPECT_EQ(Has("11 12 13"), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, OnlyWholeSpansCount) {
  AddPool(Profile());
  wire::BlockStored spans = Stored({1, 2}, "1112 1314");  // blocks of four in a namespace of two
  Engine(kA, spans);
  Pool(Put(VllmKey(1)), Put(VllmKey(2)));
  EXPECT_EQ(Has("11 12 13"), (PoolFigures{2, 2}));
  EXPECT_EQ(Has("11 12 13 14"), (PoolFigures{4, 4}));
}

// --- how long a name is known ---

TEST_F(PoolRules, WhatAPoolHasStaysKnownWhenItsEngineRestarts) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1)));
  fleet_.NewLifeOfEngine(kA);
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
  fleet_.RemoveEngine(kA);
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
  Validate();
}

TEST_F(PoolRules, ANameThatNobodyHasAnyMoreIsForgottenWithItsEngine) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1)));
  fleet_.NewLifeOfEngine(kA);
  Pool(Evicted(VllmKey(1)));
  Pool(Put(VllmKey(1)));
  EXPECT_EQ(PoolsOf("11"), Pools{});
  Engine(kA, Stored({1}, "11"));
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, ANameIsKnownAsLongAsAnyPoolHasIt) {
  AddPool(Profile());
  PoolProfile other = Profile();
  other.name = "other";
  AddPool(other, kOtherPool);
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1)));
  fleet_.ApplyToPool(kOtherPool, Batch(Put(VllmKey(1))));
  fleet_.NewLifeOfEngine(kA);
  Pool(Evicted(VllmKey(1)));
  Pool(Put(VllmKey(1)));
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, AnEvictionFromTheEngineLeavesThePoolsBlock) {
  AddPool(Profile());
  Engine(kA, Stored({1, 2}, "11 12"));
  Pool(Put(VllmKey(1)), Put(VllmKey(2)));
  Engine(kA, Removed({2, 1}));
  EXPECT_EQ(Has("11 12"), (PoolFigures{2, 2}));
  EXPECT_EQ(Of("a", "11 12"), (Figures{0, 2, 2}));
}

TEST_F(PoolRules, ANameThatItsEngineMovesIsTheNewBlocksAlone) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1)));
  Engine(kA, Stored({1}, "22"));
  EXPECT_EQ(PoolsOf("11"), Pools{});
  EXPECT_EQ(Has("22"), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, ANameMayMoveToAnAncestorThatNothingElseKeeps) {
  AddPool(Profile());
  Engine(kA, Stored({1, 2}, "11 12"));
  Pool(Put(VllmKey(2)));
  Engine(kA, Stored({1}, "33"), Removed({2}), Stored({2}, "11"));
  EXPECT_EQ(Has("11 12"), (PoolFigures{1, 1}));
}

// --- tiers ---

TEST_F(PoolRules, HostAndDiskAreToldApart) {
  AddPool(Profile());
  Engine(kA, Stored({1, 2, 3}, "11 12 13"));
  Pool(Put(VllmKey(1), "cpu"), Put(VllmKey(2), "disk"), Put(VllmKey(3), "cpu"));
  EXPECT_EQ(Has("11 12 13"), (PoolFigures{1, 3}));
}

TEST_F(PoolRules, ABlockOnDiskThatIsStoredOnTheHostIsOnTheHost) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1), "disk"));
  EXPECT_EQ(Has("11"), (PoolFigures{0, 1}));
  Pool(Put(VllmKey(1), "cpu"));
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
  Pool(Put(VllmKey(1), "disk"));
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, AnObjectWithoutAMediumIsOnDisk) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1), std::nullopt));
  EXPECT_EQ(Has("11"), (PoolFigures{0, 1}));
  EXPECT_EQ(fleet_.KeysWithoutTier(kPool), std::set<std::string>{VllmKey(1)});
  Pool(Put(VllmKey(1), "cpu"));
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
  // The first medium is still not known.
  EXPECT_EQ(fleet_.KeysWithoutTier(kPool), std::set<std::string>{VllmKey(1)});
  const auto doubt = fleet_.pool(kPool).doubt();
  ASSERT_TRUE(doubt);
  EXPECT_FALSE(doubt->too_high);
}

TEST_F(PoolRules, ARemovalTakesTheObjectFromAllTiers) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1), "cpu"), Put(VllmKey(1), "disk"));
  Pool(Evicted(VllmKey(1), "disk"));
  EXPECT_EQ(PoolsOf("11"), Pools{});
}

TEST_F(PoolRules, ARemovalMayNameAnotherMediumThanTheStore) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1), "disk"));
  Pool(Evicted(VllmKey(1), "cpu"));
  EXPECT_EQ(PoolsOf("11"), Pools{});
}

TEST_F(PoolRules, ARemovalOfSomethingUnknownChangesNothing) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1)));
  Pool(Evicted(VllmKey(9)), Evicted(VllmKey(1), "cpu", "other"));
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, StoresOfAPoolAreNoCopies) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1)), Put(VllmKey(1)), Evicted(VllmKey(1)));
  EXPECT_EQ(PoolsOf("11"), Pools{});
}

// --- components ---

TEST_F(PoolRules, ABlockCountsWhenAllOfItsComponentsAreThere) {
  PoolProfile profile = Profile();
  profile.tp_size = 2;
  profile.pp_size = 2;
  AddPool(profile);
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1, 0, 0)), Put(VllmKey(1, 0, 1)), Put(VllmKey(1, 1, 0)));
  EXPECT_EQ(PoolsOf("11"), Pools{});
  EXPECT_EQ(fleet_.pool(kPool).Counters().partial_blocks, 1u);
  Pool(Put(VllmKey(1, 1, 1)));
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
  EXPECT_EQ(fleet_.pool(kPool).Counters().partial_blocks, 0u);
}

TEST_F(PoolRules, ABlockIsOnTheHostWhenEachComponentIs) {
  PoolProfile profile = Profile();
  profile.tp_size = 2;
  AddPool(profile);
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1, 0), "cpu"), Put(VllmKey(1, 1), "disk"));
  EXPECT_EQ(Has("11"), (PoolFigures{0, 1}));
  Pool(Put(VllmKey(1, 1), "cpu"));
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, AnEvictedComponentTakesTheBlockWithIt) {
  PoolProfile profile = Profile();
  profile.tp_size = 2;
  AddPool(profile);
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1, 0)), Put(VllmKey(1, 1)));
  Pool(Evicted(VllmKey(1, 0)));
  EXPECT_EQ(PoolsOf("11"), Pools{});
  Pool(Put(VllmKey(1, 0)));
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, FewerHeadsThanRanksAreStoredByFewerRanks) {
  PoolProfile profile = Profile();
  profile.tp_size = 8;
  profile.kv_heads = 2;
  AddPool(profile);
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1, 0)), Put(VllmKey(1, 1)));
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, KeysAndValuesAreBothNeeded) {
  AddPool(Profile());
  Engine(kA, Stored({1, 2}, "11 12"));
  Pool(Put(SglangKey(1, "0_k")), Put(SglangKey(1, "0_v")), Put(SglangKey(2, "0_v")));
  EXPECT_EQ(Has("11 12"), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, WhereOnlyKeysAreStoredTheyAreTheBlock) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(Put(SglangKey(1, "k")));
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, LayersAreNeededAllOfThem) {
  PoolProfile profile = Profile();
  profile.layers = 3;
  AddPool(profile);
  Engine(kA, Stored({1}, "11"));
  for (int layer = 0; layer < 3; ++layer) {
    EXPECT_EQ(PoolsOf("11"), Pools{}) << layer;
    Pool(Put(fmt::format("llama@pcp0@dcp0@head_or_tp_rank:0@{}@{}", Digest(1), layer)));
  }
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, AKeyMaySayItselfHowManyRanksThereAre) {
  PoolProfile profile = Profile();
  profile.tp_size.reset();
  AddPool(profile);
  Engine(kA, Stored({1}, "11"));
  Pool(Put("vllm@llama@2@0@0000000000000001@bfloat16"));
  EXPECT_EQ(PoolsOf("11"), Pools{});
  Pool(Put("vllm@llama@2@1@0000000000000001@bfloat16"));
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, ASizeThatIsNotRegisteredIsLearnt) {
  PoolProfile profile = Profile();
  profile.tp_size.reset();
  AddPool(profile);
  Engine(kA, Stored({1, 2}, "11 12"));
  Pool(Put(VllmKey(1, 0)));
  EXPECT_EQ(Has("11 12"), (PoolFigures{1, 1}));
  // A second rank: what was taken for whole is not.
  Pool(Put(VllmKey(2, 1)));
  EXPECT_EQ(PoolsOf("11 12"), Pools{});
  Pool(Put(VllmKey(1, 1)), Put(VllmKey(2, 0)));
  EXPECT_EQ(Has("11 12"), (PoolFigures{2, 2}));
}

TEST_F(PoolRules, ARankBeyondTheRegisteredSizeIsNeededToo) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1, 0)));
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
  Pool(Put(VllmKey(2, 1)));
  EXPECT_EQ(PoolsOf("11"), Pools{});
}

TEST_F(PoolRules, TheSizeOfOneFamilyIsNoMatterOfAnother) {
  PoolProfile profile = Profile();
  profile.tp_size.reset();
  AddPool(profile);
  Engine(kA, Stored({1, 2}, "11 12"));
  Pool(Put(VllmKey(1)), Put(SglangKey(2, "0_k")), Put(SglangKey(2, "1_k")));
  EXPECT_EQ(Has("11 12"), (PoolFigures{2, 2}));
}

TEST_F(PoolRules, ANumberIsTheBlockItself) {
  AddPool(Profile());
  Engine(kA, Stored({18446744073709551615u}, "11"));
  Pool(Put("18446744073709551615"));
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, TheSameNameInTwoFamiliesIsOnTheBestOfTheirTiers) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1), "disk"), Put("1", "cpu"));
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
  Pool(Evicted("1"));
  EXPECT_EQ(Has("11"), (PoolFigures{0, 1}));
}

TEST_F(PoolRules, ALearntSizeIsDoubtfulUntilItHasBeenStable) {
  PoolProfile profile = Profile();
  profile.tp_size.reset();
  AddPool(profile);
  EXPECT_FALSE(fleet_.pool(kPool).doubt());
  Pool(Put(VllmKey(1)));
  const auto doubt = fleet_.pool(kPool).doubt();
  ASSERT_TRUE(doubt);
  EXPECT_TRUE(doubt->too_high);
  EXPECT_NE(doubt->detail.find("tp_size"), std::string::npos) << doubt->detail;
  wire::EventBatch many;
  for (uint64_t i = 0; i <= PoolIngest::kStableObjects; ++i) {
    many.events.emplace_back(Put(VllmKey(100 + i)));
  }
  fleet_.ApplyToPool(kPool, many);
  EXPECT_FALSE(fleet_.pool(kPool).doubt());
  Pool(Put(VllmKey(1, 1)));
  EXPECT_TRUE(fleet_.pool(kPool).doubt());
}

TEST_F(PoolRules, RegisteredSizesAreNoDoubt) {
  AddPool(Profile());
  Pool(Put(VllmKey(1)));
  EXPECT_FALSE(fleet_.pool(kPool).doubt());
}

// --- whose objects they are ---

TEST_F(PoolRules, KeysOfNoKnownFamilyAreCountedAndPassedOver) {
  AddPool(Profile());
  Pool(Put("sglang_mooncake_store_warmup_key0"), Put("anything"));
  EXPECT_EQ(fleet_.pool(kPool).Counters().objects_unread, 2u);
  EXPECT_TRUE(fleet_.pool(kPool).HoldsNothing());
}

TEST_F(PoolRules, AKeyThatSpeaksOfNoRanksAtAllIsCountedAndPassedOver) {
  PoolProfile profile = Profile();
  profile.tp_size.reset();
  AddPool(profile);
  Engine(kA, Stored({1}, "11"));
  Pool(Put("llama@0@0@0000000000000001@bfloat16"));
  EXPECT_EQ(fleet_.pool(kPool).Counters().objects_unread, 1u);
  EXPECT_TRUE(fleet_.pool(kPool).HoldsNothing());
  EXPECT_EQ(PoolsOf("11"), Pools{});
}

TEST_F(PoolRules, ObjectsOfOtherModelsAreCountedAndPassedOver) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1, 0, 0, 0, "qwen")));
  EXPECT_EQ(fleet_.pool(kPool).Counters().objects_foreign, 1u);
  EXPECT_EQ(PoolsOf("11"), Pools{});
}

TEST_F(PoolRules, TheModelMayBeNamedInFullOrByItsLastComponent) {
  AddPool(Profile());
  Engine(kA, Stored({1, 2}, "11 12"));
  Pool(Put(VllmKey(1, 0, 0, 0, "llama")), Put(VllmKey(2, 0, 0, 0, "org/llama")));
  EXPECT_EQ(Has("11 12"), (PoolFigures{2, 2}));
}

TEST_F(PoolRules, ThePrefixOfADeploymentMustBeRegistered) {
  PoolProfile profile = Profile();
  AddPool(profile);
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1, 0, 0, 0, "blue@llama")));
  EXPECT_EQ(PoolsOf("11"), Pools{});
  EXPECT_EQ(fleet_.pool(kPool).Counters().objects_foreign, 1u);

  fleet_.RemovePool(kPool);
  profile.key_models = {{"blue@llama", "org/llama"}};
  AddPool(profile);
  Pool(Put(VllmKey(1, 0, 0, 0, "blue@llama")));
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, PartsUnderTwoPrefixesAreNotPartsOfOneBlock) {
  PoolProfile profile = Profile();
  profile.tp_size = 2;
  profile.key_models = {{"blue@llama", "org/llama"}, {"green@llama", "org/llama"}};
  AddPool(profile);
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1, 0, 0, 0, "blue@llama")), Put(VllmKey(1, 1, 0, 0, "green@llama")));
  EXPECT_EQ(PoolsOf("11"), Pools{});
}

// --- lives, clears ---

TEST_F(PoolRules, ARestartOfTheMasterLeavesNothing) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1)));
  fleet_.NewLifeOfPool(kPool);
  EXPECT_EQ(PoolsOf("11"), Pools{});
  EXPECT_TRUE(fleet_.pool(kPool).HoldsNothing());
  Pool(Put(VllmKey(1)));
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, APoolThatLeavesTakesItsBlocksWithIt) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1)));
  fleet_.RemovePool(kPool);
  EXPECT_EQ(PoolsOf("11"), Pools{});
  EXPECT_EQ(Of("a", "11"), (Figures{1, 1, 1}));
  Validate();
}

TEST_F(PoolRules, AllBlocksClearedOfAnEngineIsNoMatterOfThePool) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1)));
  Engine(kA, Cleared());
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, AClearDropsTheObjectsOfItsTenant) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1)));
  Pool(wire::ScopeCleared{.tenant = "other"});
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
  Pool(wire::ScopeCleared{.tenant = "default"});
  EXPECT_EQ(PoolsOf("11"), Pools{});
}

TEST_F(PoolRules, AClearDropsTheObjectsOfItsBackend) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1)));
  Pool(wire::ScopeCleared{.backend = "another"});
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
  Pool(wire::ScopeCleared{.backend = "master"});
  EXPECT_EQ(PoolsOf("11"), Pools{});
}

TEST_F(PoolRules, AClearOfOneMediumLeavesTheOther) {
  AddPool(Profile());
  Engine(kA, Stored({1, 2}, "11 12"));
  Pool(Put(VllmKey(1), "cpu"), Put(VllmKey(1), "disk"), Put(VllmKey(2), "cpu"));
  Pool(wire::ScopeCleared{.medium = "cpu"});
  EXPECT_EQ(Has("11 12"), (PoolFigures{0, 1}));
}

// --- listings ---

TEST_F(PoolRules, AListingIsWhatIsThere) {
  AddPool(Profile());
  Engine(kA, Stored({1, 2}, "11 12"));
  Pool(Put(VllmKey(2)));
  fleet_.BeginListing(kPool);
  fleet_.ApplyListing(kPool, std::vector<ListedObject>{{VllmKey(1), true, false}});
  EXPECT_EQ(Has("11 12"), (PoolFigures{1, 1}));
  EXPECT_EQ(fleet_.pool(kPool).Counters().objects, 1u);
}

TEST_F(PoolRules, OfWhatEventsTouchedMeanwhileTheyKnowBetter) {
  AddPool(Profile());
  Engine(kA, Stored({1, 2}, "11 12"));
  Pool(Put(VllmKey(2)));
  fleet_.BeginListing(kPool);
  Pool(Put(VllmKey(1)), Evicted(VllmKey(2)));
  fleet_.ApplyListing(kPool, std::vector<ListedObject>{{VllmKey(2), true, false}});
  EXPECT_EQ(Has("11 12"), (PoolFigures{1, 1}));
  EXPECT_EQ(fleet_.pool(kPool).Counters().objects, 1u);
}

TEST_F(PoolRules, WhatWasEvictedMeanwhileIsNotBroughtBackThoughItWasUnknown) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  fleet_.BeginListing(kPool);
  Pool(Evicted(VllmKey(1)));
  fleet_.ApplyListing(kPool, std::vector<ListedObject>{{VllmKey(1), true, false}});
  EXPECT_EQ(PoolsOf("11"), Pools{});
}

TEST_F(PoolRules, WhatWasClearedMeanwhileIsNotBroughtBack) {
  AddPool(Profile());
  Engine(kA, Stored({1, 2}, "11 12"));
  Pool(Put(VllmKey(1)));
  fleet_.BeginListing(kPool);
  Pool(wire::ScopeCleared{});
  fleet_.ApplyListing(kPool, std::vector<ListedObject>{{VllmKey(1), true, false}});
  EXPECT_EQ(PoolsOf("11"), Pools{});
}

TEST_F(PoolRules, WhatWasClearedMeanwhileIsNotBroughtBackThoughItWasUnknown) {
  AddPool(Profile());
  Engine(kA, Stored({1, 2}, "11 12"));
  fleet_.BeginListing(kPool);
  Pool(wire::ScopeCleared{}, Put(VllmKey(1)));
  fleet_.ApplyListing(kPool, std::vector<ListedObject>{{VllmKey(2), true, false}});
  EXPECT_EQ(Has("11 12"), (PoolFigures{1, 1}));
  EXPECT_EQ(fleet_.pool(kPool).Counters().objects, 1u);
}

TEST_F(PoolRules, WhatWasClearedOfOneMediumMeanwhileIsListedOnTheOther) {
  AddPool(Profile());
  Engine(kA, Stored({1, 2}, "11 12"));
  fleet_.BeginListing(kPool);
  Pool(wire::ScopeCleared{.medium = "cpu"});
  fleet_.ApplyListing(
      kPool, std::vector<ListedObject>{{VllmKey(1), true, true}, {VllmKey(2), true, false}});
  EXPECT_EQ(Has("11 12"), (PoolFigures{0, 1}));
}

TEST_F(PoolRules, AClearBeforeAListingWasAskedForIsNoMatterOfIt) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(wire::ScopeCleared{});
  fleet_.BeginListing(kPool);
  fleet_.ApplyListing(kPool, std::vector<ListedObject>{{VllmKey(1), true, false}});
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, AListedObjectIsOfTheBackendThatStoresItLater) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  fleet_.BeginListing(kPool);
  fleet_.ApplyListing(kPool, std::vector<ListedObject>{{VllmKey(1), true, false}});
  Pool(Put(VllmKey(1)));
  Pool(wire::ScopeCleared{.backend = "another"});
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
  Pool(wire::ScopeCleared{.backend = "master"});
  EXPECT_EQ(PoolsOf("11"), Pools{});
}

TEST_F(PoolRules, AnObjectWhoseBackendNobodyToldIsClearedWithAny) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  fleet_.BeginListing(kPool);
  fleet_.ApplyListing(kPool, std::vector<ListedObject>{{VllmKey(1), true, false}});
  Pool(wire::ScopeCleared{.backend = "master"});
  EXPECT_EQ(PoolsOf("11"), Pools{});
}

TEST_F(PoolRules, WhatWasTouchedBeforeTheListingWasAskedForIsAsItSays) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1)));
  fleet_.BeginListing(kPool);
  fleet_.ApplyListing(kPool, {});
  EXPECT_TRUE(fleet_.pool(kPool).HoldsNothing());
}

TEST_F(PoolRules, AnAbandonedListingChangesNothing) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1)));
  fleet_.BeginListing(kPool);
  fleet_.AbandonListing(kPool);
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, AListingWithoutTiersIsTheWeakestClaimUntilTheyAreLearnt) {
  AddPool(Profile());
  Engine(kA, Stored({1, 2, 3}, "11 12 13"));
  fleet_.BeginListing(kPool);
  fleet_.ApplyListing(kPool, std::vector<ListedObject>{{VllmKey(1)}, {VllmKey(2)}, {VllmKey(3)}});
  EXPECT_EQ(Has("11 12 13"), (PoolFigures{0, 3}));
  fleet_.TiersLearnt(
      kPool, std::vector<ListedObject>{
                 {VllmKey(1), true, false}, {VllmKey(2), false, true}, {VllmKey(3), false, false}});
  EXPECT_EQ(Has("11 12 13"), (PoolFigures{1, 2}));
  EXPECT_EQ(fleet_.KeysWithoutTier(kPool), std::set<std::string>{});
}

TEST_F(PoolRules, AListingWithoutTiersMakesThoseThatWereKnownUncertain) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1), "cpu"));
  fleet_.BeginListing(kPool);
  EXPECT_TRUE(fleet_.pool(kPool).ApplyListing(std::vector<ListedObject>{{VllmKey(1)}}));
  EXPECT_EQ(Has("11"), (PoolFigures{0, 1}));
  EXPECT_EQ(fleet_.KeysWithoutTier(kPool), std::set<std::string>{VllmKey(1)});
  fleet_.TiersLearnt(kPool, std::vector<ListedObject>{{VllmKey(1), true, false}});
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
  EXPECT_EQ(fleet_.KeysWithoutTier(kPool), std::set<std::string>{});
}

TEST_F(PoolRules, WhatIsAnnouncedDuringAListingIsOnThatTierAtLeast) {
  AddPool(Profile());
  Engine(kA, Stored({1, 2}, "11 12"));
  Pool(Put(VllmKey(1), "cpu"));
  fleet_.BeginListing(kPool);
  Pool(Put(VllmKey(1), "disk"), Put(VllmKey(2), "cpu"));
  EXPECT_FALSE(
      fleet_.pool(kPool).ApplyListing(std::vector<ListedObject>{{VllmKey(1)}, {VllmKey(2)}}));
  // That the first was on the host was told before, and may be over.
  EXPECT_EQ(Has("11 12"), (PoolFigures{0, 2}));
  EXPECT_EQ(fleet_.KeysWithoutTier(kPool), (std::set<std::string>{VllmKey(1), VllmKey(2)}));
}

TEST_F(PoolRules, TiersThatEventsHaveToldSinceTheyWereAskedForStay) {
  AddPool(Profile());
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1), std::nullopt));
  EXPECT_EQ(fleet_.pool(kPool).AskForTiers(9), std::vector{VllmKey(1)});
  Pool(Put(VllmKey(1), "cpu"));
  fleet_.pool(kPool).TiersLearnt(
      std::vector<ListedObject>{{VllmKey(1), false, true}, {VllmKey(2), true, false}});
  EXPECT_EQ(Has("11"), (PoolFigures{1, 1}));
  EXPECT_EQ(fleet_.KeysWithoutTier(kPool), std::set<std::string>{VllmKey(1)});
  EXPECT_EQ(fleet_.pool(kPool).Counters().objects, 1u);
}

TEST_F(PoolRules, ObjectsOfOtherTenantsAreLostInAListingAndThatIsTold) {
  AddPool(Profile());
  AddEngine(7, "c", "other");
  fleet_.ApplyToEngine(7, Batch(Stored({1}, "11")));
  Pool(Put(VllmKey(1), "cpu", "other"));
  fleet_.BeginListing(kPool);
  fleet_.ApplyListing(kPool, {});
  EXPECT_EQ(fleet_.PoolsOf(Namespace("other"), Tokens("11"), {}), Pools{});
  const auto doubt = fleet_.pool(kPool).doubt();
  ASSERT_TRUE(doubt);
  EXPECT_FALSE(doubt->too_high);
}

// --- answers ---

TEST_F(PoolRules, FromTheStartThePoolCountsByItsOwnRun) {
  AddPool(Profile(PoolLookup::kFromStart));
  Engine(kA, Stored({1, 2, 3}, "11 12 13"), Removed({3}));
  Pool(Put(VllmKey(1)), Put(VllmKey(3)));
  // The pool's run ends at the hole that the engine could fill.
  EXPECT_EQ(Of("a", "11 12 13"), (Figures{2, 2, 2}));
  Pool(Put(VllmKey(2)));
  EXPECT_EQ(Of("a", "11 12 13"), (Figures{2, 3, 3}));
}

TEST_F(PoolRules, ContinuedThePoolCountsFromWhereTheDevicePrefixEnds) {
  AddPool(Profile(PoolLookup::kContinue));
  Engine(kA, Stored({1, 2, 3}, "11 12 13"), Removed({3}));
  Pool(Put(VllmKey(3)));
  EXPECT_EQ(Of("a", "11 12 13"), (Figures{2, 3, 3}));
  EXPECT_EQ(Of("b", "11 12 13"), (Figures{0, 0, 0}));
}

TEST_F(PoolRules, ContinuedHostBlocksOfBothMakeOneRunThenThoseOnDiskToo) {
  AddPool(Profile(PoolLookup::kContinue));
  Engine(kA, Stored({1, 2, 3, 4, 5}, "11 12 13 14 15"), Removed({5, 4, 3, 2}));
  Engine(kA, Offloaded({2}, "CPU"), Offloaded({4}, "DISK"));
  Pool(Put(VllmKey(3), "cpu"), Put(VllmKey(5), "disk"));
  EXPECT_EQ(Of("a", "11 12 13 14 15"), (Figures{1, 3, 5}));
}

TEST_F(PoolRules, ContinuedTheRankNamesThePoolThatCounted) {
  AddPool(Profile(PoolLookup::kContinue));
  Engine(kA, Stored({1, 2}, "11 12"), Removed({2}));
  EXPECT_EQ(fleet_.Match(Namespace(), Tokens("11 12"), {}).ranks.at(0).pool, "");
  Pool(Put(VllmKey(2)));
  EXPECT_EQ(fleet_.Match(Namespace(), Tokens("11 12"), {}).ranks.at(0).pool, "pool");
}

TEST_F(PoolRules, OneOfSeveralPoolsCountsNotAllTogether) {
  AddPool(Profile(PoolLookup::kContinue));
  PoolProfile other = Profile(PoolLookup::kContinue);
  other.name = "other";
  AddPool(other, kOtherPool);
  Engine(kA, Stored({1, 2, 3, 4}, "11 12 13 14"), Removed({4, 3, 2}));
  Pool(Put(VllmKey(2)), Put(VllmKey(3)));
  fleet_.ApplyToPool(kOtherPool, Batch(Put(VllmKey(2)), Put(VllmKey(4))));
  EXPECT_EQ(Of("a", "11 12 13 14"), (Figures{1, 3, 3}));
}

TEST_F(PoolRules, DiskIsNeverLessThanHostAndHostNeverLessThanDevice) {
  AddPool(Profile());
  Engine(kA, Stored({1, 2, 3}, "11 12 13"));
  Pool(Put(VllmKey(1), "disk"));
  EXPECT_EQ(Of("a", "11 12 13"), (Figures{3, 3, 3}));
}

// --- objects that no engine has announced ---

// The prompt's blocks are called 1001, 1002, ...
std::optional<EngineHash> MadeUpName(const hash::HashProfile&, size_t block) {
  return EngineHash{1001 + block};
}

TEST_F(PoolRules, ADeclaredProfileFindsWhatNoEngineAnnounced) {
  PoolProfile profile = Profile();
  profile.hash_profile.emplace();
  AddPool(profile);
  Pool(Put(VllmKey(1001), "cpu"), Put(VllmKey(1002), "disk"));
  EXPECT_EQ(PoolsOf("11 12 13"), Pools{});
  EXPECT_EQ(Has("11 12 13", MadeUpName), (PoolFigures{1, 2}));
  EXPECT_EQ(fleet_.pool(kPool).Counters().detached_blocks, 2u);
}

TEST_F(PoolRules, APoolWithoutAProfileIsAskedForNoNames) {
  AddPool(Profile());
  Pool(Put(VllmKey(1001)));
  EXPECT_EQ(PoolsOf("11", MadeUpName), Pools{});
}

TEST_F(PoolRules, NamesAreAskedForUnderThePoolsOwnProfile) {
  PoolProfile profile = Profile();
  profile.hash_profile = {hash::HashAlgorithm::kSha256Cbor, "42", 16};
  AddPool(profile);
  Pool(Put(VllmKey(1001)));
  const NameSource names = [&](const hash::HashProfile& asked, size_t block) {
    EXPECT_EQ(asked, *profile.hash_profile);
    return MadeUpName(asked, block);
  };
  EXPECT_EQ(Has("11", names), (PoolFigures{1, 1}));
}

TEST_F(PoolRules, AnnouncedAndRecomputedBlocksMakeOneRun) {
  PoolProfile profile = Profile();
  profile.hash_profile.emplace();
  AddPool(profile);
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1)), Put(VllmKey(1002)));
  EXPECT_EQ(Has("11 12 13", MadeUpName), (PoolFigures{2, 2}));
}

TEST_F(PoolRules, ContinuedRecomputedBlocksCountForARank) {
  PoolProfile profile = Profile(PoolLookup::kContinue);
  profile.hash_profile.emplace();
  AddPool(profile);
  Engine(kA, Stored({1}, "11"));
  Pool(Put(VllmKey(1002)));
  EXPECT_EQ(fleet_.FiguresOf({Namespace(), "a", 0}, Tokens("11 12"), MadeUpName),
            (Figures{1, 2, 2}));
}

TEST_F(PoolRules, ARecomputedBlockWithAComponentMissingDoesNotCount) {
  PoolProfile profile = Profile();
  profile.tp_size = 2;
  profile.hash_profile.emplace();
  AddPool(profile);
  Pool(Put(VllmKey(1001, 0)));
  EXPECT_EQ(PoolsOf("11", MadeUpName), Pools{});
}

TEST_F(PoolRules, ANameThatCannotBeToldIsNoBlock) {
  PoolProfile profile = Profile();
  profile.hash_profile.emplace();
  AddPool(profile);
  Pool(Put(VllmKey(1001)), Put(VllmKey(1002)));
  const NameSource first_only = [](const hash::HashProfile& asked,
                                   size_t block) -> std::optional<EngineHash> {
    if (block > 0) return std::nullopt;
    return MadeUpName(asked, block);
  };
  EXPECT_EQ(Has("11 12", first_only), (PoolFigures{1, 1}));
}

}  // namespace
}  // namespace conductor::ingest
