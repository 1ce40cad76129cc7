// PublisherStream's beginning with what another process held.

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <utility>

#include "lib/stream/publisher_stream.h"

namespace conductor::stream {

std::optional<Resume> PublisherStream::resume() const {
  const auto at = position();
  if (!at) return std::nullopt;
  Resume resume(*at);
  resume.digests = life_.digests.Newest();
  resume.digests.pop_back();
  resume.first = life_.first;
  resume.newest_time = life_.newest_time;
  resume.damage = life_.damage.kind;
  resume.damage_detail = life_.damage.detail;
  resume.needs_rebuild = needs_rebuild_ || rebuild_once_proven_;
  return resume;
}

void PublisherStream::TakeUp(const Resume& resume) {
  life_.first = resume.first.value_or(resume.cursor);
  life_.cursor = resume.cursor;
  const uint64_t before = std::min<uint64_t>(resume.digests.size(), resume.cursor);
  const auto known = std::span(resume.digests).last(before);
  for (size_t i = 0; i < known.size(); ++i) {
    life_.digests.Add(resume.cursor - known.size() + i, known[i]);
  }
  life_.digests.Add(resume.cursor, resume.digest);
  life_.newest_time = resume.newest_time;
  life_.holds_nothing = false;
  heard_ = true;
  unproven_ = true;
  unconfirmed_resume_ = true;
  // Not before it is proven: what is held may reach further back than the publisher's ring does.
  rebuild_once_proven_ = resume.needs_rebuild && options_.has_replay;
  counters_.lives = 1;
}

void PublisherStream::EndResume(Consumer::ResumeEnd end, std::string_view why) {
  resume_until_.reset();
  if (end != Consumer::ResumeEnd::kProven) rebuild_once_proven_ = false;
  if (!std::exchange(unconfirmed_resume_, false)) return;
  consumer_.ResumeEnded(end, why);
}

// A publisher that is away for too long: it is met anew if it ever comes.
void PublisherStream::TickResume(MonoTime now) {
  if (!resume_until_ || now < *resume_until_) return;
  resume_until_.reset();
  // One that nothing can prove is in doubt as long as it is there, which has an end of its own.
  if (!unconfirmed_resume_ || (connected_ && !CanBeProven())) return;
  EndResume(Consumer::ResumeEnd::kDropped,
            fmt::format("{} did not prove within {} that it still holds it", options_.endpoint,
                        FormatDuration(options_.stale_grace)));
  Close();
  AbandonRebuild();
  DropQueue();
  CloseListing();
  if (gap_) EndGap(&StreamCounters::gaps_lost);
  retry_at_.reset();
  needs_rebuild_ = false;
  unproven_ = false;
  heard_ = false;
  consumer_.NewLife();
  life_ = Life(options_.digest_window);
  if (connected_ && options_.has_replay) OpenFromCursor(now, Purpose::kCatchUp);
  NeedListing(now);
}

}  // namespace conductor::stream
