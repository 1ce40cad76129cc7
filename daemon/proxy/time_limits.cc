#include "daemon/proxy/time_limits.h"

#include <chrono>
#include <utility>

namespace conductor::proxy {
namespace {

constexpr std::chrono::milliseconds kEvery(20);

}  // namespace

TimeLimits::Limit::Limit(TimeLimits& limits, std::function<void()> cut)
    : limits_(limits), cut_(std::move(cut)), after_(limits.first_) {
  if (after_ != nullptr) after_->before_ = this;
  limits_.first_ = this;
}

TimeLimits::Limit::~Limit() {
  (before_ != nullptr ? before_->after_ : limits_.first_) = after_;
  if (after_ != nullptr) after_->before_ = before_;
}

void TimeLimits::Awake() {
  if (awake_) return;
  awake_ = true;
  timer_.expires_after(kEvery);
  timer_.async_wait([this](error_code error) {
    if (!error) Look();
  });
}

void TimeLimits::Look() {
  awake_ = false;
  const MonoTime now = MonoNow();
  bool waits = false;
  for (Limit* limit = first_; limit != nullptr; limit = limit->after_) {
    if (limit->until_ <= now) {
      limit->until_ = MonoTime::max();
      limit->passed_ = true;
      limit->cut_();
    }
    waits |= limit->until_ != MonoTime::max();
  }
  if (waits) Awake();
}

}  // namespace conductor::proxy
