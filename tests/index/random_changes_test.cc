// PrefixIndex as nobody sane would use it: every change that a Writer offers, in any order, with
// told hashes that contradict one another, names that move, spans, pools and little room. The
// invariants hold all the while. (What is held and what is answered is compared with a model in
// tests/ingest.)
//
//   CONDUCTOR_SEED=n         runs that seed alone, checks after every change and tells each
//   CONDUCTOR_LONG_TESTS=1   runs many more seeds

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "lib/base/tier.h"
#include "lib/hash/block_hash.h"
#include "lib/hash/hash_profile.h"
#include "lib/index/prefix_index.h"

namespace conductor::index {
namespace {

class Abuse {
 public:
  Abuse(uint64_t seed, bool tell) : random_(seed), tell_(tell), index_(Options()) {
    long_ = OneIn(3);
    names_ = long_ ? 600 : 12;
  }

  // A few changes of one batch.
  void Step() {
    std::optional<PrefixIndex::Writer> writer(index_.Write());
    const size_t changes = 1 + Below(4);
    for (size_t i = 0; i < changes; ++i) Change(*writer);
  }

  // The first invariant that is broken.
  [[nodiscard]] std::optional<std::string> Broken() const {
    if (const Status valid = index_.Validate(); !valid) return valid.error().Message();
    const IndexStats stats = index_.Stats();
    uint64_t held = 0;
    for (const Publisher& publisher : publishers_) {
      for (const auto& [holder, space] : publisher.holders) {
        for (const Tier tier : kTiers) held += index_.HeldBlocks(holder, tier);
      }
    }
    if (pools_.empty() && held != stats.holdings) return "the holdings are counted wrongly";
    if (stats.released > limit_.released_limit) return "more is remembered than may be";
    return std::nullopt;
  }

  // Figures that cannot be.
  [[nodiscard]] std::optional<std::string> Impossible() {
    const std::vector<PrefixHash> prompt = Prompt();
    PrefixList source(prompt);
    const PrefixIndex::NameSource names = [&](const hash::HashProfile&, size_t) {
      return OneIn(2) ? std::optional(Name()) : std::nullopt;
    };
    const NamespaceKey key = Namespace();
    index_.Match({key.tenant, key.model, key.lora_name, key.block_size, std::nullopt}, source,
                 {.top = OneIn(3) ? 2u : 0u}, OneIn(3) ? names : PrefixIndex::NameSource{},
                 matches_);
    for (const RankMatch& match : matches_.ranks) {
      if (match.gpu > match.cpu || match.cpu > match.disk || match.disk > prompt.size()) {
        return fmt::format("gpu {} cpu {} disk {} of {}", match.gpu, match.cpu, match.disk,
                           prompt.size());
      }
    }
    return std::nullopt;
  }

  // Everybody leaves: what is then still there was leaked.
  [[nodiscard]] std::optional<std::string> Leaked() {
    {
      auto writer = index_.Write();
      while (!pools_.empty()) DropPool(writer);
      for (const Publisher& publisher : publishers_) {
        for (const auto& [holder, key] : publisher.holders) writer.DropHolder(holder);
        for (const AliasSpace space : publisher.spaces) writer.DropSpace(space);
      }
    }
    publishers_.clear();
    const IndexStats stats = index_.Stats();
    if (stats.blocks + stats.released + stats.holdings + stats.aliases + stats.holders +
            stats.runs + index_.Namespaces().size() !=
        0) {
      return fmt::format("{} blocks, {} holdings, {} aliases, {} holders, {} runs", stats.blocks,
                         stats.holdings, stats.aliases, stats.holders, stats.runs);
    }
    return Broken();
  }

  [[nodiscard]] uint64_t trims() const { return index_.Trims(); }

 private:
  struct Publisher {
    uint32_t number = 0;
    std::vector<std::pair<HolderId, NamespaceKey>> holders;
    std::vector<AliasSpace> spaces;
  };
  struct Pool {
    PoolId id{};
    std::vector<PoolName> has;  // or had
  };

  static inline const PoolDomain kDomain{"", "m", ""};

  PrefixIndex::Options Options() {
    limit_.released_limit = OneIn(3) ? 65536 : Below(20);
    if (OneIn(3)) limit_.memory_limit = (1 + Below(4)) << 19;
    return limit_;
  }

  size_t Below(size_t n) { return random_() % n; }
  bool OneIn(size_t n) { return Below(n) == 0; }
  template <typename T>
  T& Any(std::vector<T>& values) {
    return values[Below(values.size())];
  }
  template <typename... T>
  void Tell(fmt::format_string<T...> format, T&&... values) {
    if (!tell_) return;
    fmt::print("    {}\n", fmt::format(format, std::forward<T>(values)...));
    std::fflush(stdout);  // before what may crash
  }

  EngineHash Name() { return EngineHash{100 + Below(names_)}; }
  // Few, so that chains meet; in long histories those of one long chain are likely.
  LocalHash Local() { return LocalHash{1 + Below(2)}; }
  NamespaceKey Namespace() {
    return {.tenant = "", .model = "m", .lora_name = OneIn(4) ? "a" : "", .block_size = 16};
  }

  std::vector<PrefixHash> Prompt() {
    std::vector<PrefixHash> prompt;
    const size_t length = Below(long_ ? 300 : 10);
    for (size_t i = 0; i < length; ++i) {
      if (OneIn(20)) {
        prompt.push_back(PrefixHash{Below(20)});
        continue;
      }
      const LocalHash local = long_ && !OneIn(60) ? LocalHash{1} : Local();
      prompt.push_back(prompt.empty() ? hash::FirstPrefix(local)
                                      : hash::NextPrefix(prompt.back(), local, 1337));
    }
    return prompt;
  }

  void Change(PrefixIndex::Writer& writer) {
    if (publishers_.empty() || OneIn(60)) return AddPublisher(writer);
    Publisher& publisher = Any(publishers_);
    if (publisher.holders.empty() || OneIn(60)) {
      const NamespaceKey key = Namespace();
      RankKey rank{key, fmt::format("i{}", Below(3)), static_cast<uint32_t>(Below(2))};
      publisher.holders.emplace_back(writer.AddHolder(rank, publisher.number, !OneIn(5)), key);
      return Tell("publisher {}: a holder", publisher.number);
    }
    if (publisher.spaces.empty() || OneIn(60)) {
      publisher.spaces.push_back(
          writer.AddSpace(publisher.number, static_cast<uint32_t>(Below(2))));
      return Tell("publisher {}: a space", publisher.number);
    }
    const HolderId holder = Any(publisher.holders).first;
    const AliasSpace space = Any(publisher.spaces);
    const Tier tier = OneIn(3) ? kTiers[Below(kTierCount)] : Tier::kGpu;
    switch (Below(40)) {
      case 0:
        Tell("clear {}", static_cast<uint32_t>(holder));
        (void)writer.Clear(holder, tier);
        break;
      case 1:
        if (!OneIn(3)) break;
        Tell("drop holder {}", static_cast<uint32_t>(holder));
        std::erase_if(publisher.holders, [&](const auto& of) { return of.first == holder; });
        writer.DropHolder(holder);
        break;
      case 2:
        if (!OneIn(3)) break;
        Tell("drop space {}", static_cast<uint32_t>(space));
        std::erase(publisher.spaces, space);
        writer.DropSpace(space);
        break;
      case 3:
        if (!OneIn(5)) break;
        DropPublisher(writer, publisher);
        break;
      case 4:
        writer.SetVisible(holder, OneIn(2));
        break;
      case 5:
      case 6:
      case 7:
      case 8:
        ChangePool(writer);
        break;
      case 9:
      case 10:
      case 11: {
        const EngineHash name = Name();
        Tell("store known {} holder {} tier {}", static_cast<uint64_t>(name),
             static_cast<uint32_t>(holder), static_cast<int>(tier));
        const bool stored = writer.StoreKnown(holder, space, tier, Copies(), name);
        EXPECT_TRUE(!stored || writer.Holds(holder, space, tier, name));
        break;
      }
      case 12:
        if (limit_.memory_limit > 0) StoreFiller(writer, holder, space);
        break;
      default:
        if (OneIn(2)) {
          Remove(writer, holder, space, tier);
        } else {
          Store(writer, holder, space, tier);
        }
    }
  }

  CopyMode Copies() { return OneIn(3) ? CopyMode::kSet : CopyMode::kCount; }

  void AddPublisher(PrefixIndex::Writer&) {
    publishers_.push_back({.number = next_publisher_++});
    Tell("publisher {}", publishers_.back().number);
  }

  void DropPublisher(PrefixIndex::Writer& writer, Publisher& publisher) {
    Tell("drop publisher {}", publisher.number);
    for (const auto& [holder, key] : publisher.holders) writer.DropHolder(holder);
    for (const AliasSpace space : publisher.spaces) writer.DropSpace(space);
    std::swap(publisher, publishers_.back());
    publishers_.pop_back();
  }

  void Remove(PrefixIndex::Writer& writer, HolderId holder, AliasSpace space, Tier tier) {
    const size_t count = 1 + Below(long_ ? 80 : 3);
    uint64_t name = static_cast<uint64_t>(Name()) + count;
    const bool in_order = long_ && !OneIn(3);
    for (size_t i = 0; i < count; ++i) {
      const EngineHash of = in_order ? EngineHash{--name} : Name();
      Tell("remove {} holder {} space {} tier {}", static_cast<uint64_t>(of),
           static_cast<uint32_t>(holder), static_cast<uint32_t>(space), static_cast<int>(tier));
      const bool held = writer.Holds(holder, space, tier, of);
      EXPECT_EQ(writer.Remove(holder, space, tier, of) == RemoveOutcome::kRemoved, held);
    }
  }

  void Store(PrefixIndex::Writer& writer, HolderId holder, AliasSpace space, Tier tier) {
    const size_t count = 1 + Below(long_ ? 200 : 5);
    const uint32_t span = OneIn(5) ? static_cast<uint32_t>(2 + Below(3)) : 1;
    const bool in_order = long_ && !OneIn(4);
    uint64_t name = static_cast<uint64_t>(Name());
    StoreRequest request{.holder = holder, .space = space, .tier = tier, .copies = Copies()};
    if (OneIn(2)) request.parent = in_order ? EngineHash{name - 1} : Name();
    std::vector<EngineHash> hashes;
    std::vector<LocalHash> locals;
    std::vector<PrefixHash> prefixes;
    std::vector<uint8_t> gone;
    const bool some_gone = OneIn(4);
    for (size_t i = 0; i < count; ++i) {
      hashes.push_back(in_order && !OneIn(80) ? EngineHash{name++} : Name());
      for (uint32_t k = 0; k < span; ++k) {
        locals.push_back(long_ && !OneIn(60) ? LocalHash{1} : Local());
      }
      prefixes.push_back(PrefixHash{Below(long_ ? 900 : 12)});
      gone.push_back(OneIn(2) ? 1 : 0);
    }
    request.hashes = hashes;
    request.span = span;
    if (span == 1 && OneIn(6)) {
      request.prefixes = prefixes;
    } else {
      request.locals = locals;
    }
    if (some_gone) request.gone = gone;
    std::vector<EngineHash> bound;
    if (OneIn(2)) request.bound = &bound;
    if (tell_) {
      std::string text;
      for (size_t i = 0; i < count; ++i) {
        text += fmt::format(
            " {}{}{}", static_cast<uint64_t>(hashes[i]), some_gone && gone[i] != 0 ? "(gone)" : "",
            request.prefixes.empty() ? "" : fmt::format("={}", static_cast<uint64_t>(prefixes[i])));
      }
      Tell("store holder {} space {} tier {} span {} parent {}:{}", static_cast<uint32_t>(holder),
           static_cast<uint32_t>(space), static_cast<int>(tier), span,
           request.parent ? static_cast<uint64_t>(*request.parent) : 0, text);
    }
    if (writer.Store(request) != StoreOutcome::kStored) return;
    for (const EngineHash hash : hashes) EXPECT_TRUE(writer.Knows(space, hash));
  }

  void StoreFiller(PrefixIndex::Writer& writer, HolderId holder, AliasSpace space) {
    Tell("filler");
    for (size_t chains = 5 + Below(40); chains > 0; --chains) {
      std::vector<EngineHash> hashes;
      std::vector<LocalHash> locals;
      for (size_t left = 1 + Below(200); left > 0; --left) {
        hashes.push_back(EngineHash{random_() | uint64_t{1} << 63});
        locals.push_back(LocalHash{random_()});
      }
      StoreRequest request{.holder = holder, .space = space, .tier = Tier::kGpu};
      request.hashes = hashes;
      request.locals = locals;
      EXPECT_EQ(writer.Store(request), StoreOutcome::kStored);
    }
  }

  void ChangePool(PrefixIndex::Writer& writer) {
    if (pools_.empty() || (pools_.size() < 3 && OneIn(10))) {
      if (!OneIn(8)) return;
      Pool pool;
      std::optional<hash::HashProfile> profile;
      if (OneIn(3)) profile.emplace();
      pool.id = writer.AddPool(fmt::format("p{}", pools_.size()),
                               OneIn(2) ? PoolLookup::kContinue : PoolLookup::kFromStart, profile);
      pools_.push_back(std::move(pool));
      return Tell("pool");
    }
    if (OneIn(60)) return DropPool(writer);
    Pool& pool = Any(pools_);
    const size_t count = 1 + Below(long_ ? 100 : 3);
    auto hash = static_cast<uint64_t>(Name());
    for (size_t i = 0; i < count; ++i) {
      const PoolName name{static_cast<uint32_t>(OneIn(4) ? 1 : 0), EngineHash{hash++}};
      std::optional<Tier> tier;
      if (!OneIn(3)) tier = OneIn(2) ? Tier::kCpu : Tier::kDisk;
      Tell("pool {} has {} of group {} on {}", static_cast<uint32_t>(pool.id), hash - 1, name.group,
           tier ? static_cast<int>(*tier) : -1);
      writer.SetPoolBlock(pool.id, kDomain, name, tier);
      pool.has.push_back(name);
    }
  }

  void DropPool(PrefixIndex::Writer& writer) {
    Pool& pool = Any(pools_);
    Tell("drop pool {}", static_cast<uint32_t>(pool.id));
    for (const PoolName& name : pool.has) {
      writer.SetPoolBlock(pool.id, kDomain, name, std::nullopt);
    }
    writer.DropPool(pool.id);
    std::swap(pool, pools_.back());
    pools_.pop_back();
  }

  std::mt19937_64 random_;
  const bool tell_;
  bool long_ = false;
  size_t names_ = 0;
  PrefixIndex::Options limit_;
  PrefixIndex index_;
  Matches matches_;
  std::vector<Publisher> publishers_;
  uint32_t next_publisher_ = 0;
  std::vector<Pool> pools_;
};

// What went wrong, and after which step.
std::optional<std::string> FirstFailure(uint64_t seed, size_t check_every, bool tell = false) {
  Abuse abuse(seed, tell);
  constexpr size_t kSteps = 200;
  for (size_t i = 0; i < kSteps; ++i) {
    if (tell) fmt::print("  {}\n", i);
    abuse.Step();
    auto what = abuse.Impossible();
    if (!what && i % check_every == 0) what = abuse.Broken();
    if (what) return fmt::format("after step {}: {}", i, *what);
  }
  if (auto what = abuse.Leaked()) return "after everybody left: " + *what;
  return std::nullopt;
}

constexpr uint64_t kShares = 4;

class RandomChanges : public testing::TestWithParam<uint64_t> {};

TEST_P(RandomChanges, BreakNothing) {
  if (const char* seed_text = std::getenv("CONDUCTOR_SEED")) {
    if (GetParam() != 0) GTEST_SKIP() << "CONDUCTOR_SEED is run by the first share";
    const auto what = FirstFailure(std::strtoull(seed_text, nullptr, 10), 1, true);
    ASSERT_FALSE(what) << *what;
    return;
  }
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  const uint64_t usual = 80;
#else
  const uint64_t usual = 400;
#endif
  const uint64_t seeds = std::getenv("CONDUCTOR_LONG_TESTS") != nullptr ? 20'000 : usual;
  for (uint64_t seed = GetParam(); seed < seeds; seed += kShares) {
    const auto what = FirstFailure(seed, 20);
    ASSERT_FALSE(what) << "CONDUCTOR_SEED=" << seed << " " << *what;
    ASSERT_FALSE(HasFailure()) << "CONDUCTOR_SEED=" << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomChanges, testing::Range<uint64_t>(0, kShares));

}  // namespace
}  // namespace conductor::index
