#include "lib/ingest/hash_check.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lib/hash/hash_profile.h"
#include "lib/wire/kv_event.h"

namespace conductor::ingest {
namespace {

using hash::ExtraKeys;
using hash::HashAlgorithm;
using hash::HashProfile;
using hash::VllmHasher;

constexpr uint32_t kBlockSize = 16;

const HashProfile kDeclared = {HashAlgorithm::kSha256, "vllm-none-hash", 0};

// An engine that hashes as `profile` says and announces what it stores.
class Engine {
 public:
  explicit Engine(const HashProfile& profile) : profile_(profile), hasher_(profile) {}

  // The next blocks of a prompt; without `parent` of a new one, unlike all before. `hashed` are the
  // extra keys that go into the hashes, per block; the event has none.
  wire::BlockStored Store(size_t blocks, const wire::BlockStored* parent = nullptr,
                          const std::vector<ExtraKeys>& hashed = {}) {
    wire::BlockStored event;
    event.medium = "GPU";
    event.block_size = kBlockSize;
    std::string digest = parent == nullptr ? hasher_.root() : last_digest_;
    if (parent != nullptr) event.parent = parent->hashes.back();
    const uint32_t part = profile_.hash_block_size == 0 ? kBlockSize : profile_.hash_block_size;
    for (size_t i = 0; i < blocks; ++i) {
      for (uint32_t t = 0; t < kBlockSize; ++t) event.tokens.push_back(next_token_++);
      const auto tokens = std::span<const TokenId>(event.tokens).subspan(i * kBlockSize);
      for (uint32_t from = 0; from < kBlockSize; from += part) {
        const ExtraKeys none;
        const ExtraKeys& keys = from == 0 && i < hashed.size() ? hashed[i] : none;
        digest = hasher_.Next(digest, tokens.subspan(from, part), keys).value();
      }
      event.hashes.push_back(VllmHasher::NameOf(digest));
    }
    last_digest_ = digest;
    return event;
  }

 private:
  HashProfile profile_;
  VllmHasher hasher_;
  std::string last_digest_;
  TokenId next_token_ = 1;
};

struct Counts {
  uint64_t checked;
  uint64_t matched;
  friend bool operator==(const Counts&, const Counts&) = default;
  friend void PrintTo(const Counts& counts, std::ostream* out) {
    *out << counts.matched << " of " << counts.checked << " matched";
  }
};

Counts CountsOf(const HashCheck& check) { return {check.checked(), check.matched()}; }

// What is said of an engine of `actual` whose profile was declared as `declared`.
std::string HintFor(const HashProfile& actual, const HashProfile& declared = kDeclared) {
  HashCheck check(declared, 1);
  check.Look(Engine(actual).Store(2), "");
  return check.hint();
}

TEST(HashCheck, AllBlocksOfAPromptMatchUnderTheRightProfile) {
  for (const auto algorithm : {HashAlgorithm::kSha256, HashAlgorithm::kSha256Cbor,
                               HashAlgorithm::kXxhash, HashAlgorithm::kXxhashCbor}) {
    const HashProfile profile = {algorithm, "0", 0};
    HashCheck check(profile, 64);
    check.Look(Engine(profile).Store(5), "");
    EXPECT_EQ(CountsOf(check), (Counts{5, 5})) << hash::HashAlgorithmName(algorithm);
    EXPECT_EQ(check.hint(), "");
  }
}

TEST(HashCheck, AnEventThatContinuesAPromptIsCheckedFromItsParentsDigest) {
  Engine engine(kDeclared);
  HashCheck check(kDeclared, 64);
  const auto first = engine.Store(3);
  check.Look(first, "");
  check.Look(engine.Store(2, &first), "");
  EXPECT_EQ(CountsOf(check), (Counts{5, 5}));
}

TEST(HashCheck, AnEventWhoseParentWasNeverSeenIsPassedOver) {
  Engine engine(kDeclared);
  HashCheck check(kDeclared, 64);
  const auto missed = engine.Store(3);
  check.Look(engine.Store(2, &missed), "");
  EXPECT_EQ(CountsOf(check), (Counts{0, 0}));
}

TEST(HashCheck, AnEventIsLeftAtItsFirstBlockThatDiffers) {
  HashCheck check(kDeclared, 64);
  auto event = Engine(kDeclared).Store(6);
  event.hashes[2] = EngineHash{7};
  check.Look(event, "");
  EXPECT_EQ(CountsOf(check), (Counts{3, 2}));
}

TEST(HashCheck, NothingIsRecomputedFromABlockThatDiffers) {
  Engine engine(kDeclared);
  HashCheck check(kDeclared, 64);
  auto first = engine.Store(2);
  first.hashes[1] = EngineHash{7};
  check.Look(first, "");
  check.Look(engine.Store(2, &first), "");
  EXPECT_EQ(CountsOf(check), (Counts{2, 1}));
}

TEST(HashCheck, EventsBelowTheDeviceAreNotLookedAt) {
  HashCheck check(kDeclared, 64);
  auto event = Engine(kDeclared).Store(2);
  event.medium = "CPU";
  check.Look(event, "");
  EXPECT_EQ(CountsOf(check), (Counts{0, 0}));
}

TEST(HashCheck, EventsWithoutWholeBlocksAreNotLookedAt) {
  HashCheck check(kDeclared, 64);
  auto placeholder = Engine(kDeclared).Store(1);
  placeholder.tokens.clear();
  check.Look(placeholder, "");
  auto torn = Engine(kDeclared).Store(2);
  torn.tokens.pop_back();
  check.Look(torn, "");
  auto unlike = Engine(kDeclared).Store(2);
  unlike.extra_keys.resize(1);
  check.Look(unlike, "");
  EXPECT_EQ(CountsOf(check), (Counts{0, 0}));
}

TEST(HashCheck, AnExtraKeyThatNoEngineHashesEndsAnEventWithoutAMismatch) {
  HashCheck check(kDeclared, 64);
  auto event = Engine(kDeclared).Store(3);
  event.extra_keys = {{}, {"\xcb"}, {}};  // a float without its bytes
  check.Look(event, "");
  EXPECT_EQ(CountsOf(check), (Counts{1, 1}));
  EXPECT_EQ(check.hint(), "");
}

TEST(HashCheck, ThePartsOfABlockAreChainedAndTheLastNamesIt) {
  const HashProfile profile = {HashAlgorithm::kSha256Cbor, "0", kBlockSize / 4};
  Engine engine(profile);
  HashCheck check(profile, 64);
  const auto first = engine.Store(3);
  check.Look(first, "");
  check.Look(engine.Store(1, &first), "");
  EXPECT_EQ(CountsOf(check), (Counts{4, 4}));
}

TEST(HashCheck, TheLoraNameIsOneOfEachPartTheOtherKeysOfTheFirst) {
  const HashProfile profile = {HashAlgorithm::kSha256, "0", 2};
  const std::string lora = hash::TextKey("lora");
  const std::string image = hash::ItemKey("image", 0);
  VllmHasher hasher(profile);
  wire::BlockStored event;
  event.tokens = {1, 2, 3, 4};
  event.block_size = 4;
  event.extra_keys = {{lora, image}};
  const std::span<const TokenId> tokens(event.tokens);
  const auto first = hasher.Next(hasher.root(), tokens.first(2), {lora, image}).value();
  event.hashes = {VllmHasher::NameOf(hasher.Next(first, tokens.last(2), {lora}).value())};
  HashCheck check(profile, 64);
  check.Look(event, "lora");
  EXPECT_EQ(CountsOf(check), (Counts{1, 1}));
}

TEST(HashCheck, ExtraKeysGoIntoTheHashesAsTheyWereSent) {
  const std::vector<ExtraKeys> keys = {
      {hash::TextKey("lora"), hash::ItemKey("image", 3), hash::TextKey("salt")},
      {hash::TextKey("lora")}};
  HashCheck check(kDeclared, 64);
  auto event = Engine(kDeclared).Store(2, nullptr, keys);
  event.extra_keys = keys;
  check.Look(event, "lora");
  EXPECT_EQ(CountsOf(check), (Counts{2, 2}));
}

TEST(HashCheck, WithoutExtraKeysTheLoraNameIsOneOfEachBlock) {
  const ExtraKeys lora = {hash::TextKey("lora")};
  HashCheck check(kDeclared, 64);
  check.Look(Engine(kDeclared).Store(2, nullptr, {lora, lora}), "lora");
  EXPECT_EQ(CountsOf(check), (Counts{2, 2}));
}

TEST(HashCheck, TheCacheSaltIsOneOfAPromptsFirstBlock) {
  Engine engine(kDeclared);
  HashCheck check(kDeclared, 64);
  auto first = engine.Store(2, nullptr, {{hash::TextKey("salt")}});
  first.cache_salt = "salt";
  check.Look(first, "");
  auto second = engine.Store(1, &first);
  second.cache_salt = "salt";
  check.Look(second, "");
  EXPECT_EQ(CountsOf(check), (Counts{3, 3}));
}

// --- how much is checked ---

TEST(HashCheck, AfterTheFirstBlocksOneInSoManyIsChecked) {
  Engine engine(kDeclared);
  HashCheck check(kDeclared, 64);
  for (uint64_t i = 0; i < HashCheck::kFirst; ++i) check.Look(engine.Store(1), "");
  EXPECT_EQ(check.checked(), HashCheck::kFirst);
  for (int i = 0; i < 6400; ++i) check.Look(engine.Store(1), "");
  EXPECT_EQ(check.checked(), HashCheck::kFirst + 100);
  EXPECT_EQ(check.matched(), check.checked());
}

TEST(HashCheck, ALongEventIsPaidForByThoseAfterIt) {
  Engine engine(kDeclared);
  HashCheck check(kDeclared, 64);
  for (uint64_t i = 0; i < HashCheck::kFirst; ++i) check.Look(engine.Store(1), "");
  // 64 prompts of 64 blocks: the first of them is checked whole, which is one block in 64.
  for (int i = 0; i < 64; ++i) check.Look(engine.Store(64), "");
  EXPECT_EQ(check.checked(), HashCheck::kFirst + 64);
}

TEST(HashCheck, AnEventIsNeverCheckedBeyondABound) {
  Engine engine(kDeclared);
  HashCheck check(kDeclared, 1);
  for (uint64_t i = 0; i < HashCheck::kFirst; ++i) check.Look(engine.Store(1), "");
  check.Look(engine.Store(HashCheck::kMostOfEvent + 100), "");
  EXPECT_EQ(check.checked(), HashCheck::kFirst + HashCheck::kMostOfEvent);
}

TEST(HashCheck, WhatCouldNotBeRecomputedIsNotMadeUpForWithoutBound) {
  Engine engine(kDeclared);
  HashCheck check(kDeclared, 2);
  for (uint64_t i = 0; i < HashCheck::kFirst; ++i) check.Look(engine.Store(1), "");
  const auto missed = engine.Store(1);
  for (int i = 0; i < 100'000; ++i) check.Look(engine.Store(1, &missed), "");
  for (int i = 0; i < 10'000; ++i) check.Look(engine.Store(1), "");
  EXPECT_LE(check.checked(), HashCheck::kFirst + HashCheck::kMostOfEvent + 5'000);
}

TEST(HashCheck, OneInOneIsEachBlock) {
  Engine engine(kDeclared);
  HashCheck check(kDeclared, 1);
  for (int i = 0; i < 1000; ++i) check.Look(engine.Store(1), "");
  EXPECT_EQ(CountsOf(check), (Counts{1000, 1000}));
}

TEST(HashCheck, ANewLifeIsCheckedFromItsFirstBlocksAgainAndCountsGoOn) {
  Engine engine(kDeclared);
  HashCheck check(kDeclared, 64);
  for (uint64_t i = 0; i < HashCheck::kFirst; ++i) check.Look(engine.Store(1), "");
  check.NewLife();
  for (int i = 0; i < 10; ++i) check.Look(engine.Store(1), "");
  EXPECT_EQ(check.checked(), HashCheck::kFirst + 10);
}

TEST(HashCheck, ANewLifeKnowsNoParentsAndNoCauseOfTheOldOne) {
  Engine engine(kDeclared);
  HashCheck check(kDeclared, 64);
  const auto first = engine.Store(1);
  check.Look(first, "");
  const auto second = engine.Store(1, &first);
  check.Look(Engine({HashAlgorithm::kSha256, "0", 0}).Store(1), "");
  EXPECT_NE(check.hint(), "");
  check.NewLife();
  EXPECT_EQ(check.hint(), "");
  check.Look(second, "");
  EXPECT_EQ(CountsOf(check), (Counts{2, 1}));
}

TEST(HashCheck, ParentsFromLongAgoAreForgotten) {
  Engine engine(kDeclared);
  HashCheck check(kDeclared, 1);
  const auto old = engine.Store(1);
  check.Look(old, "");
  const auto child = engine.Store(1, &old);
  for (size_t i = 0; i < HashCheck::kKept; ++i) check.Look(engine.Store(1), "");
  const uint64_t before = check.checked();
  check.Look(child, "");
  EXPECT_EQ(check.checked(), before);
}

// --- the likely cause ---

TEST(HashCheck, TheHintNamesTheAlgorithmThatFits) {
  EXPECT_EQ(HintFor({HashAlgorithm::kSha256Cbor, "vllm-none-hash", 0}),
            "announced hashes are those of algorithm sha256_cbor; the profile says algorithm "
            "sha256");
  EXPECT_EQ(HintFor({HashAlgorithm::kXxhash, "vllm-none-hash", 0}),
            "announced hashes are those of algorithm xxhash; the profile says algorithm sha256");
}

TEST(HashCheck, TheHintNamesTheSeedThatFits) {
  EXPECT_EQ(HintFor({HashAlgorithm::kSha256, "0", 0}),
            "announced hashes are those of seed '0'; the profile says seed 'vllm-none-hash'");
  EXPECT_EQ(HintFor(kDeclared, {HashAlgorithm::kSha256, "42", 0}),
            "announced hashes are those of seed 'vllm-none-hash'; the profile says seed '42'");
}

TEST(HashCheck, TheHintNamesTheHashBlockSizeThatFits) {
  EXPECT_EQ(HintFor({HashAlgorithm::kSha256, "vllm-none-hash", kBlockSize / 2}),
            "announced hashes are those of hash_block_size 8; the profile says hash_block_size "
            "16");
  EXPECT_EQ(HintFor(kDeclared, {HashAlgorithm::kSha256, "vllm-none-hash", 4}),
            "announced hashes are those of hash_block_size 16; the profile says hash_block_size "
            "4");
}

TEST(HashCheck, AHashBlockSizeThatDividesNoBlockIsTold) {
  EXPECT_EQ(HintFor(kDeclared, {HashAlgorithm::kSha256, "vllm-none-hash", 48}),
            "announced hashes are those of hash_block_size 16; the profile says hash_block_size "
            "48");
}

TEST(HashCheck, TheHintNamesEverythingThatDiffers) {
  EXPECT_EQ(HintFor({HashAlgorithm::kXxhashCbor, "random", 4}),
            "announced hashes are those of algorithm xxhash_cbor, seed 'random', hash_block_size "
            "4; the profile says algorithm sha256, seed 'vllm-none-hash', hash_block_size 16");
}

TEST(HashCheck, TheHintSaysWhenTheLoraNameIsLeftOut) {
  HashCheck check(kDeclared, 1);
  check.Look(Engine(kDeclared).Store(2), "lora");
  EXPECT_EQ(check.hint(),
            "announced hashes are those of the declared profile without the LoRA name 'lora'");
}

TEST(HashCheck, TheHintSaysWhenTheLoraNameIsMissingFromTheExtraKeys) {
  HashCheck check(kDeclared, 1);
  auto event =
      Engine(kDeclared).Store(1, nullptr, {{hash::TextKey("lora"), hash::ItemKey("image", 0)}});
  event.extra_keys = {{hash::ItemKey("image", 0)}};
  check.Look(event, "lora");
  EXPECT_EQ(check.hint(),
            "announced hashes are those of the declared profile with the LoRA name 'lora', which "
            "the events' extra keys leave out");
}

TEST(HashCheck, TheHintSaysWhenTheSaltIsLeftOut) {
  HashCheck check(kDeclared, 1);
  auto event = Engine(kDeclared).Store(1, nullptr, {{hash::ItemKey("image", 0)}});
  event.extra_keys = {{hash::ItemKey("image", 0), hash::TextKey("salt")}};
  check.Look(event, "");
  EXPECT_EQ(check.hint(),
            "announced hashes are those of the declared profile without the cache salt");
}

TEST(HashCheck, TheHintSaysWhenExtraKeysAreLeftOut) {
  HashCheck check(kDeclared, 1);
  auto event = Engine(kDeclared).Store(2);
  event.extra_keys = {{}, {hash::ItemKey("image", 0)}};
  check.Look(event, "");
  EXPECT_EQ(CountsOf(check), (Counts{2, 1}));
  EXPECT_EQ(check.hint(),
            "announced hashes are those of the declared profile without the events' extra keys");
}

TEST(HashCheck, WhenNothingFitsTheHintAsksForTheSeed) {
  EXPECT_EQ(HintFor({HashAlgorithm::kSha256, "of somebody", 0}),
            "none of the usual algorithms and seeds gives what is announced: is PYTHONHASHSEED set "
            "to something else, or random?");
}

TEST(HashCheck, ALaterEventMayTellTheCauseThatAnEarlierOneDidNot) {
  HashCheck check(kDeclared, 1);
  check.Look(Engine({HashAlgorithm::kSha256, "of somebody", 0}).Store(1), "");
  check.Look(Engine({HashAlgorithm::kSha256, "0", 0}).Store(1), "");
  EXPECT_EQ(check.hint(),
            "announced hashes are those of seed '0'; the profile says seed 'vllm-none-hash'");
}

TEST(HashCheck, OnlyAFewEventsAreTriedForTheCause) {
  HashCheck check(kDeclared, 1);
  Engine unknown({HashAlgorithm::kSha256, "of somebody", 0});
  for (int i = 0; i < HashCheck::kTrials; ++i) check.Look(unknown.Store(1), "");
  check.Look(Engine({HashAlgorithm::kSha256, "0", 0}).Store(1), "");
  EXPECT_NE(check.hint().find("none of the usual"), std::string::npos);
}

}  // namespace
}  // namespace conductor::ingest
