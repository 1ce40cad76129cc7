// What lookups answer while others write, judged by what was held when.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "lib/base/tier.h"
#include "lib/hash/block_hash.h"
#include "lib/index/prefix_index.h"

namespace conductor::index {
namespace {

// Time is a counter that is odd while something is being written. What a write changes may be seen
// from its beginning on, and is seen after its end.
using Moment = uint64_t;

// When one block was held by one rank on one tier.
class Holding {
 public:
  // How many copies of it there are from the write at `writing` on.
  void Become(uint32_t copies, Moment writing) {
    const bool was = std::exchange(copies_, copies) > 0;
    if (was == held()) return;
    if (held()) {
      spans_.push_back({writing, kEver});
    } else {
      spans_.back().until = writing;
    }
  }
  [[nodiscard]] uint32_t copies() const { return copies_; }
  [[nodiscard]] bool held() const { return copies_ > 0; }

  // At some moment of a lookup that began at `from` and ended at `to`.
  [[nodiscard]] bool HeldWithin(Moment from, Moment to) const {
    // Spans are in order: the last one that begins by `to`.
    const auto after = std::ranges::upper_bound(spans_, to, {}, &Span::since);
    return after != spans_.begin() && std::prev(after)->until >= from;
  }
  // At every moment of it.
  [[nodiscard]] bool HeldThroughout(Moment from, Moment to) const {
    const auto after = std::ranges::lower_bound(spans_, from, {}, &Span::since);
    return after != spans_.begin() && std::prev(after)->until > to;
  }

 private:
  static constexpr Moment kEver = ~Moment{0};
  struct Span {
    Moment since;  // the write that began it
    Moment until;  // the write that ended it
  };
  uint32_t copies_ = 0;
  std::vector<Span> spans_;
};

// Four chains that leave one another within a run, at the end of one, and in the second one.
constexpr uint32_t kChains = 4;
constexpr uint32_t kLength = 170;
constexpr std::array<uint32_t, kChains> kLeaves = {kLength, 30, 64, 101};
constexpr uint32_t kBlocks = kChains * kLength;

// The number of block `i` of a chain: its own, or that of the first one.
uint32_t BlockAt(uint32_t chain, uint32_t i) {
  return i < kLeaves[chain] ? i : chain * kLength + i;
}

LocalHash LocalOf(uint32_t block) { return LocalHash{(block + 1) * 0x9e3779b97f4a7c15u}; }

std::vector<PrefixHash> PrefixesOf(uint32_t chain) {
  std::vector<PrefixHash> prefixes;
  for (uint32_t i = 0; i < kLength; ++i) {
    const LocalHash local = LocalOf(BlockAt(chain, i));
    prefixes.push_back(i == 0 ? hash::FirstPrefix(local)
                              : hash::NextPrefix(prefixes.back(), local, hash::kDefaultSeed));
  }
  return prefixes;
}

// Those that may be asked for: ranks, and a pool behind them.
constexpr uint32_t kRanks = 24;
constexpr uint32_t kPool = kRanks;
constexpr uint32_t kSubjects = kRanks + 1;

RankKey KeyOf(uint32_t rank) {
  return {.name_space = {.tenant = "", .model = "m", .lora_name = "", .block_size = 16},
          .instance_id = "i" + std::to_string(rank / 2),
          .dp_rank = rank % 2};
}
uint32_t RankOf(const RankKey& key) {
  return static_cast<uint32_t>(std::stoul(key.instance_id.substr(1))) * 2 + key.dp_rank;
}

struct Figures {
  uint32_t gpu = 0;
  uint32_t cpu = 0;
  uint32_t disk = 0;
  friend bool operator==(const Figures&, const Figures&) = default;
};

struct Observation {
  uint32_t chain = 0;
  uint32_t length = 0;  // of the prompt
  uint32_t top = 0;
  Moment from = 0;
  Moment to = 0;
  std::vector<std::pair<uint32_t, Figures>> rows;  // by subject
};

// A prompt's hashes, sometimes late, so that what a lookup stands on changes meanwhile.
class HesitantSource final : public PrefixSource {
 public:
  HesitantSource(std::span<const PrefixHash> prefixes, std::mt19937_64& random)
      : prefixes_(prefixes), random_(random) {}

  [[nodiscard]] size_t Next(std::span<PrefixHash> out) override {
    for (uint64_t waits = random_() % 4; waits > 0; --waits) std::this_thread::yield();
    return prefixes_.Next(out);
  }

 private:
  PrefixList prefixes_;
  std::mt19937_64& random_;
};

struct Setup {
  PrefixIndex::Options options = {};
  bool pools = false;   // one from the prompt's start, and one that has nothing but may fill gaps
  bool filler = false;  // blocks that nobody asks for, ever new ones
};

class Fleet {
 public:
  explicit Fleet(const Setup& setup) : setup_(setup), index_(setup.options) {
    auto writer = index_.Write();
    for (uint32_t rank = 0; rank < kRanks; ++rank) members_[rank].set = NewSet(writer, rank, true);
    filler_ = NewSet(writer, kRanks, true);
    if (!setup.pools) return;
    // What is named for good, so that what the pool says of it is what it holds.
    const Set anchor = NewSet(writer, kRanks + 1, false);
    for (uint32_t chain = 0; chain < kChains; ++chain) {
      StoreChain(writer, anchor, chain, 0, kLength, Tier::kDisk, {});
    }
    pool_ = writer.AddPool("pool", PoolLookup::kFromStart, std::nullopt);
    const PoolId idle = writer.AddPool("idle", PoolLookup::kContinue, std::nullopt);
    writer.SetPoolBlock(idle, kDomain, {0, EngineHash{1}}, Tier::kCpu);
  }

  // One batch of one rank, or of the pool.
  void Write(std::mt19937_64& random) {
    const std::lock_guard turn(turn_);
    ++now_;
    uint64_t trims = index_.Trims();
    {
      auto writer = index_.Write();
      const size_t events = 1 + random() % 3;
      for (size_t i = 0; i < events; ++i) Change(writer, random);
    }
    // Asking what is left is a batch, too, and may be the one at whose end there is no room.
    while (trims != index_.Trims()) {
      trims = index_.Trims();
      NoteTrimmed();
    }
    ++now_;
  }

  // One lookup.
  [[nodiscard]] Observation Look(std::mt19937_64& random, Matches& matches) const {
    static const std::array<std::vector<PrefixHash>, kChains> kPrefixes = {
        PrefixesOf(0), PrefixesOf(1), PrefixesOf(2), PrefixesOf(3)};
    Observation seen;
    seen.chain = static_cast<uint32_t>(random() % kChains);
    seen.length = random() % 2 == 0 ? kLength : 1 + static_cast<uint32_t>(random() % kLength);
    seen.top = random() % 2 == 0 ? 0 : 8;
    HesitantSource source(std::span(kPrefixes[seen.chain]).first(seen.length), random);
    seen.from = now_;
    index_.Match(Scope{"", "m", "", 16, std::nullopt}, source, {.top = seen.top}, {}, matches);
    seen.to = now_;
    for (const RankMatch& match : matches.ranks) {
      seen.rows.emplace_back(RankOf(*match.rank), Figures{match.gpu, match.cpu, match.disk});
    }
    for (const PoolMatch& match : matches.pools) {
      seen.rows.emplace_back(kPool, Figures{0, match.cpu, match.disk});
    }
    return seen;
  }

  // What is wrong with it; empty: nothing. Once nobody writes any more.
  [[nodiscard]] std::string Judge(const Observation& seen) {
    std::array<std::optional<Figures>, kSubjects> figures;
    size_t ranks = 0;
    for (const auto& [subject, of] : seen.rows) {
      if (figures[subject]) return "a rank is listed twice";
      figures[subject] = of;
      if (subject != kPool) ++ranks;
      if (of.gpu > of.cpu || of.cpu > of.disk || of.disk > seen.length) return "out of order";
    }
    if (seen.top > 0 && ranks > seen.top) return "more than were asked for";
    const bool full = seen.top > 0 && ranks == seen.top;
    const auto worth = [](const Figures& of) { return std::tuple(of.disk, of.cpu, of.gpu); };
    const bool quiet = seen.from == seen.to && seen.from % 2 == 0;
    if (quiet) ++quiet_;
    for (uint32_t subject = 0; subject < kSubjects; ++subject) {
      const Figures least = LeastOf(seen, subject);
      if (!figures[subject]) {
        // Left out, for others are as good: as they were seen, or all would have to be compared.
        const bool left_out = full && subject != kPool;
        if (left_out && (!quiet || worth(seen.rows[ranks - 1].second) >= worth(least))) continue;
        if (least.disk > 0) return "rank " + std::to_string(subject) + " is missing";
        continue;
      }
      const Figures& of = *figures[subject];
      if (const auto never = NeverHeld(seen, subject, of)) {
        return "rank " + std::to_string(subject) + ": block " + std::to_string(*never) +
               " was not held meanwhile";
      }
      if (of.gpu < least.gpu || of.cpu < least.cpu || of.disk < least.disk) {
        return "rank " + std::to_string(subject) + " has fewer than it held all the while";
      }
      if (quiet && of != least) return "figures differ though nothing was written";
    }
    return {};
  }

  [[nodiscard]] const PrefixIndex& index() const { return index_; }
  [[nodiscard]] uint64_t quiet() const { return quiet_; }  // judged ones beside which nobody wrote

 private:
  static inline const PoolDomain kDomain{"", "m", ""};

  struct Set {
    HolderId holder{};
    AliasSpace space{};
    uint64_t names = 0;  // what its names differ in from others'
    CopyMode copies = CopyMode::kSet;
  };
  using Copies = std::array<std::vector<uint32_t>, kTierCount>;  // by block
  struct Member {
    Set set;
    std::optional<Set> staged;  // about to take its place
    Copies staged_copies;
  };

  // A third of them shares its names with others, a third has the same for other blocks.
  [[nodiscard]] static EngineHash NameOf(const Set& set, uint32_t block) {
    return EngineHash{1000 + (block + 7 * set.names) % kBlocks + (set.names % 3 == 2 ? 9000 : 0)};
  }

  Set NewSet(PrefixIndex::Writer& writer, uint32_t rank, bool visible) {
    Set set;
    const uint32_t publisher = next_publisher_++;
    set.holder = writer.AddHolder(KeyOf(rank), publisher, visible);
    set.space = writer.AddSpace(publisher);
    // A pool would have other blocks too, where a name stands for several.
    set.names = setup_.pools || rank >= kRanks || rank % 3 == 0 ? 0 : rank;
    set.copies = rank % 2 == 0 ? CopyMode::kSet : CopyMode::kCount;
    return set;
  }

  // Blocks [from, to) of a chain, but for `gone` ones. False when its parent is not known.
  bool StoreChain(PrefixIndex::Writer& writer, const Set& set, uint32_t chain, uint32_t from,
                  uint32_t to, Tier tier, std::span<const uint8_t> gone) {
    std::vector<EngineHash> names;
    std::vector<LocalHash> locals;
    for (uint32_t i = from; i < to; ++i) {
      names.push_back(NameOf(set, BlockAt(chain, i)));
      locals.push_back(LocalOf(BlockAt(chain, i)));
    }
    StoreRequest request{.holder = set.holder, .space = set.space, .tier = tier};
    request.copies = set.copies;
    if (from > 0) request.parent = NameOf(set, BlockAt(chain, from - 1));
    request.hashes = names;
    request.locals = locals;
    request.gone = gone;
    return writer.Store(request) == StoreOutcome::kStored;
  }

  [[nodiscard]] Holding& Of(uint32_t subject, Tier tier, uint32_t block) {
    return holdings_[(subject * kTierCount + static_cast<uint32_t>(tier)) * kBlocks + block];
  }
  void Stored(uint32_t rank, Tier tier, uint32_t block) {
    Holding& holding = Of(rank, tier, block);
    const bool counts = tier == Tier::kGpu && members_[rank].set.copies == CopyMode::kCount;
    holding.Become(counts ? holding.copies() + 1 : 1, now_);
  }
  void Emptied(uint32_t rank, Tier tier) {
    for (uint32_t block = 0; block < kBlocks; ++block) Of(rank, tier, block).Become(0, now_);
  }

  void Change(PrefixIndex::Writer& writer, std::mt19937_64& random) {
    const auto rank = static_cast<uint32_t>(random() % kRanks);
    const Tier tier = kTiers[random() % kTierCount];
    Member& member = members_[rank];
    if (setup_.filler && random() % 3 != 0) StoreFiller(writer, random);
    if (setup_.pools && random() % 4 == 0) return ChangePool(writer, random);
    switch (random() % 24) {
      case 0:
        (void)writer.Clear(member.set.holder, tier);
        return Emptied(rank, tier);
      case 1:
        writer.DropHolder(member.set.holder);
        writer.DropSpace(member.set.space);
        for (const Tier each : kTiers) Emptied(rank, each);
        member.set = NewSet(writer, rank, true);
        return;
      case 2:
      case 3:
        return Stage(writer, random, rank);
      case 4:
      case 5:
      case 6:
        return Replace(writer, rank);
      case 7:
      case 8:
      case 9:
      case 10:
      case 11:
      case 12:
        return RemoveSome(writer, random, rank, tier);
      default:
        return StoreSome(writer, random, rank, tier);
    }
  }

  void StoreSome(PrefixIndex::Writer& writer, std::mt19937_64& random, uint32_t rank, Tier tier) {
    const auto chain = static_cast<uint32_t>(random() % kChains);
    const uint32_t from = random() % 2 == 0 ? 0 : static_cast<uint32_t>(random() % kLength);
    const uint32_t to = from + 1 + static_cast<uint32_t>(random() % (kLength - from));
    if (!StoreChain(writer, members_[rank].set, chain, from, to, tier, {})) return;
    for (uint32_t i = from; i < to; ++i) Stored(rank, tier, BlockAt(chain, i));
  }

  // Some blocks of a stretch: from its end, from its beginning, or here and there.
  void RemoveSome(PrefixIndex::Writer& writer, std::mt19937_64& random, uint32_t rank, Tier tier) {
    const auto chain = static_cast<uint32_t>(random() % kChains);
    const auto from = static_cast<uint32_t>(random() % kLength);
    const uint32_t to = random() % 2 == 0
                            ? from + 1
                            : from + 1 + static_cast<uint32_t>(random() % (kLength - from));
    std::vector<uint32_t> blocks;
    for (uint32_t i = from; i < to; ++i) blocks.push_back(BlockAt(chain, i));
    switch (random() % 3) {
      case 0:
        std::ranges::reverse(blocks);
        break;
      case 1:
        std::ranges::shuffle(blocks, random);
        blocks.resize(1 + blocks.size() / 4);
        break;
      default:
        break;
    }
    const Set& set = members_[rank].set;
    for (const uint32_t block : blocks) {
      Holding& holding = Of(rank, tier, block);
      const auto outcome = writer.Remove(set.holder, set.space, tier, NameOf(set, block));
      EXPECT_EQ(outcome == RemoveOutcome::kRemoved, holding.held());
      if (holding.held()) holding.Become(holding.copies() - 1, now_);
    }
  }

  // A hidden set that holds what the rank does, but for some of it and with something more.
  void Stage(PrefixIndex::Writer& writer, std::mt19937_64& random, uint32_t rank) {
    Member& member = members_[rank];
    if (member.staged || setup_.filler) return;
    member.staged = NewSet(writer, rank, false);
    for (const Tier tier : kTiers) {
      auto& copies = member.staged_copies[static_cast<size_t>(tier)];
      copies.assign(kBlocks, 0);
      const bool alike = random() % 4 != 0;
      for (uint32_t chain = 0; chain < kChains; ++chain) {
        std::vector<uint8_t> gone;
        for (uint32_t i = 0; i < kLength; ++i) {
          const uint32_t block = BlockAt(chain, i);
          const bool wanted = Of(rank, tier, block).held() ? alike || random() % 8 != 0
                                                           : !alike && random() % 64 == 0;
          gone.push_back(wanted && copies[block] == 0 ? 0 : 1);
          if (gone.back() == 0) copies[block] = 1;
        }
        EXPECT_TRUE(StoreChain(writer, *member.staged, chain, 0, kLength, tier, gone));
      }
    }
  }

  void Replace(PrefixIndex::Writer& writer, uint32_t rank) {
    Member& member = members_[rank];
    if (!member.staged) return;
    writer.SetVisible(member.staged->holder, true);
    writer.DropHolder(member.set.holder);
    writer.DropSpace(member.set.space);
    member.set = *member.staged;
    member.staged.reset();
    for (const Tier tier : kTiers) {
      for (uint32_t block = 0; block < kBlocks; ++block) {
        Of(rank, tier, block).Become(member.staged_copies[static_cast<size_t>(tier)][block], now_);
      }
    }
  }

  void ChangePool(PrefixIndex::Writer& writer, std::mt19937_64& random) {
    const auto chain = static_cast<uint32_t>(random() % kChains);
    const auto from = static_cast<uint32_t>(random() % kLength);
    const uint32_t to = from + 1 + static_cast<uint32_t>(random() % (kLength - from));
    std::optional<Tier> tier;
    if (random() % 4 != 0) tier = random() % 3 == 0 ? Tier::kDisk : Tier::kCpu;
    for (uint32_t i = from; i < to; ++i) {
      const uint32_t block = BlockAt(chain, i);
      writer.SetPoolBlock(pool_, kDomain, {0, NameOf(filler_, block)}, tier);
      for (const Tier each : kTiers) Of(kPool, each, block).Become(tier == each ? 1 : 0, now_);
    }
  }

  void StoreFiller(PrefixIndex::Writer& writer, std::mt19937_64& random) {
    std::vector<EngineHash> names;
    std::vector<LocalHash> locals;
    for (uint64_t left = 1 + random() % 200; left > 0; --left) {
      names.push_back(EngineHash{random() | uint64_t{1} << 63});
      locals.push_back(LocalHash{random()});
    }
    StoreRequest request{.holder = filler_.holder, .space = filler_.space, .tier = Tier::kGpu};
    request.hashes = names;
    request.locals = locals;
    EXPECT_EQ(writer.Store(request), StoreOutcome::kStored);
  }

  // What was given up for room is not told: it is asked for.
  void NoteTrimmed() {
    auto writer = index_.Write();
    for (uint32_t rank = 0; rank < kRanks; ++rank) {
      const Set& set = members_[rank].set;
      for (const Tier tier : kTiers) {
        for (uint32_t block = 0; block < kBlocks; ++block) {
          Holding& holding = Of(rank, tier, block);
          if (!holding.held()) continue;
          if (writer.Holds(set.holder, set.space, tier, NameOf(set, block))) continue;
          holding.Become(0, now_);
          ++trimmed_;
        }
      }
    }
  }

  // The figures by what was held all the while.
  [[nodiscard]] Figures LeastOf(const Observation& seen, uint32_t subject) {
    const auto on = [&](uint32_t i, Tier tier) {
      return i < seen.length &&
             Of(subject, tier, BlockAt(seen.chain, i)).HeldThroughout(seen.from, seen.to);
    };
    Figures least;
    while (on(least.gpu, Tier::kGpu)) ++least.gpu;
    least.cpu = least.gpu;
    while (on(least.cpu, Tier::kCpu)) ++least.cpu;
    least.disk = least.cpu;
    while (on(least.disk, Tier::kCpu) || on(least.disk, Tier::kDisk)) ++least.disk;
    return least;
  }

  // The first block that it counts and should not have.
  [[nodiscard]] std::optional<uint32_t> NeverHeld(const Observation& seen, uint32_t subject,
                                                  const Figures& of) {
    for (uint32_t i = 0; i < of.disk; ++i) {
      const auto held = [&](Tier tier) {
        return Of(subject, tier, BlockAt(seen.chain, i)).HeldWithin(seen.from, seen.to);
      };
      const bool had = i < of.gpu   ? held(Tier::kGpu)
                       : i < of.cpu ? held(Tier::kCpu)
                                    : held(Tier::kCpu) || held(Tier::kDisk);
      if (!had) return i;
    }
    return std::nullopt;
  }

  const Setup setup_;
  PrefixIndex index_;
  std::atomic<Moment> now_ = 0;
  uint64_t quiet_ = 0;

  std::mutex turn_;  // guards everything below
  std::array<Member, kRanks> members_;
  Set filler_;
  PoolId pool_{};
  uint32_t next_publisher_ = 0;
  uint64_t trimmed_ = 0;
  std::vector<Holding> holdings_{kSubjects * kTierCount * kBlocks};

 public:
  [[nodiscard]] uint64_t trimmed() const { return trimmed_; }
};

bool IsLongRun() { return std::getenv("CONDUCTOR_LONG_TESTS") != nullptr; }

// Two write and two look until enough was seen; all of it is judged then.
void Watch(const Setup& setup, uint64_t seed) {
  Fleet fleet(setup);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr size_t kUsual = 150;
#else
  constexpr size_t kUsual = 500;
#endif
  constexpr size_t kQuiet = 40;
  const size_t wanted = kUsual;
  std::vector<std::vector<Observation>> observations(2);
  std::atomic<size_t> looking = observations.size();  // order does not matter
  std::vector<std::thread> threads;
  for (uint64_t number = 0; number < 2; ++number) {
    threads.emplace_back([&fleet, &looking, seed, number] {
      std::mt19937_64 random(2 * seed + number);
      for (int i = 0; looking > 0 || i < 200; ++i) {
        fleet.Write(random);
        for (uint64_t pause = random() % 4; pause > 0; --pause) std::this_thread::yield();
      }
    });
  }
  for (std::vector<Observation>& seen : observations) {
    threads.emplace_back([&fleet, &looking, &seen, wanted, seed] {
      std::mt19937_64 random(seed);
      Matches matches;
      while (seen.size() < wanted) seen.push_back(fleet.Look(random, matches));
      --looking;
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::mt19937_64 random(seed);
  Matches matches;
  auto& last = observations.emplace_back();
  while (last.size() < kQuiet) last.push_back(fleet.Look(random, matches));

  size_t counted = 0;
  for (const auto& seen : observations) {
    for (const Observation& observation : seen) {
      const std::string wrong = fleet.Judge(observation);
      ASSERT_EQ(wrong, "") << "chain " << observation.chain << ", " << observation.length
                           << " blocks, top " << observation.top << ", from " << observation.from
                           << " to " << observation.to << ", seed " << seed;
      counted += observation.rows.size();
    }
  }
  EXPECT_GT(counted, 0U);
  EXPECT_GE(fleet.quiet(), kQuiet);
  EXPECT_EQ(fleet.trimmed() > 0, setup.options.memory_limit > 0);
  const Status valid = fleet.index().Validate();
  EXPECT_TRUE(valid) << valid.error().Message();
}

void WatchSome(const Setup& setup) {
  const uint64_t rounds = IsLongRun() ? 100 : 2;
  for (uint64_t seed = 1; seed <= rounds && !testing::Test::HasFatalFailure(); ++seed) {
    Watch(setup, seed);
  }
}

TEST(Moments, AnswersCountWhatWasHeldMeanwhileAndAllThatWasHeldThroughout) { WatchSome({}); }

TEST(Moments, WhereReleasedBlocksAreForgottenAtOnce) {
  WatchSome({.options = {.released_limit = 0}});
}

TEST(Moments, BesidePools) { WatchSome({.pools = true}); }

TEST(Moments, WhereBlocksAreGivenUpForRoom) {
  WatchSome({.options = {.released_limit = 100, .memory_limit = 1 << 20}, .filler = true});
}

}  // namespace
}  // namespace conductor::index
