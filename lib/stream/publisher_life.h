#ifndef CONDUCTOR_LIB_STREAM_PUBLISHER_LIFE_H_
#define CONDUCTOR_LIB_STREAM_PUBLISHER_LIFE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "lib/base/clock.h"
#include "lib/stream/digest_window.h"

namespace conductor::stream {

// What may be wrong with what is held of a publisher.
struct Damage {
  enum class Kind : uint8_t {
    kNone,
    kIncomplete,  // stores were missed: figures can only be too low
    kDoubtful,    // removals may have been missed: figures may be too high
  };

  Kind kind = Kind::kNone;
  std::string detail;  // for Trust::detail
  MonoTime since{};
};

// One set of applied batches: the visible one of a publisher, or the hidden one that a replay from
// the first sequence is building.
struct Life {
  explicit Life(size_t digest_window) : digests(digest_window) {}

  // The worse damage stays; of two alike the first, which is nearer to the cause.
  void Worsen(Damage::Kind kind, const std::string& detail, MonoTime now) {
    if (kind > damage.kind) damage = {kind, detail, now};
    if (kind > since_listing.kind) since_listing = {kind, detail, now};
  }

  // Nothing is held that could be wrong.
  void Absolve() { damage = since_listing = {}; }

  // What the listing that was opened last told is held now.
  void TakeListing() {
    damage = since_listing;
    listed = true;
    holds_nothing = false;  // for all that is known
  }

  std::optional<uint64_t> first;   // the first applied sequence; once all is dropped, the next one
  std::optional<uint64_t> cursor;  // the last one
  DigestWindow digests;
  std::optional<double> newest_time;  // the latest batch time, Unix seconds
  bool holds_nothing = true;          // nothing applied, or cleared by the last batch
  Damage damage;
  bool listed = false;   // all that the publisher holds was taken in from a listing
  Damage since_listing;  // the part of `damage` that the last opened listing cannot mend
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_PUBLISHER_LIFE_H_
