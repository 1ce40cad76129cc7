#include "lib/store/snapshot_reader.h"

#include <fmt/format.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <utility>

#include "lib/store/content_digest.h"
#include "lib/store/packed_numbers.h"
#include "lib/store/snapshot_schema.h"
#include "lib/store/sqlite.h"
#include "lib/store/state_file.h"

namespace conductor::store {
namespace {

constexpr const char* kReading = "cannot be read";

uint64_t Leading(uint32_t blocks) {
  return blocks >= 64 ? ~uint64_t{0} : (uint64_t{1} << blocks) - 1;
}

std::optional<uint32_t> Number32(const Statement& row, int column) {
  if (row.IsNull(column)) return std::nullopt;
  const int64_t number = row.Integer(column);
  if (number < 0 || number > std::numeric_limits<uint32_t>::max()) return std::nullopt;
  return static_cast<uint32_t>(number);
}

Duration FromSeconds(double seconds) {
  constexpr double kMost = 1e9;  // thirty years
  const double kept = std::isfinite(seconds) ? std::clamp(seconds, -kMost, kMost) : 0;
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(kept));
}

std::optional<Duration> MaybeSeconds(const Statement& row, int column) {
  if (row.IsNull(column)) return std::nullopt;
  return FromSeconds(row.Real(column));
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

struct SnapshotReader::Impl {
  explicit Impl(Database opened) : database(std::move(opened)) {}

  [[nodiscard]] Status ReadInfo();
  [[nodiscard]] Status ReadNamespaces();
  [[nodiscard]] Status ReadHolders();
  [[nodiscard]] Status ReadSpaces();
  [[nodiscard]] Status ReadPublishers();
  [[nodiscard]] Status ReadWaiting();
  [[nodiscard]] Status ReadDeadlines();
  [[nodiscard]] Status ReadPools();
  [[nodiscard]] Status ReadFamilies();
  [[nodiscard]] Status ReadObjects();
  [[nodiscard]] Status ReadAll();

  [[nodiscard]] Status VisitRuns(ChainVisitor& visitor);
  [[nodiscard]] Status VisitHoldings(ChainVisitor& visitor);
  [[nodiscard]] Status VisitSpecial(ChainVisitor& visitor);
  [[nodiscard]] Status VisitNames(ChainVisitor& visitor, bool of_pools);
  [[nodiscard]] Status DigestNames(ChainVisitor& visitor);
  [[nodiscard]] Status VisitSpans(ChainVisitor& visitor);

  // `visit(row)` for each; it returns what is wrong with the row, or nothing.
  template <typename Visit>
  [[nodiscard]] Status ForEach(const std::string& table, const std::string& sql, Visit visit) {
    auto rows = Statement::Prepare(database, sql);
    if (!rows) return tl::unexpected(rows.error());
    for (uint64_t number = 1;; ++number) {
      const auto row = rows->Next(fmt::format("{} {}", table, kReading));
      if (!row) return tl::unexpected(row.error());
      if (!*row) return {};
      if (const char* wrong = visit(*rows)) {
        return Fail(fmt::format("{}: {} is wrong", table, wrong),
                    fmt::format("{}: row {}", database.path(), number),
                    "what docs/snapshot-format.md says");
      }
    }
  }

  // Where a publisher's row stands in `publishers`; nothing: nowhere.
  [[nodiscard]] StoredPublisher* PublisherAt(const Statement& row, int column) {
    const auto found = publisher_at.find(row.Integer(column));
    return found == publisher_at.end() ? nullptr : &publishers[found->second];
  }

  struct Holder {
    size_t publisher = 0;
    uint32_t name_space = 0;
  };
  struct Space {
    size_t publisher = 0;
    uint32_t position = 0;  // among the publisher's
    bool of_pool = false;
  };

  Database database;
  SnapshotInfo info;
  uint64_t digest_written = 0;
  bool read = false;
  std::vector<index::NamespaceKey> namespaces;  // id - 1
  std::vector<StoredPublisher> publishers;
  std::map<int64_t, size_t> publisher_at;
  std::vector<Holder> holders;  // id - 1
  std::vector<Space> spaces;    // id - 1
  struct Family {
    size_t publisher = 0;
    uint32_t position = 0;
  };
  std::vector<Family> families;  // id - 1
  std::vector<uint8_t> lengths;  // of runs
  std::vector<uint32_t> name_space_of;
  ContentDigest digest;
};

SnapshotReader::SnapshotReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SnapshotReader::SnapshotReader(SnapshotReader&&) noexcept = default;
SnapshotReader& SnapshotReader::operator=(SnapshotReader&&) noexcept = default;
SnapshotReader::~SnapshotReader() = default;

Result<SnapshotReader> SnapshotReader::Open(const std::string& path, Blame* blame) {
  // To open a FIFO may take for ever.
  if (blame != nullptr) *blame = Blame::kReading;
  if (auto regular = ExpectRegularFile(path); !regular) return tl::unexpected(regular.error());
  std::shared_ptr<const bool> file_is_to_blame;
  auto reader = OpenFile(path, file_is_to_blame);
  if (!reader && blame != nullptr && file_is_to_blame && *file_is_to_blame) *blame = Blame::kFile;
  return reader;
}

uint64_t SnapshotReader::digest() const { return impl_->digest_written; }

SnapshotReader::Blame SnapshotReader::blame() const {
  return *impl_->database.file_is_to_blame() ? Blame::kFile : Blame::kReading;
}

Result<SnapshotReader> SnapshotReader::OpenFile(const std::string& path,
                                                std::shared_ptr<const bool>& file_is_to_blame) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    return Fail(fmt::format("cannot be read: {}", std::strerror(errno)), path, "a snapshot");
  }
  auto database = Database::Open(path, Database::Mode::kRead);
  if (!database) return tl::unexpected(database.error());
  file_is_to_blame = database->file_is_to_blame();
  const auto application = database->Number("PRAGMA application_id");
  if (!application) return tl::unexpected(application.error());
  if (*application != kApplicationId) {
    return Fail("is no snapshot of Conductor's: it is another program's file", path,
                fmt::format("an SQLite file with application_id {}", kApplicationId));
  }
  const auto version = database->Number("PRAGMA user_version");
  if (!version) return tl::unexpected(version.error());
  if (*version != kFormatVersion) {
    const bool newer = *version > kFormatVersion;
    return Fail(fmt::format("has format {}{}", version->value_or(0),
                            newer ? ": a newer Conductor wrote it" : ", which never was one"),
                path, fmt::format("format {} or older", kFormatVersion));
  }
  auto impl = std::make_unique<Impl>(*std::move(database));
  impl->info.path = path;
  impl->info.bytes = static_cast<uint64_t>(status.st_size);
  impl->info.format = **version;
  if (auto done = impl->ReadInfo(); !done) return tl::unexpected(done.error());
  return SnapshotReader(std::move(impl));
}

const SnapshotInfo& SnapshotReader::info() const { return impl_->info; }

Status SnapshotReader::Impl::ReadInfo() {
  bool there = false;
  auto done = ForEach("snapshot",
                      "SELECT conductor, saved_at, hash_seed, blocks, runs, digest FROM snapshot",
                      [&](const Statement& row) -> const char* {
                        there = true;
                        info.conductor = row.Text(0);
                        info.saved_at = row.Real(1);
                        info.hash_seed = row.Unsigned(2);
                        info.blocks = row.Unsigned(3);
                        info.runs = row.Unsigned(4);
                        digest_written = row.Unsigned(5);
                        return nullptr;
                      });
  if (!done) return done;
  if (!there) return Fail("was never finished: 'snapshot' has no row", info.path, "one row");
  const auto publishers_there = database.Number("SELECT count(*) FROM publishers");
  if (!publishers_there) return tl::unexpected(publishers_there.error());
  info.publishers = static_cast<uint64_t>(publishers_there->value_or(0));
  const auto held = database.Number("SELECT coalesce(sum(held), 0) FROM holdings");
  if (!held) return tl::unexpected(held.error());
  info.holdings = static_cast<uint64_t>(held->value_or(0));
  return {};
}

Status SnapshotReader::Impl::ReadNamespaces() {
  return ForEach(
      "namespaces",
      "SELECT id, tenant, model, lora_name, block_size, additional_salt FROM namespaces "
      "ORDER BY id",
      [&](const Statement& row) -> const char* {
        if (row.Unsigned(0) != namespaces.size() + 1) return "id";
        const auto block_size = Number32(row, 4);
        if (!block_size) return "block_size";
        namespaces.push_back({std::string(row.Text(1)), std::string(row.Text(2)),
                              std::string(row.Text(3)), *block_size, std::string(row.Text(5))});
        return nullptr;
      });
}

Status SnapshotReader::Impl::ReadPublishers() {
  return ForEach(
      "publishers",
      "SELECT id, key, registration, configured, saved_at, state, reason, detail, cursor, digest, "
      "digests, first_sequence, newest_time, damage, damage_detail, block_size, rank, "
      "several_ranks, ranks_are_believed, trimmed FROM publishers ORDER BY key",
      [&](const Statement& row) -> const char* {
        publisher_at[row.Integer(0)] = publishers.size();
        SavedPublisher& saved = publishers.emplace_back().saved;
        saved.key = row.Text(1);
        saved.registration = row.Text(2);
        saved.configured = row.Integer(3) != 0;
        saved.saved_at = row.Real(4);
        saved.state = row.Text(5);
        saved.reason = row.Text(6);
        saved.detail = row.Text(7);
        if (row.IsNull(8)) return nullptr;
        stream::Resume& resume = saved.resume.emplace();
        resume.cursor = row.Unsigned(8);
        // The number of a replay's end; no batch has it.
        if (resume.cursor == ~uint64_t{0}) return "cursor";
        resume.digest = row.Unsigned(9);
        if (!UnpackNumbers(row.Blob(10), resume.digests)) return "digests";
        if (!row.IsNull(11)) resume.first = row.Unsigned(11);
        if (!row.IsNull(12)) resume.newest_time = row.Real(12);
        if (!row.IsNull(13)) {
          resume.damage = row.Text(13) == "incomplete" ? stream::Damage::Kind::kIncomplete
                                                       : stream::Damage::Kind::kDoubtful;
          resume.damage_detail = row.Text(14);
        }
        if (row.IsNull(15)) return nullptr;
        ingest::SavedLife& life = saved.life.emplace();
        const auto block_size = Number32(row, 15);
        if (!block_size) return "block_size";
        life.block_size = *block_size;
        life.rank = Number32(row, 16);
        life.several_ranks = row.Integer(17) != 0;
        life.ranks_are_believed = row.Integer(18) != 0;
        life.trimmed = row.Unsigned(19);
        return nullptr;
      });
}

Status SnapshotReader::Impl::ReadHolders() {
  return ForEach(
      "holders", "SELECT id, publisher, namespace, dp_rank FROM holders ORDER BY id",
      [&](const Statement& row) -> const char* {
        if (row.Unsigned(0) != holders.size() + 1) return "id";
        StoredPublisher* publisher = PublisherAt(row, 1);
        if (publisher == nullptr || !publisher->saved.life) return "publisher";
        const uint64_t name_space = row.Unsigned(2) - 1;
        if (name_space >= namespaces.size()) return "namespace";
        const auto rank = Number32(row, 3);
        if (!rank) return "dp_rank";
        holders.push_back({publisher_at.at(row.Integer(1)), static_cast<uint32_t>(name_space)});
        publisher->saved.life->holders.push_back({namespaces[name_space], *rank});
        publisher->holders.push_back(static_cast<uint32_t>(holders.size()));
        return nullptr;
      });
}

Status SnapshotReader::Impl::ReadSpaces() {
  return ForEach(
      "spaces",
      "SELECT id, publisher, cache_group, tenant, model, additional_salt FROM spaces ORDER BY id",
      [&](const Statement& row) -> const char* {
        if (row.Unsigned(0) != spaces.size() + 1) return "id";
        StoredPublisher* publisher = PublisherAt(row, 1);
        if (publisher == nullptr) return "publisher";
        const bool of_pool = !row.IsNull(3);
        const auto position = static_cast<uint32_t>(publisher->spaces.size());
        spaces.push_back({publisher_at.at(row.Integer(1)), position, of_pool});
        publisher->spaces.push_back(static_cast<uint32_t>(spaces.size()));
        if (of_pool) {
          if (!publisher->saved.pool) return "publisher";
          const auto group = Number32(row, 2);
          if (!group) return "cache_group";
          publisher->saved.pool->spaces.push_back(
              {{std::string(row.Text(3)), std::string(row.Text(4)), std::string(row.Text(5))},
               *group});
          return nullptr;
        }
        if (!publisher->saved.life) return "publisher";
        publisher->saved.life->groups.push_back(row.Integer(2));
        return nullptr;
      });
}

Status SnapshotReader::Impl::ReadWaiting() {
  return ForEach(
      "waiting",
      "SELECT publisher, space, namespace, tier, dp_rank, parent, begins_prompt, span, hashes, "
      "gone, locals, prefixes FROM waiting ORDER BY id",
      [&](const Statement& row) -> const char* {
        StoredPublisher* publisher = PublisherAt(row, 0);
        if (publisher == nullptr || !publisher->saved.life) return "publisher";
        ingest::SavedLife::Waiting waiting;
        const uint64_t space = row.Unsigned(1) - 1;
        if (space >= spaces.size() || spaces[space].of_pool ||
            &publishers[spaces[space].publisher] != publisher) {
          return "space";
        }
        waiting.space = spaces[space].position;
        if (!row.IsNull(2)) {
          const uint64_t name_space = row.Unsigned(2) - 1;
          if (name_space >= namespaces.size()) return "namespace";
          waiting.name_space = namespaces[name_space];
        }
        if (row.Unsigned(3) >= kTierCount) return "tier";
        waiting.tier = static_cast<Tier>(row.Integer(3));
        const auto rank = Number32(row, 4);
        if (!rank) return "dp_rank";
        waiting.dp_rank = *rank;
        if (!row.IsNull(5)) waiting.parent = EngineHash{row.Unsigned(5)};
        waiting.begins_prompt = row.Integer(6) != 0;
        const auto span = Number32(row, 7);
        if (!span || *span == 0) return "span";
        waiting.span = *span;
        if (!UnpackNumbers(row.Blob(8), waiting.hashes) || waiting.hashes.empty()) return "hashes";
        const std::string_view gone = row.Blob(9);
        if (gone.size() != waiting.hashes.size()) return "gone";
        waiting.gone.assign(gone.begin(), gone.end());
        const uint64_t blocks = uint64_t{waiting.hashes.size()} * waiting.span;
        if (!UnpackNumbers(row.Blob(10), waiting.locals)) return "locals";
        if (!waiting.locals.empty() && waiting.locals.size() != blocks) return "locals";
        if (!UnpackNumbers(row.Blob(11), waiting.prefixes)) return "prefixes";
        if (!waiting.prefixes.empty() && waiting.prefixes.size() != blocks) return "prefixes";
        const bool tells = !waiting.locals.empty() || !waiting.prefixes.empty();
        if (tells != waiting.name_space.has_value()) return "namespace";
        if (!tells && waiting.hashes.size() != 1) return "hashes";
        publisher->saved.life->waiting.push_back(std::move(waiting));
        return nullptr;
      });
}

Status SnapshotReader::Impl::ReadDeadlines() {
  return ForEach("deadlines", "SELECT space, tier, dp_rank, name, seconds_left FROM deadlines",
                 [&](const Statement& row) -> const char* {
                   const uint64_t space = row.Unsigned(0) - 1;
                   if (space >= spaces.size() || spaces[space].of_pool) return "space";
                   if (row.Unsigned(1) >= kTierCount) return "tier";
                   const auto rank = Number32(row, 2);
                   if (!rank) return "dp_rank";
                   publishers[spaces[space].publisher].saved.life->deadlines.push_back(
                       {spaces[space].position, static_cast<Tier>(row.Integer(1)), *rank,
                        EngineHash{row.Unsigned(3)}, FromSeconds(row.Real(4))});
                   return nullptr;
                 });
}

Status SnapshotReader::Impl::ReadPools() {
  return ForEach("pools",
                 "SELECT publisher, dropped, lost_tenants, foreign_model, foreign_prefix, "
                 "objects_unread, objects_foreign, last_event_id FROM pools",
                 [&](const Statement& row) -> const char* {
                   StoredPublisher* publisher = PublisherAt(row, 0);
                   if (publisher == nullptr || publisher->saved.life) return "publisher";
                   ingest::SavedPool& pool = publisher->saved.pool.emplace();
                   pool.dropped = row.Integer(1) != 0;
                   pool.lost_tenants = row.Integer(2) != 0;
                   pool.foreign_model = row.Text(3);
                   pool.foreign_prefix = row.Text(4);
                   pool.objects_unread = row.Unsigned(5);
                   pool.objects_foreign = row.Unsigned(6);
                   pool.last_event_id = row.Unsigned(7);
                   return nullptr;
                 });
}

Status SnapshotReader::Impl::ReadFamilies() {
  return ForEach(
      "pool_families",
      "SELECT id, publisher, tenant, model, form, prefix, variant, cache_group, tensor_ranks, "
      "pipeline_ranks, prefill_context_ranks, decode_context_ranks, layers, told_tensor_ranks, "
      "has_k, has_v, unchanged FROM pool_families ORDER BY id",
      [&](const Statement& row) -> const char* {
        if (row.Unsigned(0) != families.size() + 1) return "id";
        StoredPublisher* publisher = PublisherAt(row, 1);
        if (publisher == nullptr || !publisher->saved.pool) return "publisher";
        ingest::SavedPool::Family family;
        family.tenant = row.Text(2);
        family.model = row.Text(3);
        const auto form = FormNamed(row.Text(4));
        if (!form) return "form";
        family.form = *form;
        family.prefix = row.Text(5);
        family.variant = row.Text(6);
        family.group = Number32(row, 7).value_or(0);
        for (int i = 0; i < 5; ++i) {
          const auto seen = Number32(row, 8 + i);
          if (seen && *seen > ingest::BlockShape::kMostRanks) return "a number of ranks";
          family.shape.seen[static_cast<size_t>(i)] = seen;
        }
        family.shape.tensor_ranks = Number32(row, 13);
        family.shape.k = row.Integer(14) != 0;
        family.shape.v = row.Integer(15) != 0;
        family.shape.unchanged = row.Unsigned(16);
        auto& all = publisher->saved.pool->families;
        families.push_back({publisher_at.at(row.Integer(1)), static_cast<uint32_t>(all.size())});
        all.push_back(std::move(family));
        return nullptr;
      });
}

Status SnapshotReader::Impl::ReadObjects() {
  std::map<std::pair<size_t, std::string>, uint32_t> backends;
  return ForEach(
      "pool_objects",
      "SELECT family, key, name, component, backend, on_cpu, on_disk, settled, cpu_seconds_left, "
      "disk_seconds_left FROM pool_objects ORDER BY id",
      [&](const Statement& row) -> const char* {
        const uint64_t number = row.Unsigned(0) - 1;
        if (number >= families.size()) return "family";
        const Family& family = families[number];
        ingest::SavedPool& pool = *publishers[family.publisher].saved.pool;
        const auto [backend, fresh] =
            backends.try_emplace({family.publisher, std::string(row.Text(4))},
                                 static_cast<uint32_t>(pool.backends.size()));
        if (fresh) pool.backends.push_back(backend->first.second);
        pool.objects.push_back({.family = family.position,
                                .key = std::string(row.Text(1)),
                                .hash = EngineHash{row.Unsigned(2)},
                                .component = ingest::ComponentId{row.Unsigned(3)},
                                .backend = backend->second,
                                .cpu = row.Integer(5) != 0,
                                .disk = row.Integer(6) != 0,
                                .settled = row.Integer(7) != 0,
                                .cpu_left = MaybeSeconds(row, 8),
                                .disk_left = MaybeSeconds(row, 9)});
        return nullptr;
      });
}

Status SnapshotReader::Impl::ReadAll() {
  if (std::exchange(read, true)) return {};
  for (const auto step : {&Impl::ReadNamespaces, &Impl::ReadPublishers, &Impl::ReadPools,
                          &Impl::ReadHolders, &Impl::ReadSpaces, &Impl::ReadWaiting,
                          &Impl::ReadDeadlines, &Impl::ReadFamilies, &Impl::ReadObjects}) {
    if (auto done = (this->*step)(); !done) return done;
  }
  for (const StoredPublisher& publisher : publishers) {
    const SavedPublisher& saved = publisher.saved;
    if (saved.resume.has_value() != (saved.life || saved.pool)) {
      return Fail(fmt::format("publishers: {} has a cursor and nothing that is held, or the other "
                              "way round",
                              saved.key),
                  info.path, "both or none");
    }
  }
  return {};
}

Result<std::vector<StoredPublisher>> SnapshotReader::Publishers() {
  if (auto done = impl_->ReadAll(); !done) return tl::unexpected(done.error());
  return std::move(impl_->publishers);
}

Status SnapshotReader::Impl::VisitRuns(ChainVisitor& visitor) {
  lengths.clear();
  name_space_of.clear();
  std::vector<uint32_t> positions;
  std::vector<PrefixHash> blocks;
  return ForEach("runs",
                 "SELECT id, namespace, parent, parent_block, position, length, prefixes FROM runs "
                 "ORDER BY id",
                 [&](const Statement& row) -> const char* {
                   ChainVisitor::Run run{.id = static_cast<uint32_t>(lengths.size() + 1)};
                   if (row.Unsigned(0) != run.id || lengths.size() >= (1u << 31)) return "id";
                   const uint64_t name_space = row.Unsigned(1) - 1;
                   if (name_space >= namespaces.size()) return "namespace";
                   const uint64_t length = row.Unsigned(5);
                   if (length == 0 || length > 64) return "length";
                   if (!UnpackNumbers(row.Blob(6), blocks) || blocks.size() != length)
                     return "prefixes";
                   uint32_t position = 0;
                   if (!row.IsNull(2)) {
                     const uint64_t parent = row.Unsigned(2) - 1;
                     if (parent >= lengths.size() || name_space_of[parent] != name_space)
                       return "parent";
                     if (row.Unsigned(3) >= lengths[parent]) return "parent_block";
                     run.parent = static_cast<uint32_t>(parent + 1);
                     run.parent_block = static_cast<uint32_t>(row.Unsigned(3));
                     position = positions[parent] + run.parent_block + 1;
                   }
                   if (row.Unsigned(4) != position) return "position";
                   digest.Add(ContentDigest::kRuns,
                              {run.id, row.Integer(1), run.parent.value_or(0), run.parent_block,
                               static_cast<int64_t>(length)},
                              row.Blob(6));
                   run.name_space = &namespaces[name_space];
                   run.position = position;
                   run.blocks = blocks;
                   lengths.push_back(static_cast<uint8_t>(length));
                   name_space_of.push_back(static_cast<uint32_t>(name_space));
                   positions.push_back(position);
                   visitor.OnRun(run);
                   return nullptr;
                 });
}

Status SnapshotReader::Impl::VisitHoldings(ChainVisitor& visitor) {
  return ForEach("holdings", "SELECT run, holder, tier, blocks, held FROM holdings ORDER BY rowid",
                 [&](const Statement& row) -> const char* {
                   const uint64_t run = row.Unsigned(0) - 1;
                   if (run >= lengths.size()) return "run";
                   const uint64_t holder = row.Unsigned(1) - 1;
                   if (holder >= holders.size()) return "holder";
                   if (holders[holder].name_space != name_space_of[run]) return "holder";
                   if (row.Unsigned(2) >= kTierCount) return "tier";
                   const uint64_t blocks = row.Unsigned(3);
                   if (blocks == 0 || (blocks & ~Leading(lengths[run])) != 0) return "blocks";
                   if (row.Integer(4) != std::popcount(blocks)) return "held";
                   digest.Add(ContentDigest::kHoldings,
                              {row.Integer(0), row.Integer(1), row.Integer(2), row.Integer(3)});
                   visitor.OnHolding(static_cast<uint32_t>(run + 1),
                                     static_cast<uint32_t>(holder + 1),
                                     static_cast<Tier>(row.Integer(2)), blocks);
                   return nullptr;
                 });
}

Status SnapshotReader::Impl::VisitSpecial(ChainVisitor& visitor) {
  return ForEach(
      "special_holdings",
      "SELECT run, holder, tier, block, span, copies FROM special_holdings ORDER BY rowid",
      [&](const Statement& row) -> const char* {
        const uint64_t run = row.Unsigned(0) - 1;
        if (run >= lengths.size()) return "run";
        const uint64_t holder = row.Unsigned(1) - 1;
        if (holder >= holders.size()) return "holder";
        if (row.Unsigned(2) >= kTierCount) return "tier";
        if (row.Unsigned(3) >= lengths[run]) return "block";
        const auto span = Number32(row, 4);
        if (!span || *span == 0) return "span";
        const auto copies = Number32(row, 5);
        if (!copies || *copies == 0) return "copies";
        digest.Add(ContentDigest::kSpecial, {row.Integer(0), row.Integer(1), row.Integer(2),
                                             row.Integer(3), row.Integer(4), row.Integer(5)});
        visitor.OnSpecial(static_cast<uint32_t>(run + 1), static_cast<uint32_t>(holder + 1),
                          static_cast<Tier>(row.Integer(2)), static_cast<uint32_t>(row.Integer(3)),
                          *span, *copies);
        return nullptr;
      });
}

Status SnapshotReader::Impl::DigestNames(ChainVisitor& visitor) {
  uint64_t count = 0;
  auto done = ForEach("names", "SELECT id, run, blocks, names FROM names ORDER BY id",
                      [&](const Statement& row) -> const char* {
                        digest.Add(ContentDigest::kNames,
                                   {row.Integer(0), row.Integer(1), row.Integer(2)}, row.Blob(3));
                        count += row.Blob(3).size() / sizeof(EngineHash);
                        return nullptr;
                      });
  if (done) visitor.OnNamesAhead(count);
  return done;
}

Status SnapshotReader::Impl::VisitNames(ChainVisitor& visitor, bool of_pools) {
  std::vector<EngineHash> names;
  return ForEach(
      "aliases",
      "SELECT aliases.space, aliases.names, names.run, names.blocks, names.names FROM aliases "
      "LEFT JOIN names ON names.id = aliases.names ORDER BY aliases.rowid",
      [&](const Statement& row) -> const char* {
        const uint64_t space = row.Unsigned(0) - 1;
        if (space >= spaces.size()) return "space";
        if (row.IsNull(2)) return "names";
        const uint64_t run = row.Unsigned(2) - 1;
        if (run >= lengths.size()) return "names.run";
        const uint64_t blocks = row.Unsigned(3);
        if (blocks == 0 || (blocks & ~Leading(lengths[run])) != 0) return "names.blocks";
        if (!UnpackNumbers(row.Blob(4), names)) return "names.names";
        if (names.size() != static_cast<size_t>(std::popcount(blocks))) return "names.names";
        if (!of_pools) digest.Add(ContentDigest::kAliases, {row.Integer(0), row.Integer(1)});
        if (of_pools && !spaces[space].of_pool) return nullptr;
        visitor.OnNames(static_cast<uint32_t>(run + 1), static_cast<uint32_t>(space + 1), blocks,
                        names);
        return nullptr;
      });
}

Status SnapshotReader::Impl::VisitSpans(ChainVisitor& visitor) {
  return ForEach(
      "alias_spans", "SELECT space, name, span FROM alias_spans ORDER BY rowid",
      [&](const Statement& row) -> const char* {
        const uint64_t space = row.Unsigned(0) - 1;
        if (space >= spaces.size()) return "space";
        const auto span = Number32(row, 2);
        if (!span || *span == 0) return "span";
        digest.Add(ContentDigest::kSpans, {row.Integer(0), row.Integer(1), row.Integer(2)});
        visitor.OnSpan(static_cast<uint32_t>(space + 1), EngineHash{row.Unsigned(1)}, *span);
        return nullptr;
      });
}

Status SnapshotReader::VisitChains(ChainVisitor& visitor) {
  Impl& impl = *impl_;
  if (auto done = impl.ReadAll(); !done) return done;
  impl.digest = ContentDigest();
  if (auto done = impl.VisitRuns(visitor); !done) return done;
  if (auto done = impl.VisitHoldings(visitor); !done) return done;
  if (auto done = impl.VisitSpecial(visitor); !done) return done;
  if (auto done = impl.DigestNames(visitor); !done) return done;
  if (auto done = impl.VisitNames(visitor, /*of_pools=*/false); !done) return done;
  if (auto done = impl.VisitSpans(visitor); !done) return done;
  if (impl.digest.Total() == impl.digest_written) return {};
  return Fail("blocks, holdings or names are not those that were written", impl.info.path,
              fmt::format("rows with the digest {:016x}", impl.digest_written));
}

Status SnapshotReader::VisitPoolNames(ChainVisitor& visitor) {
  const bool any = std::ranges::any_of(impl_->spaces, &Impl::Space::of_pool);
  if (!any) return {};
  return impl_->VisitNames(visitor, /*of_pools=*/true);
}

Status SnapshotReader::Verify() {
  Impl& impl = *impl_;
  auto checked = Statement::Prepare(impl.database, "PRAGMA integrity_check");
  if (!checked) return tl::unexpected(checked.error());
  const auto row = checked->Next(kReading);
  if (!row) return tl::unexpected(row.error());
  if (!*row || checked->Text(0) != "ok") {
    return Fail(fmt::format("is damaged: {}", *row ? checked->Text(0) : "nothing to check"),
                impl.info.path, "a file that PRAGMA integrity_check calls ok");
  }
  auto references = Statement::Prepare(impl.database, "PRAGMA foreign_key_check");
  if (!references) return tl::unexpected(references.error());
  const auto broken = references->Next(kReading);
  if (!broken) return tl::unexpected(broken.error());
  if (*broken) {
    return Fail(fmt::format("{}: row {} refers to a row of {} that is not there",
                            references->Text(0), references->Integer(1), references->Text(2)),
                impl.info.path, "references that lead somewhere");
  }
  ChainVisitor nobody;
  return VisitChains(nobody);
}

}  // namespace conductor::store
