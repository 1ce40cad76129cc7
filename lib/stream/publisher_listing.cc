// PublisherStream's listings: all that a publisher without replay holds, asked for by the consumer
// while live frames go on.
//
// A listing mends what was lost before it was opened and nothing of what was lost after: its answer
// may have been on its way already.

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "lib/stream/publisher_stream.h"

namespace conductor::stream {

// Something was lost, or may have been.
void PublisherStream::NeedListing(MonoTime now) {
  if (!Listed()) return;
  // What waits for the next time is only a confirmation, unless something was due already.
  if (!std::exchange(listing_due_, true)) list_at_.reset();
  if (connected_ && !listing_ && !list_at_) OpenListing(now, /*confirms=*/false);
}

void PublisherStream::OpenListing(MonoTime now, bool confirms) {
  list_at_.reset();
  listing_due_ = false;
  Listing listing;
  listing.id = ++last_listing_;
  listing.deadline = now + options_.listing_timeout;
  listing.confirms = confirms;
  listing.gaps = std::exchange(gaps_unlisted_, 0);
  listing_ = listing;
  life_.since_listing = {};
  ++counters_.listings;
  consumer_.OpenListing(listing.id);
}

// What it was to mend is still to be mended.
void PublisherStream::CloseListing() {
  if (!listing_) return;
  listing_due_ |= !listing_->confirms;
  gaps_unlisted_ += listing_->gaps;
  const uint64_t id = listing_->id;
  listing_.reset();
  consumer_.CloseListing(id);
}

void PublisherStream::ListingDone(MonoTime now, uint64_t request) {
  if (!listing_ || listing_->id != request) return;
  counters_.gaps_healed += listing_->gaps;
  listing_.reset();
  if (!std::exchange(heard_, true)) ++counters_.lives;
  listing_failures_ = 0;
  listing_problem_.clear();
  EndResume(Consumer::ResumeEnd::kProven, "");
  life_.TakeListing();
  // A frame that shows a hole also shows that the subscription had taken effect.
  if (listing_due_) first_probe_due_ = false;
  if (!listing_due_) {
    relists_ = 0;
    listing_backoff_ = options_.backoff_min;
    // Events between the answer and the moment at which the subscription took effect are in
    // neither.
    if (std::exchange(first_probe_due_, false)) list_at_ = now + options_.first_probe;
  } else if (relists_++ == 0) {
    OpenListing(now, /*confirms=*/false);
  } else {
    // It loses faster than it can be listed.
    ScheduleListing(now);
  }
  Tell();
}

void PublisherStream::ListingFailed(MonoTime now, uint64_t request, std::string why) {
  if (!listing_ || listing_->id != request) return;
  FailListing(now, std::move(why));
  Tell();
}

void PublisherStream::FailListing(MonoTime now, std::string why) {
  const bool confirms = listing_->confirms;
  CloseListing();
  ++counters_.listings_failed;
  ++listing_failures_;
  listing_problem_ = std::move(why);
  if (!confirms) {
    // Whatever removals were missed is told already, as what called for the listing.
    life_.Worsen(Damage::Kind::kIncomplete,
                 fmt::format("what {} holds could not be had in full; it is asked for again",
                             options_.endpoint),
                 now);
  }
  ScheduleListing(now);
}

void PublisherStream::ScheduleListing(MonoTime now) {
  list_at_ = now + Jittered(listing_backoff_);
  listing_backoff_ = std::min(listing_backoff_ * 2, options_.backoff_max);
}

void PublisherStream::TickListing(MonoTime now) {
  if (listing_ && now >= listing_->deadline) {
    FailListing(now, fmt::format("no answer for {}", FormatDuration(options_.listing_timeout)));
  }
  if (!listing_ && connected_ && list_at_ && now >= *list_at_) {
    OpenListing(now, /*confirms=*/!listing_due_);
  }
}

std::optional<MonoTime> PublisherStream::ListingDeadline() const {
  if (listing_) return listing_->deadline;
  return connected_ ? list_at_ : std::nullopt;
}

}  // namespace conductor::stream
