#include "daemon/toolkit/replay_engine_source.h"

#include <fmt/format.h>
#include <zmq.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <string_view>
#include <utility>

#include "lib/base/bytes.h"
#include "lib/base/endpoint.h"
#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

// Between two looks at whether to stop.
constexpr Duration kLook = std::chrono::milliseconds(100);

}  // namespace

void AnswerCheck::Take(const SourceFrame& frame) {
  const auto message = frame.Message();
  if (message && message->replay_end) {
    ended_ = true;
    return;
  }
  if (!message || message->sequence == kEndOfReplay) {
    ++malformed_;
    return;
  }
  const uint64_t sequence = message->sequence;
  ++batches_;
  ++(frame.frames.size() == 3 ? plain_ : with_topic_);
  if (sequence < from_) ++before_;
  if (last_ && sequence <= *last_) {
    ++out_of_order_;
    return;
  }
  if (last_ && sequence > *last_ + 1) {
    ++holes_;
    missing_ += sequence - *last_ - 1;
    if (!first_hole_) first_hole_ = Hole{*last_ + 1, sequence};
  }
  first_ = first_.value_or(sequence);
  last_ = sequence;
}

bool AnswerCheck::sound() const {
  return ended_ && holes_ == 0 && out_of_order_ == 0 && malformed_ == 0 && before_ == 0 &&
         (!first_ || *first_ == from_);
}

std::vector<std::string> AnswerCheck::Notes() const {
  std::vector<std::string> notes;
  if (batches_ == 0) {
    if (ended_) notes.push_back(fmt::format("{} has no batch from {} on", endpoint_, from_));
  } else {
    const char* form = "with a topic (vLLM from v0.26 on)";
    if (with_topic_ == 0) form = "without a topic (vLLM up to v0.25, SGLang)";
    if (with_topic_ > 0 && plain_ > 0) form = "some with and some without a topic";
    notes.push_back(fmt::format("{} answered with {}, sequences {} to {}, {}", endpoint_,
                                Counted(batches_, "batch"), *first_, *last_, form));
    if (*first_ > from_) {
      notes.push_back(fmt::format(
          "its ring begins at {}: {} from {} on {} gone. Raise the engine's buffer_steps", *first_,
          Counted(*first_ - from_, "batch"), from_, *first_ - from_ == 1 ? "is" : "are"));
    }
  }
  if (holes_ > 0) {
    notes.push_back(fmt::format("it is not contiguous: {} of {}, the first from {} to {}",
                                Counted(holes_, "hole"), Counted(missing_, "batch"),
                                first_hole_->missing, first_hole_->next - 1));
  }
  if (before_ > 0) {
    notes.push_back(
        fmt::format("{} of before {}, which was asked for", Counted(before_, "batch"), from_));
  }
  if (out_of_order_ > 0) {
    notes.push_back(fmt::format("{} out of order or twice", Counted(out_of_order_, "batch")));
  }
  if (malformed_ > 0) {
    notes.push_back(
        fmt::format("{} that {} no reply (expected [topic,] an 8-byte sequence, a payload)",
                    Counted(malformed_, "message"), malformed_ == 1 ? "is" : "are"));
  }
  if (!cut_off_.empty()) notes.push_back("its end marker is missing: " + cut_off_);
  return notes;
}

Result<std::unique_ptr<EngineSource>> EngineSource::Open(const Options& options) {
  if (auto parsed = Endpoint::Parse(options.endpoint); !parsed) {
    return tl::unexpected(std::move(parsed.error()));
  }
  auto source = std::unique_ptr<EngineSource>(new EngineSource(options));
  auto socket = stream::ZmqSocket::Create(source->context_, ZMQ_DEALER);
  if (!socket) return tl::unexpected(std::move(socket.error()).Within(options.endpoint));
  source->socket_ = std::move(*socket);
  source->socket_.Set(ZMQ_IPV6, 1);
  source->socket_.Set(ZMQ_RCVHWM, 0);  // a ROUTER drops what does not fit
  if (auto connected = source->socket_.Connect(options.endpoint); !connected) {
    return tl::unexpected(std::move(connected.error()));
  }
  const auto number = StoreBigEndian64(options.from);
  const std::array<std::string_view, 2> request = {std::string_view(),
                                                   std::string_view(number.data(), number.size())};
  if (!source->socket_.Send(request)) {
    return Fail("ZeroMQ does not take the request", options.endpoint);
  }
  return source;
}

EngineSource::EngineSource(const Options& options)
    : options_(options),
      give_up_(MonoNow() + options.timeout * kMostTimeouts),
      context_(zmq_ctx_new()),
      check_(options.endpoint, options.from) {
  SourcePublisher publisher = Described(options.endpoint, options.as);
  publisher.has_answers = true;
  publisher.answer_ends = 1;
  publishers_.push_back(std::move(publisher));
}

EngineSource::~EngineSource() {
  socket_ = stream::ZmqSocket();
  zmq_ctx_term(context_);
}

Result<bool> EngineSource::Next(SourceFrame& frame) {
  if (over_) return false;
  stream::ZmqMessage message;
  if (!Receive(message)) {
    over_ = true;
    if (options_.stopped && options_.stopped()) {
      check_.CutOff("it was stopped");
      return false;
    }
    if (!check_.answered()) {
      return Fail(
          fmt::format("no answer to a replay request within {}", FormatDuration(options_.timeout)),
          options_.endpoint,
          "an engine's replay endpoint (replay_endpoint of its KV events config), not its "
          "live one");
    }
    check_.CutOff(MonoNow() >= give_up_
                      ? fmt::format("it took longer than {}",
                                    FormatDuration(options_.timeout * kMostTimeouts))
                      : fmt::format("nothing came for {}", FormatDuration(options_.timeout)));
    return false;
  }
  frame = {.kind = SourceFrame::Kind::kAnswer, .at = UnixNow()};
  for (const stream::ZmqFrame& part : message.frames) frame.frames.emplace_back(part.view());
  check_.Take(frame);
  bytes_ += message.bytes;
  if (check_.ended()) {
    over_ = true;
  } else if (bytes_ > options_.max_bytes) {
    over_ = true;
    check_.CutOff(fmt::format("it has more than {}", FormatSize(options_.max_bytes)));
  }
  return true;
}

bool EngineSource::Receive(stream::ZmqMessage& message) {
  const MonoTime deadline = std::min(MonoNow() + options_.timeout, give_up_);
  while (!socket_.Receive(message)) {
    const MonoTime now = MonoNow();
    if (now >= deadline || (options_.stopped && options_.stopped())) return false;
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(std::min(kLook, deadline - now));
    zmq_pollitem_t item{socket_.raw(), 0, ZMQ_POLLIN, 0};
    zmq_poll(&item, 1, wait.count());
  }
  return true;
}

}  // namespace conductor::toolkit
