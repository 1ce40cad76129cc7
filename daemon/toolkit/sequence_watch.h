#ifndef CONDUCTOR_DAEMON_TOOLKIT_SEQUENCE_WATCH_H_
#define CONDUCTOR_DAEMON_TOOLKIT_SEQUENCE_WATCH_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "lib/stream/digest_window.h"

namespace conductor::toolkit {

// What the number of a publisher's message means, given those before it. As the daemon judges it
// (lib/stream), without asking anybody: this only looks.
//
// A publisher sends a number once, in order; only the answer of a replay endpoint has some again,
// or those that were missing. So what is sent live under a number that is not higher than the last,
// and is no copy of what came under it, is another life's, whatever time it has: clocks go back.
class SequenceWatch {
 public:
  enum class Kind : uint8_t {
    kNext,       // as expected, or the first of all
    kGap,        // `missing` numbers were left out before it
    kDuplicate,  // it came before; of what is forgotten, as far as its time tells
    kLate,       // of a replay: it was missing, and is older than the last
    kRestart,    // it is not higher than the last, and another message: a new life
  };
  struct Verdict {
    Kind kind = Kind::kNext;
    uint64_t missing = 0;
    uint64_t expected = 0;  // the number that would have been next
  };

  // `time`: what the batch says of itself, where it can be read. `replayed`: it is part of the
  // answer of a replay endpoint.
  [[nodiscard]] Verdict Judge(uint64_t sequence, std::string_view payload,
                              std::optional<double> time, bool replayed = false);

  // Whether exactly this message was judged, as far as is remembered.
  [[nodiscard]] bool Knows(uint64_t sequence, std::string_view payload) const;

  // The highest number of this life; nothing before the first message.
  [[nodiscard]] std::optional<uint64_t> last() const { return last_; }

 private:
  static constexpr size_t kRemembered = 4096;

  uint64_t first_ = 0;  // of this life
  std::optional<uint64_t> last_;
  std::optional<double> newest_;  // the greatest time of this life
  stream::DigestWindow digests_{kRemembered};
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_SEQUENCE_WATCH_H_
