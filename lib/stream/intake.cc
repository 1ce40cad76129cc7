#include "lib/stream/intake.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace conductor::stream {

void Intake::Name(std::string incarnation) {
  const std::lock_guard lock(mutex_);
  incarnation_ = std::move(incarnation);
}

void Intake::BeginLife(std::string incarnation) {
  const std::lock_guard lock(mutex_);
  if (!incarnation_.empty()) former_.push_back(std::move(incarnation_));
  if (former_.size() > kFormerLives) former_.pop_front();
  incarnation_ = std::move(incarnation);
  done_ += items_.size();
  items_.clear();
  bytes_ = 0;
  items_.emplace_back(NewLife{});
  ++offered_;
  Wake();
  done_changed_.notify_all();
}

bool Intake::IsFormer(std::string_view incarnation) const {
  const std::lock_guard lock(mutex_);
  return std::ranges::find(former_, incarnation) != former_.end();
}

Intake::Offered Intake::Offer(std::string_view incarnation, std::span<Message> messages) {
  const std::lock_guard lock(mutex_);
  if (closed_ || incarnation != incarnation_) return {.present = false};
  Offered offered;
  for (Message& message : messages) {
    const size_t bytes = BytesOf(message);
    if (bytes_ > 0 && bytes_ + bytes > limit_bytes_) break;
    bytes_ += bytes;
    items_.emplace_back(std::move(message));
    ++offered.taken;
  }
  offered_ += offered.taken;
  offered.ticket = offered_;
  if (offered.taken > 0) Wake();
  return offered;
}

bool Intake::WaitFor(uint64_t ticket, MonoTime until, const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  done_changed_.wait_until(lock, stop, until, [&] { return closed_ || done_ >= ticket; });
  return done_ >= ticket;
}

std::optional<Intake::Item> Intake::Next() {
  const std::lock_guard lock(mutex_);
  if (items_.empty()) return std::nullopt;
  Item item = std::move(items_.front());
  items_.pop_front();
  if (const auto* message = std::get_if<Message>(&item)) bytes_ -= BytesOf(*message);
  return item;
}

void Intake::Done() {
  const std::lock_guard lock(mutex_);
  ++done_;
  done_changed_.notify_all();
}

bool Intake::empty() const {
  const std::lock_guard lock(mutex_);
  return items_.empty();
}

void Intake::Open(int wakeup) {
  const std::lock_guard lock(mutex_);
  wakeup_ = wakeup;
}

void Intake::Close() {
  const std::lock_guard lock(mutex_);
  wakeup_ = -1;
  closed_ = true;
  items_.clear();
  bytes_ = 0;
  done_changed_.notify_all();
}

void Intake::Wake() {
  if (wakeup_ < 0) return;
  const uint64_t one = 1;
  // Fails only when the counter is full, and then it is readable anyway.
  [[maybe_unused]] const ssize_t written = ::write(wakeup_, &one, sizeof one);
}

// With what the queue itself needs for it.
size_t Intake::BytesOf(const Message& message) {
  return message.topic.size() + message.payload.size() + sizeof(Item);
}

}  // namespace conductor::stream
