#ifndef CONDUCTOR_DAEMON_TOOLKIT_TAP_STATS_H_
#define CONDUCTOR_DAEMON_TOOLKIT_TAP_STATS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "daemon/toolkit/table.h"
#include "daemon/toolkit/tap_event.h"
#include "daemon/toolkit/terminal.h"

namespace conductor::toolkit {

// What came from each publisher, counted, and how fast: `conductor tap --stats`.
class TapStats {
 public:
  // Blocks of a tier; the last is any other medium, and what speaks of no tier.
  static constexpr size_t kPlaces = kTierCount + 1;

  struct Counts {
    uint64_t messages = 0;
    uint64_t events = 0;
    std::array<uint64_t, kPlaces> stored{};  // blocks
    std::array<uint64_t, kPlaces> removed{};
    uint64_t cleared = 0;
    uint64_t gaps = 0;
    uint64_t missing = 0;  // messages
    uint64_t restarts = 0;
    uint64_t duplicates = 0;
    uint64_t malformed = 0;  // messages, and events in others
    uint64_t lost = 0;

    [[nodiscard]] uint64_t stored_blocks() const;
    [[nodiscard]] uint64_t removed_blocks() const;

    friend bool operator==(const Counts&, const Counts&) = default;
  };

  // A publisher that has said nothing yet is a row, too.
  void Know(const std::string& publisher) { (void)rows_[publisher]; }
  void CountMessage(const std::string& publisher) { ++rows_[publisher].now.messages; }
  void Count(const TapEvent& event);

  // The rates of a view are over the time since the one before; of the first, since `start_ns`.
  // Times are those of events: of a recording, when it was recorded. Where a terminal is too narrow
  // for all, tiers without blocks are left out, then tiers are one, then rates are left out: faults
  // stay.
  [[nodiscard]] std::string Table(const Terminal& terminal, int64_t start_ns, int64_t now_ns);
  // One JSON object a publisher, each a line with its end.
  [[nodiscard]] std::string JsonLines(int64_t start_ns, int64_t now_ns);

  [[nodiscard]] Counts total() const;
  // Whether anything was counted since the last view.
  [[nodiscard]] bool changed() const;

 private:
  struct Row {
    Counts now;
    Counts before;  // at the last view
  };
  // What a table has beside names, counts of events and faults.
  struct Columns {
    std::vector<size_t> places;  // whose rates are shown
    bool all_places = false;     // the rates of all of them in one
    bool rates = true;
    bool churn = true;
  };
  // From the widest to the narrowest.
  [[nodiscard]] std::vector<Columns> Choices() const;
  [[nodiscard]] toolkit::Table Made(const Columns& columns, const Terminal& terminal,
                                    double seconds) const;
  // Seconds since the last view; begins the next one.
  double Turn(int64_t start_ns, int64_t now_ns);

  std::map<std::string, Row> rows_;
  int64_t last_view_ns_ = 0;
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_TAP_STATS_H_
