#include "lib/store/snapshot_row.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

namespace conductor::store {
namespace {

// A value for people, who may have changed it.
std::string Shown(const Statement& row, int column) {
  constexpr size_t kMost = 40;  // bytes
  switch (row.TypeOf(column)) {
    case Statement::Type::kNull:
      return "NULL";
    case Statement::Type::kInteger:
      return std::to_string(row.Integer(column));
    case Statement::Type::kReal:
      return fmt::format("{}", row.Real(column));
    case Statement::Type::kBlob:
      return fmt::format("a blob of {} bytes", row.Blob(column).size());
    case Statement::Type::kText:
      break;
  }
  std::string text(row.Text(column).substr(0, kMost));
  for (char& c : text) {
    if (c < ' ' || c > '~') c = '?';
  }
  return fmt::format("'{}{}'", text, row.Text(column).size() > kMost ? "..." : "");
}

}  // namespace

std::string SnapshotRow::NumberOf(uint64_t number, std::string_view what) {
  return fmt::format("{} {}", number, what);
}

std::string SnapshotRow::Between(uint64_t least, uint64_t most, std::string_view what) {
  if (least > most) return fmt::format("no {} at all", what);
  return fmt::format("{} to {} {}", least, most, what);
}

void SnapshotRow::Refuse(int column, std::string expected) {
  if (wrong_) return;
  wrong_ = {fmt::format("{} is {}", row_.NameOf(column), Shown(row_, column)), std::move(expected)};
}

bool SnapshotRow::Has(int column, Statement::Type type, std::string_view what) {
  if (row_.TypeOf(column) == type) return true;
  Refuse(column, std::string(what));
  return false;
}

uint64_t SnapshotRow::Bits(int column) {
  return Has(column, Statement::Type::kInteger, "an integer") ? row_.Unsigned(column) : 0;
}

uint64_t SnapshotRow::Number(int column, uint64_t least, uint64_t most, std::string_view what) {
  // One below zero is above all others.
  if (row_.TypeOf(column) == Statement::Type::kInteger && row_.Unsigned(column) >= least &&
      row_.Unsigned(column) <= most) {
    return row_.Unsigned(column);
  }
  Refuse(column, Between(least, most, what));
  return least;
}

bool SnapshotRow::Flag(int column) { return Number(column, 0, 1, "for no or yes") != 0; }

double SnapshotRow::Real(int column) {
  if (!Has(column, Statement::Type::kReal, "a number of seconds")) return 0;
  const double value = row_.Real(column);
  if (std::isfinite(value)) return value;
  Refuse(column, "a number of seconds");
  return 0;
}

std::string_view SnapshotRow::Text(int column) {
  return Has(column, Statement::Type::kText, "a text") ? row_.Text(column) : std::string_view();
}

std::string_view SnapshotRow::Blob(int column) {
  return Has(column, Statement::Type::kBlob, "a blob") ? row_.Blob(column) : std::string_view();
}

}  // namespace conductor::store
