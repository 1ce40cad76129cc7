#include "daemon/toolkit/snapshot_verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <tuple>

#include "daemon/toolkit/table.h"
#include "lib/base/number.h"
#include "lib/store/snapshot_reader.h"
#include "lib/store/sqlite.h"

namespace conductor::toolkit {
namespace {

SnapshotCheck Failed(std::string name, const Error& error) {
  return {std::move(name), false, error.Message()};
}

// What the tables say, by themselves, and what the views come to.
struct Expected {
  const char* what;
  const char* sql;
  uint64_t value;
};

SnapshotCheck CheckCounts(const SnapshotContent& content) {
  constexpr const char* kName = "counts";
  uint64_t holdings = 0;
  for (size_t i = 0; i < content.holders().size(); ++i) {
    for (const auto& holding : content.held(i).holdings) {
      holdings += static_cast<uint64_t>(std::popcount(holding.blocks));
    }
  }
  uint64_t blocks = 0;
  for (const auto& run : content.runs()) blocks += run.length;
  auto database = store::Database::Open(content.info().path, store::Database::Mode::kRead);
  if (!database) return Failed(kName, database.error());
  for (const Expected& expected : {
           Expected{"the blocks of snapshot", "SELECT blocks FROM snapshot", blocks},
           Expected{"the runs of snapshot", "SELECT runs FROM snapshot", content.runs().size()},
           Expected{"the rows of view blocks", "SELECT count(*) FROM blocks", blocks},
           Expected{"the rows of view blocks_by_instance",
                    "SELECT count(*) FROM blocks_by_instance", holdings},
           Expected{"the blocks of view tier_use", "SELECT coalesce(sum(blocks), 0) FROM tier_use",
                    holdings},
           Expected{"the holdings of view publisher_state",
                    "SELECT coalesce(sum(holdings), 0) FROM publisher_state", holdings},
           Expected{"the rows of view publisher_state", "SELECT count(*) FROM publisher_state",
                    content.publishers().size()},
       }) {
    const auto number = database->Number(expected.sql);
    if (!number) return Failed(kName, number.error());
    const auto got = static_cast<uint64_t>(number->value_or(0));
    if (got == expected.value) continue;
    return {kName, false,
            fmt::format("{} are {}, where the tables come to {}", expected.what, Grouped(got),
                        Grouped(expected.value))};
  }
  return {kName, true,
          fmt::format("{} of {}", Counted(holdings, "holding"), Counted(blocks, "block"))};
}

}  // namespace

SnapshotCheck CheckChains(const SnapshotContent& content) {
  constexpr const char* kName = "chains";
  struct Place {
    PrefixHash hash;
    PrefixHash parent;  // 0: it begins a prompt
    uint32_t position;
  };
  std::vector<Place> places;
  for (uint32_t run = 0; run < content.runs().size(); ++run) {
    const auto before = content.Before(run, 0);
    PrefixHash parent{};
    if (before) parent = content.Blocks(before->first)[before->second];
    uint32_t position = content.runs()[run].position;
    for (const PrefixHash hash : content.Blocks(run)) {
      places.push_back({hash, parent, position++});
      parent = hash;
    }
  }
  std::ranges::sort(places, {}, [](const Place& place) {
    return std::tuple(place.hash, place.parent, place.position);
  });
  const auto differs = std::ranges::adjacent_find(places, [](const Place& a, const Place& b) {
    return a.hash == b.hash && std::tuple(a.parent, a.position) != std::tuple(b.parent, b.position);
  });
  if (differs == places.end()) {
    return {kName, true,
            fmt::format("{} in {}", Counted(places.size(), "block"),
                        Counted(content.runs().size(), "run"))};
  }
  const Place& other = *std::next(differs);
  return {kName, false,
          fmt::format("block {} stands at {} after {} and at {} after {}", HashText(differs->hash),
                      differs->position, HashText(differs->parent), other.position,
                      HashText(other.parent))};
}

std::vector<SnapshotCheck> CheckSnapshot(const std::string& path) {
  std::vector<SnapshotCheck> checks;
  auto reader = store::SnapshotReader::Open(path);
  if (!reader) return {Failed("file", reader.error())};
  checks.push_back({"file", true, fmt::format("format {}", reader->info().format)});
  if (auto sound = reader->Verify(); !sound) {
    checks.push_back(Failed("database", sound.error()));
    return checks;
  }
  checks.push_back({"database", true, "integrity, references, rows and digest"});
  const auto content = SnapshotContent::Read(*reader);
  if (!content) {
    checks.push_back(Failed("chains", content.error()));
    return checks;
  }
  checks.push_back(CheckChains(*content));
  checks.push_back(CheckCounts(*content));
  return checks;
}

}  // namespace conductor::toolkit
