#include "daemon/toolkit/standard_events.h"

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <nlohmann/json.hpp>

#include "daemon/toolkit/json_text.h"

namespace conductor::toolkit {
namespace {

using Json = nlohmann::ordered_json;

// How a run's blocks are to be told.
struct Telling {
  std::array<uint64_t, kTierCount> held{};
  uint32_t needed = 0;  // leading blocks that must be there, for what is held here and below

  void Need(uint32_t block) { needed = std::max(needed, block + 1); }
  [[nodiscard]] std::optional<Tier> FirstTier(uint32_t block) const {
    for (const Tier tier : kTiers) {
      if ((held[static_cast<size_t>(tier)] >> block & 1) != 0) return tier;
    }
    return std::nullopt;
  }
};

class Teller {
 public:
  Teller(const SnapshotContent& content, const SnapshotContent::Held& held,
         const std::function<bool(const StandardEvent&)>& take)
      : content_(content), held_(held), take_(take) {}

  void Run() {
    Gather();
    for (const auto& [run, telling] : tellings_) TellFirst(run, telling);
    for (const auto& [run, telling] : tellings_) TellOtherTiers(run, telling);
    for (const auto& special : held_.special) {
      for (uint32_t copy = 1; copy < special.copies; ++copy) {
        Tell(false, special.tier, special.run, special.block, special.block + 1U);
      }
    }
    for (const auto& [run, begin, end] : bridges_) Tell(true, Tier::kGpu, run, begin, end);
  }

 private:
  void Gather() {
    for (const auto& holding : held_.holdings) {
      Telling& telling = tellings_[holding.run];
      telling.held[static_cast<size_t>(holding.tier)] |= holding.blocks;
      telling.Need(static_cast<uint32_t>(std::bit_width(holding.blocks)) - 1);
    }
    for (const auto& special : held_.special) {
      std::optional<std::pair<uint32_t, uint32_t>> at{{special.run, special.block}};
      for (uint32_t i = 1; i < special.span && at; ++i) {
        at = content_.Before(at->first, at->second);
        if (at) tellings_[at->first].held[static_cast<size_t>(special.tier)] |= 1ULL << at->second;
      }
    }
    // A parent stands before its children, so it is reached later, and what is added is too.
    for (auto it = tellings_.rbegin(); it != tellings_.rend(); ++it) {
      const SnapshotContent::Run& run = content_.runs()[it->first];
      if (run.parent == SnapshotContent::kNoRun) continue;
      tellings_[run.parent].Need(run.parent_block);
    }
  }

  // Each block once, in order, with what is only there to lead to others.
  void TellFirst(uint32_t run, const Telling& telling) {
    for (uint32_t begin = 0; begin < telling.needed;) {
      const auto tier = telling.FirstTier(begin);
      uint32_t end = begin + 1;
      while (end < telling.needed && telling.FirstTier(end) == tier) ++end;
      Tell(false, tier.value_or(Tier::kGpu), run, begin, end);
      if (!tier) bridges_.push_back({run, begin, end});
      begin = end;
    }
  }

  void TellOtherTiers(uint32_t run, const Telling& telling) {
    for (const Tier tier : {Tier::kCpu, Tier::kDisk}) {
      uint64_t rest = telling.held[static_cast<size_t>(tier)];
      for (uint64_t mask = rest; mask != 0; mask &= mask - 1) {
        const auto block = static_cast<uint32_t>(std::countr_zero(mask));
        if (telling.FirstTier(block) == tier) rest &= ~(1ULL << block);
      }
      while (rest != 0) {
        const auto begin = static_cast<uint32_t>(std::countr_zero(rest));
        const auto length = static_cast<uint32_t>(std::countr_one(rest >> begin));
        Tell(false, tier, run, begin, begin + length);
        if (begin + length == 64) break;
        rest &= ~uint64_t{0} << (begin + length);
      }
    }
  }

  void Tell(bool removed, Tier tier, uint32_t run, uint32_t begin, uint32_t end) {
    if (stopped_) return;
    event_.removed = removed;
    event_.tier = tier;
    const auto blocks = content_.Blocks(run).subspan(begin, end - begin);
    event_.hashes.assign(blocks.begin(), blocks.end());
    const auto before = content_.Before(run, begin);
    event_.parent.reset();
    if (before) event_.parent = content_.Blocks(before->first)[before->second];
    event_.base_block = content_.runs()[run].position + begin;
    stopped_ = !take_(event_);
  }

  struct Bridge {
    uint32_t run;
    uint32_t begin;
    uint32_t end;
  };

  const SnapshotContent& content_;
  const SnapshotContent::Held& held_;
  const std::function<bool(const StandardEvent&)>& take_;
  std::map<uint32_t, Telling> tellings_;  // by run
  std::vector<Bridge> bridges_;
  StandardEvent event_;
  bool stopped_ = false;
};

Json HashJson(PrefixHash hash) { return static_cast<uint64_t>(hash); }

}  // namespace

void VisitStandardEvents(const SnapshotContent& content, size_t holder,
                         const std::function<bool(const StandardEvent&)>& take) {
  Teller(content, content.held(holder), take).Run();
}

std::string_view MediumOf(Tier tier) {
  switch (tier) {
    case Tier::kGpu:
      return "GPU";
    case Tier::kCpu:
      return "CPU";
    case Tier::kDisk:
      return "DISK";
  }
  return "";
}

void WriteStandardEvent(const StandardEvent& event, const index::NamespaceKey& name_space,
                        uint32_t dp_rank, std::string_view backend, wire::MsgpackWriter& out) {
  const auto text = [&out](std::string_view name, std::string_view value) {
    out.Text(name);
    if (value.empty()) return out.Nil();
    out.Text(value);
  };
  out.Map(event.removed ? 8 : 12);
  text("event_type", event.removed ? "removed" : "stored");
  text("tenant_id", name_space.tenant);
  text("model_name", name_space.model);
  out.Text("additional_salt");
  out.Text(name_space.additional_salt);
  text("backend_id", backend);
  out.Text("dp_rank");
  out.Uint(dp_rank);
  text("medium", MediumOf(event.tier));
  if (!event.removed) {
    text("lora_name", name_space.lora_name);
    out.Text("block_size");
    out.Uint(name_space.block_size);
    out.Text("base_block_idx");
    out.Uint(event.base_block);
    out.Text("parent_hash");
    event.parent ? out.Uint(static_cast<uint64_t>(*event.parent)) : out.Nil();
  }
  out.Text("seq_hashes");
  out.Array(event.hashes.size());
  for (const PrefixHash hash : event.hashes) out.Uint(static_cast<uint64_t>(hash));
}

std::string StandardEventJson(const StandardEvent& event, const index::NamespaceKey& name_space,
                              uint32_t dp_rank, std::string_view backend) {
  const auto text = [](std::string_view value) {
    return value.empty() ? Json(nullptr) : Json(value);
  };
  Json json{{"event_type", event.removed ? "removed" : "stored"},
            {"tenant_id", name_space.tenant},
            {"model_name", name_space.model},
            {"additional_salt", name_space.additional_salt},
            {"backend_id", text(backend)},
            {"dp_rank", dp_rank},
            {"medium", MediumOf(event.tier)}};
  if (!event.removed) {
    json["lora_name"] = text(name_space.lora_name);
    json["block_size"] = name_space.block_size;
    json["base_block_idx"] = event.base_block;
    json["parent_hash"] = event.parent ? HashJson(*event.parent) : Json(nullptr);
  }
  Json hashes = Json::array();
  for (const PrefixHash hash : event.hashes) hashes.push_back(HashJson(hash));
  json["seq_hashes"] = std::move(hashes);
  return DumpJson(json) + "\n";
}

}  // namespace conductor::toolkit
