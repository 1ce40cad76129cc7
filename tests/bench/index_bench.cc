// What the index costs, each figure beside what it is to be compared with. docs/performance.md says
// how it is run and what came of it.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include "bench_fleet.h"
#include "lib/hash/block_hash.h"
#include "lib/index/prefix_index.h"
#include "lib/ingest/publisher_ingest.h"
#include "lib/wire/decoder.h"
#include "lib/wire/kv_event.h"
#include "lib/wire/vllm_encoder.h"

namespace conductor::bench {
namespace {

using benchmark::Counter;
using benchmark::State;
using index::PrefixIndex;

// --- Lookups.

// The hashes of a prompt and nothing else: what every lookup that begins with tokens has to do.
void HashChain(State& state) {
  const auto blocks = static_cast<size_t>(state.range(0));
  const auto block_size = static_cast<uint32_t>(state.range(1));
  const std::vector<TokenId> tokens = Tokens(blocks * block_size, 1);
  std::vector<PrefixHash> chain(blocks);
  for (auto _ : state) {
    hash::HashChain(tokens, block_size, nullptr, kSeed, chain);
    benchmark::DoNotOptimize(chain.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(HashChain)
    ->ArgsProduct({{32, 128, 512, 2048, 8192}, {16}})
    ->Args({32768, 1})
    ->ArgNames({"blocks", "tokens_a_block"});

struct HeldPrompt {
  // With no tiers the holders have known the blocks and hold none.
  explicit HeldPrompt(size_t blocks, uint32_t holders, uint32_t block_size = 16,
                      const std::vector<Tier>& tiers = {Tier::kGpu})
      : tokens(Tokens(blocks * block_size, 1)), names(Names(blocks, 1)) {
    const auto locals = Locals(tokens, block_size);
    const bool on_gpu = std::ranges::count(tiers, Tier::kGpu) > 0;
    for (uint32_t i = 0; i < holders; ++i) {
      const Member member = Join(index, i, block_size);
      // Names become known on the device, where a missing parent means the root.
      (void)Store(index, member, locals, names, Tier::kGpu);
      for (const Tier tier : tiers) (void)Store(index, member, locals, names, tier);
      if (!on_gpu) (void)index.Write().Clear(member.holder, Tier::kGpu);
    }
  }

  // A pool that has all of it too.
  void AddPool(index::PoolLookup lookup) {
    auto writer = index.Write();
    const auto pool = writer.AddPool("pool", lookup, std::nullopt);
    for (const EngineHash name : names) {
      writer.SetPoolBlock(pool, {"default", "m", ""}, {0, name}, Tier::kCpu);
    }
  }

  // One lookup; the best rank's blocks.
  uint32_t Look(uint32_t block_size = 16, uint32_t top = 0) {
    index::TokenChain chain(tokens, block_size, kSeed);
    index.Match(ScopeOf(block_size), chain, {.top = top}, {}, matches);
    return matches.ranks.empty() ? 0 : matches.ranks.front().disk;
  }
  // Blocks of it that the pool has.
  [[nodiscard]] uint32_t OfPool() const {
    return matches.pools.empty() ? 0 : matches.pools.front().disk;
  }

  std::vector<TokenId> tokens;
  std::vector<EngineHash> names;
  PrefixIndex index{PrefixIndex::Options{}};
  index::Matches matches;
};

// A prompt all of which is held; hashing included.
void Lookup(State& state) {
  const auto blocks = static_cast<size_t>(state.range(0));
  HeldPrompt prompt(blocks, static_cast<uint32_t>(state.range(1)));
  for (auto _ : state) {
    if (prompt.Look() != blocks) state.SkipWithError("the prompt was not found");
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(Lookup)
    ->ArgsProduct({{32, 128, 512, 2048, 8192}, {1, 8, 64, 512}})
    ->ArgNames({"blocks", "holders"});

// A prompt of which nothing is held.
void LookupMiss(State& state) {
  HeldPrompt prompt(64, 8);
  prompt.tokens = Tokens(static_cast<size_t>(state.range(0)) * 16, 2);
  for (auto _ : state) {
    if (prompt.Look() != 0) state.SkipWithError("something was found");
  }
}
BENCHMARK(LookupMiss)->Arg(64)->Arg(8192)->ArgName("blocks");

// Very many ranks hold the prompt, and the best eight are wanted.
void LookupTopOfMany(State& state) {
  const auto blocks = static_cast<size_t>(state.range(0));
  HeldPrompt prompt(blocks, static_cast<uint32_t>(state.range(1)));
  Durations durations;
  for (auto _ : state) {
    const double begun = Seconds();
    if (prompt.Look(16, 8) != blocks) state.SkipWithError("the prompt was not found");
    const double taken = Seconds() - begun;
    durations.Add(taken);
    state.SetIterationTime(taken);
  }
  state.counters["p50_us"] = durations.Percentile(0.5) * 1e6;
  state.counters["p99_us"] = durations.Percentile(0.99) * 1e6;
}
BENCHMARK(LookupTopOfMany)
    ->ArgsProduct({{64, 256, 1024}, {4096}})
    ->ArgNames({"blocks", "holders"})
    ->UseManualTime();

// The same prompt with one token a block, as SGLang's default page: per token.
void LookupBlockSize(State& state) {
  const auto block_size = static_cast<uint32_t>(state.range(0));
  constexpr size_t kTokens = 32768;
  HeldPrompt prompt(kTokens / block_size, 8, block_size);
  for (auto _ : state) {
    if (prompt.Look(block_size) != kTokens / block_size) state.SkipWithError("not found");
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kTokens / block_size));
}
BENCHMARK(LookupBlockSize)->Arg(1)->Arg(16)->ArgName("tokens_a_block");

// By where the blocks lie.
void LookupTier(State& state) {
  struct Case {
    const char* label;
    std::vector<Tier> tiers;
    std::optional<index::PoolLookup> pool;
  };
  using index::PoolLookup;
  static const Case cases[] = {
      {"gpu", {Tier::kGpu}, {}},
      {"cpu", {Tier::kCpu}, {}},
      {"disk", {Tier::kDisk}, {}},
      {"all three", {Tier::kGpu, Tier::kCpu, Tier::kDisk}, {}},
      {"pool alone", {}, PoolLookup::kFromStart},
      {"gpu and pool", {Tier::kGpu}, PoolLookup::kFromStart},
      {"pool alone that continues", {}, PoolLookup::kContinue},
      {"gpu and pool that continues", {Tier::kGpu}, PoolLookup::kContinue},
  };
  const Case& where = cases[state.range(0)];
  constexpr size_t kBlocks = 2048;
  HeldPrompt prompt(kBlocks, 8, 16, where.tiers);
  if (where.pool) prompt.AddPool(*where.pool);
  state.SetLabel(where.label);
  for (auto _ : state) {
    const uint32_t found = prompt.Look();
    if (!where.tiers.empty() && (found != kBlocks || prompt.matches.ranks.size() != 8)) {
      state.SkipWithError("the prompt was not found");
    }
    if (where.pool && prompt.OfPool() != kBlocks) state.SkipWithError("not found in the pool");
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kBlocks));
}
BENCHMARK(LookupTier)->DenseRange(0, 7)->ArgName("where");

// --- Events.

std::string Encode(wire::KvEvent event) {
  wire::EventBatch batch;
  batch.timestamp = 1.7e9;
  batch.events.push_back(std::move(event));
  return wire::EncodeVllmPositionalBatch(batch, wire::VllmSlots::kV0_11);
}

// The payloads of one engine, encoded as vLLM does: conversations of 512 blocks, and evictions as a
// least-recently-used cache has them, of the oldest conversation from its end.
class EngineEvents {
 public:
  explicit EngineEvents(size_t blocks_an_event) : blocks_(blocks_an_event) {}

  // Stores the next blocks of the newest conversation.
  std::string Store() {
    if (conversations_.empty() || conversations_.back().size() >= kConversationBlocks) {
      conversations_.emplace_back();
    }
    std::vector<EngineHash>& names = conversations_.back();
    wire::BlockStored event;
    if (!names.empty()) event.parent = names.back();
    for (size_t i = 0; i < blocks_; ++i) event.hashes.push_back(EngineHash{random_()});
    names.insert(names.end(), event.hashes.begin(), event.hashes.end());
    for (size_t i = 0; i < blocks_ * 16; ++i) {
      event.tokens.push_back(static_cast<TokenId>(random_() % 128000));
    }
    event.block_size = 16;
    event.medium = "GPU";
    held_ += blocks_;
    return Encode(wire::KvEvent(std::move(event)));
  }

  // Removes as many as were stored with one event.
  std::string Evict() {
    std::vector<EngineHash>& names = conversations_.front();
    wire::BlockRemoved event;
    event.hashes.assign(names.rbegin(), names.rbegin() + static_cast<std::ptrdiff_t>(blocks_));
    event.medium = "GPU";
    names.resize(names.size() - blocks_);
    held_ -= blocks_;
    if (names.empty()) conversations_.pop_front();
    return Encode(wire::KvEvent(std::move(event)));
  }

  [[nodiscard]] size_t held() const { return held_; }  // blocks

 private:
  static constexpr size_t kConversationBlocks = 512;  // a multiple of any event's

  size_t blocks_;
  std::mt19937_64 random_{7};
  std::deque<std::vector<EngineHash>> conversations_;
  size_t held_ = 0;
};

// An index with one such engine, its cache full, and what feeds it.
class Engine {
 public:
  Engine(size_t resident, size_t blocks_an_event)
      : events_(blocks_an_event), decoder_(wire::Dialect::kVllm) {
    ingest::PublisherProfile profile;
    profile.instance_id = "engine";
    profile.model = "m";
    profile.block_size = 16;
    ingest_ = std::make_unique<ingest::PublisherIngest>(index, profile, ingest::IngestLimits{}, 0);
    while (events_.held() < resident) Apply(events_.Store());
  }

  // The next two payloads: the removal that makes room, and the store.
  std::pair<std::string, std::string> Next() {
    std::string removal = events_.Evict();
    return {std::move(removal), events_.Store()};
  }

  void Apply(const std::string& payload) {
    const auto batch = decoder_.Decode(payload);
    if (batch) ingest_->Apply(*batch);
  }
  [[nodiscard]] ingest::IngestCounters Counters() const { return ingest_->Counters(); }

  PrefixIndex index{PrefixIndex::Options{}};

 private:
  EngineEvents events_;
  wire::Decoder decoder_;
  std::unique_ptr<ingest::PublisherIngest> ingest_;
};

// From the payload's bytes to the index, stored and removed blocks alike, at a steady size.
void Apply(State& state) {
  const auto blocks = static_cast<size_t>(state.range(0));
  const auto resident = static_cast<size_t>(state.range(1));
  // A million blocks take a while: one index of a kind is kept for all repetitions.
  static std::map<std::pair<size_t, size_t>, std::unique_ptr<Engine>> engines;
  if (!engines.contains({blocks, resident})) engines.clear();
  auto& engine = engines[{blocks, resident}];
  if (!engine) engine = std::make_unique<Engine>(resident, blocks);
  const size_t batches = std::max<size_t>(8192 / blocks, 128);
  for (auto _ : state) {
    std::vector<std::pair<std::string, std::string>> payloads;
    for (size_t i = 0; i < batches; ++i) payloads.push_back(engine->Next());
    const double begun = CpuSeconds();
    for (const auto& [removal, store] : payloads) {
      engine->Apply(removal);
      engine->Apply(store);
    }
    state.SetIterationTime(CpuSeconds() - begun);
  }
  const auto counters = engine->Counters();
  if (counters.removed_unknown + counters.waiting_events > 0) state.SkipWithError("lost its place");
  state.counters["blocks"] =
      Counter(static_cast<double>(state.iterations()) * static_cast<double>(2 * batches * blocks),
              Counter::kIsRate);
}
BENCHMARK(Apply)
    ->ArgsProduct({{64}, {100'000, 300'000, 1'000'000, 3'000'000, 10'000'000}})
    ->ArgsProduct({{1}, {100'000, 1'000'000, 10'000'000}})
    ->ArgNames({"blocks_an_event", "resident"})
    ->UseManualTime()
    ->MinTime(2);

// Lookups while the other core applies events as fast as it can: to this index, or to another.
void LookupBesideWriter(State& state) {
  const bool same = state.range(0) != 0;
  constexpr size_t kBlocks = 512;
  HeldPrompt prompt(kBlocks, 64);
  PrefixIndex other{PrefixIndex::Options{}};
  std::atomic<bool> stop = false;     // order does not matter
  std::atomic<uint64_t> applied = 0;  // blocks
  std::thread writer([&] {
    // Stores and evictions that come round again, so that no time goes into making them: the
    // second half is stored while the first is evicted, then the other way round.
    constexpr size_t kEvents = 4096;
    EngineEvents events(64);
    std::vector<std::string> stores;
    std::vector<std::string> evictions;
    for (size_t i = 0; i < kEvents; ++i) stores.push_back(events.Store());
    for (size_t i = 0; i < kEvents; ++i) evictions.push_back(events.Evict());
    ingest::PublisherProfile profile;
    profile.instance_id = "writer";
    profile.model = "m";
    profile.block_size = 16;
    ingest::PublisherIngest ingest(same ? prompt.index : other, profile, ingest::IngestLimits{},
                                   1u << 20);
    wire::Decoder decoder(wire::Dialect::kVllm);
    for (size_t i = 0; !stop; ++i) {
      if (const auto batch = decoder.Decode(stores[i % kEvents])) ingest.Apply(*batch);
      if (i >= kEvents / 2) {
        const std::string& eviction = evictions[(i - kEvents / 2) % kEvents];
        if (const auto batch = decoder.Decode(eviction)) ingest.Apply(*batch);
      }
      applied += 128;
    }
  });
  while (applied < 1'000'000) std::this_thread::yield();
  Durations durations;
  const uint64_t applied_before = applied;
  const double begun = Seconds();
  for (auto _ : state) {
    const double start = Seconds();
    if (prompt.Look() != kBlocks) state.SkipWithError("the prompt was not found");
    durations.Add(Seconds() - start);
  }
  const double taken = Seconds() - begun;
  state.counters["applied_blocks"] = static_cast<double>(applied - applied_before) / taken;
  state.counters["p50_us"] = durations.Percentile(0.5) * 1e6;
  state.counters["p99_us"] = durations.Percentile(0.99) * 1e6;
  state.SetItemsProcessed(state.iterations());
  state.SetLabel(same ? "to this index" : "to another");
  stop = true;
  writer.join();
}
BENCHMARK(LookupBesideWriter)->Arg(0)->Arg(1)->ArgName("same")->UseRealTime()->MinTime(2);

// --- What leaves.

enum class Leaving : int64_t { kRemove, kClear, kUnregister };

// 16,384 blocks leave an index in which others hold `resident` more.
void Leave(State& state) {
  const auto how = static_cast<Leaving>(state.range(0));
  static std::map<int64_t, std::unique_ptr<Engine>> engines;
  auto& engine = engines[state.range(1)];
  if (!engine) engine = std::make_unique<Engine>(static_cast<size_t>(state.range(1)), 64);
  PrefixIndex& index = engine->index;
  constexpr size_t kEvents = 256;
  uint64_t seed = 100;
  for (auto _ : state) {
    Member member = Join(index, 1u << 20);
    std::vector<std::vector<EngineHash>> names;
    for (size_t i = 0; i < kEvents; ++i) {
      names.push_back(Names(64, ++seed));
      (void)Store(index, member, Locals(Tokens(64 * 16, seed)), names.back());
    }
    const double begun = CpuSeconds();
    {
      auto writer = index.Write();
      if (how == Leaving::kClear) (void)writer.Clear(member.holder, Tier::kGpu);
      for (size_t i = 0; i < names.size() && how == Leaving::kRemove; ++i) {
        writer.Prefetch(names[i]);
        for (size_t k = names[i].size(); k-- > 0;) {
          (void)writer.Remove(member.holder, member.space, Tier::kGpu, names[i][k]);
        }
      }
      if (how == Leaving::kUnregister) {
        writer.DropHolder(member.holder);
        writer.DropSpace(member.space);
      }
    }
    state.SetIterationTime(CpuSeconds() - begun);
    if (how == Leaving::kUnregister) continue;
    auto writer = index.Write();
    writer.DropHolder(member.holder);
    writer.DropSpace(member.space);
  }
  const char* labels[] = {"remove", "clear", "unregister"};
  state.SetLabel(labels[state.range(0)]);
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kEvents * 64));
}
BENCHMARK(Leave)
    ->ArgsProduct({{0, 1, 2}, {100'000, 1'000'000, 10'000'000}})
    ->ArgNames({"how", "resident"})
    ->UseManualTime()
    ->Iterations(100);

}  // namespace
}  // namespace conductor::bench

BENCHMARK_MAIN();
