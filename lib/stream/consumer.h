#ifndef CONDUCTOR_LIB_STREAM_CONSUMER_H_
#define CONDUCTOR_LIB_STREAM_CONSUMER_H_

#include <string_view>

#include "lib/stream/trust.h"

namespace conductor::stream {

// What one publisher's stream does to the rest of the system. All calls for one publisher come
// from one thread at a time and in the order in which they take effect.
class Consumer {
 public:
  struct Applied {
    // The batch left the publisher with nothing at all that could be wrong: an AllBlocksCleared,
    // after which it holds nothing on any tier. Ends a degraded state.
    bool holds_nothing = false;
    // The batch could not be used: what it said is lost, and that may be removals. The publisher
    // turns doubtful. Not for single events that were skipped and counted.
    bool failed = false;
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

  // The publisher's state changed (state, reason or detail).
  virtual void TrustChanged(const Trust& trust) = 0;
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_CONSUMER_H_
