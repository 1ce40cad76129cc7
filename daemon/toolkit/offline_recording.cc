#include "daemon/toolkit/offline_recording.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "daemon/serve/registration_json.h"
#include "daemon/toolkit/frame_order.h"
#include "daemon/toolkit/json_text.h"
#include "daemon/toolkit/recorded_name.h"
#include "daemon/toolkit/replay_recording_source.h"
#include "daemon/toolkit/terminal.h"
#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

using Json = nlohmann::ordered_json;
using Message = stream::Intake::Message;

constexpr size_t kBytesAtOnce = 4 << 20;
constexpr size_t kMessagesAtOnce = 4096;

// The messages of one publisher on their way into the conductor.
struct Lane {
  std::optional<serve::Registration> registration;  // none: it cannot be used, and a note says why
  bool heard = false;
  std::optional<uint64_t> until;  // what is above it is not used
  std::vector<Message> ready;
  size_t ready_bytes = 0;
  uint64_t malformed = 0;
  uint64_t lost = 0;
};

class Loading {
 public:
  Loading(OfflineConductor& conductor, RecordingSource& source, const std::stop_token& stop)
      : conductor_(conductor), source_(source), stop_(stop) {}

  Status Load(const TakenFor& taken_for) {
    AddPublishers(taken_for);
    FrameOrder order(source_.publishers());
    Status fed;
    const FrameOrder::Out out = [&](const SourceFrame& frame) {
      if (fed) fed = Take(frame);
    };
    SourceFrame frame;
    while (fed) {
      if (stop_.stop_requested()) return Fail("stopped");
      const auto more = source_.Next(frame);
      if (!more) return tl::unexpected(more.error());
      if (!*more) break;
      order.Push(std::move(frame), out);
    }
    order.Flush(out);
    for (Lane& lane : lanes_) {
      if (fed) fed = Feed(lane);
    }
    if (!fed) return fed;
    for (const auto& notes : {source_.damages(), order.Notes()}) {
      for (const std::string& note : notes) Note(note);
    }
    NoteLost();
    return conductor_.Settle(stop_);
  }

  LoadedRecording Result() {
    loaded_.publishers = static_cast<size_t>(std::ranges::count_if(
        lanes_, [](const Lane& lane) { return lane.heard && lane.registration; }));
    return std::move(loaded_);
  }

 private:
  void AddPublishers(const TakenFor& taken_for) {
    for (size_t number = 0; number < source_.recorded().size(); ++number) {
      Lane& lane = lanes_.emplace_back();
      // What the rest of the recording shows of it, where neither it nor a flag says.
      const SourcePublisher& shown = source_.publishers()[number];
      TakenFor taken = taken_for;
      if (!taken.type) taken.type = shown.read_as.type;
      if (taken.model.empty() && shown.model_known) taken.model = shown.read_as.model;
      auto registration = RegistrationOf(source_.recorded()[number], taken);
      if (registration) {
        const auto until = taken_for.until.find(registration->Key());
        if (until != taken_for.until.end()) lane.until = until->second;
        lane.registration = *std::move(registration);
      } else {
        Note(registration.error().Message());
      }
    }
  }

  // In the order in which they were published.
  Status Take(const SourceFrame& frame) {
    Lane& lane = lanes_.at(frame.publisher);
    if (frame.kind == SourceFrame::Kind::kLost) lane.lost += frame.count;
    if (!frame.IsMessage()) return {};
    const auto message = frame.Message();
    if (!message) {
      ++lane.malformed;
      return {};
    }
    lane.heard = true;
    if (lane.until && message->sequence > *lane.until) return {};
    lane.ready_bytes += message->payload.size();
    lane.ready.push_back({.topic = std::string(message->topic),
                          .sequence = message->sequence,
                          .payload = std::string(message->payload)});
    if (lane.ready_bytes < kBytesAtOnce && lane.ready.size() < kMessagesAtOnce) return {};
    return Feed(lane);
  }

  Status Feed(Lane& lane) {
    if (lane.registration && !lane.ready.empty()) {
      loaded_.messages += lane.ready.size();
      auto fed = conductor_.Feed(*lane.registration, lane.ready, stop_);
      if (!fed) return fed;
    }
    lane.ready.clear();
    lane.ready_bytes = 0;
    return {};
  }

  void NoteLost() {
    for (size_t number = 0; number < lanes_.size(); ++number) {
      const Lane& lane = lanes_[number];
      const std::string name = RecordedName(source_.recorded()[number]);
      if (lane.malformed > 0) {
        Note(fmt::format("{}: {} left out: none of KV events", name,
                         Counted(lane.malformed, "message")));
      }
      if (lane.lost > 0) {
        Note(fmt::format("{}: {} came and could not be recorded", name,
                         Counted(lane.lost, "message")));
      }
    }
  }

  void Note(const std::string& text) { loaded_.notes.push_back(Printable(text)); }

  OfflineConductor& conductor_;
  RecordingSource& source_;
  const std::stop_token stop_;
  std::vector<Lane> lanes_;  // by publisher
  LoadedRecording loaded_;
};

}  // namespace

Result<serve::Registration> RegistrationOf(const trace::RecordedPublisher& publisher,
                                           const TakenFor& taken_for) {
  Json facts = Json::object();
  if (!publisher.facts.empty()) {
    auto parsed = ParseJson(publisher.facts);
    if (!parsed || !parsed->is_object()) {
      return Fail("what the recording says of it is no JSON object", RecordedName(publisher));
    }
    facts = *std::move(parsed);
  }
  const auto says = [&facts](const char* name) {
    const auto found = facts.find(name);
    return found != facts.end() && !found->is_null() && *found != "";
  };
  // Where it was listened to means nothing here.
  for (const char* name : {"endpoint", "replay_endpoint", "ip", "port", "mode", "peer", "topic",
                           "admin_endpoint", "dp_size", "incarnation"}) {
    facts.erase(name);
  }
  facts["mode"] = "ingest";
  if (!says("model") && !says("modelname")) {
    if (taken_for.model.empty()) {
      return Fail("the recording does not say which model it serves", RecordedName(publisher),
                  "--model NAME");
    }
    facts["modelname"] = taken_for.model;
  }
  if (!says("type")) {
    facts["type"] = serve::PublisherTypeName(taken_for.type.value_or(serve::PublisherType::kVllm));
  }
  if (!says("tenant_id") && !taken_for.tenant.empty()) facts["tenant_id"] = taken_for.tenant;
  serve::RegistrationFields fields = serve::ReadRegistration(facts, RecordedInstance(publisher));
  if (!fields.problems.empty()) {
    const serve::FieldProblem& problem = fields.problems.front();
    return Fail(problem.what,
                fmt::format("{}: {}", RecordedName(publisher), problem.field.Dotted()),
                problem.expected);
  }
  return fields.registration;
}

Result<LoadedRecording> LoadRecordings(OfflineConductor& conductor,
                                       const std::vector<std::string>& paths,
                                       const TakenFor& taken_for, const std::stop_token& stop) {
  auto source = RecordingSource::Open(paths, ReadAs());
  if (!source) return tl::unexpected(std::move(source.error()));
  Loading loading(conductor, **source, stop);
  if (auto done = loading.Load(taken_for); !done) return tl::unexpected(std::move(done.error()));
  LoadedRecording loaded = loading.Result();
  if (loaded.publishers == 0) {
    return Fail(loaded.notes.empty() ? "there are no KV events in it" : loaded.notes.front(),
                paths.empty() ? std::string() : paths.front());
  }
  return loaded;
}

}  // namespace conductor::toolkit
