#include "daemon/toolkit/replay.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <thread>
#include <utility>

#include "daemon/toolkit/bearer_token.h"
#include "daemon/toolkit/console.h"
#include "daemon/toolkit/endpoint_text.h"
#include "daemon/toolkit/frame_order.h"
#include "daemon/toolkit/rebuild.h"
#include "daemon/toolkit/rebuild_check.h"
#include "daemon/toolkit/replay_engine_source.h"
#include "daemon/toolkit/replay_into.h"
#include "daemon/toolkit/replay_pace.h"
#include "daemon/toolkit/replay_progress.h"
#include "daemon/toolkit/replay_publish.h"
#include "daemon/toolkit/replay_record.h"
#include "daemon/toolkit/replay_recording_source.h"
#include "daemon/toolkit/replay_snapshot.h"
#include "daemon/toolkit/replay_summary.h"
#include "daemon/toolkit/replay_trace_source.h"
#include "daemon/toolkit/stop_signal.h"
#include "daemon/toolkit/terminal.h"
#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

constexpr uint32_t kTraceBlockSize = 16;
constexpr Duration kLook = std::chrono::milliseconds(50);  // between two looks at whether to stop
constexpr const char* kAll = "all";

// The first signal ends the replay, the second one the process.
class Stop {
 public:
  [[nodiscard]] bool Asked() {
    if (signal_ && signal_->came()) signal_.reset();
    return !signal_;
  }
  // For whoever waits on this thread.
  [[nodiscard]] Stopped Ask() {
    return [this] { return Asked(); };
  }

 private:
  std::optional<StopSignal> signal_{std::in_place};
};

void Say(const std::string& text) {
  std::fputs(fmt::format("conductor replay: {}\n", Printable(text)).c_str(), stderr);
}

enum class FileKind { kRecording, kTrace, kOther };

// What is no file (a pipe) cannot be looked at twice: it is a trace, as recordings need a file.
Result<FileKind> KindOf(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    const int error = errno;
    // Parts that were rotated away may be there without it.
    const std::string part = trace::RecordingFiles(path).front();
    if (part != path) return KindOf(part);
    return Fail(std::strerror(error), path, "a recording, a trace, or tcp://HOST:PORT");
  }
  if (S_ISDIR(status.st_mode)) return Fail("is a directory", path, "a recording or a trace");
  if (!S_ISREG(status.st_mode)) return FileKind::kTrace;
  if (trace::IsRecording(path)) return FileKind::kRecording;
  std::ifstream file(path);
  char first = 0;
  if (!(file >> first)) return Fail("is empty or cannot be read", path, "a recording or a trace");
  if (first == '{') return FileKind::kTrace;
  // One whose header is damaged can be read all the same.
  const auto reader = trace::RecordingReader::Open({path});
  if (reader) return FileKind::kRecording;
  if (first != trace::kRecordingMagic.front()) return FileKind::kOther;
  return tl::unexpected(reader.error());  // of a newer version, for example
}

// A recording that reads what it writes would never end.
Status CheckRecord(const std::string& path, const ReplaySource& source) {
  struct stat written {};
  if (path.empty() || ::stat(path.c_str(), &written) != 0) return {};
  for (const std::string& file : source.Files()) {
    struct stat read {};
    if (::stat(file.c_str(), &read) != 0) continue;
    if (read.st_dev != written.st_dev || read.st_ino != written.st_ino) continue;
    return Fail(fmt::format("{} is what is replayed", path), "--record", "another file");
  }
  return {};
}

Result<std::unique_ptr<ReplaySource>> OpenSource(const ReplayOptions& options, Stop& stop) {
  const std::string& first = options.sources.front();
  if (IsAddress(first)) {
    return EngineSource::Open({.endpoint = first,
                               .from = options.from_sequence,
                               .timeout = options.timeout,
                               .max_bytes = options.max_bytes,
                               .as = options.as,
                               .stopped = stop.Ask()});
  }
  const auto kind = KindOf(first);
  if (!kind) return tl::unexpected(kind.error());
  if (*kind == FileKind::kRecording) return RecordingSource::Open(options.sources, options.as);
  if (*kind == FileKind::kOther) {
    return Fail("is neither a recording nor a workload trace", first,
                "a file that conductor tap --record made, or JSON lines with hash_ids");
  }
  if (options.sources.size() > 1) {
    return Fail("stands beside a trace", options.sources[1], "one trace at a time");
  }
  return TraceSource::Open(
      {.path = first,
       .engine = {.block_size = options.as.block_size.value_or(kTraceBlockSize),
                  .capacity_blocks = options.capacity},
       .as = options.as,
       .strict = options.strict});
}

// The publisher that `name` is: its number or name. Nothing: all of them.
Result<std::optional<uint32_t>> Pick(const ReplayOptions& options,
                                     const std::vector<SourcePublisher>& publishers) {
  std::string names;
  for (size_t i = 0; i < publishers.size(); ++i) {
    names += fmt::format("{}{} {}", i == 0 ? "" : ", ", i, publishers[i].name);
  }
  const size_t count = publishers.size();
  if (!options.publisher) {
    if (options.publish.empty() || count <= 1) return std::nullopt;
    return Fail("there are several publishers, and one endpoint to publish at", "--publisher",
                fmt::format("one of: {}; or all, which merges them", names));
  }
  if (*options.publisher == kAll) return std::nullopt;
  const auto named = std::ranges::find(publishers, *options.publisher, &SourcePublisher::name);
  if (named != publishers.end()) {
    return static_cast<uint32_t>(std::distance(publishers.begin(), named));
  }
  if (count > 0) {
    const auto number = ParseNumber(*options.publisher, "a publisher", 0, count - 1);
    if (number) return static_cast<uint32_t>(*number);
  }
  return Fail(fmt::format("'{}' is no publisher of it", *options.publisher), "--publisher",
              count == 0 ? "there is none" : fmt::format("one of: {}; or all", names));
}

// A daemon tells publishers apart by their keys.
Status CheckKeys(const std::vector<SourcePublisher>& publishers, std::optional<uint32_t> picked) {
  if (picked) return {};
  for (size_t i = 1; i < publishers.size(); ++i) {
    const std::string key = publishers[i].read_as.Key();
    for (size_t k = 0; k < i; ++k) {
      if (publishers[k].read_as.Key() != key) continue;
      return Fail(fmt::format("{} and {} are both {}", publishers[k].name, publishers[i].name, key),
                  "--into", "one of them, by --publisher, or no --instance");
    }
  }
  return {};
}

// One run: a source, the index that it comes to, and the sinks.
class Run {
 public:
  Run(const ReplayOptions& options, ReplaySource& source, std::optional<uint32_t> picked,
      Stop& stop)
      : options_(options),
        source_(source),
        stop_(stop),
        picked_(picked),
        order_(source.publishers()),
        pace_(options.speed.value_or(options.publish.empty() ? 0 : 1)),
        rebuild_(Rebuild::Options(), source.publishers(), options.check ? &check_ : nullptr),
        checked_(rebuild_.index()),
        check_(checked_, rebuild_.index().options().hash_seed),
        progress_(TerminalOf(STDERR_FILENO)) {}

  [[nodiscard]] Status OpenSinks();
  // An error of the source or of a sink. What came before it is in the summary.
  [[nodiscard]] Status Play();
  [[nodiscard]] ReplaySummary Result(bool whole);
  [[nodiscard]] uint64_t messages() const { return messages_; }

 private:
  [[nodiscard]] bool Differs() const { return options_.check && check_.difference(); }
  // In the order in which they were published.
  void Ordered(const SourceFrame& frame);
  // Until a frame's turn, or the end.
  void Wait(const SourceFrame& frame);

  const ReplayOptions& options_;
  ReplaySource& source_;
  Stop& stop_;
  const std::optional<uint32_t> picked_;
  FrameOrder order_;
  Pace pace_;
  std::optional<MonoTime> begun_;  // the first frame's turn
  Rebuild rebuild_;
  PlainIndex checked_;
  RebuildCheck check_;
  std::unique_ptr<RecordSink> record_;
  std::vector<std::unique_ptr<ReplaySink>> sinks_;  // that take what is ordered
  Status failed_;
  ProgressBar progress_;
  uint64_t messages_ = 0;
};

Status Run::OpenSinks() {
  const auto& publishers = source_.publishers();
  if (auto checked = CheckRecord(options_.record, source_); !checked) return checked;
  if (!options_.record.empty()) {
    auto record = RecordSink::Open({.path = options_.record, .rotate_bytes = options_.rotate_bytes},
                                   publishers);
    if (!record) return tl::unexpected(std::move(record.error()));
    record_ = std::move(*record);
  }
  if (!options_.into.empty()) {
    if (auto checked = CheckKeys(publishers, picked_); !checked) return checked;
    IntoSink::Options into{.ca_file = options_.ca_file, .hand_in = {.stopped = stop_.Ask()}};
    auto url = client::ConductorUrl::Parse(options_.into);
    if (!url) return tl::unexpected(std::move(url.error()));
    into.url = std::move(*url);
    auto token = ReadBearerToken(options_.token_file);
    if (!token) return tl::unexpected(std::move(token.error()).Within("--token-file"));
    into.token = std::move(*token);
    sinks_.push_back(std::make_unique<IntoSink>(into, publishers));
  }
  if (!options_.snapshot.empty()) {
    if (auto checked = CheckKeys(publishers, picked_); !checked) return checked;
    auto snapshot = SnapshotSink::Open(options_.snapshot, publishers);
    if (!snapshot) return tl::unexpected(std::move(snapshot.error()));
    sinks_.push_back(std::move(*snapshot));
  }
  if (!options_.publish.empty()) {
    auto publish = PublishSink::Create({.endpoint = options_.publish,
                                        .replay_endpoint = options_.replay_endpoint,
                                        .dialect = options_.dialect,
                                        .renumber = options_.renumber,
                                        .wait_subscriber = options_.wait_subscriber,
                                        .ring_batches = options_.ring,
                                        .stay = options_.stay,
                                        .stopped = stop_.Ask()},
                                       publishers, picked_);
    if (!publish) return tl::unexpected(std::move(publish.error()));
    const std::string& replays = (*publish)->replay_endpoint();
    Say(fmt::format("publishing at {}{}{}", (*publish)->endpoint(),
                    replays.empty() ? "" : ", replays at ", replays));
    sinks_.push_back(std::move(*publish));
  }
  return {};
}

void Run::Wait(const SourceFrame& frame) {
  const Duration after = pace_.Due(frame);
  begun_ = begun_.value_or(MonoNow());
  const MonoTime due = *begun_ + after;
  for (MonoTime now = MonoNow(); now < due && !stop_.Asked(); now = MonoNow()) {
    std::this_thread::sleep_for(std::min<Duration>(due - now, kLook));
  }
}

void Run::Ordered(const SourceFrame& frame) {
  if (!failed_ || stop_.Asked() || Differs()) return;
  Wait(frame);
  rebuild_.Feed(frame);
  for (const auto& sink : sinks_) {
    if (failed_) failed_ = sink->Take(frame);
  }
}

Status Run::Play() {
  for (const auto& sink : sinks_) {
    if (auto started = sink->Start(); !started) return started;
  }
  const FrameOrder::Out out = [this](const SourceFrame& frame) { Ordered(frame); };
  SourceFrame frame;
  while (failed_ && !stop_.Asked() && !Differs()) {
    const auto more = source_.Next(frame);
    if (!more) {
      failed_ = tl::unexpected(more.error());
      break;
    }
    if (!*more) break;
    const bool of_all = frame.kind == SourceFrame::Kind::kStopped;
    if (picked_ && frame.publisher != *picked_ && !of_all) continue;
    messages_ += frame.IsMessage() ? 1 : 0;
    progress_.Show(MonoNow(), source_.Progress(), messages_);
    if (record_) failed_ = record_->Take(frame);
    order_.Push(std::move(frame), out);
  }
  order_.Flush(out);
  progress_.Clear();
  // What could be taken is kept whatever failed.
  if (record_) {
    auto closed = record_->Finish();
    if (failed_) failed_ = std::move(closed);
  }
  for (const auto& sink : sinks_) {
    if (failed_ && !Differs()) failed_ = sink->Finish();
  }
  if (options_.check && failed_ && !stop_.Asked()) check_.Finish();
  return failed_;
}

ReplaySummary Run::Result(bool whole) {
  ReplaySummary summary = Summarize(rebuild_);
  for (const std::string& source : options_.sources) {
    summary.source += (summary.source.empty() ? "" : ", ") + source;
  }
  summary.lost = source_.lost();
  summary.whole = whole && !stop_.Asked() && !Differs();
  if (picked_) {
    auto picked = std::move(summary.publishers.at(*picked_));
    summary.publishers.clear();
    summary.publishers.push_back(std::move(picked));
  }
  summary.notes = source_.Notes();
  const auto add = [&](std::vector<std::string> notes) {
    std::ranges::move(notes, std::back_inserter(summary.notes));
  };
  add(order_.Notes());
  if (record_) add(record_->Notes());
  for (const auto& sink : sinks_) add(sink->Notes());
  if (options_.check) {
    add(check_.Notes());
    summary.check = {.batches = check_.batches(),
                     .comparisons = check_.compared(),
                     .difference = check_.difference() ? check_.difference()->Describe() : "",
                     .sound = source_.lost().damages == 0};
  }
  return summary;
}

int Failed(const Error& error) {
  Say(error.Message());
  return kExitFailed;
}

}  // namespace

Result<double> ParseSpeed(std::string_view text) {
  if (text == "max") return 0;
  double speed = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), speed);
  const bool read = error == std::errc() && end == text.data() + text.size();
  if (read && speed >= 0.001 && speed <= 1e6) return speed;
  return Fail(fmt::format("'{}' is not a speed", text), {},
              "max, or a number from 0.001 to 1000000: 1, 10, 0.5");
}

Status CheckReplay(const ReplayOptions& options) {
  const auto& sources = options.sources;
  if (const auto address = std::ranges::find_if(sources, IsAddress);
      address != sources.end() && sources.size() > 1) {
    return Fail("a replay endpoint stands beside other sources", *address, "it alone");
  }
  const auto needs = [](bool given, const char* flag, bool there, const char* other) -> Status {
    if (!given || there) return {};
    return Fail("means nothing here", flag, fmt::format("{} beside it", other));
  };
  for (const std::string& source : sources) {
    if (auto good = IsAddress(source) ? CheckDialled(source) : CheckNoAddress(source); !good) {
      return good;
    }
  }
  for (const auto& [flag, endpoint] : {std::pair("--publish", &options.publish),
                                       std::pair("--replay-endpoint", &options.replay_endpoint)}) {
    if (endpoint->empty()) continue;
    auto good = CheckBound(*endpoint);
    if (!good) return tl::unexpected(std::move(good.error()).Within(flag));
  }
  const bool publishes = !options.publish.empty();
  const bool is_address = !sources.empty() && IsAddress(sources.front());
  for (const Status& status : {
           needs(!options.replay_endpoint.empty(), "--replay-endpoint", publishes, "--publish"),
           needs(options.dialect.has_value(), "--dialect", publishes, "--publish"),
           needs(options.renumber, "--renumber", publishes, "--publish"),
           needs(options.wait_subscriber, "--wait-subscriber", publishes, "--publish"),
           needs(options.stay > Duration::zero(), "--stay", publishes, "--publish"),
           needs(options.rotate_bytes > 0, "--rotate-size", !options.record.empty(), "--record"),
           needs(!options.token_file.empty(), "--token-file", !options.into.empty(), "--into"),
           needs(!options.ca_file.empty(), "--ca-file", !options.into.empty(), "--into"),
           needs(options.from_sequence > 0, "--from-seq", is_address, "a replay endpoint"),
       }) {
    if (!status) return status;
  }
  if (publishes && options.publish == options.replay_endpoint) {
    return Fail("is the endpoint of --publish too", "--replay-endpoint", "another one");
  }
  return {};
}

int RunReplay(const ReplayOptions& options) {
  Stop stop;
  auto source = OpenSource(options, stop);
  if (!source) return Failed(source.error());
  const auto picked = Pick(options, (*source)->publishers());
  if (!picked) {
    Say(picked.error().Message());
    return kExitUsage;
  }
  Run run(options, **source, *picked, stop);
  if (auto opened = run.OpenSinks(); !opened) return Failed(opened.error());
  const Status played = run.Play();
  const ReplaySummary summary = run.Result(played.has_value());
  for (const std::string& note : summary.notes) Say(note);
  // Of a source that failed before anything came there is nothing to sum up.
  if (!played && run.messages() == 0 && !options.json) return Failed(played.error());
  Output output;
  output.Print(options.json ? RenderSummaryJson(summary)
                            : RenderSummary(summary, TerminalOf(STDOUT_FILENO)));
  // Whoever leaves does not make a failure a success.
  const int printed = output.End(kExitDone);
  if (!played) return Failed(played.error());
  if (printed != kExitDone) return printed;
  if (!summary.check || summary.check->Passed()) return kExitDone;
  // Who ended it early did not ask for all of it to be compared.
  return stop.Asked() && summary.check->difference.empty() ? kExitDone : kExitFailed;
}

}  // namespace conductor::toolkit
