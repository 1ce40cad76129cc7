#include "daemon/toolkit/replay_into.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <utility>

#include "lib/base/number.h"
#include "lib/client/http_transport.h"
#include "lib/wire/msgpack_writer.h"

namespace conductor::toolkit {
namespace {

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
  options_.hand_in.url = options_.url.text;
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
  const auto body = [&lane, wait](size_t from) { return Body(lane, from, wait); };
  auto done = toolkit::HandIn(*transport_, lane.frames.size(), body, options_.hand_in, lane.handed);
  if (!done) return tl::unexpected(std::move(done.error()).Within(lane.publisher.name));
  lane.frames.clear();
  lane.bytes = 0;
  return {};
}

std::vector<std::string> IntoSink::Notes() const {
  std::vector<std::string> notes;
  uint64_t waits = 0;
  for (const Lane& lane : lanes_) {
    if (lane.incarnation.empty()) continue;
    waits += lane.handed.waits;
    std::string state = lane.handed.answer.state;
    if (const std::string& detail = lane.handed.answer.detail; !detail.empty()) {
      state += ": " + detail;
    }
    notes.push_back(fmt::format("handed {} in as {} ({})", Counted(lane.handed.taken, "batch"),
                                lane.publisher.read_as.Key(), state));
  }
  if (waits > 0) notes.push_back(fmt::format("waited {} for a full queue", Counted(waits, "time")));
  if (malformed_ > 0) {
    notes.push_back(
        fmt::format("{} left out: no topic, sequence and payload", Counted(malformed_, "message")));
  }
  return notes;
}

}  // namespace conductor::toolkit
