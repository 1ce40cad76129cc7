#include "lib/base/tier.h"

#include <algorithm>
#include <utility>

namespace conductor {
namespace {

constexpr std::array<std::pair<std::string_view, Tier>, 12> kMedia{{
    {"", Tier::kGpu},
    {"gpu", Tier::kGpu},
    {"cpu", Tier::kCpu},
    {"cpu_pinned", Tier::kCpu},
    {"cpu_tier1", Tier::kCpu},
    {"disk", Tier::kDisk},
    {"local_disk", Tier::kDisk},
    {"cpu_tier2", Tier::kDisk},
    {"storage", Tier::kDisk},
    {"fs", Tier::kDisk},
    {"obj", Tier::kDisk},
    {"external", Tier::kDisk},
}};

bool EqualFolded(std::string_view text, std::string_view lower) {
  return std::ranges::equal(text, lower, [](char a, char b) {
    return (a >= 'A' && a <= 'Z' ? static_cast<char>(a - 'A' + 'a') : a) == b;
  });
}

}  // namespace

std::string_view TierName(Tier tier) {
  constexpr std::array<std::string_view, kTierCount> kNames = {"gpu", "cpu", "disk"};
  return kNames[static_cast<size_t>(tier)];
}

std::optional<Tier> TierOfMedium(std::string_view medium) {
  for (const auto& [name, tier] : kMedia) {
    if (EqualFolded(medium, name)) return tier;
  }
  return std::nullopt;
}

}  // namespace conductor
