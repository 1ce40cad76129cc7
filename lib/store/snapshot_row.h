#ifndef CONDUCTOR_LIB_STORE_SNAPSHOT_ROW_H_
#define CONDUCTOR_LIB_STORE_SNAPSHOT_ROW_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/store/packed_numbers.h"
#include "lib/store/sqlite.h"

namespace conductor::store {

// A row of a snapshot, whose values are checked as they are taken. The first that is not what it
// must be is remembered, and what is returned in its place may be used without harm by whoever
// looks at ok() before long: the least number that may be, or nothing.
class SnapshotRow {
 public:
  explicit SnapshotRow(const Statement& row) : row_(row) {}

  [[nodiscard]] bool IsNull(int column) const { return row_.IsNull(column); }
  // An integer with all its 64 bits: a hash, a digest, a mask.
  uint64_t Bits(int column);
  // An integer from `least` to `most`; `what` is what it counts, or is a number of: "tokens".
  uint64_t Number(int column, uint64_t least, uint64_t most, std::string_view what);
  // The same of 32 bits.
  uint32_t Number32(int column, uint32_t least, uint32_t most, std::string_view what) {
    return static_cast<uint32_t>(Number(column, least, most, what));
  }
  // 1 or 0.
  bool Flag(int column);
  // Neither endless nor no number.
  double Real(int column);
  std::string_view Text(int column);
  std::string_view Blob(int column);
  // A blob of `least` to `most` numbers.
  template <typename T>
  void Numbers(int column, uint64_t least, uint64_t most, std::vector<T>& out) {
    if (!UnpackNumbers(Blob(column), out) || out.size() < least || out.size() > most) {
      out.clear();
      Refuse(column, least == most ? NumberOf(most, "numbers of 8 bytes")
                                   : Between(least, most, "numbers of 8 bytes"));
    }
  }

  // The value is wrong for another reason.
  void Refuse(int column, std::string expected);

  [[nodiscard]] bool ok() const { return !wrong_; }
  // Only where it is not: "block_size is 0".
  [[nodiscard]] const std::string& what() const { return wrong_->what; }
  [[nodiscard]] const std::string& expected() const { return wrong_->expected; }

 private:
  struct Wrong {
    std::string what;
    std::string expected;
  };

  [[nodiscard]] bool Has(int column, Statement::Type type, std::string_view what);
  [[nodiscard]] static std::string NumberOf(uint64_t number, std::string_view what);
  [[nodiscard]] static std::string Between(uint64_t least, uint64_t most, std::string_view what);

  const Statement& row_;
  std::optional<Wrong> wrong_;
};

}  // namespace conductor::store

#endif  // CONDUCTOR_LIB_STORE_SNAPSHOT_ROW_H_
