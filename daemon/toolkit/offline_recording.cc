#include "daemon/toolkit/offline_recording.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <string_view>
#include <utility>
#include <variant>

#include "daemon/serve/registration_json.h"
#include "daemon/toolkit/terminal.h"
#include "lib/base/bytes.h"
#include "lib/trace/recording_reader.h"

namespace conductor::toolkit {
namespace {

using Json = nlohmann::ordered_json;
using Message = stream::Intake::Message;

constexpr uint64_t kEndOfAnswer = UINT64_MAX;
constexpr size_t kBytesAtOnce = 4 << 20;

// "HOST:PORT" of tcp://HOST:PORT; '|' has a meaning in keys.
std::string NameOf(std::string_view endpoint) {
  const size_t scheme = endpoint.find("://");
  std::string name(scheme == std::string_view::npos ? endpoint : endpoint.substr(scheme + 3));
  std::ranges::replace(name, '|', '/');
  return name.empty() ? "recorded" : name;
}

// Sequence and payload are the last two frames, before which stands the topic where there is one.
std::optional<Message> MessageOf(std::span<const std::string_view> frames) {
  if (frames.size() < 2 || frames[frames.size() - 2].size() != sizeof(uint64_t)) {
    return std::nullopt;
  }
  Message message{.topic = {},
                  .sequence = LoadBigEndian64(frames[frames.size() - 2]),
                  .payload = std::string(frames.back())};
  if (frames.size() > 2) message.topic = frames[frames.size() - 3];
  return message;
}

// The messages of one publisher on their way into the conductor. A live message that does not
// follow what came before waits while an answer is still to come, which may have what is missing.
struct Lane {
  std::optional<serve::Registration> registration;  // none: it cannot be used, and a note says why
  bool heard = false;
  size_t answers = 0;  // of its replay endpoint, that are whole and still to end
  std::optional<uint64_t> last;
  std::optional<uint64_t> until;  // what is above it is not used
  std::deque<Message> waiting;
  std::vector<Message> ready;
  size_t ready_bytes = 0;
  uint64_t malformed = 0;
  uint64_t lost = 0;

  void Ready(Message message) {
    last = message.sequence;
    ready_bytes += message.payload.size();
    ready.push_back(std::move(message));
  }
  void TakeLive(Message message) {
    const bool is_gap = message.sequence > (last ? *last + 1 : 0);
    if (answers > 0 && (is_gap || !waiting.empty())) {
      waiting.push_back(std::move(message));
    } else {
      Ready(std::move(message));
    }
  }
  void EndAnswer() {
    if (answers > 0) --answers;
    Release();
  }
  void Release() {
    for (Message& message : waiting) Ready(std::move(message));
    waiting.clear();
  }
};

class Loading {
 public:
  Loading(OfflineConductor& conductor, const TakenFor& taken_for, const std::stop_token& stop)
      : conductor_(conductor), taken_for_(taken_for), stop_(stop) {}

  // First all files for this, then all again for Load().
  void CountAnswers(trace::RecordingReader& reader) {
    while (const auto item = reader.Next()) {
      if (const auto* frame = std::get_if<trace::RecordedFrame>(&*item)) {
        if (!frame->replayed) continue;
        const auto message = MessageOf(frame->frames);
        if (message && message->sequence == kEndOfAnswer) ++LaneOf(frame->publisher).answers;
      }
    }
  }

  Status Load(trace::RecordingReader& reader) {
    while (const auto item = reader.Next()) {
      if (stop_.stop_requested()) return Fail("stopped");
      if (const auto* added = std::get_if<trace::RecordingReader::NewPublisher>(&*item)) {
        Add(added->number, reader.publishers()[added->number]);
      } else if (const auto* damage = std::get_if<trace::Damage>(&*item)) {
        Note(damage->Describe());
      } else if (const auto* mark = std::get_if<trace::RecordedMark>(&*item)) {
        if (mark->kind == trace::MarkKind::kLost &&
            mark->publisher != trace::RecordedMark::kAllPublishers) {
          LaneOf(mark->publisher).lost += mark->count;
        }
      } else if (const auto* frame = std::get_if<trace::RecordedFrame>(&*item)) {
        Take(*frame);
        Lane& lane = LaneOf(frame->publisher);
        if (lane.ready_bytes < kBytesAtOnce && lane.ready.size() < kMessagesAtOnce) continue;
        if (auto fed = Feed(lane); !fed) return fed;
      }
    }
    for (size_t number = 0; number < lanes_.size(); ++number) {
      Lane& lane = lanes_[number];
      lane.Release();
      if (auto fed = Feed(lane); !fed) return fed;
      const std::string& endpoint = reader.publishers()[number].endpoint;
      if (lane.malformed > 0) {
        Note(fmt::format("{}: {} messages are none of KV events and are left out", endpoint,
                         lane.malformed));
      }
      if (lane.lost > 0) {
        Note(fmt::format("{}: {} messages came and are not in the recording", endpoint, lane.lost));
      }
    }
    return conductor_.Settle(stop_);
  }

  LoadedRecording Take() {
    loaded_.publishers = static_cast<size_t>(std::ranges::count_if(
        lanes_, [](const Lane& lane) { return lane.heard && lane.registration; }));
    return std::move(loaded_);
  }

 private:
  static constexpr size_t kMessagesAtOnce = 4096;

  Lane& LaneOf(uint32_t number) {
    if (number >= lanes_.size()) lanes_.resize(number + 1);
    return lanes_[number];
  }

  void Add(uint32_t number, const trace::RecordedPublisher& publisher) {
    auto registration = RegistrationOf(publisher, taken_for_);
    if (!registration) {
      Note(registration.error().Message());
      return;
    }
    Lane& lane = LaneOf(number);
    const auto until = taken_for_.until.find(registration->Key());
    if (until != taken_for_.until.end()) lane.until = until->second;
    lane.registration = *std::move(registration);
  }

  void Take(const trace::RecordedFrame& frame) {
    Lane& lane = LaneOf(frame.publisher);
    auto message = MessageOf(frame.frames);
    if (!message) {
      ++lane.malformed;
      return;
    }
    lane.heard = true;
    if (lane.until && message->sequence > *lane.until && message->sequence != kEndOfAnswer) return;
    if (!frame.replayed) return lane.TakeLive(*std::move(message));
    if (message->sequence == kEndOfAnswer) return lane.EndAnswer();
    lane.Ready(*std::move(message));
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

  void Note(std::string text) { loaded_.notes.push_back(Printable(text)); }

  OfflineConductor& conductor_;
  const TakenFor& taken_for_;
  const std::stop_token stop_;
  std::vector<Lane> lanes_;  // by the reader's number
  LoadedRecording loaded_;
};

}  // namespace

Result<serve::Registration> RegistrationOf(const trace::RecordedPublisher& publisher,
                                           const TakenFor& taken_for) {
  Json facts = Json::object();
  if (!publisher.facts.empty()) {
    facts = Json::parse(publisher.facts, nullptr, /*allow_exceptions=*/false);
    if (!facts.is_object()) {
      return Fail("what the recording says of it is no JSON object", publisher.endpoint);
    }
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
      return Fail("the recording does not say which model it serves", publisher.endpoint,
                  "--model NAME");
    }
    facts["modelname"] = taken_for.model;
  }
  if (!says("type")) {
    facts["type"] = serve::PublisherTypeName(taken_for.type.value_or(serve::PublisherType::kVllm));
  }
  if (!says("tenant_id") && !taken_for.tenant.empty()) facts["tenant_id"] = taken_for.tenant;
  serve::RegistrationFields fields = serve::ReadRegistration(facts, NameOf(publisher.endpoint));
  if (!fields.problems.empty()) {
    const serve::FieldProblem& problem = fields.problems.front();
    return Fail(problem.what, fmt::format("{}: {}", publisher.endpoint, problem.field.Dotted()),
                problem.expected);
  }
  return fields.registration;
}

Result<LoadedRecording> LoadRecordings(OfflineConductor& conductor,
                                       const std::vector<std::string>& paths,
                                       const TakenFor& taken_for, const std::stop_token& stop) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    for (std::string& file : trace::RecordingFiles(path)) files.push_back(std::move(file));
  }
  Loading loading(conductor, taken_for, stop);
  auto counting = trace::RecordingReader::Open(files);
  if (!counting) return tl::unexpected(std::move(counting.error()));
  loading.CountAnswers(*counting);
  auto reader = trace::RecordingReader::Open(files);
  if (!reader) return tl::unexpected(std::move(reader.error()));
  if (auto loaded = loading.Load(*reader); !loaded) return tl::unexpected(loaded.error());
  LoadedRecording loaded = loading.Take();
  if (loaded.publishers == 0) {
    return Fail(loaded.notes.empty() ? "there are no KV events in it" : loaded.notes.front(),
                paths.empty() ? std::string() : paths.front());
  }
  return loaded;
}

}  // namespace conductor::toolkit
