#ifndef CONDUCTOR_LIB_STORE_SCHEMA_CHECK_H_
#define CONDUCTOR_LIB_STORE_SCHEMA_CHECK_H_

#include "lib/base/result.h"
#include "lib/store/sqlite.h"

namespace conductor::store {

// What SQLite calls a table may be anything: a view that never ends, with a trigger behind it. So
// before a row of a file is read, its tables must be exactly those of docs/snapshot-format.md, by
// the text that made them.

// Errors: a table is missing, is something else, or has other columns; there is anything that is
// neither a table of a snapshot nor a view.
[[nodiscard]] Status CheckTables(Database& database);
// The same of the views, which nothing reads but `verify` and people.
[[nodiscard]] Status CheckViews(Database& database);

}  // namespace conductor::store

#endif  // CONDUCTOR_LIB_STORE_SCHEMA_CHECK_H_
