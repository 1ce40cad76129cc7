#ifndef CONDUCTOR_LIB_STORE_SCHEMA_CHECK_H_
#define CONDUCTOR_LIB_STORE_SCHEMA_CHECK_H_

#include <map>
#include <string>

#include "lib/base/result.h"
#include "lib/store/sqlite.h"

namespace conductor::store {

// What SQLite calls a table may be anything: a view that never ends, with a trigger behind it. So
// before a row of a file is read, its tables must be exactly those of docs/snapshot-format.md, by
// the text that made them.
class SchemaCheck {
 public:
  // Has SQLite make such tables in memory. Errors: no memory; so they are never those of a file,
  // and this is to be called before there is one.
  [[nodiscard]] static Result<SchemaCheck> Make();

  // Errors: a table is missing, is something else, or has other columns; there is anything that is
  // neither a table of a snapshot nor a view.
  [[nodiscard]] Status Tables(Database& database) const { return Check(database, false); }
  // The same of the views, which nothing reads but `verify` and people.
  [[nodiscard]] Status Views(Database& database) const { return Check(database, true); }

 private:
  struct Entry {
    std::string type;   // "table", "index", "view" or "trigger"
    std::string table;  // that it is of
    std::string sql;    // that made it; empty: SQLite itself
  };
  using Schema = std::map<std::string, Entry>;

  [[nodiscard]] static Result<Schema> SchemaOf(Database& database);
  [[nodiscard]] Status Check(Database& database, bool views) const;

  Schema expected_;
};

}  // namespace conductor::store

#endif  // CONDUCTOR_LIB_STORE_SCHEMA_CHECK_H_
