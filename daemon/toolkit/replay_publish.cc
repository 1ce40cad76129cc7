#include "daemon/toolkit/replay_publish.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "lib/base/number.h"
#include "lib/wire/timestamp.h"

namespace conductor::toolkit {
namespace {

// Between two looks at whether to stop.
constexpr Duration kLook = std::chrono::milliseconds(50);
// At the end, for connected peers to take what was sent.
constexpr Duration kLinger = std::chrono::seconds(2);

Numbering::Mode ModeOf(const PublishSink::Options& options, bool merged) {
  const bool renumbers = options.renumber || merged || options.dialect == PublishDialect::kMooncake;
  return renumbers ? Numbering::Mode::kRenumber : Numbering::Mode::kKeep;
}

// A master counts from 1.
uint64_t FirstOf(const PublishSink::Options& options,
                 const std::vector<SourcePublisher>& publishers) {
  if (options.dialect) return *options.dialect == PublishDialect::kMooncake ? 1 : 0;
  const bool pools =
      !publishers.empty() && std::ranges::all_of(publishers, [](const SourcePublisher& publisher) {
        return serve::IsPool(publisher.read_as.type);
      });
  return pools ? 1 : 0;
}

}  // namespace

std::optional<Numbering::Number> Numbering::Take(uint32_t publisher, uint64_t sequence,
                                                 std::string_view payload, bool replayed) {
  using Kind = SequenceWatch::Kind;
  const auto verdict =
      watches_.at(publisher).Judge(sequence, payload, wire::PeekTimestamp(payload), replayed);
  Number number{.sequence = sequence};
  if (verdict.kind == Kind::kDuplicate || verdict.kind == Kind::kLate) {
    if (mode_ == Mode::kRenumber) return std::nullopt;
    number.what = What::kRepeated;
    return number;
  }
  if (verdict.kind == Kind::kRestart && (mode_ == Mode::kKeep || watches_.size() == 1)) {
    number.what = What::kNewLife;
    next_ = first_;
  }
  if (mode_ == Mode::kRenumber) number.sequence = next_++;
  return number;
}

PublishSink::PublishSink(const Options& options, const std::vector<SourcePublisher>& publishers,
                         std::optional<uint32_t> picked)
    : options_(options),
      picked_(picked),
      numbering_(ModeOf(options, !picked && publishers.size() > 1), FirstOf(options, publishers),
                 picked ? 1 : publishers.size()),
      redialects_(publishers.size()) {
  if (!options.dialect) return;
  for (size_t i = 0; i < publishers.size(); ++i) {
    redialects_[i].emplace(publishers[i].read_as.type, *options.dialect);
  }
}

Result<std::unique_ptr<PublishSink>> PublishSink::Create(
    const Options& options, const std::vector<SourcePublisher>& publishers,
    std::optional<uint32_t> picked) {
  auto publisher = trace::SimulatedPublisher::Create({.endpoint = options.endpoint,
                                                      .replay_endpoint = options.replay_endpoint,
                                                      .ring_batches = options.ring_batches,
                                                      .see_subscribers = true,
                                                      .linger = kLinger});
  if (!publisher) return tl::unexpected(std::move(publisher.error()));
  std::unique_ptr<PublishSink> sink(new PublishSink(options, publishers, picked));
  sink->publisher_ = std::move(*publisher);
  return sink;
}

Status PublishSink::Start() {
  while (options_.wait_subscriber && !publisher_->WaitForSubscriber(kLook)) {
    if (options_.stopped && options_.stopped()) break;
  }
  return {};
}

Status PublishSink::Take(const SourceFrame& frame) {
  if (!frame.IsMessage() || (picked_ && *picked_ != frame.publisher)) return {};
  const auto message = frame.Message();
  if (!message) {
    if (unusable_++ == 0) first_unusable_ = "no message of topic, sequence and payload";
    return {};
  }
  const auto number = numbering_.Take(picked_ ? 0 : frame.publisher, message->sequence,
                                      message->payload, frame.answered);
  if (!number) {
    ++repeated_;
    return {};
  }
  auto& redialect = redialects_.at(frame.publisher);
  if (number->what == Numbering::What::kNewLife) {
    ++lives_;
    publisher_->NewLife();
    if (redialect) redialect->NewLife();
  }
  std::string payload(message->payload);
  if (redialect) {
    auto encoded = redialect->Encode(payload);
    if (!encoded) {
      if (unusable_++ == 0) {
        first_unusable_ =
            fmt::format("sequence {}: {}", message->sequence, encoded.error().Message());
      }
      return {};
    }
    payload = std::move(*encoded);
  }
  ++published_;
  if (number->what == Numbering::What::kRepeated) ++repeated_;
  publisher_->Send(message->topic, number->sequence, std::move(payload));
  return {};
}

Status PublishSink::Finish() {
  const MonoTime until = MonoNow() + options_.stay;
  while (MonoNow() < until && !(options_.stopped && options_.stopped())) {
    // Reads what subscribers say meanwhile.
    (void)publisher_->WaitForSubscriber(Duration::zero());
    std::this_thread::sleep_for(std::min<Duration>(kLook, until - MonoNow()));
  }
  return {};
}

std::vector<std::string> PublishSink::Notes() const {
  std::vector<std::string> notes = {
      fmt::format("published {} at {}", Counted(published_, "batch"), publisher_->endpoint())};
  if (lives_ > 0) notes.push_back(fmt::format("{} among them", Counted(lives_, "restart")));
  if (repeated_ > 0)
    notes.push_back(fmt::format("{} came twice or late", Counted(repeated_, "batch")));
  uint64_t left_out = 0;
  for (const auto& redialect : redialects_) left_out += redialect ? redialect->left_out() : 0;
  if (left_out > 0) {
    notes.push_back(
        fmt::format("{} left out: the dialect has no form for that", Counted(left_out, "event")));
  }
  if (unusable_ > 0) {
    notes.push_back(fmt::format("{} cannot be published, the first: {}",
                                Counted(unusable_, "message"), first_unusable_));
  }
  return notes;
}

}  // namespace conductor::toolkit
