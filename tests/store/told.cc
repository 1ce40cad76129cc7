#include "told.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "lib/store/snapshot_reader.h"

namespace conductor::store {
namespace {

template <typename T>
std::string Hex(std::span<const T> numbers) {
  std::string text;
  for (const T number : numbers) text += fmt::format("{:x},", static_cast<uint64_t>(number));
  return text;
}

template <typename T>
std::string Maybe(const std::optional<T>& value) {
  return value ? fmt::format("{}", *value) : "-";
}

std::string Maybe(const std::optional<Duration>& value) {
  return value ? fmt::format("{}", value->count()) : "-";
}

std::string Name(const index::NamespaceKey& key) {
  return fmt::format("{}/{}/{}/{}/{}", key.tenant, key.model, key.lora_name, key.block_size,
                     key.additional_salt);
}

class Teller : public ChainVisitor {
 public:
  std::string text;

  template <typename... Values>
  void Line(fmt::format_string<Values...> format, Values&&... values) {
    text += fmt::format(format, std::forward<Values>(values)...) + "\n";
  }

  void OnRun(const Run& run) override {
    Line("run {} {} {} {} {} {}", run.id, Name(*run.name_space), Maybe(run.parent),
         run.parent_block, run.position, Hex(run.blocks));
  }
  void OnHolding(uint32_t run, uint32_t holder, Tier tier, uint64_t blocks) override {
    Line("holding {} {} {} {:x}", run, holder, TierName(tier), blocks);
  }
  void OnSpecial(uint32_t run, uint32_t holder, Tier tier, uint32_t block, uint32_t span,
                 uint32_t copies) override {
    Line("special {} {} {} {} {} {}", run, holder, TierName(tier), block, span, copies);
  }
  void OnNames(uint32_t run, uint32_t space, uint64_t blocks,
               std::span<const EngineHash> names) override {
    Line("names {} {} {:x} {}", run, space, blocks, Hex(names));
  }
  void OnSpan(uint32_t run, uint32_t block, uint32_t space, EngineHash name,
              uint32_t span) override {
    Line("span {} {} {} {} {}", run, block, space, static_cast<uint64_t>(name), span);
  }

  void Tell(const StoredPublisher& publisher) {
    const SavedPublisher& saved = publisher.saved;
    Line("publisher {} {} {} {} {} {} {} {} {}", saved.key, saved.registration, saved.configured,
         saved.saved_at, saved.state, saved.reason, saved.detail, fmt::join(publisher.holders, ","),
         fmt::join(publisher.spaces, ","));
    if (saved.resume) {
      const stream::Resume& resume = *saved.resume;
      Line("resume {} {} {} {} {} {} {} {}", resume.cursor, resume.digest,
           Hex(std::span(resume.digests)), Maybe(resume.first), Maybe(resume.newest_time),
           static_cast<int>(resume.damage), resume.damage_detail, resume.needs_rebuild);
    }
    if (saved.life) Tell(*saved.life);
    if (saved.pool) Tell(*saved.pool);
  }

 private:
  void Tell(const ingest::SavedLife& life) {
    Line("life {} {} {} {} {} {}", life.block_size, Maybe(life.rank), life.several_ranks,
         life.ranks_are_believed, life.trimmed, fmt::join(life.groups, ","));
    for (const auto& holder : life.holders) Line("{} {}", Name(holder.name_space), holder.dp_rank);
    for (const auto& it : life.waiting) {
      Line("waiting {} {} {} {} {} {} {} {} {} {} {}", it.space,
           it.name_space ? Name(*it.name_space) : "-", TierName(it.tier), it.dp_rank,
           it.parent ? static_cast<uint64_t>(*it.parent) : 0, it.parent.has_value(),
           it.begins_prompt, it.span, Hex(std::span(it.hashes)), Hex(std::span(it.gone)),
           Hex(std::span(it.locals)) + Hex(std::span(it.prefixes)));
    }
    for (const auto& it : life.deadlines) {
      Line("deadline {} {} {} {} {}", it.space, TierName(it.tier), it.dp_rank,
           static_cast<uint64_t>(it.name), it.left.count());
    }
  }

  void Tell(const ingest::SavedPool& pool) {
    Line("pool {} {} {} {} {} {} {}", pool.dropped, pool.lost_tenants, pool.foreign_model,
         pool.foreign_prefix, pool.objects_unread, pool.objects_foreign, pool.last_event_id);
    for (const auto& it : pool.spaces) {
      Line("{} {} {} {}", it.domain.tenant, it.domain.model, it.domain.additional_salt, it.group);
    }
    for (const auto& it : pool.families) {
      Line("family {} {} {} {} {} {}", it.tenant, it.model, wire::KeyFamilyName(it.form), it.prefix,
           it.variant, it.group);
      for (const auto& seen : it.shape.seen) Line("{}", Maybe(seen));
      Line("{} {} {} {}", Maybe(it.shape.tensor_ranks), it.shape.k, it.shape.v, it.shape.unchanged);
    }
    for (const auto& it : pool.objects) {
      Line("object {} {} {} {} {} {} {} {} {} {}", it.family, it.key,
           static_cast<uint64_t>(it.hash), static_cast<uint64_t>(it.component),
           pool.backends[it.backend], it.cpu, it.disk, it.settled, Maybe(it.cpu_left),
           Maybe(it.disk_left));
    }
  }
};

}  // namespace

Result<std::string> Told(const std::string& path) {
  auto reader = SnapshotReader::Open(path);
  if (!reader) return tl::unexpected(reader.error());
  auto publishers = reader->Publishers();
  if (!publishers) return tl::unexpected(publishers.error());
  Teller teller;
  const SnapshotInfo& info = reader->info();
  teller.Line("{} {} {} {} {} {} {}", info.conductor, info.saved_at, info.hash_seed, info.blocks,
              info.runs, info.publishers, info.holdings);
  for (const StoredPublisher& publisher : *publishers) teller.Tell(publisher);
  if (auto done = reader->VisitChains(teller); !done) return tl::unexpected(done.error());
  if (auto done = reader->VisitPoolNames(teller); !done) return tl::unexpected(done.error());
  return teller.text;
}

}  // namespace conductor::store
