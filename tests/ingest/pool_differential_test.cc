// PoolIngest, PublisherIngest and PrefixIndex against the pools' reference model, on random
// histories.
//
//   CONDUCTOR_SEED=n         runs that seed alone and tells each step
//   CONDUCTOR_LONG_TESTS=1   runs many more seeds

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/ingest/pool_history.h"
#include "tests/ingest/pool_model.h"
#include "tests/ingest/pool_subject.h"

namespace conductor::ingest {
namespace {

using Figures = PoolModel::Figures;
using Pools = std::map<std::string, PoolModel::PoolFigures>;

std::string Text(const Figures& figures) {
  return fmt::format("gpu={} cpu={} disk={}", figures.gpu, figures.cpu, figures.disk);
}

std::string Text(const Pools& pools) {
  std::string text;
  for (const auto& [name, figures] : pools) {
    text += fmt::format(" {} cpu={} disk={};", name, figures.cpu, figures.disk);
  }
  return text.empty() ? " none" : text;
}

template <typename Set>
std::string Joined(const Set& keys) {
  std::string text;
  for (const std::string& key : keys) text += " " + key;
  return text;
}

// Both sides of the comparison, brought through the same steps.
class Pair {
 public:
  explicit Pair(const PoolHistory& history) : history_(history), model_(history.book) {
    for (uint32_t id = 0; id < history.engines.size(); ++id) {
      subject_.AddEngine(id, history.engines[id]);
      model_.AddEngine(id, history.engines[id]);
    }
    for (uint32_t id = 0; id < history.pools.size(); ++id) Arrive(id);
  }

  void Do(const PoolStep& step) {
    using Kind = PoolStep::Kind;
    const uint32_t id = step.whose;
    const bool of_pool = step.kind != Kind::kEngineBatch && step.kind != Kind::kEngineNewLife;
    if (of_pool && pools_.contains(id) == (step.kind == Kind::kPoolReturns)) return;
    const bool listing = listing_.contains(id);
    switch (step.kind) {
      case Kind::kEngineBatch:
        return Both([&](auto& side) { side.ApplyToEngine(id, step.batch); });
      case Kind::kEngineNewLife:
        return Both([&](auto& side) { side.NewLifeOfEngine(id); });
      case Kind::kPoolBatch:
        return Both([&](auto& side) { side.ApplyToPool(id, step.batch); });
      case Kind::kPoolNewLife:
        listing_.erase(id);
        return Both([&](auto& side) { side.NewLifeOfPool(id); });
      case Kind::kPoolLeaves:
        pools_.erase(id);
        listing_.erase(id);
        return Both([&](auto& side) { side.RemovePool(id); });
      case Kind::kPoolReturns:
        return Arrive(id);
      case Kind::kBeginListing:
        if (!listing_.insert(id).second) return;
        return Both([&](auto& side) { side.BeginListing(id); });
      case Kind::kApplyListing:
        if (!listing) return;
        listing_.erase(id);
        return Both([&](auto& side) { side.ApplyListing(id, step.listed); });
      case Kind::kAbandonListing:
        if (!listing) return;
        listing_.erase(id);
        return Both([&](auto& side) { side.AbandonListing(id); });
      case Kind::kTiersLearnt:
        return Both([&](auto& side) { side.TiersLearnt(id, step.listed); });
    }
  }

  // The first difference, or an invariant that is broken.
  [[nodiscard]] std::optional<std::string> Compare() const {
    if (model_.unsupported()) return std::nullopt;
    for (const uint32_t id : pools_) {
      const IngestCounters counters = subject_.pool(id).Counters();
      if (counters.objects != model_.Objects(id)) {
        return fmt::format("pool {} has {} objects, the model {}", id, counters.objects,
                           model_.Objects(id));
      }
      if (subject_.pool(id).HoldsNothing() != (model_.Objects(id) == 0)) {
        return fmt::format("pool {} HoldsNothing with {} objects", id, model_.Objects(id));
      }
      const auto actual = subject_.KeysWithoutTier(id);
      const auto expected = model_.KeysWithoutTier(id);
      if (actual != expected) {
        return fmt::format("pool {}, keys without tier:\n    index:{}\n    model:{}", id,
                           Joined(actual), Joined(expected));
      }
    }
    for (size_t i = 0; i < history_.probes.size(); ++i) {
      const PoolProbe& probe = history_.probes[i];
      const index::PrefixIndex::NameSource names =
          [&probe](const hash::HashProfile&, size_t block) -> std::optional<EngineHash> {
        if (block >= probe.names.size()) return std::nullopt;
        return probe.names[block];
      };
      if (auto what = CompareProbe(probe, {})) return fmt::format("probe {} {}", i, *what);
      if (auto what = CompareProbe(probe, names)) {
        return fmt::format("probe {} with names {}", i, *what);
      }
    }
    return std::nullopt;
  }

  [[nodiscard]] std::optional<std::string> Validate() const {
    const Status valid = subject_.index().Validate();
    if (valid) return std::nullopt;
    return "Validate: " + valid.error().Message();
  }

  [[nodiscard]] bool unsupported() const { return model_.unsupported(); }

  // Everybody leaves: what is then still there was leaked.
  [[nodiscard]] std::optional<std::string> DropEverything(bool pools_first) {
    const auto drop_pools = [this] {
      for (const uint32_t id : pools_) subject_.RemovePool(id);
      pools_.clear();
    };
    if (pools_first) drop_pools();
    for (uint32_t id = 0; id < history_.engines.size(); ++id) {
      subject_.RemoveEngine(id);
      if (auto what = Validate()) return what;
    }
    drop_pools();
    if (auto what = Validate()) return what;
    const index::IndexStats stats = subject_.index().Stats();
    if (stats.holdings + stats.holders + stats.aliases == 0 && stats.blocks == stats.released) {
      return std::nullopt;
    }
    return fmt::format(
        "after everybody left: {} holdings, {} holders, {} aliases, {} blocks of which {} released",
        stats.holdings, stats.holders, stats.aliases, stats.blocks, stats.released);
  }

 private:
  template <typename Action>
  void Both(const Action& action) {
    action(subject_);
    action(model_);
  }

  void Arrive(uint32_t id) {
    pools_.insert(id);
    Both([&](auto& side) { side.AddPool(id, history_.pools[id]); });
  }

  [[nodiscard]] std::optional<std::string> CompareProbe(
      const PoolProbe& probe, const index::PrefixIndex::NameSource& names) const {
    for (const PublisherProfile& engine : history_.engines) {
      const index::NamespaceKey name_space = {engine.tenant, engine.model, probe.lora_name,
                                              kPoolBlock, engine.additional_salt};
      const Pools actual = subject_.PoolsOf(name_space, probe.tokens, names);
      const Pools expected = model_.PoolsOf(name_space, probe.tokens, names);
      if (actual != expected) {
        return fmt::format("pools:\n    index:{}\n    model:{}", Text(actual), Text(expected));
      }
      for (uint32_t dp_rank = 0; dp_rank < 2; ++dp_rank) {
        const index::RankKey rank = {name_space, engine.instance_id, dp_rank};
        const Figures is = subject_.FiguresOf(rank, probe.tokens, names);
        const Figures should = model_.FiguresOf(rank, probe.tokens, names);
        if (is != should || is.gpu > is.cpu || is.cpu > is.disk) {
          return fmt::format("{}/{}:\n    index: {}\n    model: {}", engine.instance_id, dp_rank,
                             Text(is), Text(should));
        }
      }
    }
    return std::nullopt;
  }

  const PoolHistory& history_;
  PoolSubject subject_;
  PoolModel model_;
  std::set<uint32_t> pools_;    // present
  std::set<uint32_t> listing_;  // of these
};

struct Difference {
  size_t step;
  std::string what;
};

std::optional<Difference> FirstDifference(const PoolHistory& history, bool tell = false) {
  Pair pair(history);
  for (size_t i = 0; i < history.steps.size(); ++i) {
    if (tell) fmt::print("  {:3} {}\n", i, Describe(history.steps[i]));
    pair.Do(history.steps[i]);
    if (pair.unsupported()) return std::nullopt;
    if (auto what = pair.Compare()) return Difference{i, *what};
  }
  if (auto what = pair.Validate()) return Difference{history.steps.size(), *what};
  if (auto what = pair.DropEverything(history.steps.size() % 2 == 0)) {
    return Difference{history.steps.size(), *what};
  }
  return std::nullopt;
}

// The history with every step, event and listed object left out that the difference does not need.
PoolHistory Shrunk(PoolHistory history) {
  bool smaller = true;
  const auto keep_if_it_differs = [&](PoolHistory& without) {
    if (!FirstDifference(without)) return false;
    history = std::move(without);
    smaller = true;
    return true;
  };
  const auto at = [](auto& list, size_t i) { return list.begin() + static_cast<ptrdiff_t>(i); };
  while (smaller) {
    smaller = false;
    for (size_t i = history.steps.size(); i-- > 0;) {
      PoolHistory without = history;
      without.steps.erase(at(without.steps, i));
      if (keep_if_it_differs(without)) continue;
      for (size_t k = history.steps[i].batch.events.size(); k-- > 0;) {
        without = history;
        without.steps[i].batch.events.erase(at(without.steps[i].batch.events, k));
        keep_if_it_differs(without);
      }
      for (size_t k = history.steps[i].listed.size(); k-- > 0;) {
        without = history;
        without.steps[i].listed.erase(at(without.steps[i].listed, k));
        keep_if_it_differs(without);
      }
    }
  }
  return history;
}

std::string Report(uint64_t seed, const PoolHistory& history) {
  const PoolHistory shrunk = Shrunk(history);
  const auto difference = FirstDifference(shrunk);
  std::string text = fmt::format("CONDUCTOR_SEED={} shrinks to:\n", seed);
  for (const PublisherProfile& engine : shrunk.engines) {
    text += fmt::format("  engine {} tenant={} copies={}\n", engine.instance_id, engine.tenant,
                        engine.copies == index::CopyMode::kSet ? "set" : "count");
  }
  for (const PoolProfile& pool : shrunk.pools) text += "  pool " + Describe(pool) + "\n";
  for (size_t i = 0; i < shrunk.steps.size(); ++i) {
    text += fmt::format("  {:3} {}\n", i, Describe(shrunk.steps[i]));
  }
  if (difference) text += fmt::format("  after step {}: {}\n", difference->step, difference->what);
  return text;
}

constexpr uint64_t kShares = 4;

class PoolDifferential : public testing::TestWithParam<uint64_t> {};

TEST_P(PoolDifferential, IndexAnswersAsTheModelDoes) {
  if (const char* seed_text = std::getenv("CONDUCTOR_SEED")) {
    if (GetParam() != 0) GTEST_SKIP() << "CONDUCTOR_SEED is run by the first share";
    const uint64_t seed = std::strtoull(seed_text, nullptr, 10);
    const PoolHistory history = MakePoolHistory(seed);
    if (FirstDifference(history, true)) FAIL() << Report(seed, history);
    return;
  }
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  const uint64_t usual = 200;
#else
  const uint64_t usual = 2000;
#endif
  const uint64_t seeds = std::getenv("CONDUCTOR_LONG_TESTS") != nullptr ? 40'000 : usual;
  for (uint64_t seed = GetParam(); seed < seeds; seed += kShares) {
    const PoolHistory history = MakePoolHistory(seed);
    if (FirstDifference(history)) FAIL() << Report(seed, history);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, PoolDifferential, testing::Range<uint64_t>(0, kShares));

}  // namespace
}  // namespace conductor::ingest
