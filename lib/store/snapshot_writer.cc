#include "lib/store/snapshot_writer.h"

#include <absl/container/flat_hash_map.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "lib/store/content_digest.h"
#include "lib/store/packed_numbers.h"
#include "lib/store/snapshot_schema.h"
#include "lib/store/sqlite.h"
#include "lib/store/written_runs.h"

namespace conductor::store {
namespace {

using index::PackedChains;

constexpr const char* kPragmas = R"sql(
PRAGMA page_size = 16384;
PRAGMA journal_mode = OFF;
PRAGMA synchronous = FULL;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA cache_size = -16384;
BEGIN;
)sql";

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

std::optional<double> Seconds(const std::optional<Duration>& duration) {
  if (!duration) return std::nullopt;
  return Seconds(*duration);
}

std::string_view DamageName(stream::Damage::Kind kind) {
  return kind == stream::Damage::Kind::kDoubtful ? "doubtful" : "incomplete";
}

// What a row says.
XXH128_hash_t What(const std::array<int64_t, 2>& numbers, std::string_view blob) {
  return XXH3_128bits_withSeed(blob.data(), blob.size(),
                               XXH3_64bits(numbers.data(), sizeof numbers));
}

// Where block `block` of a run stands that was written in these pieces.
WrittenRuns::Place PlaceOf(const std::vector<WrittenRuns::Piece>& pieces, uint32_t block) {
  auto piece = pieces.begin();
  for (; block >= piece->length; ++piece) block -= piece->length;
  return {piece->run, piece->first + block};
}

// `visit(run, blocks)` for each row that has any block of a mask of the run.
template <typename Visit>
void ForEachPiece(const std::vector<WrittenRuns::Piece>& pieces, uint64_t blocks, Visit visit) {
  for (const WrittenRuns::Piece& piece : pieces) {
    const bool all = piece.length >= 64;
    const uint64_t here = all ? blocks : blocks & ((uint64_t{1} << piece.length) - 1);
    if (here != 0) visit(int64_t{piece.run}, here << piece.first);
    blocks = all ? 0 : blocks >> piece.length;
  }
}

}  // namespace

struct SnapshotWriter::Impl {
  using Pieces = std::vector<WrittenRuns::Piece>;
  // Names that were written already, by what their row says: both halves of XXH3-128, so that
  // nobody has to look.
  using Known = absl::flat_hash_map<std::pair<uint64_t, uint64_t>, int64_t>;
  struct Table {
    Statement insert;
    ContentDigest digest;
  };

  // A row on its way into a table and into the digest of it, value by value.
  class Row {
   public:
    Row(Impl& impl, std::string_view table, int columns)
        : impl_(impl), table_(impl.Into(table, columns)) {}

    // Its row id, where that counts the rows from 1.
    [[nodiscard]] int64_t number() const { return static_cast<int64_t>(table_.digest.rows()) + 1; }

    Row& Add(int64_t value) {
      table_.insert.Bind(column_++, value);
      table_.digest.Integer(value);
      return *this;
    }
    Row& Add(uint64_t value) { return Add(static_cast<int64_t>(value)); }
    Row& Add(uint32_t value) { return Add(int64_t{value}); }
    Row& Add(bool value) { return Add(int64_t{value ? 1 : 0}); }
    // What is no number is none.
    Row& Add(double value) {
      if (!std::isfinite(value)) return AddNull();
      value += 0.0;  // SQLite has no zero below zero
      table_.insert.Bind(column_++, value);
      table_.digest.Real(value);
      return *this;
    }
    // Both must live until Write() returned.
    Row& Add(std::string_view text) {
      table_.insert.Bind(column_++, text);
      table_.digest.Text(text);
      return *this;
    }
    Row& AddBlob(std::string_view bytes) {
      table_.insert.BindBlob(column_++, bytes);
      table_.digest.Blob(bytes);
      return *this;
    }
    Row& AddNull() {
      table_.insert.BindNull(column_++);
      table_.digest.Null();
      return *this;
    }
    template <typename T>
    Row& Add(const std::optional<T>& value) {
      return value ? Add(*value) : AddNull();
    }

    // `doing` is for the error.
    void Write(const char* doing) {
      table_.digest.EndRow();
      if (impl_.failed) return;
      if (auto done = table_.insert.Run(doing); !done) impl_.failed = done.error();
    }

   private:
    Impl& impl_;
    Table& table_;
    int column_ = 0;
  };

  Impl(Database opened, Options given) : database(std::move(opened)), options(std::move(given)) {}

  [[nodiscard]] Table& Into(std::string_view table, int columns);
  void AddTiers();
  void AddDigests();
  [[nodiscard]] int64_t NamespaceId(const index::NamespaceKey& key);
  void AddLife(int64_t publisher, const SavedPublisher& saved);
  void AddPool(int64_t publisher, const ingest::SavedPool& pool);
  void AddWaiting(int64_t publisher, const ingest::SavedLife::Waiting& waiting,
                  const std::vector<int64_t>& spaces);
  void AddChains(const PackedChains& chains, const std::vector<int64_t>& holders,
                 const std::vector<int64_t>& spaces);
  [[nodiscard]] std::vector<Pieces> AddRuns(const PackedChains& chains);
  void AddRun(const WrittenRuns::Row& run);
  [[nodiscard]] std::vector<PrefixHash> ReadRun(uint32_t run);
  void AddNames(const PackedChains& chains, const std::vector<Pieces>& runs,
                const std::vector<int64_t>& spaces);
  [[nodiscard]] int64_t NamesId(int64_t run, uint64_t blocks, std::span<const EngineHash> names);

  Database database;
  const Options options;
  std::optional<Error> failed;
  uint64_t digest_written = 0;  // of the file
  std::map<std::string, Table, std::less<>> tables;
  std::map<index::NamespaceKey, int64_t> namespaces;
  WrittenRuns written;
  Statement read_run;
  Known known_names;
  SnapshotInfo info;
  int64_t holders = 0;
  int64_t spaces = 0;
  int64_t families = 0;
  std::string scratch;
};

SnapshotWriter::Impl::Table& SnapshotWriter::Impl::Into(std::string_view name, int columns) {
  const auto found = tables.find(name);
  if (found != tables.end()) return found->second;
  std::string sql = fmt::format("INSERT INTO {} VALUES (?", name);
  for (int i = 1; i < columns; ++i) sql += ", ?";
  auto prepared = Statement::Prepare(database, sql + ")");
  Table& table = tables[std::string(name)];
  if (prepared) {
    table.insert = *std::move(prepared);
  } else if (!failed) {
    failed = prepared.error();
  }
  return table;
}

void SnapshotWriter::Impl::AddTiers() {
  for (const Tier tier : kTiers) {
    Row(*this, "tiers", 2)
        .Add(static_cast<int64_t>(tier))
        .Add(TierName(tier))
        .Write("cannot write a tier");
  }
}

// Of tables without a row too.
void SnapshotWriter::Impl::AddDigests() {
  for (const std::string_view table : kContentTables) {
    const auto found = tables.find(table);
    const ContentDigest none;
    const ContentDigest& digest = found == tables.end() ? none : found->second.digest;
    Row row(*this, "digests", 4);
    row.Add(row.number())
        .Add(table)
        .Add(digest.rows())
        .Add(digest.Value())
        .Write("cannot be finished");
  }
}

int64_t SnapshotWriter::Impl::NamespaceId(const index::NamespaceKey& key) {
  const auto [at, fresh] = namespaces.try_emplace(key, namespaces.size() + 1);
  if (fresh) {
    Row(*this, "namespaces", 6)
        .Add(at->second)
        .Add(std::string_view(key.tenant))
        .Add(std::string_view(key.model))
        .Add(std::string_view(key.lora_name))
        .Add(key.block_size)
        .Add(std::string_view(key.additional_salt))
        .Write("cannot write a namespace");
  }
  return at->second;
}

void SnapshotWriter::Impl::AddRun(const WrittenRuns::Row& run) {
  PackNumbers(run.blocks, scratch);
  info.blocks += run.blocks.size();
  Row row(*this, "runs", 7);
  row.Add(run.run).Add(run.name_space);
  if (run.parent) {
    row.Add(run.parent->run).Add(run.parent->block);
  } else {
    row.AddNull().AddNull();
  }
  row.Add(run.position)
      .Add(uint64_t{run.blocks.size()})
      .AddBlob(scratch)
      .Write("cannot write a run");
}

std::vector<PrefixHash> SnapshotWriter::Impl::ReadRun(uint32_t run) {
  constexpr const char* kDoing = "cannot read a run again";
  std::vector<PrefixHash> blocks;
  if (failed) return blocks;
  if (!read_run.is_prepared()) {
    auto prepared = Statement::Prepare(database, "SELECT prefixes FROM runs WHERE id = ?");
    if (!prepared) {
      failed = prepared.error();
      return blocks;
    }
    read_run = *std::move(prepared);
  }
  const auto row = read_run.Bind(0, run).Next(kDoing);
  if (!row) {
    failed = row.error();
  } else if (*row) {
    (void)UnpackNumbers(read_run.Blob(0), blocks);
    read_run.Reset();
  }
  return blocks;
}

std::vector<SnapshotWriter::Impl::Pieces> SnapshotWriter::Impl::AddRuns(
    const PackedChains& chains) {
  std::vector<Pieces> runs;
  runs.reserve(chains.runs.size());
  std::vector<uint32_t> name_spaces;
  for (const auto& key : chains.name_spaces) {
    name_spaces.push_back(static_cast<uint32_t>(NamespaceId(key)));
  }
  const auto write = [this](const WrittenRuns::Row& run) { AddRun(run); };
  const auto read = [this](uint32_t run) { return ReadRun(run); };
  size_t at = 0;
  for (const PackedChains::Run& run : chains.runs) {
    std::optional<WrittenRuns::Place> parent;
    if (run.parent != PackedChains::kNoRun) parent = PlaceOf(runs[run.parent], run.parent_block);
    runs.push_back(written.Add(name_spaces[run.name_space], parent,
                               std::span(chains.prefixes).subspan(at, run.length), write, read));
    at += run.length;
  }
  return runs;
}

int64_t SnapshotWriter::Impl::NamesId(int64_t run, uint64_t blocks,
                                      std::span<const EngineHash> names) {
  PackNumbers(names, scratch);
  const XXH128_hash_t said = What({run, static_cast<int64_t>(blocks)}, scratch);
  const auto next = static_cast<int64_t>(known_names.size()) + 1;
  const auto [known, fresh] = known_names.try_emplace({said.low64, said.high64}, next);
  if (fresh) {
    Row(*this, "names", 4)
        .Add(next)
        .Add(run)
        .Add(blocks)
        .AddBlob(scratch)
        .Write("cannot write names");
  }
  return known->second;
}

void SnapshotWriter::Impl::AddNames(const PackedChains& chains, const std::vector<Pieces>& runs,
                                    const std::vector<int64_t>& of_spaces) {
  auto names = std::span(chains.names);
  for (const PackedChains::Names& named : chains.named) {
    ForEachPiece(runs[named.run], named.blocks, [&](int64_t run, uint64_t blocks) {
      const auto count = static_cast<size_t>(std::popcount(blocks));
      const int64_t id = NamesId(run, blocks, names.first(count));
      names = names.subspan(count);
      Row(*this, "aliases", 2).Add(of_spaces[named.space]).Add(id).Write("cannot write names");
    });
  }
  for (const PackedChains::Span& span : chains.spans) {
    const WrittenRuns::Place place = PlaceOf(runs[span.run], span.block);
    Row(*this, "alias_spans", 5)
        .Add(of_spaces[span.space])
        .Add(place.run)
        .Add(place.block)
        .Add(static_cast<int64_t>(span.name))
        .Add(span.span)
        .Write("cannot write a span");
  }
}

void SnapshotWriter::Impl::AddChains(const PackedChains& chains,
                                     const std::vector<int64_t>& of_holders,
                                     const std::vector<int64_t>& of_spaces) {
  const std::vector<Pieces> runs = AddRuns(chains);
  AddNames(chains, runs, of_spaces);
  for (const PackedChains::Holding& it : chains.holdings) {
    ForEachPiece(runs[it.run], it.blocks, [&](int64_t run, uint64_t blocks) {
      const int64_t held = std::popcount(blocks);
      Row(*this, "holdings", 5)
          .Add(run)
          .Add(of_holders[it.holder])
          .Add(static_cast<int64_t>(it.tier))
          .Add(blocks)
          .Add(held)
          .Write("cannot write a holding");
      info.holdings += static_cast<uint64_t>(held);
    });
  }
  for (const PackedChains::Special& it : chains.special) {
    const WrittenRuns::Place place = PlaceOf(runs[it.run], it.block);
    Row(*this, "special_holdings", 6)
        .Add(place.run)
        .Add(of_holders[it.holder])
        .Add(static_cast<int64_t>(it.tier))
        .Add(place.block)
        .Add(it.span)
        .Add(it.copies)
        .Write("cannot write a holding");
  }
}

void SnapshotWriter::Impl::AddWaiting(int64_t publisher, const ingest::SavedLife::Waiting& waiting,
                                      const std::vector<int64_t>& of_spaces) {
  std::string hashes;
  std::string locals;
  std::string prefixes;
  PackNumbers(std::span<const EngineHash>(waiting.hashes), hashes);
  PackNumbers(std::span<const LocalHash>(waiting.locals), locals);
  PackNumbers(std::span<const PrefixHash>(waiting.prefixes), prefixes);
  const std::string gone(waiting.gone.begin(), waiting.gone.end());
  std::optional<int64_t> name_space;
  if (waiting.name_space) name_space = NamespaceId(*waiting.name_space);
  std::optional<int64_t> parent;
  if (waiting.parent) parent = static_cast<int64_t>(*waiting.parent);
  Row row(*this, "waiting", 13);
  row.Add(row.number())
      .Add(publisher)
      .Add(of_spaces[waiting.space])
      .Add(name_space)
      .Add(static_cast<int64_t>(waiting.tier))
      .Add(waiting.dp_rank)
      .Add(parent)
      .Add(waiting.begins_prompt)
      .Add(waiting.span)
      .AddBlob(hashes)
      .AddBlob(gone)
      .AddBlob(locals)
      .AddBlob(prefixes)
      .Write("cannot write a waiting event");
}

void SnapshotWriter::Impl::AddLife(int64_t publisher, const SavedPublisher& saved) {
  const ingest::SavedLife& life = *saved.life;
  const auto instance = [&]() -> std::string_view {
    // "instance|tenant|rank"
    return std::string_view(saved.key).substr(0, saved.key.find('|'));
  }();
  std::vector<int64_t> of_holders;
  for (const ingest::SavedLife::Holder& holder : life.holders) {
    of_holders.push_back(++holders);
    const int64_t name_space = NamespaceId(holder.name_space);
    Row(*this, "holders", 5)
        .Add(holders)
        .Add(publisher)
        .Add(name_space)
        .Add(instance)
        .Add(holder.dp_rank)
        .Write("cannot write a holder");
  }
  std::vector<int64_t> of_spaces;
  for (const int64_t group : life.groups) {
    of_spaces.push_back(++spaces);
    Row(*this, "spaces", 6)
        .Add(spaces)
        .Add(publisher)
        .Add(group)
        .AddNull()
        .AddNull()
        .AddNull()
        .Write("cannot write a space of names");
  }
  AddChains(life.chains, of_holders, of_spaces);
  for (const auto& waiting : life.waiting) AddWaiting(publisher, waiting, of_spaces);
  for (const auto& deadline : life.deadlines) {
    Row(*this, "deadlines", 5)
        .Add(of_spaces[deadline.space])
        .Add(static_cast<int64_t>(deadline.tier))
        .Add(deadline.dp_rank)
        .Add(static_cast<int64_t>(deadline.name))
        .Add(Seconds(deadline.left))
        .Write("cannot write a deadline");
  }
}

void SnapshotWriter::Impl::AddPool(int64_t publisher, const ingest::SavedPool& pool) {
  Row(*this, "pools", 8)
      .Add(publisher)
      .Add(pool.dropped)
      .Add(pool.lost_tenants)
      .Add(std::string_view(pool.foreign_model))
      .Add(std::string_view(pool.foreign_prefix))
      .Add(pool.objects_unread)
      .Add(pool.objects_foreign)
      .Add(pool.last_event_id)
      .Write("cannot write a pool");
  std::vector<int64_t> of_spaces;
  for (const ingest::SavedPool::Space& space : pool.spaces) {
    of_spaces.push_back(++spaces);
    Row(*this, "spaces", 6)
        .Add(spaces)
        .Add(publisher)
        .Add(space.group)
        .Add(std::string_view(space.domain.tenant))
        .Add(std::string_view(space.domain.model))
        .Add(std::string_view(space.domain.additional_salt))
        .Write("cannot write a space of names");
  }
  AddChains(pool.chains, {}, of_spaces);
  const int64_t first_family = families + 1;
  for (const ingest::SavedPool::Family& family : pool.families) {
    Row row(*this, "pool_families", 17);
    row.Add(++families)
        .Add(publisher)
        .Add(std::string_view(family.tenant))
        .Add(std::string_view(family.model))
        .Add(wire::KeyFamilyName(family.form))
        .Add(std::string_view(family.prefix))
        .Add(std::string_view(family.variant))
        .Add(family.group);
    for (const auto& seen : family.shape.seen) row.Add(seen);
    row.Add(family.shape.tensor_ranks)
        .Add(family.shape.k)
        .Add(family.shape.v)
        .Add(family.shape.unchanged)
        .Write("cannot write a family of objects");
  }
  for (const ingest::SavedPool::Object& object : pool.objects) {
    Row row(*this, "pool_objects", 11);
    row.Add(row.number())
        .Add(first_family + object.family)
        .Add(std::string_view(object.key))
        .Add(static_cast<int64_t>(object.hash))
        .Add(static_cast<int64_t>(object.component))
        .Add(std::string_view(pool.backends[object.backend]))
        .Add(object.cpu)
        .Add(object.disk)
        .Add(object.settled)
        .Add(Seconds(object.cpu_left))
        .Add(Seconds(object.disk_left))
        .Write("cannot write an object");
  }
}

SnapshotWriter::SnapshotWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SnapshotWriter::~SnapshotWriter() = default;

Result<std::unique_ptr<SnapshotWriter>> SnapshotWriter::Create(const std::string& path,
                                                               const Options& options) {
  // SQLite would let others read it, as far as the process's mask does.
  const int file = ::open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  if (file < 0) {
    return Fail(fmt::format("cannot be created: {}", std::strerror(errno)), path,
                "a directory that can be written");
  }
  ::close(file);
  auto database = Database::Open(path, Database::Mode::kWrite, options.vfs);
  if (!database) return tl::unexpected(database.error());
  auto impl = std::make_unique<Impl>(*std::move(database), options);
  for (const std::string& sql :
       {std::string(kPragmas), fmt::format("PRAGMA application_id = {}", kApplicationId),
        fmt::format("PRAGMA user_version = {}", kFormatVersion), std::string(kTables),
        std::string(kViews)}) {
    if (auto done = impl->database.Execute(sql); !done) return tl::unexpected(done.error());
  }
  impl->info.path = path;
  return std::unique_ptr<SnapshotWriter>(new SnapshotWriter(std::move(impl)));
}

Status SnapshotWriter::Add(const SavedPublisher& saved) {
  Impl& impl = *impl_;
  const auto id = static_cast<int64_t>(++impl.info.publishers);
  std::string digests;
  Impl::Row row(impl, "publishers", 21);
  row.Add(id)
      .Add(std::string_view(saved.key))
      .Add(std::string_view(saved.registration))
      .Add(saved.configured)
      .Add(saved.saved_at)
      .Add(std::string_view(saved.state))
      .Add(std::string_view(saved.reason))
      .Add(std::string_view(saved.detail));
  const stream::Resume* resume = saved.resume ? &*saved.resume : nullptr;
  if (resume != nullptr) {
    PackNumbers(std::span<const uint64_t>(resume->digests), digests);
    row.Add(resume->cursor).Add(resume->digest).AddBlob(digests);
    row.Add(resume->first).Add(resume->newest_time);
  } else {
    for (int i = 8; i < 13; ++i) row.AddNull();
  }
  if (resume != nullptr && resume->damage != stream::Damage::Kind::kNone) {
    row.Add(DamageName(resume->damage)).Add(std::string_view(resume->damage_detail));
  } else {
    row.AddNull().AddNull();
  }
  row.Add(resume != nullptr ? std::optional(resume->needs_rebuild) : std::nullopt);
  if (saved.life) {
    row.Add(saved.life->block_size)
        .Add(saved.life->rank)
        .Add(saved.life->several_ranks)
        .Add(saved.life->ranks_are_believed)
        .Add(saved.life->trimmed);
  } else {
    for (int i = 16; i < 21; ++i) row.AddNull();
  }
  row.Write("cannot write a publisher");
  if (saved.life) impl.AddLife(id, saved);
  if (saved.pool) impl.AddPool(id, *saved.pool);
  if (impl.failed) return tl::unexpected(*impl.failed);
  return {};
}

Result<SnapshotInfo> SnapshotWriter::Finish() {
  Impl& impl = *impl_;
  SnapshotInfo& info = impl.info;
  info.format = kFormatVersion;
  info.conductor = impl.options.conductor;
  info.saved_at = impl.options.saved_at;
  info.hash_seed = impl.options.hash_seed;
  info.runs = impl.written.runs();
  impl.AddTiers();
  impl.AddDigests();
  ContentDigest digest;
  DigestSnapshot(info, impl.tables.find("digests")->second.digest.Value(), digest);
  impl.digest_written = digest.Value();
  Impl::Row(impl, "snapshot", 8)
      .Add(int64_t{1})
      .Add(std::string_view(info.conductor))
      .Add(info.saved_at)
      .Add(info.hash_seed)
      .Add(info.blocks)
      .Add(info.runs)
      .Add(info.holdings)
      .Add(impl.digest_written)
      .Write("cannot be finished");
  if (impl.failed) return tl::unexpected(*impl.failed);
  // With it SQLite has the disk take all of it.
  if (auto done = impl.database.Execute("COMMIT"); !done) return tl::unexpected(done.error());
  struct stat status {};
  if (::stat(info.path.c_str(), &status) == 0) info.bytes = static_cast<uint64_t>(status.st_size);
  return info;
}

uint64_t SnapshotWriter::digest() const { return impl_->digest_written; }

}  // namespace conductor::store
