#include "daemon/toolkit/snapshot_export.h"

#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "daemon/toolkit/json_text.h"
#include "daemon/toolkit/standard_events.h"

namespace conductor::toolkit {
namespace {

using Json = nlohmann::ordered_json;

bool Wanted(const std::vector<std::string>& instances, const std::string& instance) {
  return instances.empty() || std::ranges::find(instances, instance) != instances.end();
}

// Of the stretch of `length` blocks from `begin` on, one number each; nothing where all are 1.
Json NumbersOf(const SnapshotContent::Held& held, const SnapshotContent::Holding& holding,
               uint32_t begin, uint32_t length, uint32_t SnapshotContent::Special::*number) {
  const auto at = [](const SnapshotContent::Special& special) {
    return std::tuple(special.run, special.tier, uint32_t{special.block});
  };
  auto special =
      std::ranges::lower_bound(held.special, std::tuple(holding.run, holding.tier, begin), {}, at);
  std::vector<uint32_t> numbers(length, 1);
  bool any = false;
  for (; special != held.special.end() &&
         at(*special) < std::tuple(holding.run, holding.tier, begin + length);
       ++special) {
    numbers[special->block - begin] = (*special).*number;
    any = any || (*special).*number != 1;
  }
  return any ? Json(numbers) : Json(nullptr);
}

std::string RunLine(const SnapshotContent& content, size_t holder,
                    const SnapshotContent::Holding& holding, uint32_t begin, uint32_t length) {
  const SnapshotHolder& of = content.holders()[holder];
  const index::NamespaceKey& name_space = content.namespaces()[of.name_space];
  const auto before = content.Before(holding.run, begin);
  Json hashes = Json::array();
  for (const PrefixHash hash : content.Blocks(holding.run).subspan(begin, length)) {
    hashes.push_back(HashText(hash));
  }
  Json line{
      {"publisher", of.publisher},
      {"instance_id", of.instance_id},
      {"dp_rank", of.dp_rank},
      {"tenant_id", name_space.tenant},
      {"model", name_space.model},
      {"lora_name", name_space.lora_name},
      {"block_size", name_space.block_size},
      {"additional_salt", name_space.additional_salt},
      {"tier", TierName(holding.tier)},
      {"position", content.runs()[holding.run].position + begin},
      {"parent", before ? Json(HashText(content.Blocks(before->first)[before->second])) : nullptr},
      {"hashes", std::move(hashes)}};
  const SnapshotContent::Held& held = content.held(holder);
  if (auto copies = NumbersOf(held, holding, begin, length, &SnapshotContent::Special::copies);
      !copies.is_null()) {
    line["copies"] = std::move(copies);
  }
  if (auto spans = NumbersOf(held, holding, begin, length, &SnapshotContent::Special::span);
      !spans.is_null()) {
    line["spans"] = std::move(spans);
  }
  return DumpJson(line) + "\n";
}

// `line(pool, family, object, tier)` of each object; false ends it.
template <typename Line>
void VisitObjects(const SnapshotContent& content, const std::vector<std::string>& instances,
                  const TakeLine& take, Line line) {
  for (const store::SavedPublisher& publisher : content.publishers()) {
    if (!publisher.pool || !Wanted(instances, InstanceOf(publisher))) continue;
    const ingest::SavedPool& pool = *publisher.pool;
    for (const ingest::SavedPool::Object& object : pool.objects) {
      for (const Tier tier : {Tier::kCpu, Tier::kDisk}) {
        if (!(tier == Tier::kCpu ? object.cpu : object.disk)) continue;
        if (!take(DumpJson(line(publisher, object, tier)) + "\n")) return;
      }
    }
  }
}

}  // namespace

void ExportRuns(const SnapshotContent& content, const std::vector<std::string>& instances,
                const TakeLine& take) {
  for (size_t holder = 0; holder < content.holders().size(); ++holder) {
    if (!Wanted(instances, content.holders()[holder].instance_id)) continue;
    for (const SnapshotContent::Holding& holding : content.held(holder).holdings) {
      uint32_t begin = 0;
      for (uint64_t rest = holding.blocks; rest != 0;) {
        begin = static_cast<uint32_t>(std::countr_zero(rest));
        const auto length = static_cast<uint32_t>(std::countr_one(rest >> begin));
        if (!take(RunLine(content, holder, holding, begin, length))) return;
        rest = begin + length == 64 ? 0 : rest & ~uint64_t{0} << (begin + length);
      }
    }
  }
  VisitObjects(content, instances, take,
               [](const store::SavedPublisher& publisher, const ingest::SavedPool::Object& object,
                  Tier tier) -> Json {
                 const ingest::SavedPool& pool = *publisher.pool;
                 const ingest::SavedPool::Family& family = pool.families[object.family];
                 return {{"publisher", publisher.key},
                         {"instance_id", InstanceOf(publisher)},
                         {"tenant_id", family.tenant},
                         {"model", family.model},
                         {"tier", TierName(tier)},
                         {"object_key", object.key},
                         {"backend_id", pool.backends[object.backend]}};
               });
}

void ExportStandardEvents(const SnapshotContent& content, const std::vector<std::string>& instances,
                          const TakeLine& take) {
  bool more = true;
  for (size_t holder = 0; more && holder < content.holders().size(); ++holder) {
    const SnapshotHolder& of = content.holders()[holder];
    if (!Wanted(instances, of.instance_id)) continue;
    const index::NamespaceKey& name_space = content.namespaces()[of.name_space];
    VisitStandardEvents(content, holder, [&](const StandardEvent& event) {
      return more = take(StandardEventJson(event, name_space, of.dp_rank, of.instance_id));
    });
  }
  if (!more) return;
  VisitObjects(content, instances, take,
               [](const store::SavedPublisher& publisher, const ingest::SavedPool::Object& object,
                  Tier tier) -> Json {
                 const ingest::SavedPool& pool = *publisher.pool;
                 return {{"event_type", "stored"},
                         {"tenant_id", pool.families[object.family].tenant},
                         {"backend_id", pool.backends[object.backend]},
                         {"medium", tier == Tier::kCpu ? "cpu" : "disk"},
                         {"object_key", object.key}};
               });
}

}  // namespace conductor::toolkit
