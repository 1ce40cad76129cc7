// `conductor snapshot load`.

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "daemon/serve/registration_json.h"
#include "daemon/toolkit/bearer_token.h"
#include "daemon/toolkit/console.h"
#include "daemon/toolkit/hand_in.h"
#include "daemon/toolkit/json_text.h"
#include "daemon/toolkit/snapshot_commands.h"
#include "daemon/toolkit/snapshot_content.h"
#include "daemon/toolkit/standard_events.h"
#include "daemon/toolkit/table.h"
#include "lib/base/number.h"
#include "lib/client/conductor_url.h"
#include "lib/client/http_transport.h"
#include "lib/store/snapshot_reader.h"

namespace conductor::toolkit {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kEventsAtOnce = 128;                    // of one batch
constexpr size_t kBytesAtOnce = 1 << 20;                 // of one request, about
constexpr Duration kPatience = std::chrono::minutes(2);  // with a queue that stays full

// What came of one publisher.
struct Loaded {
  std::string key;
  uint64_t holdings = 0;
  uint64_t events = 0;
  std::string state;
  std::string reason;
};

// Hands in the batches of one publisher.
class Stream {
 public:
  Stream(client::Transport& transport, std::string conductor, Duration limit, Json registration,
         std::string incarnation, double timestamp)
      : transport_(transport),
        options_{.url = std::move(conductor), .limit = limit, .patience = kPatience},
        registration_(std::move(registration)),
        incarnation_(std::move(incarnation)),
        timestamp_(timestamp) {}

  Status Take(const StandardEvent& event, const index::NamespaceKey& name_space, uint32_t dp_rank) {
    WriteStandardEvent(event, name_space, dp_rank, {}, events_);
    ++told_;
    if (++in_batch_ < kEventsAtOnce) return {};
    EndBatch();
    return bytes_ < kBytesAtOnce ? Status() : HandIn(/*wait=*/false);
  }

  // The last batch leaves one out: whatever the engine removed since is not known, and a hole is
  // what says so.
  Status Finish() {
    if (in_batch_ > 0) EndBatch();
    ++sequence_;
    EndBatch();
    return HandIn(/*wait=*/true);
  }

  [[nodiscard]] uint64_t told() const { return told_; }
  // As the daemon told it last.
  [[nodiscard]] const IngestAnswer& answer() const { return handed_.answer; }

 private:
  struct Frame {
    uint64_t sequence;
    std::string payload;
  };

  void EndBatch() {
    wire::MsgpackWriter out;
    out.Array(3);
    out.Float(timestamp_);
    out.Array(in_batch_);
    out.Raw(events_.Take());
    out.Nil();
    events_ = wire::MsgpackWriter();
    in_batch_ = 0;
    frames_.push_back({sequence_++, out.Take()});
    bytes_ += frames_.back().payload.size();
  }

  [[nodiscard]] std::string Body(std::span<const Frame> frames, bool wait) const {
    Json body{{"publisher", registration_}, {"incarnation", incarnation_}};
    if (wait) body["wait"] = "applied";
    body["frames"] = Json::array();
    for (const Frame& frame : frames) {
      const std::vector<uint8_t> payload(frame.payload.begin(), frame.payload.end());
      body["frames"].push_back({{"sequence", frame.sequence}, {"payload", Json::binary(payload)}});
    }
    std::string bytes;
    Json::to_msgpack(body, bytes);
    return bytes;
  }

  Status HandIn(bool wait) {
    const auto body = [this, wait](size_t from) {
      return Body(std::span(frames_).subspan(from), wait);
    };
    if (auto done = toolkit::HandIn(transport_, frames_.size(), body, options_, handed_); !done) {
      return done;
    }
    frames_.clear();
    bytes_ = 0;
    return {};
  }

  client::Transport& transport_;
  const HandInOptions options_;
  const Json registration_;
  const std::string incarnation_;
  const double timestamp_;
  wire::MsgpackWriter events_;
  size_t in_batch_ = 0;
  uint64_t told_ = 0;
  uint64_t sequence_ = 1;  // not the first of a stream: what is before the snapshot is not known
  std::vector<Frame> frames_;
  size_t bytes_ = 0;
  HandedIn handed_;
};

// The publisher, as one whose events are handed in.
Result<serve::Registration> RegistrationFor(const store::SavedPublisher& saved,
                                            const std::string& prefix) {
  const Json object = Json::parse(saved.registration, nullptr, false);
  if (!object.is_object()) return Fail("its registration is no JSON object", saved.key);
  serve::Registration from = serve::ReadRegistration(object, std::nullopt).registration;
  serve::Registration registration;
  registration.mode = stream::ListenMode::kIngest;
  registration.type = serve::PublisherType::kRfc1527;
  registration.instance_id = prefix + from.instance_id;
  registration.tenant = std::move(from.tenant);
  registration.model = std::move(from.model);
  registration.lora_name = std::move(from.lora_name);
  registration.additional_salt = std::move(from.additional_salt);
  registration.dp_rank = from.dp_rank;
  registration.block_size = saved.life ? saved.life->block_size : from.block_size;
  registration.copies = from.copies;
  registration.bytes_per_block = from.bytes_per_block;
  if (auto valid = serve::Validate(registration); !valid) {
    return tl::unexpected(Error(valid.error()).Within(saved.key));
  }
  return registration;
}

uint64_t HoldingsOf(const SnapshotContent& content, size_t holder) {
  uint64_t holdings = 0;
  for (const auto& holding : content.held(holder).holdings) {
    holdings += static_cast<uint64_t>(std::popcount(holding.blocks));
  }
  return holdings;
}

Result<Loaded> Load(const SnapshotContent& content, const store::SavedPublisher& publisher,
                    client::Transport& transport, const SnapshotLoadOptions& options) {
  const auto registration = RegistrationFor(publisher, options.prefix);
  if (!registration) return tl::unexpected(registration.error());
  Json json = serve::RegistrationJson(*registration);
  // One life for each state of the publisher: the same file again changes nothing.
  std::string incarnation = fmt::format(
      "snapshot {:.6f} at {}", content.info().saved_at,
      publisher.resume ? fmt::format("{}", publisher.resume->cursor) : std::string("nothing"));
  Stream stream(transport, options.conductors.urls.front(), options.conductors.time_limit,
                std::move(json), std::move(incarnation), content.info().saved_at);
  Loaded loaded{.key = registration->Key()};
  Status handed;
  for (size_t holder = 0; handed && holder < content.holders().size(); ++holder) {
    const SnapshotHolder& of = content.holders()[holder];
    if (of.publisher != publisher.key) continue;
    loaded.holdings += HoldingsOf(content, holder);
    const index::NamespaceKey& name_space = content.namespaces()[of.name_space];
    VisitStandardEvents(content, holder, [&](const StandardEvent& event) {
      handed = stream.Take(event, name_space, of.dp_rank);
      return handed.has_value();
    });
  }
  if (handed) handed = stream.Finish();
  if (!handed) return tl::unexpected(Error(handed.error()).Within(loaded.key));
  loaded.events = stream.told();
  loaded.state = stream.answer().state;
  loaded.reason = stream.answer().reason;
  return loaded;
}

std::string Text(const std::vector<Loaded>& all, const Terminal& terminal) {
  Table table({{"PUBLISHER"},
               {"STATE"},
               {"HOLDINGS", Table::Align::kRight},
               {"EVENTS", Table::Align::kRight}});
  for (const Loaded& loaded : all) {
    table.Add(
        {Printable(loaded.key),
         Printable(loaded.reason.empty() ? loaded.state : loaded.state + ": " + loaded.reason),
         Grouped(loaded.holdings), Grouped(loaded.events)});
  }
  return table.rows() == 0 ? "nothing to load\n" : table.Render(terminal);
}

std::string JsonOf(const std::vector<Loaded>& all, const std::vector<std::string>& left_out) {
  Json publishers = Json::array();
  for (const Loaded& loaded : all) {
    publishers.push_back({{"id", loaded.key},
                          {"holdings", loaded.holdings},
                          {"events", loaded.events},
                          {"state", loaded.state},
                          {"reason", loaded.reason}});
  }
  return DumpJson({{"publishers", std::move(publishers)}, {"left_out", left_out}}) + "\n";
}

}  // namespace

int RunSnapshotLoad(const SnapshotLoadOptions& options) {
  Output output;
  const std::string& address = options.conductors.urls.front();
  const auto url = client::ConductorUrl::Parse(address);
  if (!url) return Complain(kExitUsage, url.error());
  if (!url->is_http()) {
    return Complain(kExitUsage, {"is not asked over HTTP", address, "http://HOST:PORT"});
  }
  auto token = ReadBearerToken(options.conductors.token_file);
  if (!token) return Complain(kExitFailed, std::move(token.error()).Within("--token-file"));
  auto reader = store::SnapshotReader::Open(options.file);
  if (!reader) return Complain(kExitFailed, reader.error());
  const auto content = SnapshotContent::Read(*reader);
  if (!content) return Complain(kExitFailed, content.error());
  const auto transport = client::MakeHttpTransport(
      *url, {.token = *std::move(token), .ca_file = options.conductors.ca_file});

  std::vector<Loaded> all;
  std::vector<std::string> left_out;
  int code = kExitDone;
  for (const store::SavedPublisher& publisher : content->publishers()) {
    if (!options.instances.empty() &&
        std::ranges::find(options.instances, InstanceOf(publisher)) == options.instances.end()) {
      continue;
    }
    if (publisher.pool) {
      Warn(
          fmt::format("{} is left out: a pool's objects join by the names of engines, which are "
                      "not loaded",
                      publisher.key));
      left_out.push_back(publisher.key);
      continue;
    }
    auto loaded = Load(*content, publisher, *transport, options);
    if (!loaded) {
      code = Complain(kExitFailed, loaded.error());
      left_out.push_back(publisher.key);
      continue;
    }
    all.push_back(*std::move(loaded));
  }
  output.Print(options.json ? JsonOf(all, left_out) : Text(all, TerminalOf(STDOUT_FILENO)));
  return output.End(code);
}

}  // namespace conductor::toolkit
