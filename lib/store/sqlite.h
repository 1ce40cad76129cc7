#ifndef CONDUCTOR_LIB_STORE_SQLITE_H_
#define CONDUCTOR_LIB_STORE_SQLITE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "lib/base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace conductor::store {

// One connection to an SQLite file, and errors as values that name the file. Used by one thread at
// a time.
class Database {
 public:
  enum class Mode : uint8_t {
    kRead,  // a file that nobody changes: no lock is taken, nor is one of others minded
    kWrite,
  };
  // The file must be there. `vfs` is the name of the SQLite VFS that does the reading and writing;
  // empty: the system's.
  [[nodiscard]] static Result<Database> Open(const std::string& path, Mode mode,
                                             const std::string& vfs = {});
  Database(Database&&) noexcept = default;
  Database& operator=(Database&&) noexcept = default;

  // Statements separated by semicolons, without results.
  [[nodiscard]] Status Execute(const std::string& sql);
  // The first column of the first row; nothing: there is no row.
  [[nodiscard]] Result<std::optional<int64_t>> Number(const std::string& sql);

  // For a file that may be anybody's: no view or trigger of it is followed, no function called that
  // its schema names. SQLite reads the schema itself, before anyone can look at it, and would
  // follow pages that point to each other for ever: so statements end with an error of the file's
  // that are longer, or take longer, than to read one of a snapshot's size.
  void Distrust();
  // The schema was read, and is what it should be: from now on statements may take their time, but
  // no value is read of more than so many bytes.
  void TrustSchema(uint64_t most_bytes);

  // The last error, at `doing`: "state.db: cannot write a run: database or disk is full".
  [[nodiscard]] Error ErrorAt(std::string_view doing) const;
  // Whether the last error is the file's: not, where it was the memory, the disk, or the right to
  // read.
  [[nodiscard]] std::shared_ptr<const bool> file_is_to_blame() const { return file_is_to_blame_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] sqlite3* handle() const { return handle_.get(); }

 private:
  struct Closer {
    void operator()(sqlite3* handle) const;
  };

  Database(std::string path, sqlite3* handle) : path_(std::move(path)), handle_(handle) {}

  std::string path_;
  std::unique_ptr<sqlite3, Closer> handle_;
  // Of the last ErrorAt(). Whoever opened it may ask when it is gone.
  std::shared_ptr<bool> file_is_to_blame_ = std::make_shared<bool>(true);
  // Whether Distrust() ended a statement. SQLite knows where it is.
  std::unique_ptr<bool> too_long_ = std::make_unique<bool>(false);
};

// One statement of a Database, which must outlive it. Columns and parameters are counted from 0.
class Statement {
 public:
  Statement() = default;
  [[nodiscard]] static Result<Statement> Prepare(Database& database, std::string_view sql);
  [[nodiscard]] bool is_prepared() const { return statement_ != nullptr; }

  Statement& Bind(int parameter, int64_t value);
  // What is above 2^63 is kept by its bits, and read back by Unsigned().
  Statement& Bind(int parameter, uint64_t value);
  Statement& Bind(int parameter, uint32_t value) { return Bind(parameter, int64_t{value}); }
  Statement& Bind(int parameter, bool value) { return Bind(parameter, int64_t{value ? 1 : 0}); }
  Statement& Bind(int parameter, double value);
  // Must live until the next Run() or Next() returned.
  Statement& Bind(int parameter, std::string_view text);
  Statement& BindBlob(int parameter, std::string_view bytes);
  Statement& BindNull(int parameter);
  template <typename T>
  Statement& Bind(int parameter, const std::optional<T>& value) {
    return value ? Bind(parameter, *value) : BindNull(parameter);
  }

  // Executes it once and makes it ready for the next time. `doing` is for the error.
  [[nodiscard]] Status Run(std::string_view doing);
  // The next row; false: there is none, and it begins anew.
  [[nodiscard]] Result<bool> Next(std::string_view doing);
  // No further row is wanted; it begins anew.
  void Reset();

  enum class Type : uint8_t { kNull, kInteger, kReal, kText, kBlob };
  [[nodiscard]] Type TypeOf(int column) const;
  [[nodiscard]] std::string_view NameOf(int column) const;
  [[nodiscard]] int columns() const;

  [[nodiscard]] bool IsNull(int column) const;
  [[nodiscard]] int64_t Integer(int column) const;
  [[nodiscard]] uint64_t Unsigned(int column) const {
    return static_cast<uint64_t>(Integer(column));
  }
  [[nodiscard]] double Real(int column) const;
  // Views: until the next step.
  [[nodiscard]] std::string_view Text(int column) const;
  [[nodiscard]] std::string_view Blob(int column) const;

 private:
  struct Finalizer {
    void operator()(sqlite3_stmt* statement) const;
  };
  Statement(Database& database, sqlite3_stmt* statement)
      : database_(&database), statement_(statement) {}

  Database* database_ = nullptr;
  std::unique_ptr<sqlite3_stmt, Finalizer> statement_;
};

}  // namespace conductor::store

#endif  // CONDUCTOR_LIB_STORE_SQLITE_H_
