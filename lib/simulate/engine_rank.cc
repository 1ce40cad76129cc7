#include "lib/simulate/engine_rank.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <string_view>
#include <utility>

namespace conductor::simulate {
namespace {

constexpr std::array<std::string_view, kTierCount> kMedium = {"GPU", "CPU", "DISK"};
constexpr std::string_view kAttention = "full_attention";

std::vector<EngineHash> NamesOf(std::span<const PrefixHash> chain) {
  std::vector<EngineHash> names(chain.size());
  std::ranges::transform(chain, names.begin(), NameOf);
  return names;
}

Duration Seconds(double seconds) { return Duration(static_cast<Duration::rep>(seconds * 1e9)); }

uint32_t WholeBlocks(uint64_t tokens, const FleetModel& fleet) {
  return static_cast<uint32_t>(tokens / fleet.block_size);
}

}  // namespace

EngineRank::EngineRank(const FleetModel& fleet, const PreparedTrace& trace)
    : fleet_(fleet), trace_(trace), cache_(fleet.blocks) {}

std::optional<EngineRank::Start> EngineRank::TryStart(Duration now) {
  if (in_prefill_ || queue_.empty() || running_.size() >= fleet_.max_batch) return std::nullopt;
  const size_t number = queue_.front();
  const PreparedRequest& prepared = trace_.requests[number];
  const std::vector<EngineHash> names = NamesOf(prepared.chain);
  const CacheHits hits = cache_.Find(names, WholeBlocks(prepared.request.input - 1, fleet_));
  TieredCache::Lease lease;
  if (!cache_.Take(names, hits, prepared.blocks - hits.disk, lease)) return std::nullopt;
  queue_.pop_front();
  running_.emplace(number, std::move(lease));
  in_prefill_ = number;
  TellMoves(cache_.TakeChanges());

  const uint64_t left = prepared.request.input - uint64_t{hits.disk} * fleet_.block_size;
  const Duration prefill = fleet_.prefill_overhead + fleet_.load[1] * (hits.cpu - hits.gpu) +
                           fleet_.load[2] * (hits.disk - hits.cpu) +
                           Seconds(static_cast<double>(left) / fleet_.prefill_speed);
  busy_ += prefill;
  return Start{number, hits, now + prefill};
}

EngineRank::FirstToken EngineRank::FinishPrefill(Duration now) {
  const size_t number = *in_prefill_;
  in_prefill_.reset();
  const PreparedRequest& prepared = trace_.requests[number];
  const std::vector<EngineHash> names = NamesOf(prepared.chain);
  TieredCache::Lease& lease = running_.at(number);
  const size_t cached = lease.nodes.size();
  cache_.Fill(names, lease);
  // Counted by what was filled in, apart from the hits, so that their sum proves something.
  const uint64_t computed = (lease.nodes.size() - cached) * fleet_.block_size +
                            prepared.request.input % fleet_.block_size;
  Tell(names, trace::TraceTokens(prepared.request));
  const uint32_t further = prepared.request.output > 1 ? prepared.request.output - 1 : 0;
  return {number, computed, now + Seconds(further / fleet_.decode_speed)};
}

void EngineRank::Finish(size_t request) {
  const auto running = running_.find(request);
  const PreparedRequest& prepared = trace_.requests[request];
  // The answer goes on in the block that the prompt ended in.
  std::vector<TokenId> tokens = trace::TraceTokens(prepared.request);
  const std::vector<TokenId> answer = trace::TraceAnswer(prepared.request, prepared.request.output);
  tokens.insert(tokens.end(), answer.begin(), answer.end());
  std::vector<PrefixHash> chain = prepared.chain;
  const size_t before = chain.size();
  chain.resize(WholeBlocks(tokens.size(), fleet_));
  hash::HashChain(std::span(tokens).subspan(before * fleet_.block_size), fleet_.block_size,
                  before == 0 ? nullptr : &prepared.chain.back(), hash::kDefaultSeed,
                  std::span(chain).subspan(before));
  const std::vector<EngineHash> names = NamesOf(chain);
  cache_.Fill(names, running->second);
  Tell(names, tokens);
  cache_.Finish(running->second);
  running_.erase(running);
}

std::vector<wire::KvEvent> EngineRank::TakeEvents() { return std::exchange(events_, {}); }

double EngineRank::kv_use() const {
  return static_cast<double>(cache_.owned()) / static_cast<double>(cache_.capacity(Tier::kGpu));
}

void EngineRank::Tell(const std::vector<EngineHash>& names, const std::vector<TokenId>& tokens) {
  CacheChanges changes = cache_.TakeChanges();
  const std::vector<uint32_t> computed = std::exchange(changes.computed, {});
  // One event for each stretch of new blocks that follow one another.
  for (auto from = computed.begin(); from != computed.end();) {
    auto to = std::next(from);
    while (to != computed.end() && *to == *std::prev(to) + 1) ++to;
    const size_t first = *from;
    const auto count = static_cast<size_t>(to - from);
    wire::BlockStored stored;
    stored.hashes.assign(names.begin() + static_cast<ptrdiff_t>(first),
                         names.begin() + static_cast<ptrdiff_t>(first + count));
    if (first > 0) stored.parent = names[first - 1];
    const auto told =
        std::span(tokens).subspan(first * fleet_.block_size, count * fleet_.block_size);
    stored.tokens.assign(told.begin(), told.end());
    stored.block_size = fleet_.block_size;
    stored.medium = kMedium[0];
    stored.group = {0, std::string(kAttention)};
    events_.emplace_back(std::move(stored));
    from = to;
  }
  TellMoves(std::move(changes));
}

// As connectors do it: names alone. Stored before removed, so that a name that moves is always
// known.
void EngineRank::TellMoves(CacheChanges changes) {
  for (size_t tier = 0; tier < kTierCount; ++tier) {
    if (changes.stored[tier].empty()) continue;
    wire::BlockStored stored;
    stored.hashes = std::move(changes.stored[tier]);
    stored.medium = kMedium[tier];
    stored.group = {0, std::string(kAttention)};
    events_.emplace_back(std::move(stored));
  }
  for (size_t tier = 0; tier < kTierCount; ++tier) {
    if (changes.removed[tier].empty()) continue;
    wire::BlockRemoved removed;
    removed.hashes = std::move(changes.removed[tier]);
    removed.medium = kMedium[tier];
    removed.group.index = 0;
    events_.emplace_back(std::move(removed));
  }
}

}  // namespace conductor::simulate
