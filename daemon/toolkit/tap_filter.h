#ifndef CONDUCTOR_DAEMON_TOOLKIT_TAP_FILTER_H_
#define CONDUCTOR_DAEMON_TOOLKIT_TAP_FILTER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/toolkit/tap_event.h"
#include "lib/base/result.h"
#include "lib/base/tier.h"

namespace conductor::toolkit {

// Which lines are printed: those that have, of each key that is named, one of its values.
//
// What is said of a stream itself (a gap, a message that cannot be read) is printed whatever is
// asked of events, unless types are named and it is none of them.
class TapFilter {
 public:
  // "type=stored,removed", "tier=gpu", "lora=NAME", "rank=0", "hash=PREFIX". Adds to what is asked
  // already.
  [[nodiscard]] Status Add(std::string_view text);

  [[nodiscard]] bool Passes(const TapEvent& event) const;
  // Whether a line that passes is one of those that were asked for: a block event, or of a type
  // that was named.
  [[nodiscard]] bool Counts(const TapEvent& event) const;

 private:
  [[nodiscard]] bool HasHash(const TapEvent& event) const;

  std::vector<TapType> types_;
  std::vector<Tier> tiers_;
  std::vector<std::string> loras_;  // "" is none
  std::vector<int64_t> ranks_;
  std::vector<std::string> hashes_;  // decimal or hex, lower case; with 0x hex alone
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_TAP_FILTER_H_
