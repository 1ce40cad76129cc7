#include "daemon/toolkit/sequence_watch.h"

#include <algorithm>

#include "lib/trace/recording_format.h"

namespace conductor::toolkit {

SequenceWatch::Verdict SequenceWatch::Judge(uint64_t sequence, std::string_view payload,
                                            std::optional<double> time, bool replayed) {
  const uint64_t digest = trace::Checksum(payload);
  Verdict verdict{.expected = last_ ? *last_ + 1 : sequence};
  if (last_ && sequence <= *last_) {
    const auto known = digests_.Find(sequence);
    // At least so many of this life are remembered, up to the last.
    const bool forgotten = !known && sequence >= first_ && *last_ - sequence >= kRemembered;
    const bool older = !known && time && newest_ && *time <= *newest_;
    if (known == digest || (forgotten && older)) {
      verdict.kind = Kind::kDuplicate;
      return verdict;
    }
    if (replayed && older) {
      verdict.kind = Kind::kLate;
      return verdict;
    }
    verdict.kind = Kind::kRestart;
    digests_ = stream::DigestWindow(kRemembered);
    newest_.reset();
    first_ = sequence;
  } else if (sequence > verdict.expected) {
    verdict.kind = Kind::kGap;
    verdict.missing = sequence - verdict.expected;
  }
  if (!last_) first_ = sequence;
  last_ = sequence;
  if (time) newest_ = newest_ ? std::max(*newest_, *time) : *time;
  digests_.Add(sequence, digest);
  return verdict;
}

bool SequenceWatch::Knows(uint64_t sequence, std::string_view payload) const {
  return digests_.Find(sequence) == trace::Checksum(payload);
}

}  // namespace conductor::toolkit
