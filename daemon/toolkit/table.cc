#include "daemon/toolkit/table.h"

#include <algorithm>
#include <iterator>
#include <numeric>

namespace conductor::toolkit {
namespace {

constexpr size_t kBetween = 2;  // spaces
constexpr size_t kLeast = 8;    // columns that a text keeps

}  // namespace

std::vector<size_t> Table::Widths() const {
  std::vector<size_t> widths;
  for (const Column& column : columns_) widths.push_back(WidthOf(column.title));
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], WidthOf(row[i]));
  }
  return widths;
}

size_t Table::LeastWidth() const {
  const std::vector<size_t> widths = Widths();
  size_t least = kBetween * (widths.size() - 1);
  for (size_t i = 0; i < widths.size(); ++i) {
    const bool whole = columns_[i].align == Align::kRight;
    least += whole ? widths[i] : std::min(widths[i], kLeast);
  }
  return least;
}

std::string Table::Render(const Terminal& terminal) const {
  std::vector<size_t> widths = Widths();
  size_t whole = std::accumulate(widths.begin(), widths.end(), kBetween * (widths.size() - 1));
  while (terminal.width > 0 && whole > terminal.width) {
    size_t widest = widths.size();
    for (size_t i = 0; i < widths.size(); ++i) {
      if (columns_[i].align == Align::kRight || widths[i] <= kLeast) continue;
      if (widest == widths.size() || widths[i] > widths[widest]) widest = i;
    }
    if (widest == widths.size()) break;
    --widths[widest];
    --whole;
  }

  std::string text;
  const auto line = [&](const auto& cells, bool title) {
    std::string made;
    for (size_t i = 0; i < columns_.size(); ++i) {
      const bool name = columns_[i].align == Align::kName && !title;
      const std::string cell = name ? CutBeginning(cells[i], widths[i]) : Cut(cells[i], widths[i]);
      const std::string fill(widths[i] - WidthOf(cell), ' ');
      if (i > 0) made.append(kBetween, ' ');
      made += columns_[i].align == Align::kRight ? fill + cell : cell + fill;
    }
    made.erase(made.find_last_not_of(' ') + 1);
    if (terminal.width > 0) made = Cut(made, terminal.width);
    text += title ? terminal.Paint(Colour::kBold, made) : made;
    text += '\n';
  };
  std::vector<std::string> titles;
  std::transform(columns_.begin(), columns_.end(), std::back_inserter(titles),
                 [](const Column& column) { return column.title; });
  line(titles, true);
  for (const auto& row : rows_) line(row, false);
  return text;
}

}  // namespace conductor::toolkit
