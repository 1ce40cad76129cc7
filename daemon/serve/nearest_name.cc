#include "daemon/serve/nearest_name.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

namespace conductor::serve {
namespace {

size_t Distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t changed = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string NearestName(const std::set<std::string>& names, std::string_view wanted) {
  constexpr size_t kCompared = 128;
  const auto distance = [wanted](const std::string& name) {
    return Distance(std::string_view(name).substr(0, kCompared), wanted.substr(0, kCompared));
  };
  const auto nearest = std::ranges::min_element(names, {}, distance);
  return nearest == names.end() ? std::string() : *nearest;
}

}  // namespace conductor::serve
