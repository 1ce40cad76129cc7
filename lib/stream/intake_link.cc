#include "lib/stream/intake_link.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>
#include <variant>

#include "lib/base/bytes.h"

namespace conductor::stream {

IntakeLink::IntakeLink(std::shared_ptr<Intake> intake, Watcher& watcher, uint64_t task,
                       PublisherStream& stream)
    : intake_(std::move(intake)), watcher_(watcher), task_(task), stream_(stream) {}

IntakeLink::~IntakeLink() {
  intake_->Close();
  if (wakeup_ < 0) return;
  watcher_.Unwatch(wakeup_);
  ::close(wakeup_);
}

Status IntakeLink::Open() {
  wakeup_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (wakeup_ < 0) {
    return Fail(fmt::format("no messages can be taken in: {}", std::strerror(errno)), {},
                "a higher limit of open files (ulimit -n)");
  }
  watcher_.Watch(wakeup_, task_, /*monitor=*/false);
  return {};
}

void IntakeLink::Begin() {
  intake_->Open(wakeup_);
  stream_.Connected(MonoNow());
}

void IntakeLink::Turn(bool /*monitor*/, MonoTime until) {
  uint64_t counter = 0;
  [[maybe_unused]] const ssize_t got = ::read(wakeup_, &counter, sizeof counter);
  while (const auto item = intake_->Next()) {
    Handle(*item);
    intake_->Done();
    if (MonoNow() >= until) return;
  }
}

void IntakeLink::Handle(const Intake::Item& item) {
  if (const auto* message = std::get_if<Intake::Message>(&item)) {
    const auto sequence = StoreBigEndian64(message->sequence);
    const std::array<std::string_view, 3> frames = {
        message->topic, std::string_view(sequence.data(), sequence.size()), message->payload};
    stream_.LiveMessage(MonoNow(), frames);
  } else {
    stream_.NewIncarnation(MonoNow());
  }
}

}  // namespace conductor::stream
