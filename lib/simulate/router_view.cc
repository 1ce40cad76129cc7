#include "lib/simulate/router_view.h"

#include <charconv>
#include <utility>

namespace conductor::simulate {
namespace {

constexpr const char* kTenant = "default";
constexpr const char* kModel = "simulated";

}  // namespace

// History is for operators who ask why a block is gone; nobody does here.
RouterView::RouterView(const FleetModel& fleet, Duration delay)
    : fleet_(fleet),
      delay_(delay),
      index_(index::PrefixIndex::Options{.history = 0}),
      by_target_(fleet.targets()) {
  for (size_t target = 0; target < fleet.targets(); ++target) {
    const auto [engine, rank] = TargetOf(fleet, target);
    ingest::PublisherProfile profile;
    profile.instance_id = std::to_string(engine);
    profile.tenant = kTenant;
    profile.model = kModel;
    profile.block_size = fleet.block_size;
    profile.dp_rank = rank;
    publishers_.push_back(std::make_unique<ingest::PublisherIngest>(
        index_, std::move(profile), ingest::IngestLimits{}, static_cast<uint32_t>(target)));
  }
}

void RouterView::Publish(size_t target, Duration now, std::vector<wire::KvEvent> events) {
  UnderWay message{now + delay_, target, {}};
  message.batch.timestamp = std::chrono::duration<double>(now).count();
  message.batch.dp_rank = TargetOf(fleet_, target).rank;
  message.batch.events = std::move(events);
  if (delay_ == Duration{}) {
    Apply(message);
  } else {
    under_way_.push_back(std::move(message));
  }
}

std::span<const index::RankMatch> RouterView::Look(Duration now,
                                                   std::span<const PrefixHash> chain) {
  while (!under_way_.empty() && under_way_.front().due <= now) {
    Apply(under_way_.front());
    under_way_.pop_front();
  }
  by_target_.assign(by_target_.size(), {});
  index::PrefixList source(chain);
  const index::Scope scope{.tenant = kTenant,
                           .model = kModel,
                           .lora_name = "",
                           .block_size = fleet_.block_size,
                           .additional_salt = std::nullopt};
  index_.Match(scope, source, {}, {}, matches_);
  for (const index::RankMatch& match : matches_.ranks) by_target_[TargetNamed(*match.rank)] = match;
  return by_target_;
}

void RouterView::Drain() {
  for (const UnderWay& message : under_way_) Apply(message);
  under_way_.clear();
}

std::vector<std::array<uint64_t, kTierCount>> RouterView::HeldBlocks() const {
  std::vector<std::array<uint64_t, kTierCount>> held(fleet_.targets());
  for (const index::RankStats& stats : index_.Ranks()) held[TargetNamed(stats.rank)] = stats.blocks;
  return held;
}

uint64_t RouterView::Unplaced() const {
  uint64_t unplaced = 0;
  for (const auto& publisher : publishers_) {
    const ingest::IngestCounters counters = publisher->Counters();
    unplaced += counters.orphaned + counters.removed_unknown + counters.refused_block_size +
                counters.refused_shape + counters.ignored_group + counters.ignored_medium;
  }
  return unplaced;
}

void RouterView::Apply(const UnderWay& message) {
  publishers_[message.target]->Apply(message.batch);
}

size_t RouterView::TargetNamed(const index::RankKey& rank) const {
  Target target{.engine = 0, .rank = rank.dp_rank};
  const std::string& name = rank.instance_id;
  std::from_chars(name.data(), name.data() + name.size(), target.engine);
  return NumberOf(fleet_, target);
}

}  // namespace conductor::simulate
