#ifndef CONDUCTOR_DAEMON_TOOLKIT_REPLAY_SUMMARY_H_
#define CONDUCTOR_DAEMON_TOOLKIT_REPLAY_SUMMARY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/toolkit/rebuild.h"
#include "daemon/toolkit/terminal.h"
#include "lib/index/prefix_index.h"

namespace conductor::toolkit {

// What a replay came to: what the source said, how its streams went, and the index that it ends
// with.
struct ReplaySummary {
  std::string source;
  bool whole = true;  // it was read to its end
  ReplaySource::Lost lost;
  std::vector<Rebuild::PublisherResult> publishers;
  index::IndexStats index;
  std::vector<index::RankStats> ranks;
  std::vector<index::NamespaceStats> name_spaces;
  struct Check {
    uint64_t batches = 0;
    uint64_t comparisons = 0;
    std::string difference;  // where, what, index, model: a line each; empty: there is none
    bool sound = true;       // all of the source could be read

    // Nothing: there was nothing that could be compared.
    [[nodiscard]] std::optional<bool> Same() const;
    [[nodiscard]] bool Passed() const { return Same() == true && sound; }
  };
  std::optional<Check> check;
  std::vector<std::string> notes;  // of the source, of sinks
};

[[nodiscard]] ReplaySummary Summarize(const Rebuild& rebuild);

// For people: tables.
[[nodiscard]] std::string RenderSummary(const ReplaySummary& summary, const Terminal& terminal);
// One JSON document, as docs/replay.md has it, with the end of its line.
[[nodiscard]] std::string RenderSummaryJson(const ReplaySummary& summary);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_REPLAY_SUMMARY_H_
