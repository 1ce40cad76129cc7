#include "daemon/toolkit/tap.h"

#include <fmt/format.h>
#include <unistd.h>
#include <zmq.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <utility>

#include "daemon/toolkit/endpoint_text.h"
#include "daemon/toolkit/line_output.h"
#include "daemon/toolkit/stop_signal.h"
#include "daemon/toolkit/tap_daemon.h"
#include "daemon/toolkit/tap_facts.h"
#include "daemon/toolkit/tap_live.h"
#include "daemon/toolkit/tap_recorder.h"
#include "daemon/toolkit/tap_view.h"
#include "lib/base/number.h"
#include "lib/client/conductor_url.h"
#include "lib/trace/recording_reader.h"

namespace conductor::toolkit {
namespace {

constexpr int kDone = 0;
constexpr int kFailed = 1;

// The time until the first of these, in zmq_poll()'s milliseconds.
int Wait(MonoTime now, std::initializer_list<std::optional<MonoTime>> deadlines) {
  int64_t least = 1000;
  for (const auto& deadline : deadlines) {
    if (!deadline) continue;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - now).count();
    least = std::clamp<int64_t>(left, 0, least);
  }
  return static_cast<int>(least);
}

// What a run has in common, wherever its events come from.
struct Run {
  const TapOptions& options;
  StopSignal stop;
  Terminal terminal = TerminalOf(STDOUT_FILENO);
  LineOutput output{STDOUT_FILENO, stop.fd(), !options.record.empty()};
  TapView view{options, output, terminal};
  TapRecorder recorder;

  explicit Run(const TapOptions& given) : options(given) {}

  // The code of a run that has ended, as long as all that it printed was written.
  [[nodiscard]] int Exit(bool done) const {
    if (output.problem()) {
      TapNote(output.problem()->Message());
      return kFailed;
    }
    return done ? kDone : kFailed;
  }

  int Fail(const Error& error) {
    output.Flush();
    TapNote(error.Message());
    return kFailed;
  }

  // The end of all that ends by itself or by a signal. Who closed the output wants no more words.
  void End(const trace::RecordingReader::Counters& read = {}) {
    view.Finish(UnixNanos());
    output.Flush();
    recorder.Close();
    if (output.closed()) return;  // Exit() says why, if it is not that
    std::string text = view.Summary();
    if (recorder.recording()) text += "; " + recorder.Summary();
    if (read.damages > 0) text += "; " + Counted(read.damages, "damage");
    if (read.missing_parts > 0) {
      text += fmt::format(" ({} missing)", Counted(read.missing_parts, "part"));
    }
    if (output.left_out() > 0) {
      text += fmt::format("; {} not printed, as the reader was slow",
                          Counted(output.left_out(), "line"));
    }
    TapNote(text);
  }
};

int TapFiles(Run& run) {
  for (const std::string& missing : trace::MissingEnds(run.options.sources)) TapNote(missing);
  auto reader = trace::RecordingReader::Open(trace::RecordingFiles(run.options.sources));
  if (!reader) return run.Fail(reader.error());
  const MonoTime begin = MonoNow();
  bool damaged = false;
  int64_t last_ns = 0;
  for (uint64_t items = 0; !run.output.closed() && !run.view.done(); ++items) {
    // Looked at now and then: a recording is read as fast as it can be.
    if (items % 256 == 0) {
      if (run.stop.came()) break;
      if (run.options.duration && MonoNow() >= begin + *run.options.duration) break;
    }
    const auto item = reader->Next();
    if (!item) break;
    if (const auto* publisher = std::get_if<trace::RecordingReader::NewPublisher>(&*item)) {
      run.view.Add(reader->publishers()[publisher->number]);
    } else if (const auto* frame = std::get_if<trace::RecordedFrame>(&*item)) {
      last_ns = frame->received_ns;
      run.view.Message(frame->received_ns, frame->publisher, frame->replayed, frame->frames);
    } else if (const auto* mark = std::get_if<trace::RecordedMark>(&*item)) {
      run.view.Mark(*mark);
    } else if (const auto* damage = std::get_if<trace::Damage>(&*item)) {
      damaged = true;
      run.output.Flush();
      TapNote(damage->Describe());
      run.view.Event({.type = TapType::kDamage,
                      .time_ns = last_ns,
                      .count = damage->records,
                      .detail = damage->Describe()});
    }
  }
  if (reader->counters().unknown_records > 0) {
    TapNote(fmt::format("{} of a newer version passed over",
                        Counted(reader->counters().unknown_records, "record")));
  }
  run.End(reader->counters());
  return run.Exit(!damaged || run.output.closed());
}

// Live messages, or a daemon's events, until something ends it.
int TapStream(Run& run) {
  std::unique_ptr<TapDaemon> daemon;
  std::unique_ptr<TapLive> live;
  if (!run.options.conductor.empty()) {
    auto opened = TapDaemon::Open(run.options);
    if (!opened) return run.Fail(opened.error());
    daemon = *std::move(opened);
  } else {
    const auto stopped = [&run] { return run.stop.came(); };
    if (auto opened = run.recorder.Open(run.options, stopped); !opened) {
      (void)run.Fail(opened.error());
      return stopped() ? kDone : kFailed;
    }
    live = std::make_unique<TapLive>(run.options, run.view, run.recorder);
    if (auto opened = live->Open(); !opened) return run.Fail(opened.error());
  }
  std::optional<MonoTime> until;
  if (run.options.duration) until = MonoNow() + *run.options.duration;
  std::vector<zmq_pollitem_t> items;
  std::optional<Error> problem;
  NotesOnce unread;
  bool more = false;
  bool signalled = false;
  while (!run.view.done() && !run.output.closed() && !problem) {
    items.clear();
    items.push_back({nullptr, run.stop.fd(), ZMQ_POLLIN, 0});
    const short writable = run.output.waits() ? ZMQ_POLLOUT : 0;
    items.push_back(
        {nullptr, run.output.descriptor(), static_cast<short>(ZMQ_POLLERR | writable), 0});
    if (daemon) items.push_back({nullptr, daemon->fd(), ZMQ_POLLIN, 0});
    if (live) live->Poll(items);
    const int wait = more ? 0
                          : Wait(MonoNow(), {until, run.view.Deadline(), run.recorder.Deadline(),
                                             live ? live->Deadline() : std::nullopt});
    zmq_poll(items.data(), static_cast<int>(items.size()), wait);
    signalled = (items[0].revents & ZMQ_POLLIN) != 0;
    const MonoTime now = MonoNow();
    if (signalled || (until && now >= *until)) break;
    if ((items[1].revents & ZMQ_POLLERR) != 0) {
      run.output.Close();
      break;
    }
    if (live) more = live->Turn(now);
    if (daemon) {
      for (const std::string& text : daemon->Take()) {
        const auto event = FromDaemon(text, UnixNanos());
        if (event) {
          run.view.Event(*event);
        } else {
          unread.Tell(event.error().Message());
        }
      }
      problem = daemon->Refusal();
    }
    run.recorder.Tick(now);
    if (!problem) problem = run.recorder.problem();
    run.view.Tick(now, UnixNanos());
    run.output.Flush();
  }
  // Who closed the output does not wait for what comes behind it.
  if (live && !problem && (run.recorder.recording() || !run.output.closed())) live->Drain();
  const bool reached = live ? live->reached() : daemon->reached();
  live.reset();
  daemon.reset();
  run.End();
  if (!problem) problem = run.recorder.problem();
  if (problem) return run.Fail(*problem);
  return run.Exit(reached || signalled || run.output.closed());
}

}  // namespace

void TapNote(const std::string& text) {
  std::fprintf(stderr, "conductor tap: %s\n", Printable(text).c_str());
}

Status CheckTap(const TapOptions& options) {
  if (options.raw && options.stats)
    return Fail("--raw and --stats are two views", {}, "one of them");
  if (!options.conductor.empty()) {
    const auto url = client::ConductorUrl::Parse(options.conductor);
    if (!url) return tl::unexpected(url.error());
    if (!url->is_http()) return Fail("events come over HTTP", url->text, "http://HOST:PORT");
    if (!options.sources.empty()) {
      return Fail("--conductor and an ENDPOINT are two sources", {}, "one of them");
    }
    if (options.raw || !options.record.empty() || options.from || options.bind) {
      return Fail("a daemon sends events and not messages", "--conductor",
                  "an ENDPOINT for --raw, --record, --from and --bind");
    }
    return {};
  }
  if (options.sources.empty()) {
    return Fail("nothing to listen to", {}, "an ENDPOINT, a recording, or --conductor URL");
  }
  const bool endpoints = IsAddress(options.sources.front());
  for (const std::string& source : options.sources) {
    if (IsAddress(source) != endpoints) {
      return Fail("recordings and endpoints cannot be read together", source, "one or the other");
    }
    const auto check = options.bind ? CheckBound : CheckDialled;
    if (auto good = endpoints ? check(source) : CheckNoAddress(source); !good) return good;
  }
  if (const auto facts = ReadFacts(options.facts, options.type); !facts) {
    return tl::unexpected(facts.error());
  }
  if (!endpoints) {
    if (options.bind || !options.record.empty() || !options.replay_endpoint.empty()) {
      return Fail("a recording is only printed", options.sources.front(),
                  "an ENDPOINT for --bind, --record and --replay-endpoint");
    }
    return {};
  }
  if (options.record.empty() && (!options.facts.empty() || options.rotate_size > 0)) {
    return Fail("--fact and --rotate-size are for a recording", {}, "--record FILE");
  }
  if (!options.replay_endpoint.empty()) {
    if (auto good = CheckDialled(options.replay_endpoint); !good) return good;
  }
  if (options.from && options.replay_endpoint.empty()) {
    return Fail("--from asks a replay endpoint", {}, "--replay-endpoint ENDPOINT");
  }
  const bool bound = options.bind || options.sources.front().starts_with("tcp://*:");
  if (!options.replay_endpoint.empty() && (options.sources.size() > 1 || bound)) {
    return Fail("--replay-endpoint is of one publisher", {}, "one ENDPOINT that is connected to");
  }
  return {};
}

int RunTap(const TapOptions& options) {
  Run run(options);
  if (options.conductor.empty() && !IsAddress(options.sources.front())) return TapFiles(run);
  return TapStream(run);
}

}  // namespace conductor::toolkit
