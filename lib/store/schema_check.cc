#include "lib/store/schema_check.h"

#include <fmt/format.h>

#include <utility>

#include "lib/store/snapshot_schema.h"

namespace conductor::store {
namespace {

constexpr const char* kExpected = "the tables of docs/snapshot-format.md, as Conductor makes them";

}  // namespace

Result<SchemaCheck::Schema> SchemaCheck::SchemaOf(Database& database) {
  auto rows =
      Statement::Prepare(database, "SELECT name, type, tbl_name, sql, rootpage FROM sqlite_master");
  if (!rows) return tl::unexpected(rows.error());
  Schema schema;
  std::map<int64_t, std::string> by_root;
  for (;;) {
    const auto row = rows->Next("its schema cannot be read");
    if (!row) return tl::unexpected(row.error());
    if (!*row) return schema;
    std::string name(rows->Text(0));
    const int64_t root = rows->Integer(4);
    if (root != 0) {
      const auto [first, fresh] = by_root.emplace(root, name);
      if (!fresh) {
        return Fail(fmt::format("'{}' and '{}' are stored in one place", first->second, name),
                    database.path(), kExpected);
      }
    }
    const auto [entry, fresh] = schema.emplace(
        std::move(name),
        Entry{std::string(rows->Text(1)), std::string(rows->Text(2)), std::string(rows->Text(3))});
    if (!fresh) return Fail(fmt::format("has two '{}'", entry->first), database.path(), kExpected);
  }
}

Result<SchemaCheck> SchemaCheck::Make() {
  auto database = Database::Open(":memory:", Database::Mode::kWrite);
  if (!database) return tl::unexpected(database.error());
  for (const char* sql : {kTables, kViews}) {
    if (auto made = database->Execute(sql); !made) return tl::unexpected(made.error());
  }
  auto schema = SchemaOf(*database);
  if (!schema) return tl::unexpected(schema.error());
  SchemaCheck check;
  check.expected_ = *std::move(schema);
  return check;
}

Status SchemaCheck::Check(Database& database, bool views) const {
  const auto schema = SchemaOf(database);
  if (!schema) return tl::unexpected(schema.error());
  const auto wrong = [&](std::string what) -> Status {
    return Fail(std::move(what), database.path(), kExpected);
  };
  for (const auto& [name, entry] : *schema) {
    const auto known = expected_.find(name);
    if (known == expected_.end()) {
      if (entry.type == "view" && !views) continue;
      return wrong(fmt::format("has a {} '{}', which is none of a snapshot's", entry.type, name));
    }
    const Entry& right = known->second;
    if (entry.type == "view" && right.type == "view" && !views) continue;
    if (entry.type != right.type) {
      return wrong(fmt::format("'{}' is a {} and no {}", name, entry.type, right.type));
    }
    if (entry.sql != right.sql || entry.table != right.table) {
      return wrong(fmt::format("{} '{}' is another than Conductor makes", entry.type, name));
    }
  }
  for (const auto& [name, entry] : expected_) {
    if (entry.type == "view" && !views) continue;
    if (!schema->contains(name)) return wrong(fmt::format("has no {} '{}'", entry.type, name));
  }
  return {};
}

}  // namespace conductor::store
