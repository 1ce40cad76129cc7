#include "daemon/toolkit/sequence_watch.h"

#include <algorithm>

#include "lib/trace/recording_format.h"

namespace conductor::toolkit {

SequenceWatch::Verdict SequenceWatch::Judge(uint64_t sequence, std::string_view payload,
                                            std::optional<double> time) {
  const uint64_t digest = trace::Checksum(payload);
  Verdict verdict{.expected = last_ ? *last_ + 1 : sequence};
  if (last_ && sequence <= *last_) {
    const auto known = digests_.Find(sequence);
    // A number that was missing, or is forgotten: only its time tells a late message from one of
    // another life.
    const bool late = !known && time && newest_ && *time <= *newest_;
    if (known == digest || late) {
      verdict.kind = Kind::kDuplicate;
      return verdict;
    }
    verdict.kind = Kind::kRestart;
    digests_ = stream::DigestWindow(kRemembered);
    newest_.reset();
  } else if (sequence > verdict.expected) {
    verdict.kind = Kind::kGap;
    verdict.missing = sequence - verdict.expected;
  }
  last_ = sequence;
  if (time) newest_ = newest_ ? std::max(*newest_, *time) : *time;
  digests_.Add(sequence, digest);
  return verdict;
}

bool SequenceWatch::Knows(uint64_t sequence, std::string_view payload) const {
  return digests_.Find(sequence) == trace::Checksum(payload);
}

}  // namespace conductor::toolkit
