#include "lib/store/snapshot_reader.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "lib/store/content_digest.h"
#include "lib/store/schema_check.h"
#include "lib/store/snapshot_reader_impl.h"
#include "lib/store/snapshot_row.h"
#include "lib/store/snapshot_schema.h"
#include "lib/store/sqlite.h"
#include "lib/store/state_file.h"

namespace conductor::store {
namespace {

constexpr const char* kReading = "cannot be read";

}  // namespace

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
  auto schema = SchemaCheck::Make();
  if (!schema) return Fail(fmt::format("cannot be read: {}", schema.error().what), path);
  auto database = Database::Open(path, Database::Mode::kRead);
  if (!database) return tl::unexpected(database.error());
  file_is_to_blame = database->file_is_to_blame();
  database->Distrust();
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
  auto impl = std::make_unique<Impl>(*std::move(database), *std::move(schema));
  impl->info.path = path;
  impl->info.bytes = static_cast<uint64_t>(status.st_size);
  impl->info.format = **version;
  if (auto done = impl->schema.Tables(impl->database); !done) return tl::unexpected(done.error());
  impl->database.TrustSchema(impl->info.bytes);
  if (auto done = impl->ReadInfo(); !done) return tl::unexpected(done.error());
  return SnapshotReader(std::move(impl));
}

const SnapshotInfo& SnapshotReader::info() const { return impl_->info; }

SnapshotReader::Impl::Scan::Scan(Impl& impl, std::string_view table, std::string_view columns)
    : impl_(impl), table_(table) {
  // By the table itself, whatever an index of it says.
  auto prepared = Statement::Prepare(
      impl.database,
      fmt::format("SELECT {}, rowid FROM {} NOT INDEXED ORDER BY rowid", columns, table));
  if (prepared) {
    rows_ = *std::move(prepared);
    columns_ = rows_.columns() - 1;
  } else {
    status_ = tl::unexpected(prepared.error());
  }
}

bool SnapshotReader::Impl::Scan::Refuse(std::string what, std::string expected) {
  status_ = Fail(fmt::format("{}: {}", table_, what),
                 fmt::format("{}: row {}", impl_.database.path(), row_id_), std::move(expected));
  return false;
}

bool SnapshotReader::Impl::Scan::Next() {
  if (!status_) return false;
  const auto row = rows_.Next(fmt::format("{} {}", table_, kReading));
  if (!row) {
    status_ = tl::unexpected(row.error());
    return false;
  }
  if (!*row) return false;
  const int64_t before = std::exchange(row_id_, rows_.Integer(columns_));
  if (row_id_ <= before) {
    return Refuse(fmt::format("comes after row {}", before), "row ids that grow");
  }
  return Digest();
}

bool SnapshotReader::Impl::Scan::Digest() {
  for (int i = 0; i < columns_; ++i) {
    switch (rows_.TypeOf(i)) {
      case Statement::Type::kNull:
        digest_.Null();
        break;
      case Statement::Type::kInteger:
        digest_.Integer(rows_.Integer(i));
        break;
      case Statement::Type::kReal:
        digest_.Real(rows_.Real(i));
        break;
      case Statement::Type::kText:
        bytes_ += rows_.Text(i).size();
        digest_.Text(rows_.Text(i));
        break;
      case Statement::Type::kBlob:
        bytes_ += rows_.Blob(i).size();
        digest_.Blob(rows_.Blob(i));
        break;
    }
  }
  digest_.EndRow();
  if (bytes_ <= impl_.info.bytes) return true;
  return Refuse("has more in its rows than the file has", "each byte in one row");
}

void SnapshotReader::Impl::Scan::Take(const SnapshotRow& row) {
  if (!row.ok() && status_) (void)Refuse(row.what(), row.expected());
}

Status SnapshotReader::Impl::Scan::End() {
  if (!status_) return status_;
  const auto written = impl_.digests.find(table_);
  if (written == impl_.digests.end()) return {};  // `snapshot` and `digests` stand for themselves
  const auto [rows, digest] = written->second;
  if (digest_.rows() == rows && digest_.Value() == digest) return {};
  return Fail(fmt::format("{}: its rows are not those that were written", table_), impl_.info.path,
              fmt::format("{} rows with the digest {:016x}", rows, digest));
}

Status SnapshotReader::Impl::ReadInfo() {
  uint64_t rows = 0;
  auto done =
      ForEach("snapshot", "id, conductor, saved_at, hash_seed, blocks, runs, holdings, digest",
              [&](SnapshotRow& row) {
                rows += row.Number(0, 1, 1, "for the one row");
                info.conductor = row.Text(1);
                info.saved_at = row.Real(2);
                info.hash_seed = row.Bits(3);
                info.blocks = row.Bits(4);
                info.runs = row.Bits(5);
                info.holdings = row.Bits(6);
                digest_written = row.Bits(7);
              });
  if (!done) return done;
  if (rows != 1) return Fail("was never finished: 'snapshot' has no row", info.path, "one row");
  std::map<std::string, Digest, std::less<>> told;
  uint64_t of_digests = 0;
  done = ForEach(
      "digests", "id, name, rows, digest",
      [&](SnapshotRow& row) {
        const size_t next = told.size();
        (void)row.Number(0, next + 1, next + 1, "for the next row");
        const std::string_view name = row.Text(1);
        if (next >= kContentTables.size()) {
          row.Refuse(0, fmt::format("{} tables", kContentTables.size()));
        } else if (name != kContentTables[next]) {
          row.Refuse(1, fmt::format("'{}'", kContentTables[next]));
        } else {
          told[std::string(name)] = {row.Bits(2), row.Bits(3)};
        }
      },
      &of_digests);
  if (!done) return done;
  if (told.size() != kContentTables.size()) {
    return Fail(fmt::format("digests: has {} rows", told.size()), info.path,
                fmt::format("one for each of {} tables", kContentTables.size()));
  }
  ContentDigest digest;
  DigestSnapshot(info, of_digests, digest);
  if (digest.Value() != digest_written) {
    return Fail("snapshot: what it says of the file is not what was written", info.path,
                fmt::format("the digest {:016x}", digest_written));
  }
  digests = std::move(told);
  info.publishers = digests.at("publishers").rows;
  return {};
}

Result<std::vector<StoredPublisher>> SnapshotReader::Publishers() {
  if (auto done = impl_->ReadAll(); !done) return tl::unexpected(done.error());
  auto publishers = std::move(impl_->publishers);
  std::ranges::sort(publishers, {},
                    [](const StoredPublisher& it) -> const std::string& { return it.saved.key; });
  return publishers;
}

Status SnapshotReader::VisitChains(ChainVisitor& visitor) {
  Impl& impl = *impl_;
  if (auto done = impl.ReadAll(); !done) return done;
  if (auto done = impl.VisitRuns(visitor); !done) return done;
  if (auto done = impl.VisitHoldings(visitor); !done) return done;
  if (auto done = impl.VisitSpecial(visitor); !done) return done;
  if (auto done = impl.CheckNames(visitor); !done) return done;
  if (auto done = impl.VisitNames(visitor, /*of_pools=*/false); !done) return done;
  return impl.VisitSpans(visitor, /*of_pools=*/false);
}

Status SnapshotReader::VisitPoolNames(ChainVisitor& visitor) {
  const bool any = std::ranges::any_of(impl_->spaces, &Impl::Space::of_pool);
  if (!any) return {};
  if (auto done = impl_->VisitSpans(visitor, /*of_pools=*/true); !done) return done;
  return impl_->VisitNames(visitor, /*of_pools=*/true);
}

Status SnapshotReader::Verify() {
  Impl& impl = *impl_;
  if (auto sound = impl.schema.Views(impl.database); !sound) return sound;
  // The first line tells whether all is well, and in a damaged file what follows it need not end.
  auto checked = Statement::Prepare(impl.database, "PRAGMA integrity_check(1)");
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
