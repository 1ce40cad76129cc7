#ifndef CONDUCTOR_DAEMON_TOOLKIT_TABLE_H_
#define CONDUCTOR_DAEMON_TOOLKIT_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "daemon/toolkit/terminal.h"

namespace conductor::toolkit {

// Rows in aligned columns, for people:
//
//   INSTANCE  STATE  MATCHED
//   a         live     8,192
//
// Where a terminal is too narrow the widest text columns are cut, numbers never; what still does
// not fit is cut off at its edge.
class Table {
 public:
  enum class Align : uint8_t {
    kLeft,
    kName,  // as kLeft, and cut at its beginning: ends tell endpoints apart
    kRight,
  };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // As many cells as columns, in printable text (Printable()); they may be painted.
  void Add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  [[nodiscard]] size_t rows() const { return rows_.size(); }

  // All lines, each with its end. No line has trailing spaces.
  [[nodiscard]] std::string Render(const Terminal& terminal) const;
  // What a terminal needs to show it without being cut off at its edge.
  [[nodiscard]] size_t LeastWidth() const;

 private:
  [[nodiscard]] std::vector<size_t> Widths() const;

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_TABLE_H_
