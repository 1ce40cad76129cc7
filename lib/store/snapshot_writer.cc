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

const char* DamageName(stream::Damage::Kind kind) {
  return kind == stream::Damage::Kind::kDoubtful ? "doubtful" : "incomplete";
}

// What a row says.
XXH128_hash_t What(const std::array<int64_t, 3>& numbers, std::string_view blob) {
  return XXH3_128bits_withSeed(blob.data(), blob.size(),
                               XXH3_64bits(numbers.data(), sizeof numbers));
}

}  // namespace

struct SnapshotWriter::Impl {
  // What was written already, by what it says: both halves of XXH3-128, so that nobody has to look.
  using Known = absl::flat_hash_map<std::pair<uint64_t, uint64_t>, int64_t>;

  Impl(Database opened, Options given) : database(std::move(opened)), options(std::move(given)) {}

  // "INSERT INTO <table> VALUES (?, ...)", prepared once.
  Statement& Into(const char* table, int columns);
  void Run(Statement& statement, const char* doing) {
    if (failed) return;
    if (auto done = statement.Run(doing); !done) failed = done.error();
  }
  [[nodiscard]] int64_t NamespaceId(const index::NamespaceKey& key);
  void AddLife(int64_t publisher, const SavedPublisher& saved);
  void AddPool(int64_t publisher, const ingest::SavedPool& pool);
  void AddWaiting(int64_t publisher, const ingest::SavedLife::Waiting& waiting,
                  const std::vector<int64_t>& spaces);
  void AddChains(const PackedChains& chains, const std::vector<int64_t>& holders,
                 const std::vector<int64_t>& spaces);
  [[nodiscard]] std::vector<int64_t> AddRuns(const PackedChains& chains);
  void AddNames(const PackedChains& chains, const std::vector<int64_t>& runs,
                const std::vector<int64_t>& spaces);

  Database database;
  const Options options;
  std::optional<Error> failed;
  std::map<std::string, Statement, std::less<>> statements;
  std::map<index::NamespaceKey, int64_t> namespaces;
  Known known_runs;
  Known known_names;
  std::vector<uint32_t> positions;  // of each run: blocks of its chain before it
  ContentDigest digest;
  SnapshotInfo info;
  int64_t holders = 0;
  int64_t spaces = 0;
  int64_t families = 0;
  std::string scratch;
};

Statement& SnapshotWriter::Impl::Into(const char* table, int columns) {
  const auto found = statements.find(std::string_view(table));
  if (found != statements.end()) return found->second;
  std::string sql = fmt::format("INSERT INTO {} VALUES (?", table);
  for (int i = 1; i < columns; ++i) sql += ", ?";
  auto prepared = Statement::Prepare(database, sql + ")");
  Statement& statement = statements[table];
  if (prepared) {
    statement = *std::move(prepared);
  } else if (!failed) {
    failed = prepared.error();
  }
  return statement;
}

int64_t SnapshotWriter::Impl::NamespaceId(const index::NamespaceKey& key) {
  const auto [at, fresh] = namespaces.try_emplace(key, namespaces.size() + 1);
  if (fresh) {
    Run(Into("namespaces", 6)
            .Bind(0, at->second)
            .Bind(1, std::string_view(key.tenant))
            .Bind(2, std::string_view(key.model))
            .Bind(3, std::string_view(key.lora_name))
            .Bind(4, key.block_size)
            .Bind(5, std::string_view(key.additional_salt)),
        "cannot write a namespace");
  }
  return at->second;
}

std::vector<int64_t> SnapshotWriter::Impl::AddRuns(const PackedChains& chains) {
  std::vector<int64_t> ids;
  ids.reserve(chains.runs.size());
  std::vector<int64_t> name_spaces;
  for (const auto& key : chains.name_spaces) name_spaces.push_back(NamespaceId(key));
  size_t at = 0;
  for (const PackedChains::Run& run : chains.runs) {
    PackNumbers(std::span(chains.prefixes).subspan(at, run.length), scratch);
    at += run.length;
    const int64_t name_space = name_spaces[run.name_space];
    const int64_t parent = run.parent == PackedChains::kNoRun ? 0 : ids[run.parent];
    const XXH128_hash_t said = What({name_space, parent, run.parent_block}, scratch);
    const auto next = static_cast<int64_t>(positions.size()) + 1;
    const auto [known, fresh] = known_runs.try_emplace({said.low64, said.high64}, next);
    ids.push_back(known->second);
    if (!fresh) continue;
    const uint32_t position =
        parent == 0 ? 0 : positions[static_cast<size_t>(parent) - 1] + run.parent_block + 1;
    positions.push_back(position);
    info.blocks += run.length;
    Statement& row = Into("runs", 7).Bind(0, next).Bind(1, name_space);
    if (parent == 0) {
      row.BindNull(2).BindNull(3);
    } else {
      row.Bind(2, parent).Bind(3, int64_t{run.parent_block});
    }
    Run(row.Bind(4, position).Bind(5, int64_t{run.length}).BindBlob(6, scratch),
        "cannot write a run");
    digest.Add(ContentDigest::kRuns, {next, name_space, parent, run.parent_block, run.length},
               scratch);
  }
  return ids;
}

void SnapshotWriter::Impl::AddNames(const PackedChains& chains, const std::vector<int64_t>& runs,
                                    const std::vector<int64_t>& of_spaces) {
  size_t at = 0;
  for (const PackedChains::Names& named : chains.named) {
    const auto count = static_cast<size_t>(std::popcount(named.blocks));
    PackNumbers(std::span(chains.names).subspan(at, count), scratch);
    at += count;
    const int64_t run = runs[named.run];
    const auto blocks = static_cast<int64_t>(named.blocks);
    const XXH128_hash_t said = What({run, blocks, 0}, scratch);
    const auto next = static_cast<int64_t>(known_names.size()) + 1;
    const auto [known, fresh] = known_names.try_emplace({said.low64, said.high64}, next);
    if (fresh) {
      Run(Into("names", 4).Bind(0, next).Bind(1, run).Bind(2, blocks).BindBlob(3, scratch),
          "cannot write names");
      digest.Add(ContentDigest::kNames, {next, run, blocks}, scratch);
    }
    const int64_t space = of_spaces[named.space];
    Run(Into("aliases", 2).Bind(0, space).Bind(1, known->second), "cannot write names");
    digest.Add(ContentDigest::kAliases, {space, known->second});
  }
  for (const PackedChains::Span& span : chains.spans) {
    const int64_t space = of_spaces[span.space];
    const auto name = static_cast<int64_t>(span.name);
    Run(Into("alias_spans", 3).Bind(0, space).Bind(1, name).Bind(2, span.span),
        "cannot write a span");
    digest.Add(ContentDigest::kSpans, {space, name, span.span});
  }
}

void SnapshotWriter::Impl::AddChains(const PackedChains& chains,
                                     const std::vector<int64_t>& of_holders,
                                     const std::vector<int64_t>& of_spaces) {
  const std::vector<int64_t> runs = AddRuns(chains);
  AddNames(chains, runs, of_spaces);
  for (const PackedChains::Holding& it : chains.holdings) {
    const auto blocks = static_cast<int64_t>(it.blocks);
    const int64_t held = std::popcount(it.blocks);
    const auto tier = static_cast<int64_t>(it.tier);
    Run(Into("holdings", 5)
            .Bind(0, runs[it.run])
            .Bind(1, of_holders[it.holder])
            .Bind(2, tier)
            .Bind(3, blocks)
            .Bind(4, held),
        "cannot write a holding");
    digest.Add(ContentDigest::kHoldings, {runs[it.run], of_holders[it.holder], tier, blocks});
    info.holdings += static_cast<uint64_t>(held);
  }
  for (const PackedChains::Special& it : chains.special) {
    const auto tier = static_cast<int64_t>(it.tier);
    Run(Into("special_holdings", 6)
            .Bind(0, runs[it.run])
            .Bind(1, of_holders[it.holder])
            .Bind(2, tier)
            .Bind(3, int64_t{it.block})
            .Bind(4, it.span)
            .Bind(5, it.copies),
        "cannot write a holding");
    digest.Add(ContentDigest::kSpecial,
               {runs[it.run], of_holders[it.holder], tier, it.block, it.span, it.copies});
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
  Run(Into("waiting", 13)
          .BindNull(0)
          .Bind(1, publisher)
          .Bind(2, of_spaces[waiting.space])
          .Bind(3, name_space)
          .Bind(4, static_cast<int64_t>(waiting.tier))
          .Bind(5, waiting.dp_rank)
          .Bind(6, parent)
          .Bind(7, waiting.begins_prompt)
          .Bind(8, waiting.span)
          .BindBlob(9, hashes)
          .BindBlob(10, gone)
          .BindBlob(11, locals)
          .BindBlob(12, prefixes),
      "cannot write a waiting event");
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
    Run(Into("holders", 5)
            .Bind(0, holders)
            .Bind(1, publisher)
            .Bind(2, name_space)
            .Bind(3, instance)
            .Bind(4, holder.dp_rank),
        "cannot write a holder");
  }
  std::vector<int64_t> of_spaces;
  for (const int64_t group : life.groups) {
    of_spaces.push_back(++spaces);
    Run(Into("spaces", 6)
            .Bind(0, spaces)
            .Bind(1, publisher)
            .Bind(2, group)
            .BindNull(3)
            .BindNull(4)
            .BindNull(5),
        "cannot write a space of names");
  }
  AddChains(life.chains, of_holders, of_spaces);
  for (const auto& waiting : life.waiting) AddWaiting(publisher, waiting, of_spaces);
  for (const auto& deadline : life.deadlines) {
    Run(Into("deadlines", 5)
            .Bind(0, of_spaces[deadline.space])
            .Bind(1, static_cast<int64_t>(deadline.tier))
            .Bind(2, deadline.dp_rank)
            .Bind(3, static_cast<int64_t>(deadline.name))
            .Bind(4, Seconds(deadline.left)),
        "cannot write a deadline");
  }
}

void SnapshotWriter::Impl::AddPool(int64_t publisher, const ingest::SavedPool& pool) {
  Run(Into("pools", 8)
          .Bind(0, publisher)
          .Bind(1, pool.dropped)
          .Bind(2, pool.lost_tenants)
          .Bind(3, std::string_view(pool.foreign_model))
          .Bind(4, std::string_view(pool.foreign_prefix))
          .Bind(5, pool.objects_unread)
          .Bind(6, pool.objects_foreign)
          .Bind(7, pool.last_event_id),
      "cannot write a pool");
  std::vector<int64_t> of_spaces;
  for (const ingest::SavedPool::Space& space : pool.spaces) {
    of_spaces.push_back(++spaces);
    Run(Into("spaces", 6)
            .Bind(0, spaces)
            .Bind(1, publisher)
            .Bind(2, space.group)
            .Bind(3, std::string_view(space.domain.tenant))
            .Bind(4, std::string_view(space.domain.model))
            .Bind(5, std::string_view(space.domain.additional_salt)),
        "cannot write a space of names");
  }
  AddChains(pool.chains, {}, of_spaces);
  const int64_t first_family = families + 1;
  for (const ingest::SavedPool::Family& family : pool.families) {
    Statement& row = Into("pool_families", 17)
                         .Bind(0, ++families)
                         .Bind(1, publisher)
                         .Bind(2, std::string_view(family.tenant))
                         .Bind(3, std::string_view(family.model))
                         .Bind(4, wire::KeyFamilyName(family.form))
                         .Bind(5, std::string_view(family.prefix))
                         .Bind(6, std::string_view(family.variant))
                         .Bind(7, family.group);
    for (int i = 0; i < 5; ++i) row.Bind(8 + i, family.shape.seen[static_cast<size_t>(i)]);
    Run(row.Bind(13, family.shape.tensor_ranks)
            .Bind(14, family.shape.k)
            .Bind(15, family.shape.v)
            .Bind(16, family.shape.unchanged),
        "cannot write a family of objects");
  }
  for (const ingest::SavedPool::Object& object : pool.objects) {
    Run(Into("pool_objects", 11)
            .BindNull(0)
            .Bind(1, first_family + object.family)
            .Bind(2, std::string_view(object.key))
            .Bind(3, static_cast<int64_t>(object.hash))
            .Bind(4, static_cast<int64_t>(object.component))
            .Bind(5, std::string_view(pool.backends[object.backend]))
            .Bind(6, object.cpu)
            .Bind(7, object.disk)
            .Bind(8, object.settled)
            .Bind(9, Seconds(object.cpu_left))
            .Bind(10, Seconds(object.disk_left)),
        "cannot write an object");
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
  Statement& row = impl.Into("publishers", 20);
  row.Bind(0, id)
      .Bind(1, std::string_view(saved.key))
      .Bind(2, std::string_view(saved.registration))
      .Bind(3, saved.configured)
      .Bind(4, saved.saved_at)
      .Bind(5, std::string_view(saved.state))
      .Bind(6, std::string_view(saved.reason))
      .Bind(7, std::string_view(saved.detail));
  for (int i = 8; i < 20; ++i) row.BindNull(i);
  std::string digests;
  if (saved.resume) {
    const stream::Resume& resume = *saved.resume;
    PackNumbers(std::span<const uint64_t>(resume.digests), digests);
    row.Bind(8, resume.cursor)
        .Bind(9, resume.digest)
        .BindBlob(10, digests)
        .Bind(11, resume.first)
        .Bind(12, resume.newest_time);
    if (resume.damage != stream::Damage::Kind::kNone) {
      row.Bind(13, std::string_view(DamageName(resume.damage)))
          .Bind(14, std::string_view(resume.damage_detail));
    }
  }
  if (saved.life) {
    row.Bind(15, saved.life->block_size)
        .Bind(16, saved.life->rank)
        .Bind(17, saved.life->several_ranks)
        .Bind(18, saved.life->ranks_are_believed)
        .Bind(19, saved.life->trimmed);
  }
  impl.Run(row, "cannot write a publisher");
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
  info.runs = impl.positions.size();
  impl.Run(impl.Into("snapshot", 7)
               .Bind(0, int64_t{1})
               .Bind(1, std::string_view(info.conductor))
               .Bind(2, info.saved_at)
               .Bind(3, info.hash_seed)
               .Bind(4, info.blocks)
               .Bind(5, info.runs)
               .Bind(6, impl.digest.Total()),
           "cannot be finished");
  if (impl.failed) return tl::unexpected(*impl.failed);
  // With it SQLite has the disk take all of it.
  if (auto done = impl.database.Execute("COMMIT"); !done) return tl::unexpected(done.error());
  struct stat status {};
  if (::stat(info.path.c_str(), &status) == 0) info.bytes = static_cast<uint64_t>(status.st_size);
  return info;
}

uint64_t SnapshotWriter::digest() const { return impl_->digest.Total(); }

}  // namespace conductor::store
