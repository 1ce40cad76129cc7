#ifndef CONDUCTOR_LIB_STREAM_CONSUMER_H_
#define CONDUCTOR_LIB_STREAM_CONSUMER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "lib/base/clock.h"
#include "lib/stream/trust.h"

namespace conductor::stream {

// What one publisher's stream does to the rest of the system. All calls for one publisher come
// from one thread at a time and in the order in which they take effect.
class Consumer {
 public:
  // What a batch said and the consumer could not use; the greater is the worse.
  enum class Lost : uint8_t {
    kNothing,   // or what is part of no figure
    kStores,    // figures can only be too low: the publisher turns incomplete
    kRemovals,  // or what may have been some: the publisher turns doubtful
  };

  struct Applied {
    // The batch left the publisher with nothing at all that could be wrong: an AllBlocksCleared,
    // after which it holds nothing on any tier. Ends a degraded state, but for what `lost` says:
    // that may have come after the clearing.
    bool holds_nothing = false;
    Lost lost = Lost::kNothing;
    // What was lost and why, a clause for Trust::detail: "blocks of 12 tokens do not fit 16".
    std::string what;
  };

  // What became of a set that was held from the start (StreamOptions::resume).
  enum class ResumeEnd : uint8_t {
    kProven,   // the publisher still lives the life that it is of
    kDropped,  // it does not, or nothing can tell any more
    kDoubted,  // its batches go on being applied, and nothing has proven that they are of that life
  };

  virtual ~Consumer() = default;

  // One payload, exactly once for each (life, sequence), sequences rising. `payload` dies with the
  // call.
  virtual Applied Apply(Sequence sequence, std::string_view payload) = 0;

  // The publisher began a new life (a restart), or what it told can no longer be believed: all of
  // it is dropped.
  virtual void NewLife() = 0;

  // A replay from the first sequence: what Apply brings from here on builds an empty, hidden set
  // that takes the place of the visible one at CommitRebuild, at once. AbandonRebuild throws it
  // away and the visible one stays. NewLife during a rebuild drops both, and the rebuild goes on.
  virtual void BeginRebuild() = 0;
  virtual void CommitRebuild() = 0;
  virtual void AbandonRebuild() = 0;

  // Only for publishers that can be listed (StreamOptions::has_listing): all that the publisher
  // holds is to be asked for, elsewhere and by whatever way the consumer has. The answer comes back
  // as PublisherStream::ListingDone or ListingFailed with the same number, after the consumer took
  // it in. Until then the consumer remembers what events touch: they are newer than the answer.
  // At most one is open. No answer to a closed one is wanted any more.
  virtual void OpenListing(uint64_t request) { (void)request; }
  virtual void CloseListing(uint64_t request) { (void)request; }

  // Once, for a publisher that was restored. `why` is a clause; what is dropped goes with a NewLife
  // or a CommitRebuild of its own.
  virtual void ResumeEnded(ResumeEnd end, std::string_view why) {
    (void)end;
    (void)why;
  }

  // When Tick has something to do next although no event came (a time to live that ends).
  [[nodiscard]] virtual std::optional<MonoTime> NextDeadline() const { return std::nullopt; }
  virtual void Tick(MonoTime now) { (void)now; }

  // The publisher's state changed (state, reason or detail).
  virtual void TrustChanged(const Trust& trust) = 0;
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_CONSUMER_H_
