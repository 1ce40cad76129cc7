// What a query costs over HTTP and ZeroMQ, beside the same server with a handler that does nothing.
// docs/performance.md says how it is run and how its output is read.

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "load.h"
#include "server.h"

namespace conductor::bench {
namespace {

using Json = nlohmann::json;

struct Options {
  double seconds = 2;
  size_t connections = 16;
  int rounds = 3;
  bool json = false;
  std::string only;
};

struct Case {
  std::string form;  // "msgpack", "packed msgpack", "json"
  std::string model;
  size_t instances;
};

std::string BodyOf(const Case& one) {
  const std::vector<TokenId> prompt = Prompt();
  Json body = {{"model", one.model}, {"tenant_id", one.model}, {"token_ids", prompt}};
  if (one.form == "json") return body.dump();
  if (one.form == "packed msgpack") {
    const auto* bytes = reinterpret_cast<const uint8_t*>(prompt.data());
    body["token_ids"] =
        Json::binary(std::vector<uint8_t>(bytes, bytes + prompt.size() * sizeof(TokenId)));
  }
  std::string packed;
  Json::to_msgpack(body, packed);
  return packed;
}

std::string TypeOf(const Case& one) {
  return one.form == "json" ? "application/json" : "application/msgpack";
}

// A request's answer, whole.
size_t AnswerBytes(uint16_t port, const std::string& request) {
  const LoadResult once =
      Run({.port = port, .request = request, .connections = 1, .seconds = 0.05});
  if (once.failed > 0 || once.latencies.empty()) {
    fmt::print(stderr, "query_bench: the server does not answer\n");
    std::exit(1);
  }
  return once.answer_bytes;
}

// The middle of some rounds, which take turns so that a disturbance meets all.
double Middle(std::vector<double> rates) {
  std::ranges::sort(rates);
  return rates[rates.size() / 2];
}

// Rounds of one load.
struct Rounds {
  std::vector<double> rates;
  std::vector<double> cpu;  // of the server, seconds a request

  void Add(const ServerProcess& server, const Load& load) {
    const double before = server.CpuSeconds();
    const LoadResult result = Run(load);
    cpu.push_back((server.CpuSeconds() - before) / static_cast<double>(result.latencies.size()));
    rates.push_back(result.Rate());
  }
  [[nodiscard]] double Rate() const { return Middle(rates); }
  [[nodiscard]] double CpuMicroseconds() const { return Middle(cpu) * 1e6; }
};

Json Measure(const ServerProcess& server, const Case& one, const Options& options) {
  const std::string body = BodyOf(one);
  const Load query{.port = server.api_port(),
                   .request = HttpRequest("/v1/query", TypeOf(one), body),
                   .connections = options.connections,
                   .seconds = options.seconds};
  const size_t answer = AnswerBytes(query.port, query.request);
  Load null = query;
  null.port = server.null_port();
  null.request = HttpRequest(fmt::format("/null/{}", answer), TypeOf(one), body);
  Load library = query;
  library.port = server.library_port();
  library.request =
      HttpRequest("/null", TypeOf(one), body, fmt::format("X-Answer-Bytes: {}\r\n", answer));
  // The same number on their way: each over a connection of its own, or all over one.
  Load zmq = query;
  zmq.protocol = Protocol::kZmtp;
  zmq.port = server.zmq_port();
  zmq.request = ZmtpRequest("/v1/query", body);
  Load pipelined = zmq;
  pipelined.window = std::exchange(pipelined.connections, 1);
  Rounds of_query;
  Rounds of_null;
  Rounds of_library;
  Rounds of_zmq;
  Rounds of_pipelined;
  for (int i = 0; i < options.rounds; ++i) {
    of_null.Add(server, null);
    of_query.Add(server, query);
    of_library.Add(server, library);
    if (one.form == "json") continue;
    of_zmq.Add(server, zmq);
    of_pipelined.Add(server, pipelined);
  }
  Json row{{"form", one.form},
           {"instances", one.instances},
           {"body_bytes", body.size()},
           {"answer_bytes", answer},
           {"rate", of_query.Rate()},
           {"null_rate", of_null.Rate()},
           {"of_null", of_query.Rate() / of_null.Rate()},
           {"library_rate", of_library.Rate()},
           {"of_library", of_query.Rate() / of_library.Rate()},
           {"cpu_us", of_query.CpuMicroseconds()},
           {"null_cpu_us", of_null.CpuMicroseconds()}};
  if (one.form != "json") {
    row["zmq_rate"] = of_zmq.Rate();
    row["zmq_pipelined_rate"] = of_pipelined.Rate();
    row["zmq_cpu_us"] = of_zmq.CpuMicroseconds();
  }
  return row;
}

// Very many connections, as fast as they can, and in an open loop at 70 % of that.
Json CrowdOf(Load load) {
  const LoadResult full = Run(load);
  const auto [least, most] = std::ranges::minmax(full.of_connection);
  load.rate = 0.7 * full.Rate();
  const LoadResult part = Run(load);
  return {{"peak", full.Rate()},
          {"least_answers", least},
          {"most_answers", most},
          {"offered", load.rate},
          {"p50_us", part.Percentile(0.5)},
          {"p99_us", part.Percentile(0.99)},
          {"p99_of_p50", part.Percentile(0.99) / part.Percentile(0.5)},
          {"failed", full.failed + part.failed}};
}

// The same number of the null handler beside it: what the machine's scheduler does to both.
Json Crowd(ServerProcess& server, const Options& options) {
  const Case one{"packed msgpack", "one", 1};
  constexpr size_t kConnections = 256;
  Load load{.port = server.api_port(),
            .request = HttpRequest("/v1/query", TypeOf(one), BodyOf(one)),
            .connections = kConnections,
            .seconds = 2 * options.seconds};
  Load null = load;
  null.port = server.null_port();
  null.request = HttpRequest(fmt::format("/null/{}", AnswerBytes(load.port, load.request)),
                             TypeOf(one), BodyOf(one));
  Json crowd{{"connections", kConnections}};
  crowd["null"] = CrowdOf(null);
  (void)server.TakeVisibility();
  crowd["queries"] = CrowdOf(load);
  const Visibility visibility = server.TakeVisibility();
  crowd["events"] = {{"watched", visibility.events},
                     {"visible_p50_us", visibility.p50},
                     {"visible_p99_us", visibility.p99},
                     {"visible_max_us", visibility.max}};
  return crowd;
}

void Print(const Json& result) {
  fmt::print(
      "{:>15} {:>9} {:>8} {:>8} {:>10} {:>10} {:>8} {:>10} {:>10} {:>8} {:>8} {:>8} {:>10}\n",
      "form", "instances", "body", "answer", "queries/s", "null/s", "of null", "library/s",
      "of library", "cpu us", "null", "zmq/s", "pipelined");
  for (const Json& row : result["queries"]) {
    fmt::print(
        "{:>15} {:>9} {:>8} {:>8} {:>10.0f} {:>10.0f} {:>8.2f} {:>10.0f} {:>10.2f} {:>8.1f} "
        "{:>8.1f} {:>8.0f} "
        "{:>10.0f}\n",
        row["form"].get<std::string>(), row["instances"].get<size_t>(),
        row["body_bytes"].get<size_t>(), row["answer_bytes"].get<size_t>(),
        row["rate"].get<double>(), row["null_rate"].get<double>(), row["of_null"].get<double>(),
        row["library_rate"].get<double>(), row["of_library"].get<double>(),
        row["cpu_us"].get<double>(), row["null_cpu_us"].get<double>(), row.value("zmq_rate", 0.0),
        row.value("zmq_pipelined_rate", 0.0));
  }
  fmt::print("\n");
  for (const auto& [of, figures] : result["crowd"].items()) {
    if (!figures.is_object()) continue;
    for (const auto& [key, value] : figures.items()) {
      fmt::print("{:>10} {:>16} {:.1f}\n", of, key, value.get<double>());
    }
  }
}

int Main(const Options& options) {
  ServerProcess server;
  Json result;
  for (const char* form : {"msgpack", "packed msgpack", "json"}) {
    for (const Case& one : {Case{form, "one", 1}, Case{form, "many", kMany}}) {
      if (!options.only.empty() && fmt::format("{} {}", form, one.instances) != options.only)
        continue;
      result["queries"].push_back(Measure(server, one, options));
    }
  }
  if (options.only.empty() || options.only == "crowd") {
    result["crowd"] = Crowd(server, options);
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
  CLI::App app{"Measures queries over HTTP and ZeroMQ against a server of its own"};
  app.add_option("--seconds", options.seconds, "of one measurement")->capture_default_str();
  app.add_option("--connections", options.connections, "of the throughput measurements")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  app.add_option("--rounds", options.rounds, "of which the middle one counts")
      ->capture_default_str()
      ->check(CLI::Range(1, 99));
  app.add_option("--only", options.only, "one measurement: \"json 64\", \"crowd\"");
  app.add_flag("--json", options.json, "for scripts");
  CLI11_PARSE(app, argc, argv);
  return conductor::bench::Main(options);
}
