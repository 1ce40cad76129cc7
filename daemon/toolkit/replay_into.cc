#include "daemon/toolkit/replay_into.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "daemon/toolkit/ingest_answer.h"
#include "lib/client/http_transport.h"
#include "lib/wire/msgpack_writer.h"

namespace conductor::toolkit {
namespace {

constexpr int kOk = 200;
constexpr int kFull = 429;
constexpr Duration kWait = std::chrono::milliseconds(200);  // for a full queue
constexpr Duration kConnect = std::chrono::seconds(5);

void WriteRegistration(const serve::Registration& as, wire::MsgpackWriter& out) {
  const bool pool = serve::IsPool(as.type);
  out.Map(pool ? 6 : 10);
  const auto text = [&](std::string_view name, std::string_view value) {
    out.Text(name);
    out.Text(value);
  };
  text("instance_id", as.instance_id);
  text("modelname", as.model);
  text("type", serve::PublisherTypeName(as.type));
  text("tenant_id", as.tenant);
  text("additional_salt", as.additional_salt);
  text("mode", "ingest");
  if (pool) return;
  text("lora_name", as.lora_name);
  text("copies", as.copies == index::CopyMode::kSet ? "set" : "count");
  out.Text("block_size");
  out.Uint(as.block_size);
  out.Text("dp_rank");
  out.Uint(as.dp_rank);
}

std::string IncarnationOf(const SourcePublisher& publisher, const SourceFrame& first) {
  const std::string_view payload = first.Payload();
  const uint64_t seed = XXH3_64bits(publisher.name.data(), publisher.name.size());
  return fmt::format("replay-{:016x}", XXH3_64bits_withSeed(payload.data(), payload.size(), seed));
}

}  // namespace

IntoSink::IntoSink(const Options& options, const std::vector<SourcePublisher>& publishers,
                   std::unique_ptr<client::Transport> transport)
    : options_(options), transport_(std::move(transport)) {
  if (!transport_) {
    transport_ = client::MakeHttpTransport(options_.url,
                                           {.token = options_.token, .ca_file = options_.ca_file});
  }
  for (const SourcePublisher& publisher : publishers) lanes_.push_back({.publisher = publisher});
}

Status IntoSink::Take(const SourceFrame& frame) {
  if (!frame.IsMessage()) return {};
  const auto message = frame.Message();
  if (!message) {
    ++malformed_;
    return {};
  }
  Lane& lane = lanes_.at(frame.publisher);
  if (lane.incarnation.empty()) lane.incarnation = IncarnationOf(lane.publisher, frame);
  // One at least stays for Finish(), which waits for its effect.
  if (lane.frames.size() >= options_.body_frames || lane.bytes >= options_.body_bytes) {
    if (auto done = HandIn(lane, /*wait=*/false); !done) return done;
  }
  lane.frames.push_back(
      {message->sequence, std::string(message->topic), std::string(message->payload)});
  lane.bytes += message->payload.size();
  return {};
}

Status IntoSink::Finish() {
  for (Lane& lane : lanes_) {
    if (auto done = HandIn(lane, /*wait=*/true); !done) return done;
  }
  return {};
}

std::string IntoSink::Body(const Lane& lane, size_t from, bool wait) {
  wire::MsgpackWriter out;
  out.Map(wait ? 4 : 3);
  out.Text("publisher");
  WriteRegistration(lane.publisher.read_as, out);
  out.Text("incarnation");
  out.Text(lane.incarnation);
  if (wait) {
    out.Text("wait");
    out.Text("applied");
  }
  out.Text("frames");
  out.Array(lane.frames.size() - from);
  for (size_t i = from; i < lane.frames.size(); ++i) {
    const Frame& frame = lane.frames[i];
    out.Map(frame.topic.empty() ? 2 : 3);
    out.Text("sequence");
    out.Uint(frame.sequence);
    out.Text("payload");
    out.Bytes(frame.payload);
    if (frame.topic.empty()) continue;
    out.Text("topic");
    out.Text(frame.topic);
  }
  return out.Take();
}

Status IntoSink::HandIn(Lane& lane, bool wait) {
  if (lane.frames.empty()) return {};
  const std::string path = fmt::format("{}/v1/ingest", options_.url.text);
  size_t from = 0;
  Duration waited{};
  while (true) {
    auto reply = Ask(Body(lane, from, wait));
    if (!reply) return tl::unexpected(std::move(reply.error()));
    const IngestAnswer answer = ReadIngestAnswer(*reply);
    if (reply->status != kOk && reply->status != kFull) {
      return Fail(fmt::format("status {}: {}", reply->status, answer.error), path);
    }
    const size_t left = lane.frames.size() - from;
    const size_t taken = std::min<size_t>(answer.accepted, left);
    from += taken;
    lane.taken += taken;
    if (reply->status == kOk) {
      if (taken < left) {
        return Fail(fmt::format("took {} of {} frames and does not say why", taken, left), path);
      }
      lane.state = answer.state;
      if (!answer.detail.empty()) lane.state += ": " + answer.detail;
      break;
    }
    ++waits_;
    waited = taken > 0 ? Duration::zero() : waited + kWait;
    if (waited > options_.patience) {
      return Fail(fmt::format("its queue for {} stays full for {}", lane.publisher.name,
                              FormatDuration(options_.patience)),
                  path);
    }
    if (options_.stopped && options_.stopped()) return Fail("stopped", path);
    Pause(kWait);
  }
  lane.frames.clear();
  lane.bytes = 0;
  return {};
}

Result<client::Reply> IntoSink::Ask(const std::string& body) {
  const MonoTime now = MonoNow();
  auto reply = transport_->Exchange(
      {.method = "POST", .path = "/v1/ingest", .body = body, .form = client::Form::kMsgpack},
      {.connect = now + std::min(kConnect, options_.limit), .whole = now + options_.limit});
  if (reply) return *std::move(reply);
  return tl::unexpected(std::move(reply.error().error).Within(options_.url.text));
}

void IntoSink::Pause(Duration duration) const {
  if (options_.pause) return options_.pause(duration);
  std::this_thread::sleep_for(duration);
}

std::vector<std::string> IntoSink::Notes() const {
  std::vector<std::string> notes;
  for (const Lane& lane : lanes_) {
    if (lane.incarnation.empty()) continue;
    notes.push_back(fmt::format("handed {} batches in as {} ({})", lane.taken,
                                lane.publisher.read_as.Key(), lane.state));
  }
  if (waits_ > 0) notes.push_back(fmt::format("waited {} times for a full queue", waits_));
  if (malformed_ > 0) {
    notes.push_back(fmt::format("{} messages are left out: they are no topic, sequence and payload",
                                malformed_));
  }
  return notes;
}

}  // namespace conductor::toolkit
