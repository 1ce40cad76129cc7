// What relaying streams costs: directly from an engine, through HAProxy and through `conductor
// proxy`. docs/performance.md says how it is run and how its output is read.

#include <fmt/format.h>
#include <unistd.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "answer.h"
#include "engine.h"
#include "load.h"
#include "process.h"
#include "relay.h"

namespace conductor::bench {
namespace {

using Json = nlohmann::json;

// Clients that ask for one token again and again: what a request costs beside its tokens.
constexpr size_t kRequestsAtOnce = 64;

struct Options {
  std::string conductor;
  std::string haproxy = "/usr/sbin/haproxy";
  size_t threads = 1;
  size_t streams = 1000;
  uint32_t tokens = 256;
  double interval_ms = 25;
  size_t prompt_bytes = 4096;
  double seconds = 5;
  int rounds = 3;
  size_t memory_streams = 2000;
  std::string only;
  bool json = false;

  [[nodiscard]] bool Wants(const std::string& what) const { return only.empty() || only == what; }
};

// What is between client and engine.
struct Way {
  std::string name;  // "direct", "haproxy", "conductor"
  // A fresh process; none for "direct".
  std::function<std::unique_ptr<Relay>(size_t max_streams)> start;
};

// The middle of some rounds, which take turns so that a disturbance meets all.
double Middle(std::vector<double> figures) {
  if (figures.empty()) return 0;
  std::ranges::sort(figures);
  return figures[figures.size() / 2];
}

// Rounds of one load on one way.
struct Rounds {
  std::vector<double> first_p50, first_p99;  // microseconds
  std::vector<double> added_p50, added_p99;  // to the direct way's of the same round
  std::vector<double> token_rate, stream_rate;
  std::vector<double> token_cpu, stream_cpu;  // of the relay, seconds each
  std::vector<double> busy;                   // cores
  uint64_t streams = 0;
  uint64_t failed = 0;
  std::string failure;

  void Add(const LoadResult& result, const LoadResult& direct) {
    first_p50.push_back(result.FirstByte(0.5));
    first_p99.push_back(result.FirstByte(0.99));
    added_p50.push_back(result.FirstByte(0.5) - direct.FirstByte(0.5));
    added_p99.push_back(result.FirstByte(0.99) - direct.FirstByte(0.99));
    token_rate.push_back(static_cast<double>(result.tokens) / result.seconds);
    stream_rate.push_back(static_cast<double>(result.ended) / result.seconds);
    if (result.tokens > 0) token_cpu.push_back(result.cpu_seconds / double(result.tokens));
    if (result.ended > 0) stream_cpu.push_back(result.cpu_seconds / double(result.ended));
    busy.push_back(result.cpu_seconds / result.seconds);
    streams += result.ended;
    failed += result.failed;
    if (failure.empty()) failure = result.failure;
  }
};

Json RowOf(const Way& way, const std::string& load, const Rounds& rounds) {
  Json row{{"load", load},
           {"through", way.name},
           {"streams_ended", rounds.streams},
           {"streams_failed", rounds.failed},
           {"tokens_per_second", Middle(rounds.token_rate)},
           {"streams_per_second", Middle(rounds.stream_rate)},
           {"first_byte_p50_us", Middle(rounds.first_p50)},
           {"first_byte_p99_us", Middle(rounds.first_p99)}};
  if (rounds.failed > 0) row["failure"] = rounds.failure;
  if (!way.start) return row;
  const double cpu = Middle(rounds.token_cpu);
  row["added_p50_us"] = Middle(rounds.added_p50);
  row["added_p99_us"] = Middle(rounds.added_p99);
  row["cores_busy"] = Middle(rounds.busy);
  row["cpu_us_per_token"] = cpu * 1e6;
  row["cpu_us_per_stream"] = Middle(rounds.stream_cpu) * 1e6;
  row["tokens_per_second_per_core"] = cpu > 0 ? 1 / cpu : 0;
  return row;
}

// All ways in turns, with the same load.
Json Measure(const std::vector<Way>& ways, const EngineProcess& engine, const std::string& name,
             Load load, int rounds_wanted) {
  std::vector<std::unique_ptr<Relay>> relays;
  for (const Way& way : ways) {
    relays.push_back(way.start ? way.start(load.streams) : nullptr);
    if (relays.back() != nullptr) AwaitAnswer(relays.back()->port(), way.name);
  }
  std::vector<Rounds> rounds(ways.size());
  for (int round = 0; round < rounds_wanted; ++round) {
    LoadResult direct;
    for (size_t i = 0; i < ways.size(); ++i) {
      const Relay* relay = relays[i].get();
      load.port = relay == nullptr ? engine.port() : relay->port();
      load.watched = relay == nullptr ? 0 : relay->process();
      LoadResult result = Run(load);
      if (relay == nullptr) direct = result;
      rounds[i].Add(result, direct);
    }
  }
  Json rows = Json::array();
  double haproxy = 0;
  for (size_t i = 0; i < ways.size(); ++i) {
    Json row = RowOf(ways[i], name, rounds[i]);
    const double cpu = row.value("cpu_us_per_token", 0.0);
    if (ways[i].name == "haproxy") haproxy = cpu;
    if (haproxy > 0 && cpu > 0) row["cpu_of_haproxy"] = cpu / haproxy;
    rows.push_back(std::move(row));
  }
  return rows;
}

// What a stream takes of a relay's memory: its growth since it was started and answered one
// request.
Json Memory(const Way& way, const Options& options) {
  Load load{.streams = options.memory_streams,
            .tokens = 20,
            .interval = 0.1,
            .prompt_bytes = options.prompt_bytes,
            .seconds = options.seconds / 2};
  const auto relay = way.start(load.streams);
  AwaitAnswer(relay->port(), way.name);
  const size_t before = ResidentBytes(relay->process());
  load.port = relay->port();
  load.watched = relay->process();
  const LoadResult result = Run(load);
  const double grown =
      std::max(0.0, static_cast<double>(result.resident_bytes) - static_cast<double>(before));
  Json row{{"through", way.name},
           {"streams", load.streams},
           {"idle_bytes", before},
           {"resident_bytes", result.resident_bytes},
           {"bytes_per_stream", grown / static_cast<double>(load.streams)},
           {"streams_failed", result.failed}};
  if (result.failed > 0) row["failure"] = result.failure;
  return row;
}

std::string Figure(const Json& row, const char* key, int digits) {
  return row.contains(key) ? fmt::format("{:.{}f}", row[key].get<double>(), digits) : "";
}

void Print(const Json& result) {
  constexpr const char* kRow =
      "{:>9} {:>10} {:>9} {:>8} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10} {:>8}\n";
  fmt::print(kRow, "load", "through", "tokens/s", "ended", "failed", "p50 us", "p99 us",
             "added p50", "added p99", "us/token", "tok/s/core", "haproxys");
  for (const Json& row : result["relayed"]) {
    fmt::print(kRow, row["load"].get<std::string>(), row["through"].get<std::string>(),
               Figure(row, "tokens_per_second", 0), row["streams_ended"].get<uint64_t>(),
               row["streams_failed"].get<uint64_t>(), Figure(row, "first_byte_p50_us", 0),
               Figure(row, "first_byte_p99_us", 0), Figure(row, "added_p50_us", 0),
               Figure(row, "added_p99_us", 0), Figure(row, "cpu_us_per_token", 2),
               Figure(row, "tokens_per_second_per_core", 0), Figure(row, "cpu_of_haproxy", 2));
  }
  for (const Json& row : result["memory"]) {
    fmt::print("{} streams through {}: {:.1f} MiB, {:.1f} KiB each beyond what it had before\n",
               row["streams"].get<size_t>(), row["through"].get<std::string>(),
               row["resident_bytes"].get<double>() / (1 << 20),
               row["bytes_per_stream"].get<double>() / (1 << 10));
  }
  for (const char* rows : {"relayed", "memory"}) {
    for (const Json& row : result[rows]) {
      if (!row.contains("failure")) continue;
      fmt::print("{}: a stream failed: {}\n", row["through"].get<std::string>(),
                 row["failure"].get<std::string>());
    }
  }
  for (const auto& [name, reason] : result["skipped"].items()) {
    fmt::print("{}: skipped: {}\n", name, reason.get<std::string>());
  }
}

int Main(const Options& options) {
  // A relay has two for each stream.
  RaiseDescriptorLimit(2 * std::max(options.streams, options.memory_streams) + 200);
  Json result{{"threads", options.threads},
              {"streams", options.streams},
              {"tokens", options.tokens},
              {"interval_ms", options.interval_ms},
              {"prompt_bytes", options.prompt_bytes},
              {"event_bytes", Events(Form::kCompletions, 0, 1).text().size()},
              {"relayed", Json::array()},
              {"memory", Json::array()},
              {"skipped", Json::object()}};
  const EngineProcess engine;
  std::vector<Way> ways{{"direct", nullptr}};
  if (::access(options.haproxy.c_str(), X_OK) == 0) {
    ways.push_back({"haproxy", [&](size_t streams) {
                      return Relay::HaProxy(options.haproxy, engine.port(), options.threads,
                                            streams);
                    }});
  } else {
    result["skipped"]["haproxy"] =
        fmt::format("there is no {} (apt-get install haproxy)", options.haproxy);
  }
  if (!options.conductor.empty()) {
    ways.push_back({"conductor", [&](size_t streams) {
                      return Relay::Conductor(options.conductor, engine.port(), options.threads,
                                              streams);
                    }});
  } else {
    result["skipped"]["conductor"] = "--conductor names no program";
  }

  const auto add = [&](const Json& rows) {
    for (const Json& row : rows) result["relayed"].push_back(row);
  };
  if (options.Wants("streams")) {
    add(Measure(ways, engine, "streams",
                {.streams = options.streams,
                 .tokens = options.tokens,
                 .interval = options.interval_ms * 1e-3,
                 .prompt_bytes = options.prompt_bytes,
                 .seconds = options.seconds},
                options.rounds));
  }
  if (options.Wants("requests")) {
    add(Measure(ways, engine, "requests",
                {.streams = kRequestsAtOnce,
                 .prompt_bytes = options.prompt_bytes,
                 .seconds = options.seconds / 2},
                options.rounds));
  }
  if (options.Wants("memory")) {
    for (const Way& way : ways) {
      if (way.start) result["memory"].push_back(Memory(way, options));
    }
  }
  if (options.json) {
    fmt::print("{}\n", result.dump(2));
  } else {
    Print(result);
  }
  return 0;
}

}  // namespace
}  // namespace conductor::bench

int main(int argc, char** argv) {
  conductor::bench::Options options;
  CLI::App app{"Measures what relaying streams costs, beside HAProxy"};
  app.add_option("--conductor", options.conductor, "the program whose `proxy` is measured");
  app.add_option("--haproxy", options.haproxy, "left out where it is not there")
      ->capture_default_str();
  app.add_option("--threads", options.threads, "of each relay")
      ->capture_default_str()
      ->check(CLI::Range(1, 64));
  app.add_option("--streams", options.streams, "at once")
      ->capture_default_str()
      ->check(CLI::Range(1, 20000));
  app.add_option("--tokens", options.tokens, "of each stream")
      ->capture_default_str()
      ->check(CLI::Range(1, 100000));
  app.add_option("--interval-ms", options.interval_ms, "from a stream's token to its next")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 10000.0));
  app.add_option("--prompt-bytes", options.prompt_bytes, "of each request")->capture_default_str();
  app.add_option("--seconds", options.seconds, "of one measurement, begun streams not counted")
      ->capture_default_str();
  app.add_option("--rounds", options.rounds, "of which the middle one counts")
      ->capture_default_str()
      ->check(CLI::Range(1, 99));
  app.add_option("--memory-streams", options.memory_streams, "at once, where memory is measured")
      ->capture_default_str()
      ->check(CLI::Range(1, 20000));
  app.add_option("--only", options.only, "one measurement")
      ->check(CLI::IsMember({"streams", "requests", "memory"}));
  app.add_flag("--json", options.json, "for scripts");
  CLI11_PARSE(app, argc, argv);
  return conductor::bench::Main(options);
}
