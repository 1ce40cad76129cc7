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

std::string_view LikelyName(std::span<const std::string_view> names, std::string_view wanted) {
  constexpr size_t kMostChanges = 2;
  constexpr size_t kFewestLetters = 4;  // of what says anything
  constexpr size_t kLongest = 64;
  if (wanted.size() < kFewestLetters || wanted.size() > kLongest) return {};
  std::string_view likely;
  size_t least = kMostChanges + 1;
  for (const std::string_view name : names) {
    const bool begins =
        name.size() >= kFewestLetters && (name.starts_with(wanted) || wanted.starts_with(name));
    const size_t changes = begins ? kMostChanges : Distance(name, wanted);
    if (changes >= least) continue;
    likely = name;
    least = changes;
  }
  return likely;
}

}  // namespace conductor::serve
