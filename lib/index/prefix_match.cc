// PrefixIndex: a prompt's way through.

#include <algorithm>
#include <bit>
#include <mutex>
#include <shared_mutex>
#include <tuple>
#include <vector>

#include "lib/index/prefix_index_impl.h"

namespace conductor::index {
namespace {

// The tiers on which one block of a prompt is had, a bit each.
using TierBits = uint8_t;

constexpr TierBits Bit(Tier tier) {
  return static_cast<TierBits>(1u << static_cast<unsigned>(tier));
}
constexpr TierBits kOnHost = Bit(Tier::kCpu);
constexpr TierBits kBelowDevice = Bit(Tier::kCpu) | Bit(Tier::kDisk);

// What a run says of one place of the roster.
struct Seen {
  uint32_t place;
  uint32_t span;
  uint64_t mask;
  Tier tier;
};

// A span that a place holds, on its way to be spread over its blocks.
struct SpanSeen {
  uint32_t place;
  Tier tier;
  uint32_t first;  // block
  uint32_t last;
};

// One place on its way along a prompt, as long as it keeps up. Between lookups all are as new.
struct Follower {
  std::array<uint64_t, kTierCount> masks{};  // of the run that is being looked at
  uint32_t gpu = 0;
  uint32_t cpu = 0;
  uint8_t whole = 0;  // tiers with an entry that covers the run
  uint8_t phase = 0;  // Tier on which it goes on
  bool following = false;
};

// What one has, together with a pool that fills its gaps, on its way along a prompt.
struct Together {
  Tier phase = Tier::kCpu;  // on which it goes on
  bool ended = false;
  uint32_t gpu = 0;  // blocks
  uint32_t cpu = 0;
  uint32_t disk = 0;

  // On through `matched` blocks of a run, of which `walked` lie before it; false when it has ended.
  // `steady` becomes 0 when it does not hold the run whole.
  bool GoOn(const Follower& own, const Follower& pool, uint32_t walked, uint32_t matched,
            uint64_t& steady) {
    if (ended) return false;
    uint32_t at = 0;
    const Tier before = phase;
    const auto on = [&](uint64_t mask, TierBits tiers) {
      at = std::min(at + static_cast<uint32_t>(std::countr_one(mask >> at)), matched);
      if (at < matched) return false;
      if (phase != before || ((own.whole | pool.whole) & tiers) == 0) steady = 0;
      return true;
    };
    const auto of = [&](Tier tier) {
      return own.masks[static_cast<size_t>(tier)] | pool.masks[static_cast<size_t>(tier)];
    };
    if (phase == Tier::kGpu) {
      if (on(own.masks[static_cast<size_t>(Tier::kGpu)], Bit(Tier::kGpu) & own.whole)) return true;
      gpu = walked + at;
      phase = Tier::kCpu;
    }
    if (phase == Tier::kCpu) {
      if (on(of(Tier::kCpu), kOnHost)) return true;
      cpu = walked + at;
      phase = Tier::kDisk;
    }
    if (on(of(Tier::kCpu) | of(Tier::kDisk), kBelowDevice)) return true;
    disk = walked + at;
    ended = true;
    return false;
  }

  // The way ends for all.
  void End(uint32_t walked) {
    if (ended) return;
    if (phase == Tier::kGpu) gpu = walked;
    if (phase != Tier::kDisk) cpu = walked;
    disk = walked;
    ended = true;
  }
};

// What was found of one place.
struct Found {
  uint32_t roster;
  uint32_t place;
  uint32_t gpu;
  uint32_t cpu;
  uint32_t disk;
  uint32_t pool;  // among the roster's, 1 more; 0: none counted

  [[nodiscard]] auto Worth() const { return std::tie(disk, cpu, gpu); }
};

// The blocks from `from` on that one of `tiers` has; where they end.
uint32_t Extend(const std::vector<TierBits>& bits, uint32_t from, TierBits tiers) {
  while (from < bits.size() && (bits[from] & tiers) != 0) ++from;
  return from;
}

}  // namespace

struct Matches::Memory {
  std::vector<std::shared_ptr<const Roster>> rosters;
  std::vector<PrefixHash> chain;  // as far as any namespace has asked, and room
  size_t hashed = 0;              // how much of it is there
  bool ended = false;             // that is the whole prompt
  std::vector<Seen> seen;
  std::vector<Follower> followers;  // by place
  std::vector<uint32_t> following;  // places
  // For walks with pools that fill gaps.
  std::vector<uint32_t> filling;   // pools
  std::vector<uint32_t> touched;   // places that were seen in a run
  std::vector<Together> together;  // see BeginWithPools
  std::vector<Found> found;
  // For walks block by block, by place.
  std::vector<std::vector<TierBits>> bits;
  std::vector<TierBits> both;
  std::vector<SpanSeen> spans;
  std::vector<std::tuple<uint32_t, uint32_t, EngineHash>> names;  // pool, block, name
  std::vector<NamespaceKey> keys;                                 // of namespaces without engines
};

Matches::Matches() : memory_(std::make_unique<Memory>()) {}
Matches::~Matches() = default;
Matches::Matches(Matches&&) noexcept = default;
Matches& Matches::operator=(Matches&&) noexcept = default;

// One lookup.
class PrefixIndex::Lookup {
 public:
  // `locked`: whoever asks keeps writers out already.
  Lookup(const Impl& impl, PrefixSource& source, const NameSource& names, Matches::Memory& memory,
         bool locked)
      : impl_(impl),
        store_(impl.store),
        source_(source),
        names_(names),
        memory_(memory),
        locked_(locked) {}

  void Walk(uint32_t roster) {
    const Roster& it = *memory_.rosters[roster];
    const bool gaps = std::ranges::any_of(
        it.pools, [](const RosterPool& pool) { return pool.lookup == PoolLookup::kContinue; });
    const bool named = names_ && std::ranges::any_of(it.pools, [](const RosterPool& pool) {
                         return pool.profile.has_value();
                       });
    if (named || (it.max_span > 1 && HasSpans(it))) {
      WalkByBlock(roster, it, named);
    } else if (gaps) {
      WalkWithPools(roster, it);
    } else {
      WalkByRun(roster, it);
    }
  }

  [[nodiscard]] uint32_t walked() const { return walked_; }

 private:
  // What the walk found in one run.
  struct Step {
    uint32_t run = RunStore::kNoRun;
    uint32_t matched = 0;  // blocks
    uint64_t full_sum = 0;
    uint32_t first_child = RunStore::kNoRun;
    bool to_end = false;  // of the run
    bool same = false;    // it is held by whom the last one was: nothing was looked at
  };

  // Keeps writers out.
  [[nodiscard]] std::shared_lock<FairSharedMutex> Lock() const {
    std::shared_lock<FairSharedMutex> lock(impl_.mutex, std::defer_lock);
    if (!locked_) lock.lock();
    return lock;
  }

  // Whether the prompt has a block `i`; its hash is in the chain then. `likely` blocks will be
  // asked for.
  [[nodiscard]] bool Have(size_t i, size_t likely) {
    while (memory_.hashed <= i) {
      if (memory_.ended) return false;
      const size_t have = memory_.hashed;
      const size_t ask = have == 0 ? 1 : std::clamp<size_t>(likely, 1, PrefixSource::kMaxAhead);
      if (memory_.chain.size() < have + ask) memory_.chain.resize(2 * (have + ask));
      const size_t got = source_.Next(std::span(memory_.chain).subspan(have, ask));
      memory_.hashed = have + got;
      memory_.ended = got < ask;
    }
    return true;
  }

  // The run that goes on with block `i` of the prompt after `parent`.
  [[nodiscard]] uint32_t NextRun(const Roster& roster, const Step& last, BlockRef parent,
                                 size_t i) const {
    const auto wanted = static_cast<uint64_t>(memory_.chain[i]);
    if (last.first_child != RunStore::kNoRun) {
      const Run& likely = store_.run(last.first_child);
      if (likely.parent == parent.value &&
          store_.prefixes(likely)[0].load(std::memory_order_acquire) == wanted) {
        return last.first_child;
      }
    }
    return store_.FindRun(roster.name_space, parent, memory_.chain[i]);
  }

  // Reads what the run has of the prompt from block `at` on, as it is at one moment; false when
  // that is nothing. `same_as`: the sum of the last run, where it may stand for looking. `see` is
  // told of each visible entry; `forget` that what it was told was not true.
  template <typename See, typename Forget>
  [[nodiscard]] bool Read(const Roster& roster, uint32_t id, BlockRef parent, size_t at,
                          uint64_t same_as, Step& step, See see, Forget forget) {
    constexpr int kTries = 64;
    for (int i = 0; i < kTries; ++i) {
      if (const auto read = TryRead(roster, id, parent, at, same_as, step, see)) return *read;
      forget();
    }
    // A run that changes all the time: between two batches it does not.
    const auto lock = Lock();
    return TryRead(roster, id, parent, at, same_as, step, see).value_or(false);
  }

  // Nothing: it changed meanwhile.
  template <typename See>
  [[nodiscard]] std::optional<bool> TryRead(const Roster& roster, uint32_t id, BlockRef parent,
                                            size_t at, uint64_t same_as, Step& step, See& see) {
    const Run& run = store_.run(id);
    const uint32_t version = run.version;
    if (version % 2 != 0) return std::nullopt;
    const uint32_t length = run.length;
    const uint8_t flags = run.flags;
    const uint32_t data = run.data;
    const Run::Holders holders = run.ReadHolders();
    const bool right = (flags & Run::kUsed) != 0 && run.parent == parent.value &&
                       run.name_space == roster.name_space;
    step.first_child = run.first_child;
    // From here on what the fields name is there, if perhaps not as it was.
    if (run.version != version) return std::nullopt;
    if (!right) return false;
    if (step.first_child != RunStore::kNoRun) __builtin_prefetch(&store_.run(step.first_child));
    step.run = id;
    step.matched = Matched(store_.arena().At(data), length, at);
    step.to_end = step.matched == length;
    step.same = false;
    if (step.matched > 0) {
      step.full_sum = store_.FullSum(holders, flags, length);
      step.same = same_as != 0 && step.full_sum == same_as;
    }
    if (step.matched > 0 && !step.same) {
      const uint64_t whole = RunStore::Leading(length);
      store_.ForEach(holders, flags, [&](uint64_t key, uint64_t mask) {
        const uint32_t place = roster.PlaceOf(RunStore::Upper(key) >> 2);
        const uint32_t tier = RunStore::Upper(key) & 3;
        // A key that is read while it changes may say anything.
        if (place == Roster::kNobody || tier >= kTierCount) return;
        see(Seen{place, RunStore::Lower(key), mask, static_cast<Tier>(tier)}, mask == whole);
      });
    }
    if (run.version != version) return std::nullopt;
    return step.matched > 0;
  }

  // How many of a run's blocks are the prompt's from `at` on.
  [[nodiscard]] uint32_t Matched(const Word* prefixes, uint32_t length, size_t at) {
    uint32_t matched = 0;
    while (matched < length && Have(at + matched, length - matched)) {
      const PrefixHash* wanted = &memory_.chain[at + matched];
      const auto there =
          static_cast<uint32_t>(std::min<size_t>(memory_.hashed - at - matched, length - matched));
      uint32_t i = 0;
      while (i < there && prefixes[matched + i].load(std::memory_order_acquire) ==
                              static_cast<uint64_t>(wanted[i])) {
        ++i;
      }
      matched += i;
      if (i < there) break;
    }
    return matched;
  }

  void Note(uint32_t roster, uint32_t place, uint32_t gpu, uint32_t cpu, uint32_t disk,
            uint32_t pool = 0) {
    if (disk > 0) memory_.found.push_back({roster, place, gpu, cpu, disk, pool});
  }

  // A follower for each place, and none is followed: not even after a walk that its source ended by
  // throwing.
  void BeginFollowing(const Roster& roster) {
    for (auto* const places : {&memory_.following, &memory_.touched}) {
      for (const uint32_t place : *places) memory_.followers[place] = Follower{};
      places->clear();
    }
    if (memory_.followers.size() < roster.places()) memory_.followers.resize(roster.places());
  }

  // Without gaps and spans a place follows from block to block or is done. So what is kept is who
  // follows, and a run costs what it has entries, or nothing where it has those of the last one.
  void WalkByRun(uint32_t roster_number, const Roster& roster) {
    BeginFollowing(roster);
    std::vector<Follower>& followers = memory_.followers;
    const auto ranks = static_cast<uint32_t>(roster.ranks.size());
    BlockRef parent;
    Step step;
    uint32_t walked = 0;  // blocks
    uint64_t steady =
        0;  // the sum of a run that all who follow hold whole, on the tier they are on
    const auto see = [&](const Seen& seen, bool whole) {
      if (seen.span != 1) return;
      Follower& follower = followers[seen.place];
      if (!follower.following) {
        if (walked > 0) return;
        follower.following = true;
        follower.phase = static_cast<uint8_t>(seen.place < ranks ? Tier::kGpu : Tier::kCpu);
        memory_.following.push_back(seen.place);
      }
      follower.masks[static_cast<size_t>(seen.tier)] |= seen.mask;
      if (whole) follower.whole |= Bit(seen.tier);
    };
    const auto forget = [&] {
      for (const uint32_t place : memory_.following) {
        followers[place].masks = {};
        followers[place].whole = 0;
      }
    };
    while (Have(walked, RunStore::kMaxLength)) {
      const uint32_t id = NextRun(roster, step, parent, walked);
      if (id == RunStore::kNoRun) break;
      if (!Read(roster, id, parent, walked, steady, step, see, forget)) {
        forget();
        break;
      }
      if (!step.same) {
        steady = step.full_sum;
        for (size_t i = 0; i < memory_.following.size();) {
          const uint32_t place = memory_.following[i];
          Follower& follower = followers[place];
          if (!Follow(roster_number, place, follower, walked, step.matched, steady)) {
            follower = Follower{};
            memory_.following[i] = memory_.following.back();
            memory_.following.pop_back();
            continue;
          }
          follower.masks = {};
          follower.whole = 0;
          ++i;
        }
        if (memory_.following.empty()) {
          walked_ = std::max(walked_, walked + step.matched);
          return;
        }
      }
      walked += step.matched;
      parent = BlockRef(step.run, step.matched - 1);
    }
    walked_ = std::max(walked_, Have(walked, 1) ? walked + 1 : walked);
    for (const uint32_t place : memory_.following) {
      Follower& follower = followers[place];
      const auto phase = static_cast<Tier>(follower.phase);
      Note(roster_number, place, phase == Tier::kGpu ? walked : follower.gpu,
           phase == Tier::kDisk ? follower.cpu : walked, walked);
      follower = Follower{};
    }
    memory_.following.clear();
  }

  // On through `matched` blocks of a run, of which `walked` lie before it; false when it is done.
  // `steady` becomes 0 when it does not hold the run whole.
  [[nodiscard]] bool Follow(uint32_t roster, uint32_t place, Follower& follower, uint32_t walked,
                            uint32_t matched, uint64_t& steady) {
    uint32_t at = 0;
    const auto on = [&](uint64_t mask) {
      const auto more = static_cast<uint32_t>(std::countr_one(mask >> at));
      at = std::min(at + more, matched);
      return at == matched;
    };
    const uint64_t cpu = follower.masks[static_cast<size_t>(Tier::kCpu)];
    const uint64_t disk = follower.masks[static_cast<size_t>(Tier::kDisk)];
    const uint8_t phase = follower.phase;
    if (follower.phase == static_cast<uint8_t>(Tier::kGpu)) {
      if (on(follower.masks[static_cast<size_t>(Tier::kGpu)])) {
        if ((follower.whole & Bit(Tier::kGpu)) == 0) steady = 0;
        return true;
      }
      follower.gpu = walked + at;
      follower.phase = static_cast<uint8_t>(Tier::kCpu);
    }
    if (follower.phase == static_cast<uint8_t>(Tier::kCpu)) {
      if (on(cpu)) {
        if (phase != follower.phase || (follower.whole & kOnHost) == 0) steady = 0;
        return true;
      }
      follower.cpu = walked + at;
      follower.phase = static_cast<uint8_t>(Tier::kDisk);
    }
    if (on(cpu | disk)) {
      if (phase != follower.phase || (follower.whole & kBelowDevice) == 0) steady = 0;
      return true;
    }
    Note(roster, place, follower.gpu, follower.cpu, walked + at);
    return false;
  }

  // With gaps that pools fill, but for spans and names. As WalkByRun, and beside each rank what it
  // has together with each pool. Ranks that were not met in any run so far have had what one
  // without blocks has; so they begin where that one stands when they are met.
  void WalkWithPools(uint32_t roster_number, const Roster& roster) {
    const auto ranks = static_cast<uint32_t>(roster.ranks.size());
    BeginWithPools(roster);
    BlockRef parent;
    Step step;
    uint32_t walked = 0;  // blocks
    uint64_t steady = 0;
    const auto see = [&](const Seen& seen, bool whole) {
      Follower& follower = memory_.followers[seen.place];
      if (follower.whole == 0 && follower.masks == decltype(follower.masks){}) {
        memory_.touched.push_back(seen.place);
      }
      follower.masks[static_cast<size_t>(seen.tier)] |= seen.mask;
      if (whole) follower.whole |= Bit(seen.tier);
    };
    const auto forget = [&] {
      for (const uint32_t place : memory_.touched) {
        memory_.followers[place].masks = {};
        memory_.followers[place].whole = 0;
      }
      memory_.touched.clear();
    };
    bool going = true;
    while (going && Have(walked, RunStore::kMaxLength)) {
      const uint32_t id = NextRun(roster, step, parent, walked);
      if (id == RunStore::kNoRun) break;
      if (!Read(roster, id, parent, walked, steady, step, see, forget)) {
        forget();
        break;
      }
      if (!step.same) {
        for (const uint32_t place : memory_.touched) {
          if (place < ranks && !memory_.followers[place].following) Meet(place, ranks, walked == 0);
        }
        steady = step.full_sum;
        going = GoOnTogether(ranks, walked, step.matched, steady);
        forget();
      }
      walked += step.matched;
      parent = BlockRef(step.run, step.matched - 1);
    }
    walked_ = std::max(walked_, going && Have(walked, 1) ? walked + 1 : walked);
    NoteTogether(roster_number, roster, walked);
  }

  // Nobody is met, and one without blocks begins with each pool.
  void BeginWithPools(const Roster& roster) {
    BeginFollowing(roster);
    memory_.filling.clear();
    for (uint32_t p = 0; p < roster.pools.size(); ++p) {
      if (roster.pools[p].lookup == PoolLookup::kContinue) memory_.filling.push_back(p);
    }
    // For each rank and one without blocks: alone, then with each pool that fills gaps. Behind them
    // all pools alone.
    const size_t each = 1 + memory_.filling.size();
    memory_.together.resize((roster.ranks.size() + 1) * each + roster.pools.size());
    Together* const without = &memory_.together[roster.ranks.size() * each];
    for (size_t i = 0; i < each + roster.pools.size(); ++i) without[i] = Together{};
    without[0].ended = true;
  }

  void Meet(uint32_t place, uint32_t ranks, bool first) {
    const size_t each = 1 + memory_.filling.size();
    memory_.followers[place].following = true;
    memory_.following.push_back(place);
    Together* const of = &memory_.together[place * each];
    for (size_t i = 0; i < each; ++i) {
      of[i] = first ? Together{.phase = Tier::kGpu} : memory_.together[ranks * each + i];
    }
  }

  // All on through `matched` blocks of a run; false when nobody is left. `steady` as in Follow.
  [[nodiscard]] bool GoOnTogether(uint32_t ranks, uint32_t walked, uint32_t matched,
                                  uint64_t& steady) {
    static constexpr Follower kNothing{};
    const size_t each = 1 + memory_.filling.size();
    bool left = false;
    const auto go_on = [&](const Follower& own, Together* of) {
      left |= of[0].GoOn(own, kNothing, walked, matched, steady);
      for (size_t i = 1; i < each; ++i) {
        const Follower& pool = memory_.followers[ranks + memory_.filling[i - 1]];
        left |= of[i].GoOn(own, pool, walked, matched, steady);
      }
    };
    for (const uint32_t place : memory_.following) {
      go_on(memory_.followers[place], &memory_.together[place * each]);
    }
    Together* const without = &memory_.together[ranks * each];
    go_on(kNothing, without);
    for (size_t p = 0; (ranks + 1) * each + p < memory_.together.size(); ++p) {
      left |=
          without[each + p].GoOn(memory_.followers[ranks + p], kNothing, walked, matched, steady);
    }
    return left;
  }

  void NoteTogether(uint32_t roster_number, const Roster& roster, uint32_t walked) {
    const auto ranks = static_cast<uint32_t>(roster.ranks.size());
    const size_t each = 1 + memory_.filling.size();
    for (Together& one : memory_.together) one.End(walked);
    for (uint32_t place = 0; place < ranks; ++place) {
      const bool met = memory_.followers[place].following;
      const Together* const of = &memory_.together[(met ? place : ranks) * each];
      uint32_t cpu = of[0].cpu;
      uint32_t disk = of[0].disk;
      uint32_t counted = 0;
      for (size_t i = 1; i < each; ++i) {
        if (of[i].cpu > cpu || of[i].disk > disk) counted = memory_.filling[i - 1] + 1;
        cpu = std::max(cpu, of[i].cpu);
        disk = std::max(disk, of[i].disk);
      }
      Note(roster_number, place, of[0].gpu, cpu, disk, counted);
      memory_.followers[place] = Follower{};
    }
    memory_.following.clear();
    for (uint32_t p = 0; p < roster.pools.size(); ++p) {
      const Together& alone = memory_.together[(ranks + 1) * each + p];
      Note(roster_number, ranks + p, 0, alone.cpu, alone.disk);
    }
  }

  // Whether anybody holds a span that ends in a run of the prompt's. One anywhere else costs this
  // look.
  [[nodiscard]] bool HasSpans(const Roster& roster) {
    BlockRef parent;
    Step step;
    uint32_t walked = 0;
    bool has = false;
    const auto see = [&has](const Seen& seen, bool) { has |= seen.span != 1; };
    while (!has && Have(walked, RunStore::kMaxLength)) {
      const uint32_t id = NextRun(roster, step, parent, walked);
      if (id == RunStore::kNoRun || !Read(roster, id, parent, walked, 0, step, see, [] {})) break;
      walked += step.matched;
      parent = BlockRef(step.run, step.matched - 1);
    }
    return has;
  }

  // With spans that count when they end, and with blocks that only pools have, by name: every
  // block's tiers for every place, then the figures.
  void WalkByBlock(uint32_t roster_number, const Roster& roster, bool named) {
    auto& bits = memory_.bits;
    if (bits.size() < roster.places()) bits.resize(roster.places());
    for (size_t place = 0; place < roster.places(); ++place) bits[place].clear();
    memory_.spans.clear();
    BlockRef parent;
    Step step;
    uint32_t walked = 0;
    uint32_t last = 0;  // blocks up to the last one that anybody has
    bool indexed = roster.name_space != Roster::kNobody;
    const auto add = [&](uint32_t place, uint32_t block, Tier tier, uint32_t span) {
      std::vector<TierBits>& of = bits[place];
      if (of.size() <= block) of.resize(block + 1);
      of[block] |= Bit(tier);
      if (span > 1)
        memory_.spans.push_back({place, tier, block + 1 - std::min(span, block + 1), block});
      last = std::max(last, block + 1);
    };
    while (Have(walked, RunStore::kMaxLength)) {
      uint32_t matched = 0;
      if (indexed) {
        const uint32_t id = NextRun(roster, step, parent, walked);
        memory_.seen.clear();
        indexed = id != RunStore::kNoRun &&
                  Read(
                      roster, id, parent, walked, 0, step,
                      [this](const Seen& seen, bool) { memory_.seen.push_back(seen); },
                      [this] { memory_.seen.clear(); });
        if (indexed) {
          matched = step.matched;
          parent = BlockRef(step.run, matched - 1);
          for (const Seen& seen : memory_.seen) {
            uint64_t mask = seen.mask & RunStore::Leading(matched);
            for (; mask != 0; mask &= mask - 1) {
              add(seen.place, walked + static_cast<uint32_t>(std::countr_zero(mask)), seen.tier,
                  seen.span);
            }
          }
        }
      }
      if (!indexed) {
        if (!named) break;
        // Of which many are looked up together.
        constexpr uint32_t kAtOnce = PrefixSource::kMaxAhead;
        matched = 1;
        while (matched < kAtOnce && Have(walked + matched, kAtOnce - matched)) ++matched;
      }
      if (named) AddNamed(roster, walked, matched, add);
      walked += matched;
      if (last + roster.max_span <= walked) break;
    }
    walked_ = std::max(walked_, std::min(walked + 1, static_cast<uint32_t>(memory_.hashed)));
    SpreadSpans();
    for (uint32_t place = 0; place < roster.places(); ++place) {
      if (place < roster.ranks.size()) {
        NoteRank(roster_number, roster, place);
      } else {
        const uint32_t cpu = Extend(bits[place], 0, kOnHost);
        Note(roster_number, place, 0, cpu, Extend(bits[place], cpu, kBelowDevice));
      }
    }
  }

  // The blocks of spans before their last ones. Each block is marked once for a place and tier,
  // however many spans it lies in.
  void SpreadSpans() {
    std::ranges::sort(memory_.spans, {}, [](const SpanSeen& span) {
      return std::tuple(span.place, span.tier, span.first);
    });
    uint32_t done = 0;
    const SpanSeen* before = nullptr;
    for (const SpanSeen& span : memory_.spans) {
      const bool same =
          before != nullptr && before->place == span.place && before->tier == span.tier;
      if (!same) done = 0;
      before = &span;
      for (uint32_t i = std::max(done, span.first); i < span.last; ++i) {
        memory_.bits[span.place][i] |= Bit(span.tier);
      }
      done = std::max(done, span.last);
    }
  }

  // What pools have of these blocks under the names that their profiles give them.
  template <typename Add>
  void AddNamed(const Roster& roster, uint32_t from, uint32_t count, Add add) {
    memory_.names.clear();
    for (uint32_t p = 0; p < roster.pools.size(); ++p) {
      const RosterPool& pool = roster.pools[p];
      if (!pool.profile) continue;
      for (uint32_t block = from; block < from + count; ++block) {
        if (const auto name = names_(*pool.profile, block)) {
          memory_.names.push_back({p, block, *name});
        }
      }
    }
    const auto lock = Lock();
    const auto domain = impl_.domains.find(*roster.domain);
    if (domain == impl_.domains.end()) return;
    for (const auto& [p, block, name] : memory_.names) {
      const auto entry = domain->second->names.find(PoolName{0, name});
      if (entry == domain->second->names.end()) continue;
      const auto claim = std::ranges::find(entry->second.claims, roster.pools[p].id, &Claim::pool);
      if (claim == entry->second.claims.end()) continue;
      add(static_cast<uint32_t>(roster.ranks.size() + p), block, claim->tier, 1);
    }
  }

  void NoteRank(uint32_t roster_number, const Roster& roster, uint32_t place) {
    const std::vector<TierBits>& bits = memory_.bits[place];
    const uint32_t gpu = Extend(bits, 0, Bit(Tier::kGpu));
    uint32_t cpu = Extend(bits, gpu, kOnHost);
    uint32_t disk = Extend(bits, cpu, kBelowDevice);
    uint32_t counted = 0;
    for (size_t p = 0; p < roster.pools.size(); ++p) {
      if (roster.pools[p].lookup != PoolLookup::kContinue) continue;
      const std::vector<TierBits>& of_pool = memory_.bits[roster.ranks.size() + p];
      std::vector<TierBits>& both = memory_.both;
      both.assign(std::max(bits.size(), of_pool.size()), 0);
      for (size_t i = 0; i < bits.size(); ++i) both[i] |= bits[i];
      for (size_t i = 0; i < of_pool.size(); ++i) both[i] |= of_pool[i];
      const uint32_t with_cpu = Extend(both, gpu, kOnHost);
      const uint32_t with_disk = Extend(both, with_cpu, kBelowDevice);
      if (with_cpu > cpu || with_disk > disk) counted = static_cast<uint32_t>(p) + 1;
      cpu = std::max(cpu, with_cpu);
      disk = std::max(disk, with_disk);
    }
    Note(roster_number, place, gpu, cpu, disk, counted);
  }

  const Impl& impl_;
  const RunStore& store_;
  PrefixSource& source_;
  const NameSource& names_;
  Matches::Memory& memory_;
  const bool locked_;
  uint32_t walked_ = 0;
};

Matches PrefixIndex::Match(const Scope& scope, PrefixSource& source,
                           const NameSource& names) const {
  Matches matches;
  Match(scope, source, MatchOptions{}, names, matches);
  return matches;
}

void PrefixIndex::Match(const Scope& scope, PrefixSource& source, const MatchOptions& options,
                        const NameSource& names, Matches& matches) const {
  Matches::Memory& memory = *matches.memory_;
  matches.ranks.clear();
  matches.pools.clear();
  memory.hashed = 0;
  memory.ended = false;
  // A set of holders that takes the place of another is seen before the other goes. Whoever set out
  // with the other looks again, or would find the one half gone and the other not at all. Where
  // that happens all the time it is kept from happening.
  constexpr int kTries = 8;
  std::shared_lock<FairSharedMutex> lock(impl_->mutex, std::defer_lock);
  for (int i = 0; i <= kTries; ++i) {
    if (i == kTries) lock.lock();
    const uint64_t version = impl_->roster_version;
    memory.found.clear();
    memory.rosters.clear();
    impl_->FindRosters(scope, static_cast<bool>(names), memory.rosters);
    const auto pass = impl_->store.gate().Enter();
    Lookup lookup(*impl_, source, names, memory, lock.owns_lock());
    for (size_t r = 0; r < memory.rosters.size(); ++r) lookup.Walk(static_cast<uint32_t>(r));
    matches.walked = lookup.walked();
    if (impl_->roster_version == version) break;
  }

  // Ranks first, pools behind them.
  const auto is_rank = [&memory](const Found& found) {
    return found.place < memory.rosters[found.roster]->ranks.size();
  };
  const auto pools = std::partition(memory.found.begin(), memory.found.end(), is_rank);
  auto ranks_end = pools;
  if (options.top > 0) {
    if (pools - memory.found.begin() > static_cast<ptrdiff_t>(options.top)) {
      ranks_end = memory.found.begin() + options.top;
    }
    std::partial_sort(memory.found.begin(), ranks_end, pools,
                      [](const Found& a, const Found& b) { return a.Worth() > b.Worth(); });
  }
  for (auto found = memory.found.begin(); found != ranks_end; ++found) {
    const Roster& roster = *memory.rosters[found->roster];
    RankMatch match{roster.ranks[found->place].get(), found->gpu, found->cpu, found->disk, {}};
    if (found->pool > 0) match.pool = *roster.pools[found->pool - 1].name;
    matches.ranks.push_back(match);
  }
  // What they point to must not move. Texts stay, and so does their room.
  if (memory.keys.size() < static_cast<size_t>(memory.found.end() - pools)) {
    memory.keys.resize(static_cast<size_t>(memory.found.end() - pools));
  }
  size_t keys = 0;
  for (auto found = pools; found != memory.found.end(); ++found) {
    const Roster& roster = *memory.rosters[found->roster];
    const NamespaceKey* key = roster.key.get();
    if (key == nullptr) {
      const PoolDomain& domain = *roster.domain;
      NamespaceKey& made = memory.keys[keys++];
      made.tenant = domain.tenant;
      made.model = domain.model;
      made.lora_name = scope.lora_name;
      made.block_size = scope.block_size;
      made.additional_salt = domain.additional_salt;
      key = &made;
    }
    matches.pools.push_back(PoolMatch{*roster.pools[found->place - roster.ranks.size()].name, key,
                                      found->cpu, found->disk});
  }
}

void PrefixIndex::Impl::FindRosters(const Scope& scope, bool named,
                                    std::vector<std::shared_ptr<const Roster>>& found) const {
  const auto salt_fits = [&scope](const std::string& salt) {
    return !scope.additional_salt || salt == *scope.additional_salt;
  };
  const std::shared_lock lock(roster_mutex);
  // The maps are in order of the fields, the salt last.
  for (auto at = rosters.namespaces.lower_bound(scope); at != rosters.namespaces.end(); ++at) {
    const NamespaceKey& key = at->first;
    if (std::tie(key.tenant, key.model, key.lora_name, key.block_size) !=
            std::tie(scope.tenant, scope.model, scope.lora_name, scope.block_size) ||
        !salt_fits(key.additional_salt)) {
      break;
    }
    found.push_back(at->second);
  }
  if (!named) return;
  // What pools have of which no engine has announced anything.
  const size_t of_namespaces = found.size();
  const Scope of_domain{scope.tenant, scope.model, {}, 0, scope.additional_salt};
  for (auto at = rosters.domains.lower_bound(of_domain); at != rosters.domains.end(); ++at) {
    const PoolDomain& key = at->first;
    if (std::tie(key.tenant, key.model) != std::tie(scope.tenant, scope.model) ||
        !salt_fits(key.additional_salt)) {
      break;
    }
    const bool walked =
        std::any_of(found.begin(), found.begin() + static_cast<ptrdiff_t>(of_namespaces),
                    [&key](const auto& roster) { return roster->domain == key; });
    if (!walked) found.push_back(at->second);
  }
}

}  // namespace conductor::index
