// Resident memory of the index, everything counted: the growth of the process per held block.
// Prints one JSON object a line. docs/performance.md says what came of it.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "bench_fleet.h"
#include "lib/hash/block_hash.h"
#include "lib/index/prefix_index.h"
#include "lib/trace/workload.h"

namespace conductor::bench {
namespace {

using index::PrefixIndex;

uint64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  uint64_t size = 0;
  uint64_t resident = 0;
  file >> size >> resident;
  return resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

// Blocks that follow one another and are announced together.
struct Piece {
  std::optional<EngineHash> parent;
  std::vector<EngineHash> names;
  std::vector<LocalHash> locals;
};

// What engines announce of a workload.
class Source {
 public:
  virtual ~Source() = default;
  // Never the same again.
  [[nodiscard]] virtual Piece Next() = 0;
};

// The chats of trace::Workload: what each turn adds to its conversation. A conversation has 64
// blocks in the middle, behind a system prompt that it shares with others; nothing branches off it.
class Chats final : public Source {
 public:
  Chats()
      : workload_({.seed = 1,
                   .system_prompts = 64,
                   .system_prompt_tokens = 1024,
                   .conversations = 4096,
                   .turns = 4,
                   .turn_tokens = 256}) {}

  [[nodiscard]] Piece Next() override {
    for (;;) {
      const trace::Workload::Request request = workload_.Next();
      if (request.turn == 0) known_.erase(request.conversation);
      // The system prompt's names are everybody's, those behind it the conversation's.
      const size_t blocks = request.tokens.size() / 16;
      std::vector<LocalHash> locals(blocks);
      hash::HashBlocks(request.tokens, 16, kSeed, locals);
      std::vector<PrefixHash> chain(blocks);
      hash::HashChain(request.tokens, 16, nullptr, kSeed, chain);
      size_t& known = known_[request.conversation];
      const size_t first = known;
      known = blocks;
      if (request.turn == 3) known_.erase(request.conversation);
      if (first == blocks) continue;
      Piece piece;
      if (first > 0) piece.parent = NameOf(chain[first - 1]);
      for (size_t i = first; i < blocks; ++i) {
        piece.names.push_back(NameOf(chain[i]));
        piece.locals.push_back(locals[i]);
      }
      return piece;
    }
  }

 private:
  // An engine's own hash has nothing of ours.
  [[nodiscard]] static EngineHash NameOf(PrefixHash prefix) {
    return EngineHash{static_cast<uint64_t>(prefix) * 0x9e3779b97f4a7c15u + 1};
  }

  trace::Workload workload_;
  std::unordered_map<uint64_t, size_t> known_;  // blocks of a conversation
};

// A prefix tree whose runs, from branch to branch, have log-normal lengths; or all the same one.
class Tree final : public Source {
 public:
  Tree(double median, double sigma) : median_(median), sigma_(sigma) {}

  [[nodiscard]] Piece Next() override {
    double blocks = median_;
    if (sigma_ > 0)
      blocks = std::lognormal_distribution<double>(std::log(median_), sigma_)(random_);
    const auto count = std::max<size_t>(1, static_cast<size_t>(std::lround(blocks)));
    Piece piece;
    for (size_t i = 0; i < count; ++i) {
      piece.names.push_back(EngineHash{random_()});
      piece.locals.push_back(LocalHash{random_()});
    }
    // Three of four branch off a block of the last ones, anywhere.
    if (!ends_.empty() && random_() % 4 != 0) piece.parent = ends_[random_() % ends_.size()];
    ends_.push_back(piece.names[random_() % count]);
    if (ends_.size() > 1000) ends_.pop_front();
    return piece;
  }

 private:
  double median_;
  double sigma_;
  std::mt19937_64 random_{1};
  std::deque<EngineHash> ends_;
};

// Another source, in a process of its own: what it remembers is not the index's.
class Piped final : public Source {
 public:
  explicit Piped(const std::function<std::unique_ptr<Source>()>& make) {
    int ends[2];
    if (::pipe(ends) != 0) throw std::runtime_error("no pipe");
    child_ = ::fork();
    if (child_ == 0) {
      ::close(ends[0]);
      Write(*make(), ends[1]);
      ::_exit(0);
    }
    ::close(ends[1]);
    from_ = ::fdopen(ends[0], "rb");
  }
  ~Piped() override {
    std::fclose(from_);
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  Piped(const Piped&) = delete;
  Piped& operator=(const Piped&) = delete;

  [[nodiscard]] Piece Next() override {
    Piece piece;
    uint64_t head[3];  // whether there is a parent, the parent, blocks
    Read(head, sizeof(head));
    if (head[0] != 0) piece.parent = EngineHash{head[1]};
    piece.names.resize(head[2]);
    piece.locals.resize(head[2]);
    Read(piece.names.data(), head[2] * 8);
    Read(piece.locals.data(), head[2] * 8);
    return piece;
  }

 private:
  static void Write(Source& source, int to) {
    std::FILE* file = ::fdopen(to, "wb");
    for (;;) {
      const Piece piece = source.Next();
      const uint64_t head[3] = {piece.parent ? 1u : 0u,
                                piece.parent ? static_cast<uint64_t>(*piece.parent) : 0,
                                piece.names.size()};
      if (std::fwrite(head, sizeof(head), 1, file) != 1) return;
      if (std::fwrite(piece.names.data(), 8, piece.names.size(), file) != piece.names.size()) {
        return;
      }
      (void)std::fwrite(piece.locals.data(), 8, piece.locals.size(), file);
    }
  }
  void Read(void* to, size_t bytes) {
    if (std::fread(to, 1, bytes, from_) != bytes) throw std::runtime_error("the source ended");
  }

  pid_t child_;
  std::FILE* from_;
};

struct Options {
  uint64_t blocks = 10'000'000;
  uint64_t churn = 0;
  uint32_t holders = 1;
  bool differing = false;
  std::string runs = "chat";
};

std::unique_ptr<Source> SourceOf(const std::string& runs) {
  if (runs == "chat") return std::make_unique<Chats>();
  if (runs == "tree") return std::make_unique<Tree>(64, 0.8);
  return std::make_unique<Tree>(std::stod(runs), 0);
}

// Names of the same blocks by an engine with another hash seed.
EngineHash OfAnother(EngineHash name, uint32_t engine) {
  return EngineHash{(static_cast<uint64_t>(name) + engine) * (2 * uint64_t{engine} + 1)};
}

int Run(const Options& options) {
  auto source = std::make_unique<Piped>([&options] { return SourceOf(options.runs); });
  PrefixIndex index{PrefixIndex::Options{}};
  std::vector<Member> members;
  for (uint32_t i = 0; i < options.holders; ++i) members.push_back(Join(index, i));
  (void)source->Next();
  const uint64_t before = ResidentBytes();
  // What the benchmark itself keeps of pieces, to remove them in their order.
  std::deque<std::vector<EngineHash>> kept;
  uint64_t kept_bytes = 0;
  uint64_t stored = 0;
  const auto store = [&] {
    Piece piece = source->Next();
    for (uint32_t i = 0; i < options.holders; ++i) {
      Piece own = piece;
      if (options.differing && i > 0) {
        for (EngineHash& name : own.names) name = OfAnother(name, i);
        if (own.parent) own.parent = OfAnother(*own.parent, i);
      }
      if (!Store(index, members[i], own.locals, own.names, Tier::kGpu, own.parent)) {
        // Its parent was removed and forgotten.
        (void)Store(index, members[i], own.locals, own.names);
      }
    }
    stored += piece.names.size();
    if (options.churn == 0) return;
    kept_bytes += piece.names.capacity() * sizeof(EngineHash);
    kept.push_back(std::move(piece.names));
  };
  while (index.Stats().holdings < options.blocks * options.holders) {
    for (int i = 0; i < 100; ++i) store();
  }
  const auto report = [&](const char* when) {
    const index::IndexStats stats = index.Stats();
    const double held = static_cast<double>(stats.holdings) / options.holders;
    const double resident =
        static_cast<double>(ResidentBytes()) - static_cast<double>(before) -
        static_cast<double>(kept_bytes + kept.size() * sizeof(std::vector<EngineHash>));
    fmt::print(
        "{{\"when\": \"{}\", \"runs\": \"{}\", \"holders\": {}, \"differing\": {}, \"blocks\": "
        "{:.0f}, \"index_runs\": {}, \"bytes_per_block\": {:.2f}, \"counted_per_block\": "
        "{:.2f}}}\n",
        when, options.runs, options.holders, options.differing, held, stats.runs, resident / held,
        static_cast<double>(stats.bytes) / held);
    std::fflush(stdout);
  };
  report("filled");
  if (options.churn == 0) return 0;
  const uint64_t until = stored + options.churn;
  while (stored < until) {
    while (index.Stats().holdings > options.blocks * options.holders) {
      for (uint32_t i = 0; i < options.holders; ++i) {
        auto writer = index.Write();
        for (size_t k = kept.front().size(); k-- > 0;) {
          const EngineHash name = kept.front()[k];
          (void)writer.Remove(members[i].holder, members[i].space, Tier::kGpu,
                              options.differing && i > 0 ? OfAnother(name, i) : name);
        }
      }
      kept_bytes -= kept.front().capacity() * sizeof(EngineHash);
      kept.pop_front();
    }
    store();
  }
  report("after churn");
  return 0;
}

}  // namespace
}  // namespace conductor::bench

int main(int argc, char** argv) {
  conductor::bench::Options options;
  CLI::App app{"Resident bytes of the index per held block"};
  app.add_option("--blocks", options.blocks, "held at once")->capture_default_str();
  app.add_option("--churn", options.churn, "blocks to store and remove after that")
      ->capture_default_str();
  app.add_option("--holders", options.holders, "of every block")->capture_default_str();
  app.add_flag("--differing", options.differing, "each further holder has names of its own");
  app.add_option("--runs", options.runs,
                 "chat: trace::Workload's; tree: log-normal around 64; or the length of all")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return conductor::bench::Run(options);
}
