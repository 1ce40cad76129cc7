#include "daemon/toolkit/tap_filter.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <utility>

#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

constexpr std::string_view kHex = "0x";
constexpr std::string_view kKeys = "type, tier, lora, rank or hash, and =VALUE[,VALUE...]";

Result<Tier> ParseTier(std::string_view text) {
  for (const Tier tier : kTiers) {
    if (text == TierName(tier)) return tier;
  }
  return Fail(fmt::format("'{}' is no tier", text), {}, "gpu, cpu or disk");
}

Result<std::string> ParseHash(std::string_view text) {
  std::string digits(text);
  std::ranges::transform(digits, digits.begin(),
                         [](char c) { return static_cast<char>(std::tolower(c)); });
  const size_t from = digits.starts_with(kHex) ? kHex.size() : 0;
  const bool hex = digits.find_first_not_of("0123456789abcdef", from) == std::string::npos;
  if (digits.size() == from || !hex || digits.size() > from + 20) {
    return Fail(fmt::format("'{}' does not begin a hash", text), {}, "hex or decimal digits");
  }
  return digits;
}

template <typename T>
Status Append(std::vector<T>& values, Result<T> value) {
  if (!value) return tl::unexpected(std::move(value).error());
  values.push_back(*std::move(value));
  return {};
}

bool HasOneOf(const auto& wanted, const auto& value) {
  return wanted.empty() || std::ranges::find(wanted, value) != wanted.end();
}

}  // namespace

Status TapFilter::Add(std::string_view text) {
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos) {
    return Fail(fmt::format("'{}' is no filter", text), {}, std::string(kKeys));
  }
  const std::string_view key = text.substr(0, equals);
  std::string_view values = text.substr(equals + 1);
  for (;;) {
    const size_t comma = values.find(',');
    const std::string_view value = values.substr(0, comma);
    Status added;
    if (key == "type") {
      added = Append(types_, ParseTapType(value));
    } else if (key == "tier") {
      added = Append(tiers_, ParseTier(value));
    } else if (key == "lora") {
      loras_.emplace_back(value);
    } else if (key == "rank") {
      added = Append(ranks_, ParseNumber(value, "a rank", 0, INT32_MAX).map([](uint64_t rank) {
        return static_cast<int64_t>(rank);
      }));
    } else if (key == "hash") {
      added = Append(hashes_, ParseHash(value));
    } else {
      return Fail(fmt::format("'{}' is no key of a filter", key), {}, std::string(kKeys));
    }
    if (!added) return added;
    if (comma == std::string_view::npos) return {};
    values.remove_prefix(comma + 1);
  }
}

bool TapFilter::HasHash(const TapEvent& event) const {
  if (hashes_.empty()) return true;
  const auto matches = [&](EngineHash hash) {
    const auto number = static_cast<uint64_t>(hash);
    const std::string decimal = fmt::format("{}", number);
    const std::string hex = fmt::format("0x{:016x}", number);
    const std::string shortest = fmt::format("0x{:x}", number);
    return std::ranges::any_of(hashes_, [&](const std::string& prefix) {
      if (!prefix.starts_with(kHex) && decimal.starts_with(prefix)) return true;
      const std::string marked = prefix.starts_with(kHex) ? prefix : fmt::format("0x{}", prefix);
      return hex.starts_with(marked) || shortest.starts_with(marked);
    });
  };
  return (event.parent && matches(*event.parent)) || std::ranges::any_of(event.hashes, matches);
}

bool TapFilter::Passes(const TapEvent& event) const {
  if (!HasOneOf(types_, event.type)) return false;
  if (!IsBlockEvent(event.type)) return true;
  // Whatever speaks of all tiers speaks of each.
  const bool every_tier = !event.tier && !event.medium;
  if (!tiers_.empty() && !every_tier && (!event.tier || !HasOneOf(tiers_, *event.tier))) {
    return false;
  }
  // Only what is stored names its LoRA.
  const bool names_lora = event.type == TapType::kStored && event.object.empty();
  if (!loras_.empty() && (!names_lora || !HasOneOf(loras_, event.lora))) return false;
  if (!ranks_.empty() && (!event.rank || !HasOneOf(ranks_, *event.rank))) return false;
  return HasHash(event);
}

bool TapFilter::Counts(const TapEvent& event) const {
  return IsBlockEvent(event.type) || !types_.empty();
}

}  // namespace conductor::toolkit
