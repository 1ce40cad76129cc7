#include "daemon/toolkit/simulate.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <future>
#include <iostream>
#include <iterator>
#include <utility>

#include "daemon/toolkit/console.h"
#include "daemon/toolkit/simulation_report.h"
#include "daemon/toolkit/terminal.h"
#include "lib/base/number.h"
#include "lib/simulate/prepared_trace.h"
#include "lib/simulate/simulation.h"
#include "lib/trace/workload_trace.h"

namespace conductor::toolkit {
namespace {

int Tell(const Error& error) { return Complain(kExitFailed, error); }

// All files together. Hash ids mean the same in each of them, so they have to be of one form.
Result<trace::WorkloadTrace> ReadTraces(const std::vector<std::string>& files,
                                        const SimulateOptions& options) {
  trace::WorkloadTrace all;
  for (const std::string& file : files) {
    auto reader =
        trace::TraceReader::Open(file, {.strict = options.strict, .id_block = options.id_block});
    if (!reader) return tl::unexpected(std::move(reader).error());
    auto one = trace::ReadTrace(*std::move(reader), options.requests);
    if (!one) return one;
    if (all.form && one->form != all.form) {
      return Fail(fmt::format("a trace of the form {}", TraceFormName(*one->form)), file,
                  fmt::format("{}, as the file before it", TraceFormName(*all.form)));
    }
    all.form = one->form;
    all.counters.lines += one->counters.lines;
    all.counters.requests += one->counters.requests;
    all.counters.skipped += one->counters.skipped;
    all.counters.went_back += one->counters.went_back;
    std::ranges::move(one->counters.errors, std::back_inserter(all.counters.errors));
    std::ranges::move(one->requests, std::back_inserter(all.requests));
  }
  std::ranges::stable_sort(all.requests, {}, &trace::TraceRequest::arrival);
  if (options.requests > 0 && all.requests.size() > options.requests) {
    all.requests.resize(options.requests);
  }
  return all;
}

void TellOfLines(const trace::TraceCounters& counters) {
  if (counters.went_back > 0) {
    std::cerr << fmt::format("conductor: behind later ones, and sorted: {}\n",
                             Counted(counters.went_back, "request"));
  }
  if (counters.skipped == 0) return;
  std::cerr << fmt::format("conductor: left out {} of {}, which cannot be read:\n",
                           Grouped(counters.skipped), Counted(counters.lines, "line"));
  for (const Error& error : counters.errors) {
    std::cerr << "  " << Printable(error.Message()) << '\n';
  }
  if (counters.skipped > counters.errors.size()) std::cerr << "  ...\n";
}

void TellOfRefused(const simulate::PreparedTrace& trace, const simulate::FleetModel& fleet) {
  if (trace.refused.empty()) return;
  std::cerr << fmt::format(
      "conductor: left out {}, for {} more than the {} that a rank has on gpu, the first in line "
      "{}\n",
      Counted(trace.refused.size(), "request"),
      trace.refused.size() == 1 ? "it needs" : "they need", Counted(fleet.blocks[0], "block"),
      trace.refused.front());
}

Status WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (file) return {};
  return Fail(fmt::format("cannot be written: {}", std::strerror(errno)), path,
              "a file that can be made or replaced");
}

}  // namespace

int RunSimulation(const SimulateOptions& options, const std::vector<std::string>& traces) {
  Output output;
  auto read = ReadTraces(traces, options);
  if (!read) return Tell(read.error());
  TellOfLines(read->counters);

  SimulationReport report;
  report.options = options;
  report.traces = traces;
  report.form = *read->form;
  report.lines = read->counters;
  const auto prepared =
      simulate::Prepare(std::move(read->requests), options.fleet, options.rate_scale);
  if (!prepared) return Tell(prepared.error());
  TellOfRefused(*prepared, options.fleet);
  report.refused = prepared->refused.size();

  // Policies have nothing in common but the trace, which none changes. Where the system has no more
  // threads they take turns.
  std::vector<simulate::Policy> policies = options.policies;
  if (policies.empty()) policies.assign(simulate::kPolicies.begin(), simulate::kPolicies.end());
  std::vector<std::future<Result<simulate::Outcome>>> runs;
  for (const simulate::Policy policy : policies) {
    runs.push_back(std::async(std::launch::async | std::launch::deferred, [&, policy] {
      return simulate::Simulate(*prepared, options.fleet,
                                {.policy = policy,
                                 .weights = options.weights,
                                 .seed = options.seed,
                                 .event_delay = options.event_delay});
    }));
  }
  for (auto& run : runs) run.wait();
  for (auto& run : runs) {
    auto outcome = run.get();
    if (!outcome) return Tell(outcome.error());
    simulate::Summary summary = Summarize(options.fleet, *outcome);
    report.runs.push_back({*std::move(outcome), summary});
  }

  if (!options.svg.empty()) {
    if (auto written = WriteFile(options.svg, SimulationPlots(report)); !written) {
      return Tell(written.error());
    }
  }
  output.Print(options.json ? SimulationDocument(report)
                            : SimulationTables(report, TerminalOf(STDOUT_FILENO)));
  return output.End(kExitDone);
}

}  // namespace conductor::toolkit
