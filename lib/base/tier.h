#ifndef CONDUCTOR_LIB_BASE_TIER_H_
#define CONDUCTOR_LIB_BASE_TIER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace conductor {

// Where a holder keeps a block: device memory (L1), host memory (L2), disk or remote (L3).
enum class Tier : uint8_t { kGpu = 0, kCpu = 1, kDisk = 2 };

inline constexpr size_t kTierCount = 3;
inline constexpr std::array<Tier, kTierCount> kTiers = {Tier::kGpu, Tier::kCpu, Tier::kDisk};

// "gpu", "cpu", "disk": the names in every answer, flag and metric.
[[nodiscard]] std::string_view TierName(Tier tier);

// The tier of a `medium` as engines spell it, case-folded: GPU and the empty text (an engine's
// nil) are gpu; CPU, CPU_PINNED, CPU_TIER1 are cpu; DISK, LOCAL_DISK, CPU_TIER2, STORAGE, FS, OBJ,
// EXTERNAL are disk. Nothing for any other medium: such blocks are counted and are part of no
// figure.
[[nodiscard]] std::optional<Tier> TierOfMedium(std::string_view medium);

}  // namespace conductor

#endif  // CONDUCTOR_LIB_BASE_TIER_H_
