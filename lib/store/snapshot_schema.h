#ifndef CONDUCTOR_LIB_STORE_SNAPSHOT_SCHEMA_H_
#define CONDUCTOR_LIB_STORE_SNAPSHOT_SCHEMA_H_

#include <array>
#include <cstdint>
#include <string_view>

namespace conductor::store {

// What makes a file a snapshot: PRAGMA application_id ("Cndr") and user_version.
inline constexpr int64_t kApplicationId = 0x436e6472;
inline constexpr int64_t kFormatVersion = 1;

// The tables, as docs/snapshot-format.md explains them.
//
// Designed for 10 million blocks, held and named: 17 bytes each, written in seconds. A row for each
// block took twenty times as long and three times the room. Runs and names are written once,
// whoever holds them, and only ever appended: no table has an index beside its row id, so each is
// one sequential write and one sequential read. Numbers in blobs are big-endian, so that hex() of
// them reads as people write them.
extern const char* const kTables;

// All of them but `snapshot` and `digests`, which has a row for each, in this order.
inline constexpr std::array<std::string_view, 16> kContentTables = {
    "tiers",     "publishers", "namespaces",       "runs",
    "holders",   "holdings",   "special_holdings", "spaces",
    "names",     "aliases",    "alias_spans",      "waiting",
    "deadlines", "pools",      "pool_families",    "pool_objects"};

// What people ask, in the SQL of the plain sqlite3 shell. They expand runs to blocks as they are
// read, so they cost nothing in the file; one over all of 10 million blocks takes tens of seconds.
extern const char* const kViews;

}  // namespace conductor::store

#endif  // CONDUCTOR_LIB_STORE_SNAPSHOT_SCHEMA_H_
