#include "daemon/proxy/time_limits.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <utility>

namespace conductor::proxy {
namespace {

constexpr Duration kTick = std::chrono::milliseconds(20);

// The tick at whose time `time` is over.
int64_t TickOf(MonoTime time) {
  const Duration since = time.time_since_epoch();
  return since / kTick + (since % kTick != Duration(0) ? 1 : 0);
}

uint64_t BitOf(size_t place) { return uint64_t{1} << (place % 64); }

MonoTime TimeOf(int64_t tick) { return MonoTime(kTick * tick); }

}  // namespace

TimeLimits::Limit::Limit(TimeLimits& limits, std::function<void()> cut)
    : limits_(limits), cut_(std::move(cut)) {}

TimeLimits::Limit::~Limit() {
  limits_.Remove(*this);
  // Nothing keeps the thread from ending.
  if (limits_.placed_ == 0 && std::exchange(limits_.armed_for_, 0) != 0) limits_.timer_.cancel();
}

void TimeLimits::Remove(Limit& limit) {
  if (limit.to_this_ == nullptr) return;
  *limit.to_this_ = limit.after_;
  if (limit.after_ != nullptr) limit.after_->to_this_ = limit.to_this_;
  limit.to_this_ = nullptr;
  const size_t place = PlaceOf(TickOf(limit.looked_at_));
  if (places_[place] == nullptr) taken_[place / 64] &= ~BitOf(place);
  limit.looked_at_ = MonoTime::max();
  --placed_;
}

void TimeLimits::Place(Limit& limit) {
  Remove(limit);
  // Where nothing waits, nothing has been looked at for long.
  if (armed_for_ == 0) looked_ = std::max(looked_, TickOf(MonoNow()) - 1);
  const int64_t tick =
      std::clamp<int64_t>(TickOf(limit.until_), looked_ + 1, looked_ + int64_t{kPlaces} - 1);
  const size_t place = PlaceOf(tick);
  Limit*& first = places_[place];
  limit.after_ = first;
  if (first != nullptr) first->to_this_ = &limit.after_;
  first = &limit;
  limit.to_this_ = &first;
  limit.looked_at_ = TimeOf(tick);
  taken_[place / 64] |= BitOf(place);
  ++placed_;
  if (armed_for_ == 0 || tick < armed_for_) Arm();
}

std::optional<int64_t> TimeLimits::NextTick() const {
  // Word by word around the wheel; the first one is met twice, for what stands before looked_ in
  // it.
  const size_t begin = PlaceOf(looked_ + 1);
  uint64_t mask = ~uint64_t{0} << (begin % 64);
  for (size_t i = 0; i <= taken_.size(); ++i) {
    const size_t word = (begin / 64 + i) % taken_.size();
    if (const uint64_t found = taken_[word] & mask; found != 0) {
      const size_t place = word * 64 + static_cast<size_t>(std::countr_zero(found));
      return looked_ + 1 + static_cast<int64_t>((place + kPlaces - begin) % kPlaces);
    }
    mask = ~uint64_t{0};
  }
  return std::nullopt;
}

void TimeLimits::Arm() {
  const auto next = NextTick();
  armed_for_ = next.value_or(0);
  if (!next) return;
  timer_.expires_at(net::steady_timer::time_point(
      std::chrono::duration_cast<net::steady_timer::duration>(TimeOf(*next).time_since_epoch())));
  timer_.async_wait([this](error_code error) {
    if (!error) Look();
  });
}

void TimeLimits::Look() {
  const int64_t now = MonoNow().time_since_epoch() / kTick;
  for (auto next = NextTick(); next && *next <= now; next = NextTick()) LookAt(*next);
  looked_ = std::max(looked_, now);
  Arm();
}

void TimeLimits::LookAt(int64_t tick) {
  looked_ = tick;
  const size_t place = PlaceOf(tick);
  const MonoTime now = MonoNow();
  // None comes into this place meanwhile: it is that of a tick which is over.
  while (Limit* const limit = places_[place]) {
    Remove(*limit);
    if (limit->until_ == MonoTime::max()) continue;
    if (limit->until_ > now) {
      Place(*limit);
      continue;
    }
    limit->until_ = MonoTime::max();
    limit->passed_ = true;
    limit->cut_();
  }
}

}  // namespace conductor::proxy
