// PublisherIngest and PrefixIndex against the reference model, on random histories.
//
//   CONDUCTOR_SEED=n         runs that seed alone, compares after every step and tells each
//   CONDUCTOR_LONG_TESTS=1   runs many more seeds

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "lib/index/prefix_index.h"
#include "lib/ingest/reference_model.h"
#include "tests/ingest/index_subject.h"
#include "tests/ingest/random_history.h"

namespace conductor::ingest {
namespace {

using Answer = ReferenceModel::Answer;

std::string Text(const Answer& answer) {
  std::string text;
  for (const auto& [rank, figures] : answer) {
    text += fmt::format(" {}/{}{} gpu={} cpu={} disk={};", rank.instance_id, rank.dp_rank,
                        rank.name_space.lora_name.empty() ? "" : "@" + rank.name_space.lora_name,
                        figures.gpu, figures.cpu, figures.disk);
  }
  return text.empty() ? " nobody" : text;
}

// Both sides of the comparison, brought through the same steps.
class Pair {
 public:
  explicit Pair(const History& history)
      : history_(history), index_(history.released_limit), model_(history.released_limit) {
    for (uint32_t id = 0; id < history.publishers.size(); ++id) Arrive(id);
  }

  void Do(const Step& step) {
    const uint32_t id = step.publisher;
    const bool rebuilding = rebuilding_.contains(id);
    if (present_.contains(id) == (step.kind == Step::Kind::kReturn)) return;
    switch (step.kind) {
      case Step::Kind::kBatch:
        index_.Apply(id, step.batch);
        model_.Apply(id, step.batch);
        break;
      case Step::Kind::kNewLife:
        index_.NewLife(id);
        model_.NewLife(id);
        break;
      case Step::Kind::kBeginRebuild:
        if (rebuilding) return;
        index_.BeginRebuild(id);
        model_.BeginRebuild(id);
        rebuilding_.insert(id);
        break;
      case Step::Kind::kCommitRebuild:
        if (!rebuilding) return;
        index_.CommitRebuild(id);
        model_.CommitRebuild(id);
        rebuilding_.erase(id);
        break;
      case Step::Kind::kAbandonRebuild:
        if (!rebuilding) return;
        index_.AbandonRebuild(id);
        model_.AbandonRebuild(id);
        rebuilding_.erase(id);
        break;
      case Step::Kind::kLeave:
        index_.RemovePublisher(id);
        model_.RemovePublisher(id);
        present_.erase(id);
        rebuilding_.erase(id);
        break;
      case Step::Kind::kReturn:
        Arrive(id);
        break;
    }
  }

  // The index alone comes back from a copy of itself. Not in the middle of a rebuild, which a
  // restart would end; nor where names are forgotten by their age, of which nothing is kept.
  void Restart() {
    if (rebuilding_.empty() && history_.released_limit >= history_.steps.size() * 64) {
      index_.Restart();
    }
  }

  // The first difference, or an invariant of the index that is broken.
  [[nodiscard]] std::optional<std::string> Compare() const {
    if (const Status valid = index_.index().Validate(); !valid) {
      return "Validate: " + valid.error().Message();
    }
    for (const uint32_t block_size : {kUnit, 2 * kUnit, 3 * kUnit}) {
      for (size_t i = 0; i < history_.probes.size(); ++i) {
        const auto prompt = Regroup(history_.probes[i], block_size);
        const Answer actual = index_.Query(OfSize(block_size), prompt);
        const Answer expected = model_.Query(OfSize(block_size), prompt);
        if (actual == expected) continue;
        return fmt::format("probe {} in blocks of {}:\n    index:{}\n    model:{}", i, block_size,
                           Text(actual), Text(expected));
      }
    }
    for (const uint32_t id : present_) {
      const auto differ = [id](const char* what, uint64_t actual, uint64_t expected) {
        return fmt::format("publisher {}: {} is {}, the model says {}", id, what, actual, expected);
      };
      if (rebuilding_.contains(id)) continue;  // these then speak of the hidden life
      if (index_.HoldsNothing(id) != model_.HoldsNothing(id)) {
        return differ("HoldsNothing", index_.HoldsNothing(id) ? 1 : 0,
                      model_.HoldsNothing(id) ? 1 : 0);
      }
      if (index_.WaitingEvents(id) != model_.WaitingEvents(id)) {
        return differ("waiting_events", index_.WaitingEvents(id), model_.WaitingEvents(id));
      }
      if (index_.BlockSize(id) != model_.BlockSize(id)) {
        return differ("block_size", index_.BlockSize(id), model_.BlockSize(id));
      }
    }
    const auto sizes = [](uint64_t holdings, uint64_t blocks, uint64_t released) {
      return fmt::format("{} holdings, {} blocks, {} of them released", holdings, blocks, released);
    };
    const index::IndexStats stats = index_.index().Stats();
    const std::string actual = sizes(stats.holdings, stats.blocks, stats.released);
    const std::string expected = sizes(model_.Holdings(), model_.Blocks(), model_.Released());
    if (actual != expected) return fmt::format("the index has {}; the model {}", actual, expected);
    return std::nullopt;
  }

  // Everybody leaves: what is then still there was leaked.
  [[nodiscard]] std::optional<std::string> DropEverything() {
    for (const uint32_t id : present_) index_.RemovePublisher(id);
    present_.clear();
    const index::IndexStats stats = index_.index().Stats();
    if (stats.holdings != 0 || stats.holders != 0 || stats.aliases != 0 ||
        stats.blocks != stats.released) {
      return fmt::format(
          "after everybody left: {} holdings, {} holders, {} aliases, {} blocks of "
          "which {} released",
          stats.holdings, stats.holders, stats.aliases, stats.blocks, stats.released);
    }
    if (const Status valid = index_.index().Validate(); !valid) {
      return "Validate after everybody left: " + valid.error().Message();
    }
    return std::nullopt;
  }

 private:
  static std::function<bool(const index::NamespaceKey&)> OfSize(uint32_t block_size) {
    return [block_size](const index::NamespaceKey& key) { return key.block_size == block_size; };
  }

  void Arrive(uint32_t id) {
    index_.AddPublisher(id, history_.publishers[id]);
    model_.AddPublisher(id, history_.publishers[id]);
    present_.insert(id);
  }

  const History& history_;
  IndexSubject index_;
  ReferenceModel model_;
  std::set<uint32_t> present_;
  std::set<uint32_t> rebuilding_;
};

struct Difference {
  size_t step;
  std::string what;
};

std::optional<Difference> FirstDifference(const History& history, size_t compare_every,
                                          bool tell = false, size_t restart_every = 0) {
  Pair pair(history);
  for (size_t i = 0; i < history.steps.size(); ++i) {
    if (tell) fmt::print("  {:3} {}\n", i, Describe(history.steps[i]));
    pair.Do(history.steps[i]);
    if (restart_every != 0 && i % restart_every == restart_every - 1) pair.Restart();
    if (i % compare_every != 0 && i + 1 != history.steps.size()) continue;
    if (auto what = pair.Compare()) return Difference{i, *what};
  }
  if (auto what = pair.DropEverything()) return Difference{history.steps.size(), *what};
  return std::nullopt;
}

// The history with every step, event and publisher left out that the difference does not need.
History Shrunk(History history) {
  const auto fails = [](const History& candidate) {
    return FirstDifference(candidate, 1).has_value();
  };
  for (bool smaller = true; smaller;) {
    smaller = false;
    for (size_t i = history.steps.size(); i-- > 0;) {
      History without = history;
      without.steps.erase(without.steps.begin() + static_cast<ptrdiff_t>(i));
      if (fails(without)) {
        history = std::move(without);
        smaller = true;
        continue;
      }
      for (size_t k = history.steps[i].batch.events.size(); k-- > 0;) {
        without = history;
        auto& events = without.steps[i].batch.events;
        events.erase(events.begin() + static_cast<ptrdiff_t>(k));
        if (!fails(without)) continue;
        history = std::move(without);
        smaller = true;
      }
    }
  }
  return history;
}

std::string Report(uint64_t seed, const History& history) {
  const History shrunk = Shrunk(history);
  const auto difference = FirstDifference(shrunk, 1);
  std::string text = fmt::format("CONDUCTOR_SEED={} shrinks to (released_limit {}):\n", seed,
                                 shrunk.released_limit);
  for (size_t id = 0; id < shrunk.publishers.size(); ++id) {
    text += fmt::format("  publisher {}: {}\n", id, Describe(shrunk.publishers[id]));
  }
  for (size_t i = 0; i < shrunk.steps.size(); ++i) {
    text += fmt::format("  {:3} {}\n", i, Describe(shrunk.steps[i]));
  }
  if (difference) text += fmt::format("  after step {}: {}\n", difference->step, difference->what);
  return text;
}

bool IsLongRun() { return std::getenv("CONDUCTOR_LONG_TESTS") != nullptr; }

// A few tests share the seeds, so that ctest spreads them over cores.
constexpr uint64_t kShares = 8;

class Differential : public testing::TestWithParam<uint64_t> {};

TEST_P(Differential, IndexAnswersAsTheModelDoes) {
  if (const char* seed_text = std::getenv("CONDUCTOR_SEED")) {
    if (GetParam() != 0) GTEST_SKIP() << "CONDUCTOR_SEED is run by the first share";
    const uint64_t seed = std::strtoull(seed_text, nullptr, 10);
    const History history = MakeHistory(seed);
    if (const auto difference = FirstDifference(history, 1, true)) {
      FAIL() << "after step " << difference->step << ": " << difference->what << "\n"
             << Report(seed, history);
    }
    return;
  }
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  const uint64_t usual = 1600;
#else
  const uint64_t usual = 20000;
#endif
  const uint64_t seeds = IsLongRun() ? 200000 : usual;
  for (uint64_t seed = GetParam(); seed < seeds; seed += kShares) {
    const History history = MakeHistory(seed);
    if (FirstDifference(history, seed % 32 < 8 ? 1 : 5)) {
      FAIL() << Report(seed, history);
    }
  }
}

TEST_P(Differential, ARestartChangesNothing) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  const uint64_t usual = 64;
#else
  const uint64_t usual = 480;
#endif
  const uint64_t seeds = IsLongRun() ? 20000 : usual;
  for (uint64_t seed = GetParam(); seed < seeds; seed += kShares) {
    const History history = MakeHistory(seed);
    const auto difference = FirstDifference(history, 1, false, 1 + seed % 7);
    ASSERT_FALSE(difference) << "seed " << seed << ", after step " << difference->step << ": "
                             << difference->what;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, Differential, testing::Range<uint64_t>(0, kShares));

}  // namespace
}  // namespace conductor::ingest
