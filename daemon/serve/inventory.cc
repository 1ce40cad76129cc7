#include "daemon/serve/inventory.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "daemon/serve/document_writer.h"
#include "lib/base/tier.h"

namespace conductor::serve {
namespace {

using Json = nlohmann::ordered_json;
using Blocks = std::array<uint64_t, kTierCount>;

constexpr size_t kHottest = 16;  // told of an instance

// The namespace of what an engine stores without an adapter of its own; with block size 0 where it
// is not known yet.
index::NamespaceKey NamespaceOf(const Registration& registration, uint32_t block_size) {
  return {registration.tenant, registration.model, registration.lora_name, block_size,
          registration.additional_salt};
}

// The members that say which namespace something is of.
Json Names(const index::NamespaceKey& key) {
  return Json{{"tenant_id", key.tenant},
              {"model", key.model},
              {"lora_name", key.lora_name},
              {"block_size", key.block_size},
              {"additional_salt", key.additional_salt}};
}

Json ByTier(const Blocks& blocks) {
  Json json = Json::object();
  for (const Tier tier : kTiers)
    json[std::string(TierName(tier))] = blocks[static_cast<size_t>(tier)];
  return json;
}

// Null where nobody said how large a block is.
Json BytesByTier(const Blocks& blocks, uint64_t bytes_per_block) {
  if (bytes_per_block == 0) return nullptr;
  Blocks bytes = blocks;
  for (uint64_t& of_tier : bytes) of_tier *= bytes_per_block;
  return ByTier(bytes);
}

Json RateJson(const Churn::Rate& rate) {
  return Json{{"stored_per_second", rate.stored}, {"removed_per_second", rate.removed}};
}

// All publishers of one instance, which are engines.
class Instance {
 public:
  Instance(const Registry& registry, std::string_view id) : id_(id) {
    for (PublisherStatus& status : registry.Publishers()) {
      const Registration& registration = status.registration;
      if (registration.instance_id != id || IsPool(registration.type)) continue;
      // Before its first event it holds nothing, which is worth a line.
      const index::NamespaceKey key = NamespaceOf(registration, status.effective_block_size);
      ranks_.try_emplace({key, registration.dp_rank});
      publishers_.push_back(std::move(status));
    }
    if (publishers_.empty()) return;
    for (const index::RankStats& rank : registry.index().Ranks(id)) {
      ranks_[{rank.rank.name_space, rank.rank.dp_rank}] = rank.blocks;
    }
    for (const auto& [rank, blocks] : ranks_) {
      if (!sketches_.contains(rank.first)) {
        sketches_[rank.first] = registry.hot_prefixes().Of(rank.first, id);
      }
    }
  }

  [[nodiscard]] bool empty() const { return publishers_.empty(); }

  [[nodiscard]] Json ToJson(uint32_t sample_every) const {
    const auto worst = std::ranges::max_element(
        publishers_, [](const auto& a, const auto& b) { return stream::Worse(b.trust, a.trust); });
    Json names = Json::array();
    Churn::Rate minute;
    Churn::Rate five;
    for (const PublisherStatus& status : publishers_) {
      names.push_back(status.registration.Key());
      Add(minute, status.churn_1m);
      Add(five, status.churn_5m);
    }
    Json json{{"instance_id", id_},
              {"state", stream::TrustStateName(worst->trust.state)},
              {"reason", worst->trust.reason},
              {"detail", worst->trust.detail},
              {"publishers", std::move(names)}};
    AddBlocks(json);
    json["churn"] = Json{{"1m", RateJson(minute)}, {"5m", RateJson(five)}};
    AddHottest(sample_every, json);
    return json;
  }

 private:
  using Rank = std::pair<index::NamespaceKey, uint32_t>;

  static void Add(Churn::Rate& sum, const Churn::Rate& rate) {
    sum.stored += rate.stored;
    sum.removed += rate.removed;
  }

  // As the publishers of the rank say it; 0: none does.
  [[nodiscard]] uint64_t BytesPerBlock(const Rank& rank) const {
    const auto& [key, dp_rank] = rank;
    for (const PublisherStatus& status : publishers_) {
      const Registration& registration = status.registration;
      if (registration.tenant == key.tenant && registration.model == key.model &&
          registration.dp_rank == dp_rank && registration.bytes_per_block != 0) {
        return registration.bytes_per_block;
      }
    }
    return 0;
  }

  void AddBlocks(Json& json) const {
    Blocks blocks{};
    Blocks bytes{};
    bool knows_bytes = false;
    Json ranks = Json::array();
    for (const auto& [rank, held] : ranks_) {
      const uint64_t each = BytesPerBlock(rank);
      knows_bytes |= each != 0;
      for (size_t tier = 0; tier < kTierCount; ++tier) {
        blocks[tier] += held[tier];
        bytes[tier] += held[tier] * each;
      }
      Json entry = Names(rank.first);
      entry["dp_rank"] = rank.second;
      entry["blocks"] = ByTier(held);
      entry["bytes"] = BytesByTier(held, each);
      ranks.push_back(std::move(entry));
    }
    json["blocks"] = ByTier(blocks);
    json["bytes"] = knows_bytes ? ByTier(bytes) : Json(nullptr);
    json["ranks"] = std::move(ranks);
  }

  void AddHottest(uint32_t sample_every, Json& json) const {
    struct Hot {
      const index::NamespaceKey* name_space;
      HotPrefixes::Entry entry;
    };
    std::vector<Hot> all;
    uint64_t counted = 0;
    for (const auto& [key, sketch] : sketches_) {
      counted += sketch.counted;
      for (const HotPrefixes::Entry& entry : sketch.entries) all.push_back({&key, entry});
    }
    std::ranges::stable_sort(
        all, [](const Hot& a, const Hot& b) { return a.entry.count > b.entry.count; });
    if (all.size() > kHottest) all.resize(kHottest);
    Json hottest = Json::array();
    for (const auto& [key, entry] : all) {
      Json prefix = Names(*key);
      // Not every reader of JSON has integers of 64 bits.
      prefix["prefix_hash"] = fmt::format("{}", static_cast<uint64_t>(entry.hash));
      prefix["blocks"] = entry.blocks;
      prefix["count"] = entry.count;
      prefix["error"] = entry.error;
      prefix["share"] = static_cast<double>(entry.count) / static_cast<double>(counted);
      hottest.push_back(std::move(prefix));
    }
    json["sampled_queries"] = Json{{"one_in", sample_every}, {"counted", counted}};
    json["hottest"] = std::move(hottest);
  }

  const std::string_view id_;
  std::vector<PublisherStatus> publishers_;
  std::map<Rank, Blocks> ranks_;
  std::map<index::NamespaceKey, HotPrefixes::Sketch> sketches_;
};

}  // namespace

std::string NamespacesDocument(const Registry& registry, BodyForm form) {
  struct Namespace {
    uint64_t blocks = 0;
    uint64_t holders = 0;
    std::map<std::string, std::set<uint32_t>> instances;  // and their ranks
  };
  std::map<index::NamespaceKey, Namespace> all;
  const std::shared_ptr<const EngineTable> table = registry.Table();
  for (const EngineView& engine : table->engines()) {
    const Registration& registration = *engine.registration;
    all[NamespaceOf(registration, engine.block_size)].instances[registration.instance_id].insert(
        registration.dp_rank);
  }
  for (const index::NamespaceStats& stats : registry.index().Namespaces()) {
    all[stats.key].blocks = stats.blocks;
  }
  for (const index::RankStats& rank : registry.index().Ranks()) {
    Namespace& name_space = all[rank.rank.name_space];
    name_space.holders += rank.holders;
    name_space.instances[rank.rank.instance_id].insert(rank.rank.dp_rank);
  }
  Json list = Json::array();
  for (const auto& [key, name_space] : all) {
    Json json = Names(key);
    json["blocks"] = name_space.blocks;
    json["holders"] = name_space.holders;
    Json instances = Json::array();
    for (const auto& [id, ranks] : name_space.instances) {
      instances.push_back(Json{{"instance_id", id}, {"dp_ranks", Json(ranks)}});
    }
    json["instances"] = std::move(instances);
    list.push_back(std::move(json));
  }
  const size_t count = list.size();
  return Render(Json{{"count", count}, {"namespaces", std::move(list)}}, form);
}

std::optional<std::string> InstanceDocument(const Registry& registry, std::string_view instance_id,
                                            BodyForm form) {
  const Instance instance(registry, instance_id);
  if (instance.empty()) return std::nullopt;
  return Render(instance.ToJson(registry.hot_prefixes().options().sample_every), form);
}

}  // namespace conductor::serve
