// SnapshotReader: publishers and what is theirs.

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "lib/store/snapshot_reader_impl.h"

namespace conductor::store {
namespace {

constexpr uint32_t kMost32 = std::numeric_limits<uint32_t>::max();
// As events and registrations have them.
constexpr uint32_t kMostRank = std::numeric_limits<int32_t>::max();

Duration FromSeconds(double seconds) {
  constexpr double kMost = 1e9;  // thirty years
  return std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(std::clamp(seconds, -kMost, kMost)));
}

std::optional<Duration> MaybeSeconds(SnapshotRow& row, int column) {
  if (row.IsNull(column)) return std::nullopt;
  return FromSeconds(row.Real(column));
}

// As many columns of a row are NULL, or are not, as one of them is.
void AllNull(SnapshotRow& row, int first, int last, bool null, const char* expected) {
  for (int column = first; column <= last; ++column) {
    if (row.IsNull(column) != null) row.Refuse(column, expected);
  }
}

std::optional<wire::KeyFamily> FormNamed(std::string_view name) {
  using wire::KeyFamily;
  for (const KeyFamily form :
       {KeyFamily::kVllmStore, KeyFamily::kAscend, KeyFamily::kAscendGva, KeyFamily::kSglang,
        KeyFamily::kLmcache, KeyFamily::kNumeric, KeyFamily::kDescribed}) {
    if (wire::KeyFamilyName(form) == name) return form;
  }
  return std::nullopt;
}

}  // namespace

StoredPublisher* SnapshotReader::Impl::PublisherAt(SnapshotRow& row, int column) {
  const uint64_t number = row.Number(column, 1, publishers.size(), "publishers");
  return row.ok() ? &publishers[number - 1] : nullptr;
}

Status SnapshotReader::Impl::ReadTiers() {
  size_t next = 0;
  return ForEach("tiers", "id, name", [&](SnapshotRow& row) {
    row.Number(0, next, std::min(next, kTierCount - 1), "for the next tier");
    if (row.ok() && row.Text(1) != TierName(kTiers[next])) {
      row.Refuse(1, std::string(TierName(kTiers[next])));
    }
    ++next;
  });
}

Status SnapshotReader::Impl::ReadNamespaces() {
  return ForEach(
      "namespaces", "id, tenant, model, lora_name, block_size, additional_salt",
      [&](SnapshotRow& row) {
        const uint64_t next = namespaces.size() + 1;
        row.Number(0, next, next, "for the next row");
        namespaces.push_back({std::string(row.Text(1)), std::string(row.Text(2)),
                              std::string(row.Text(3)), row.Number32(4, 1, kMost32, "tokens"),
                              std::string(row.Text(5))});
      });
}

Status SnapshotReader::Impl::ReadPublishers() {
  return ForEach(
      "publishers",
      "id, key, registration, configured, saved_at, state, reason, detail, cursor, digest, "
      "digests, first_sequence, newest_time, damage, damage_detail, needs_rebuild, block_size, "
      "rank, several_ranks, ranks_are_believed, trimmed",
      [&](SnapshotRow& row) {
        const uint64_t next = publishers.size() + 1;
        row.Number(0, next, next, "for the next row");
        SavedPublisher& saved = publishers.emplace_back().saved;
        saved.key = row.Text(1);
        saved.registration = row.Text(2);
        saved.configured = row.Flag(3);
        saved.saved_at = row.Real(4);
        saved.state = row.Text(5);
        saved.reason = row.Text(6);
        saved.detail = row.Text(7);
        if (row.IsNull(8)) {
          AllNull(row, 9, 20, true, "NULL where there is no cursor");
          return;
        }
        stream::Resume& resume = saved.resume.emplace();
        resume.cursor = row.Bits(8);
        // The number of a replay's end.
        if (resume.cursor == ~uint64_t{0}) row.Refuse(8, "the number of a batch");
        resume.digest = row.Bits(9);
        row.Numbers(10, 0, resume.cursor, resume.digests);
        // The one after the cursor where all that it held was dropped.
        if (!row.IsNull(11)) resume.first = row.Number(11, 0, resume.cursor + 1, "for a sequence");
        if (!row.IsNull(12)) resume.newest_time = row.Real(12);
        AllNull(row, 14, 14, row.IsNull(13), "NULL where there is no damage");
        if (!row.IsNull(13)) {
          const bool incomplete = row.Text(13) == "incomplete";
          if (!incomplete && row.Text(13) != "doubtful") {
            row.Refuse(13, "'incomplete', 'doubtful' or NULL");
          }
          resume.damage =
              incomplete ? stream::Damage::Kind::kIncomplete : stream::Damage::Kind::kDoubtful;
          resume.damage_detail = row.Text(14);
        }
        resume.needs_rebuild = row.Flag(15);
        if (row.IsNull(16)) {
          AllNull(row, 17, 20, true, "NULL where there is no block_size");
          return;
        }
        ingest::SavedLife& life = saved.life.emplace();
        life.block_size = row.Number32(16, 0, kMost32, "tokens");
        if (!row.IsNull(17)) life.rank = row.Number32(17, 0, kMostRank, "for a rank");
        life.several_ranks = row.Flag(18);
        life.ranks_are_believed = row.Flag(19);
        life.trimmed = row.Bits(20);
      });
}

Status SnapshotReader::Impl::ReadHolders() {
  return ForEach(
      "holders", "id, publisher, namespace, instance_id, dp_rank", [&](SnapshotRow& row) {
        const uint64_t next = holders.size() + 1;
        row.Number(0, next, next, "for the next row");
        StoredPublisher* publisher = PublisherAt(row, 1);
        const uint64_t name_space = row.Number(2, 1, namespaces.size(), "for a namespace");
        row.Text(3);
        const uint32_t rank = row.Number32(4, 0, kMostRank, "for a rank");
        if (publisher != nullptr && !publisher->saved.life) row.Refuse(1, "an engine's publisher");
        if (!row.ok()) return;
        holders.push_back(static_cast<uint32_t>(name_space - 1));
        publisher->saved.life->holders.push_back({namespaces[name_space - 1], rank});
        publisher->holders.push_back(static_cast<uint32_t>(holders.size()));
      });
}

Status SnapshotReader::Impl::ReadSpaces() {
  return ForEach(
      "spaces", "id, publisher, cache_group, tenant, model, additional_salt",
      [&](SnapshotRow& row) {
        const uint64_t next = spaces.size() + 1;
        row.Number(0, next, next, "for the next row");
        StoredPublisher* publisher = PublisherAt(row, 1);
        if (publisher == nullptr) return;
        const bool of_pool = publisher->saved.pool.has_value();
        if (!of_pool && !publisher->saved.life) row.Refuse(1, "a publisher that holds something");
        AllNull(row, 3, 5, !of_pool, "NULL for engines alone");
        if (!row.ok()) return;
        if (of_pool) {
          publisher->saved.pool->spaces.push_back(
              {{std::string(row.Text(3)), std::string(row.Text(4)), std::string(row.Text(5))},
               row.Number32(2, 0, kMost32, "for a group")});
        } else {
          // Engines say any number of 64 bits.
          publisher->saved.life->groups.push_back(static_cast<int64_t>(row.Bits(2)));
        }
        spaces.push_back({static_cast<size_t>(publisher - publishers.data()),
                          static_cast<uint32_t>(publisher->spaces.size()), of_pool});
        publisher->spaces.push_back(static_cast<uint32_t>(spaces.size()));
      });
}

Status SnapshotReader::Impl::ReadWaiting() {
  uint64_t rows = 0;
  return ForEach(
      "waiting",
      "id, publisher, space, namespace, tier, dp_rank, parent, begins_prompt, span, hashes, "
      "gone, locals, prefixes",
      [&](SnapshotRow& row) {
        ++rows;
        row.Number(0, rows, rows, "for the next row");
        StoredPublisher* publisher = PublisherAt(row, 1);
        const uint64_t space = row.Number(2, 1, spaces.size(), "for a space");
        if (!row.ok()) return;
        const Space& of = spaces[space - 1];
        if (of.of_pool || &publishers[of.publisher] != publisher) {
          row.Refuse(2, "a space of its publisher, an engine's");
          return;
        }
        ingest::SavedLife::Waiting waiting{.space = of.position};
        if (!row.IsNull(3)) {
          const uint64_t number = row.Number(3, 1, namespaces.size(), "for a namespace");
          if (row.ok()) waiting.name_space = namespaces[number - 1];
        }
        waiting.tier = static_cast<Tier>(row.Number(4, 0, kTierCount - 1, "for a tier"));
        waiting.dp_rank = row.Number32(5, 0, kMostRank, "for a rank");
        if (!row.IsNull(6)) waiting.parent = EngineHash{row.Bits(6)};
        waiting.begins_prompt = row.Flag(7);
        waiting.span = row.Number32(8, 1, kMost32, "blocks");
        row.Numbers(9, 1, kMost32, waiting.hashes);
        const uint64_t named = waiting.hashes.size();
        const std::string_view gone = row.Blob(10);
        if (gone.size() != named ||
            std::ranges::any_of(gone, [](char byte) { return byte != 0 && byte != 1; })) {
          row.Refuse(10, "a byte of 0 or 1 for each of hashes");
        }
        waiting.gone.assign(gone.begin(), gone.end());
        const bool has_locals = !row.Blob(11).empty();
        const bool has_prefixes = !row.Blob(12).empty();
        const uint64_t blocks = named * waiting.span;
        row.Numbers(11, has_locals ? blocks : 0, has_locals ? blocks : 0, waiting.locals);
        row.Numbers(12, has_prefixes ? named : 0, has_prefixes ? named : 0, waiting.prefixes);
        // Its blocks are told in one way, or it is one block that was told before.
        if (has_locals && has_prefixes) row.Refuse(12, "none where there are locals");
        if (!has_locals && waiting.span != 1) row.Refuse(8, "1 where there are no locals");
        const bool tells = has_locals || has_prefixes;
        if (!tells && named != 1) row.Refuse(9, "one hash where there are no locals or prefixes");
        if (tells != waiting.name_space.has_value()) {
          row.Refuse(3, "one where there are locals or prefixes, and only there");
        }
        if (row.ok()) publisher->saved.life->waiting.push_back(std::move(waiting));
      });
}

Status SnapshotReader::Impl::ReadDeadlines() {
  return ForEach("deadlines", "space, tier, dp_rank, name, seconds_left", [&](SnapshotRow& row) {
    const uint64_t space = row.Number(0, 1, spaces.size(), "for a space");
    if (row.ok() && spaces[space - 1].of_pool) row.Refuse(0, "a space of an engine's");
    const ingest::SavedLife::Deadline deadline{
        .space = row.ok() ? spaces[space - 1].position : 0,
        .tier = static_cast<Tier>(row.Number(1, 0, kTierCount - 1, "for a tier")),
        .dp_rank = row.Number32(2, 0, kMostRank, "for a rank"),
        .name = EngineHash{row.Bits(3)},
        .left = FromSeconds(row.Real(4))};
    if (row.ok()) publishers[spaces[space - 1].publisher].saved.life->deadlines.push_back(deadline);
  });
}

Status SnapshotReader::Impl::ReadPools() {
  return ForEach("pools",
                 "publisher, dropped, lost_tenants, foreign_model, foreign_prefix, "
                 "objects_unread, objects_foreign, last_event_id",
                 [&](SnapshotRow& row) {
                   StoredPublisher* publisher = PublisherAt(row, 0);
                   if (publisher == nullptr) return;
                   if (!publisher->saved.resume || publisher->saved.life) {
                     row.Refuse(0, "a pool's publisher");
                     return;
                   }
                   ingest::SavedPool& pool = publisher->saved.pool.emplace();
                   pool.dropped = row.Flag(1);
                   pool.lost_tenants = row.Flag(2);
                   pool.foreign_model = row.Text(3);
                   pool.foreign_prefix = row.Text(4);
                   pool.objects_unread = row.Bits(5);
                   pool.objects_foreign = row.Bits(6);
                   pool.last_event_id = row.Bits(7);
                 });
}

Status SnapshotReader::Impl::ReadFamilies() {
  return ForEach(
      "pool_families",
      "id, publisher, tenant, model, form, prefix, variant, cache_group, tensor_ranks, "
      "pipeline_ranks, prefill_context_ranks, decode_context_ranks, layers, told_tensor_ranks, "
      "has_k, has_v, unchanged",
      [&](SnapshotRow& row) {
        const uint64_t next = families.size() + 1;
        row.Number(0, next, next, "for the next row");
        StoredPublisher* publisher = PublisherAt(row, 1);
        if (publisher == nullptr) return;
        ingest::SavedPool::Family family{.tenant = std::string(row.Text(2)),
                                         .model = std::string(row.Text(3)),
                                         .prefix = std::string(row.Text(5)),
                                         .variant = std::string(row.Text(6)),
                                         .group = row.Number32(7, 0, kMost32, "for a group")};
        if (const auto form = FormNamed(row.Text(4))) {
          family.form = *form;
        } else {
          row.Refuse(4, "a form of keys");
        }
        for (int i = 0; i < 5; ++i) {
          if (row.IsNull(8 + i)) continue;
          family.shape.seen[static_cast<size_t>(i)] =
              row.Number32(8 + i, 1, ingest::BlockShape::kMostRanks, "of a kind");
        }
        // Registered, it may be any.
        if (!row.IsNull(13)) family.shape.tensor_ranks = row.Number32(13, 1, kMostRank, "ranks");
        family.shape.k = row.Flag(14);
        family.shape.v = row.Flag(15);
        family.shape.unchanged = row.Bits(16);
        if (!publisher->saved.pool) row.Refuse(1, "a pool's publisher");
        if (!row.ok()) return;
        auto& all = publisher->saved.pool->families;
        families.push_back({static_cast<size_t>(publisher - publishers.data()),
                            static_cast<uint32_t>(all.size())});
        all.push_back(std::move(family));
      });
}

Status SnapshotReader::Impl::ReadObjects() {
  std::map<std::pair<size_t, std::string>, uint32_t> backends;
  uint64_t rows = 0;
  return ForEach(
      "pool_objects",
      "id, family, key, name, component, backend, on_cpu, on_disk, settled, cpu_seconds_left, "
      "disk_seconds_left",
      [&](SnapshotRow& row) {
        ++rows;
        row.Number(0, rows, rows, "for the next row");
        const uint64_t number = row.Number(1, 1, families.size(), "for a family");
        if (!row.ok()) return;
        const Family& family = families[number - 1];
        ingest::SavedPool& pool = *publishers[family.publisher].saved.pool;
        ingest::SavedPool::Object object{.family = family.position,
                                         .key = std::string(row.Text(2)),
                                         .hash = EngineHash{row.Bits(3)},
                                         .component = ingest::ComponentId{row.Bits(4)},
                                         .cpu = row.Flag(6),
                                         .disk = row.Flag(7),
                                         .settled = row.Flag(8),
                                         .cpu_left = MaybeSeconds(row, 9),
                                         .disk_left = MaybeSeconds(row, 10)};
        if (!ingest::BlockShape::Has(pool.families[family.position].shape, object.component)) {
          row.Refuse(4, "ranks and a part that its family has");
        }
        const auto [backend, fresh] =
            backends.try_emplace({family.publisher, std::string(row.Text(5))},
                                 static_cast<uint32_t>(pool.backends.size()));
        if (fresh) pool.backends.push_back(backend->first.second);
        object.backend = backend->second;
        pool.objects.push_back(std::move(object));
      });
}

Status SnapshotReader::Impl::ReadAll() {
  if (std::exchange(read, true)) return {};
  for (const auto step :
       {&Impl::ReadTiers, &Impl::ReadNamespaces, &Impl::ReadPublishers, &Impl::ReadPools,
        &Impl::ReadHolders, &Impl::ReadSpaces, &Impl::ReadWaiting, &Impl::ReadDeadlines,
        &Impl::ReadFamilies, &Impl::ReadObjects}) {
    if (auto done = (this->*step)(); !done) return done;
  }
  for (const StoredPublisher& publisher : publishers) {
    const SavedPublisher& saved = publisher.saved;
    if (saved.resume.has_value() != (saved.life || saved.pool)) {
      return Fail("publishers: '" + saved.key +
                      "' has a cursor and nothing that is held, or the other way round",
                  info.path, "both or none");
    }
  }
  return {};
}

}  // namespace conductor::store
