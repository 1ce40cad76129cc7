#include "lib/store/sqlite.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <utility>

namespace conductor::store {
namespace {

std::string_view BytesAt(sqlite3_stmt* statement, int column, const void* bytes) {
  if (bytes == nullptr) return {};
  return {static_cast<const char*>(bytes),
          static_cast<size_t>(sqlite3_column_bytes(statement, column))};
}

// SQLite's name of a file that nobody changes: no lock is taken or minded, and what lies beside it
// is not looked at. A snapshot is replaced as a whole; whoever has a shell open on it, or left a
// journal there, keeps nobody from reading it.
std::string Unchanging(const std::string& path) {
  std::string uri = path.starts_with('/') ? "file://" : "file:";
  for (const char c : path) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || std::strchr("/._-", c) != nullptr) {
      uri += c;
    } else {
      uri += fmt::format("%{:02x}", static_cast<unsigned char>(c));
    }
  }
  return uri + "?immutable=1";
}

// The first line of a statement.
std::string Quoted(std::string_view sql) {
  sql.remove_prefix(std::min(sql.find_first_not_of('\n'), sql.size()));
  return fmt::format("'{}'", sql.substr(0, sql.find('\n')));
}

bool SaysNothingOfTheFile(int code) {
  if (code == SQLITE_IOERR_SHORT_READ) return false;
  switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_NOMEM:
    case SQLITE_IOERR:
    case SQLITE_FULL:  // of temporary files
    case SQLITE_INTERRUPT:
    case SQLITE_PROTOCOL:
    case SQLITE_NOLFS:
      return true;
    default:
      return false;
  }
}

}  // namespace

void Database::Closer::operator()(sqlite3* handle) const { sqlite3_close_v2(handle); }

Result<Database> Database::Open(const std::string& path, Mode mode, const std::string& vfs) {
  const bool reads = mode == Mode::kRead;
  const int flags = reads ? SQLITE_OPEN_READONLY | SQLITE_OPEN_URI : SQLITE_OPEN_READWRITE;
  sqlite3* handle = nullptr;
  const int opened =
      sqlite3_open_v2((reads ? Unchanging(path) : path).c_str(), &handle,
                      flags | SQLITE_OPEN_NOMUTEX, vfs.empty() ? nullptr : vfs.c_str());
  Database database(path, handle);
  if (handle == nullptr) return Fail("SQLite has no memory", path);
  if (opened != SQLITE_OK) return tl::unexpected(database.ErrorAt("cannot be opened"));
  sqlite3_extended_result_codes(handle, 1);
  return database;
}

Error Database::ErrorAt(std::string_view doing) const {
  if (*too_long_) {
    *file_is_to_blame_ = true;
    return {"its schema does not end", path_, "the tables of a snapshot"};
  }
  *file_is_to_blame_ = !SaysNothingOfTheFile(sqlite3_extended_errcode(handle_.get()));
  return {fmt::format("{}: {}", doing, sqlite3_errmsg(handle_.get())), path_, {}};
}

void Database::Distrust() {
  sqlite3* handle = handle_.get();
  sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, nullptr);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_ENABLE_VIEW, 0, nullptr);
  // Ours has 27 entries, the longest of 3,000 bytes, and each takes 8 steps to read. People may
  // have added views of their own.
  constexpr int kLongestEntry = 16'384;
  constexpr int kMostSteps = 4'000;
  sqlite3_limit(handle, SQLITE_LIMIT_LENGTH, kLongestEntry);
  sqlite3_limit(handle, SQLITE_LIMIT_SQL_LENGTH, kLongestEntry);
  sqlite3_progress_handler(
      handle, kMostSteps,
      [](void* too_long) {
        *static_cast<bool*>(too_long) = true;
        return 1;
      },
      too_long_.get());
}

void Database::TrustSchema(uint64_t most_bytes) {
  sqlite3* handle = handle_.get();
  sqlite3_progress_handler(handle, 0, nullptr, nullptr);
  // Fewer than that and SQLite could not read its own schema.
  constexpr uint64_t kLeast = 1 << 20;
  constexpr uint64_t kMost = 1'000'000'000;
  sqlite3_limit(handle, SQLITE_LIMIT_LENGTH,
                static_cast<int>(std::clamp(most_bytes, kLeast, kMost)));
}

Status Database::Execute(const std::string& sql) {
  if (sqlite3_exec(handle_.get(), sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK) return {};
  return tl::unexpected(ErrorAt(Quoted(sql)));
}

Result<std::optional<int64_t>> Database::Number(const std::string& sql) {
  auto statement = Statement::Prepare(*this, sql);
  if (!statement) return tl::unexpected(statement.error());
  const auto row = statement->Next(fmt::format("'{}'", sql));
  if (!row) return tl::unexpected(row.error());
  if (!*row) return std::nullopt;
  return statement->Integer(0);
}

void Statement::Finalizer::operator()(sqlite3_stmt* statement) const {
  sqlite3_finalize(statement);
}

Result<Statement> Statement::Prepare(Database& database, std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int prepared =
      sqlite3_prepare_v3(database.handle(), sql.data(), static_cast<int>(sql.size()),
                         SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (prepared != SQLITE_OK) {
    return tl::unexpected(database.ErrorAt(Quoted(sql)));
  }
  return Statement(database, statement);
}

Statement& Statement::Bind(int parameter, int64_t value) {
  sqlite3_bind_int64(statement_.get(), parameter + 1, value);
  return *this;
}

Statement& Statement::Bind(int parameter, uint64_t value) {
  return Bind(parameter, static_cast<int64_t>(value));
}

Statement& Statement::Bind(int parameter, double value) {
  sqlite3_bind_double(statement_.get(), parameter + 1, value);
  return *this;
}

Statement& Statement::Bind(int parameter, std::string_view text) {
  // A null pointer would be SQL's NULL.
  sqlite3_bind_text(statement_.get(), parameter + 1, text.data() == nullptr ? "" : text.data(),
                    static_cast<int>(text.size()), SQLITE_STATIC);
  return *this;
}

Statement& Statement::BindBlob(int parameter, std::string_view bytes) {
  sqlite3_bind_blob(statement_.get(), parameter + 1, bytes.data() == nullptr ? "" : bytes.data(),
                    static_cast<int>(bytes.size()), SQLITE_STATIC);
  return *this;
}

Statement& Statement::BindNull(int parameter) {
  sqlite3_bind_null(statement_.get(), parameter + 1);
  return *this;
}

Status Statement::Run(std::string_view doing) {
  const int done = sqlite3_step(statement_.get());
  if (done != SQLITE_DONE && done != SQLITE_ROW) {
    const Error error = database_->ErrorAt(doing);
    sqlite3_reset(statement_.get());
    return tl::unexpected(error);
  }
  sqlite3_reset(statement_.get());
  return {};
}

Result<bool> Statement::Next(std::string_view doing) {
  const int done = sqlite3_step(statement_.get());
  if (done == SQLITE_ROW) return true;
  std::optional<Error> error;
  if (done != SQLITE_DONE) error = database_->ErrorAt(doing);
  sqlite3_reset(statement_.get());
  if (error) return tl::unexpected(*error);
  return false;
}

void Statement::Reset() { sqlite3_reset(statement_.get()); }

Statement::Type Statement::TypeOf(int column) const {
  switch (sqlite3_column_type(statement_.get(), column)) {
    case SQLITE_INTEGER:
      return Type::kInteger;
    case SQLITE_FLOAT:
      return Type::kReal;
    case SQLITE_TEXT:
      return Type::kText;
    case SQLITE_BLOB:
      return Type::kBlob;
    default:
      return Type::kNull;
  }
}

std::string_view Statement::NameOf(int column) const {
  const char* name = sqlite3_column_name(statement_.get(), column);
  return name == nullptr ? "" : name;
}

int Statement::columns() const { return sqlite3_column_count(statement_.get()); }

bool Statement::IsNull(int column) const {
  return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL;
}

int64_t Statement::Integer(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

double Statement::Real(int column) const { return sqlite3_column_double(statement_.get(), column); }

std::string_view Statement::Text(int column) const {
  return BytesAt(statement_.get(), column, sqlite3_column_text(statement_.get(), column));
}

std::string_view Statement::Blob(int column) const {
  return BytesAt(statement_.get(), column, sqlite3_column_blob(statement_.get(), column));
}

}  // namespace conductor::store
