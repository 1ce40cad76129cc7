#include "lib/index/removal_history.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "lib/index/prefix_index.h"

namespace conductor::index {
namespace {

constexpr uint64_t kNoSequence = std::numeric_limits<uint64_t>::max();
constexpr unsigned kTierShift = 4;
constexpr unsigned kOfBlockShift = 6;
constexpr unsigned kTimeShift = 8;

uint64_t Milliseconds(double seconds) {
  constexpr double kMost = static_cast<double>(uint64_t{1} << (63 - kTimeShift));
  const double milliseconds = seconds * 1000;
  // Batches are stamped by others: anything may stand there.
  return milliseconds > 0 && milliseconds < kMost ? static_cast<uint64_t>(milliseconds) : 0;
}

}  // namespace

std::string_view RemovalCauseName(RemovalCause cause) {
  switch (cause) {
    case RemovalCause::kRemoved:
      return "removed";
    case RemovalCause::kExpired:
      return "expired";
    case RemovalCause::kRenamed:
      return "renamed";
    case RemovalCause::kTrimmed:
      return "trimmed";
    case RemovalCause::kCleared:
      return "cleared";
    case RemovalCause::kNewLife:
      return "new_life";
    case RemovalCause::kReplaced:
      return "replaced";
    case RemovalCause::kUnregistered:
      return "unregistered";
  }
  return "";
}

RemovalHistory::RemovalHistory(size_t capacity) : capacity_(capacity) { ring_.reserve(capacity); }

uint32_t RemovalHistory::AddSource(std::shared_ptr<const RankKey> rank, std::string publisher) {
  if (capacity_ == 0) return kNoSource;
  if (free_.empty()) {
    free_.push_back(static_cast<uint32_t>(sources_.size()));
    sources_.emplace_back();
  }
  const uint32_t source = free_.back();
  free_.pop_back();
  sources_[source] = Source{std::move(rank), std::move(publisher), 0, true};
  return source;
}

void RemovalHistory::Retire(uint32_t source) {
  if (source == kNoSource) return;
  sources_[source].live = false;
  ForgetIfUnused(source);
}

void RemovalHistory::ForgetIfUnused(uint32_t source) {
  if (sources_[source].live || sources_[source].entries > 0) return;
  sources_[source] = Source{};
  free_.push_back(source);
}

void RemovalHistory::Add(uint32_t source, RemovalCause cause, Tier tier, bool of_block,
                         uint64_t block, uint64_t blocks, const Occasion& occasion) {
  const Entry entry{
      .block = block,
      .sequence = occasion.sequence.value_or(kNoSequence),
      .when = Milliseconds(occasion.unix_time) << kTimeShift |
              static_cast<uint64_t>(of_block) << kOfBlockShift |
              static_cast<uint64_t>(tier) << kTierShift | static_cast<uint64_t>(cause),
      .source = source,
      .blocks =
          static_cast<uint32_t>(std::min<uint64_t>(blocks, std::numeric_limits<uint32_t>::max())),
  };
  ++sources_[source].entries;
  Overwrite(entry);
  ++end_;
  if (++next_ == capacity_) next_ = 0;
}

void RemovalHistory::Overwrite(const Entry& entry) {
  if (ring_.size() < capacity_) {
    ring_.push_back(entry);
    return;
  }
  const uint32_t before = ring_[next_].source;
  ring_[next_] = entry;
  if (--sources_[before].entries == 0) ForgetIfUnused(before);
}

void RemovalHistory::Find(std::string_view instance_id, std::span<const PrefixHash> blocks,
                          uint64_t from, uint64_t to, std::vector<Removal>& found) const {
  std::vector<uint8_t> of_instance;
  for (const Source& source : sources_) {
    of_instance.push_back(source.rank && source.rank->instance_id == instance_id ? 1 : 0);
  }
  from = std::max(from, first());
  to = std::min(to, end_);
  if (from >= to) return;
  size_t at = to % capacity_;
  for (uint64_t number = to; number-- > from;) {
    at = (at == 0 ? capacity_ : at) - 1;
    const Entry& entry = ring_[at];
    if (of_instance[entry.source] == 0) continue;
    const bool of_block = (entry.when >> kOfBlockShift & 1) != 0;
    if (of_block && !std::ranges::binary_search(blocks, PrefixHash{entry.block})) continue;
    found.push_back(Tell(number, entry));
  }
}

Removal RemovalHistory::Tell(uint64_t number, const Entry& entry) const {
  const Source& source = sources_[entry.source];
  Removal removal;
  removal.number = number;
  removal.cause = static_cast<RemovalCause>(entry.when & 15);
  removal.tier = static_cast<Tier>(entry.when >> kTierShift & 3);
  if ((entry.when >> kOfBlockShift & 1) != 0) removal.block = PrefixHash{entry.block};
  removal.blocks = entry.blocks;
  if (entry.sequence != kNoSequence) removal.occasion.sequence = entry.sequence;
  removal.occasion.unix_time = static_cast<double>(entry.when >> kTimeShift) / 1000;
  removal.rank = source.rank;
  removal.publisher = source.publisher;
  return removal;
}

}  // namespace conductor::index
