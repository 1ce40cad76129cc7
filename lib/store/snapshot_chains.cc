// SnapshotReader: what publishers hold, and how they call it.

#include <algorithm>
#include <bit>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "lib/store/snapshot_reader_impl.h"

namespace conductor::store {
namespace {

constexpr uint32_t kMost32 = std::numeric_limits<uint32_t>::max();
constexpr uint32_t kMostLength = 64;
// Blocks of one chain: so that every place in it is a number of 32 bits, with room to add two.
constexpr uint64_t kMostBlocks = uint64_t{1} << 30;

uint64_t Leading(uint32_t blocks) {
  return blocks >= kMostLength ? ~uint64_t{0} : (uint64_t{1} << blocks) - 1;
}

// A mask of blocks of a run of that length.
uint64_t Mask(SnapshotRow& row, int column, uint32_t length) {
  const uint64_t blocks = row.Bits(column);
  if (blocks == 0 || (blocks & ~Leading(length)) != 0) {
    row.Refuse(column, "a mask of blocks of a run of " + std::to_string(length));
  }
  return blocks;
}

}  // namespace

Status SnapshotReader::Impl::VisitRuns(ChainVisitor& visitor) {
  runs.clear();
  std::vector<PrefixHash> blocks;
  return ForEach(
      "runs", "id, namespace, parent, parent_block, position, length, prefixes",
      [&](SnapshotRow& row) {
        ChainVisitor::Run run{.id = static_cast<uint32_t>(runs.size() + 1)};
        row.Number(0, run.id, run.id, "for the next row");
        const uint64_t name_space = row.Number(1, 1, namespaces.size(), "for a namespace") - 1;
        uint64_t position = 0;
        if (!row.IsNull(2)) {
          const uint64_t parent = row.Number(2, 1, runs.size(), "for a run before it");
          if (!row.ok()) return;
          const Run& before = runs[parent - 1];
          if (before.name_space != name_space) row.Refuse(2, "a run of the same namespace");
          run.parent = static_cast<uint32_t>(parent);
          run.parent_block = row.Number32(3, 0, before.length - 1u, "for a block of the parent");
          position = uint64_t{before.position} + run.parent_block + 1;
        } else if (!row.IsNull(3)) {
          row.Refuse(3, "NULL where there is no parent");
        }
        row.Number(4, position, std::min(position, kMostBlocks), "blocks before it");
        const uint64_t length = row.Number(5, 1, kMostLength, "blocks");
        row.Numbers(6, length, length, blocks);
        if (runs.size() >= kMost32 / kMostLength) row.Refuse(0, "fewer runs");
        if (!row.ok()) return;
        run.name_space = &namespaces[name_space];
        run.position = static_cast<uint32_t>(position);
        run.blocks = blocks;
        runs.push_back(
            {static_cast<uint32_t>(name_space), run.position, static_cast<uint8_t>(length)});
        visitor.OnRun(run);
      });
}

std::optional<SnapshotReader::Impl::Held> SnapshotReader::Impl::HeldAt(SnapshotRow& row) const {
  Held held{.run = row.Number32(0, 1, static_cast<uint32_t>(runs.size()), "for a run"),
            .holder = row.Number32(1, 1, static_cast<uint32_t>(holders.size()), "for a holder"),
            .tier = static_cast<Tier>(row.Number(2, 0, kTierCount - 1, "for a tier"))};
  if (!row.ok()) return std::nullopt;
  held.of = runs[held.run - 1];
  if (holders[held.holder - 1] == held.of.name_space) return held;
  row.Refuse(1, "a holder of the run's namespace");
  return std::nullopt;
}

Status SnapshotReader::Impl::VisitHoldings(ChainVisitor& visitor) {
  return ForEach("holdings", "run, holder, tier, blocks, held", [&](SnapshotRow& row) {
    const auto at = HeldAt(row);
    if (!at) return;
    const uint64_t blocks = Mask(row, 3, at->of.length);
    const auto held = static_cast<uint64_t>(std::popcount(blocks));
    row.Number(4, held, held, "blocks");
    if (row.ok()) visitor.OnHolding(at->run, at->holder, at->tier, blocks);
  });
}

Status SnapshotReader::Impl::VisitSpecial(ChainVisitor& visitor) {
  return ForEach(
      "special_holdings", "run, holder, tier, block, span, copies", [&](SnapshotRow& row) {
        const auto at = HeldAt(row);
        if (!at) return;
        const uint32_t block = row.Number32(3, 0, at->of.length - 1u, "for a block of the run");
        const uint32_t span =
            row.Number32(4, 1, at->of.position + block + 1, "blocks of its chain");
        const uint32_t copies = row.Number32(5, 1, kMost32, "copies");
        if (row.ok()) visitor.OnSpecial(at->run, at->holder, at->tier, block, span, copies);
      });
}

Status SnapshotReader::Impl::CheckNames(ChainVisitor& visitor) {
  uint64_t rows = 0;
  uint64_t count = 0;
  std::vector<EngineHash> names;
  auto done = ForEach("names", "id, run, blocks, names", [&](SnapshotRow& row) {
    ++rows;
    row.Number(0, rows, rows, "for the next row");
    const uint64_t run = row.Number(1, 1, runs.size(), "for a run");
    if (!row.ok()) return;
    const auto named = static_cast<uint64_t>(std::popcount(Mask(row, 2, runs[run - 1].length)));
    row.Numbers(3, named, named, names);
    count += named;
  });
  if (done) visitor.OnNamesAhead(count);
  return done;
}

Status SnapshotReader::Impl::VisitNames(ChainVisitor& visitor, bool of_pools) {
  auto found = Statement::Prepare(database, "SELECT run, blocks, names FROM names WHERE id = ?");
  if (!found) return tl::unexpected(found.error());
  Statement& statement = *found;
  std::vector<EngineHash> names;
  std::optional<Error> failed;
  auto done = ForEach("aliases", "space, names", [&](SnapshotRow& row) {
    const uint64_t space = row.Number(0, 1, spaces.size(), "for a space");
    const uint64_t id = row.Bits(1);
    if (!row.ok() || failed || spaces[space - 1].of_pool != of_pools) return;
    const auto there = statement.Bind(0, id).Next("names cannot be read");
    if (!there) {
      failed = there.error();
      return;
    }
    if (!*there) {
      row.Refuse(1, "the number of a row of names");
      return;
    }
    // They were looked at before; in a damaged file another row may be found under their number.
    SnapshotRow named(statement);
    const uint64_t run = named.Number(0, 1, runs.size(), "for a run");
    const uint64_t blocks = named.ok() ? Mask(named, 1, runs[run - 1].length) : 0;
    const auto count = static_cast<uint64_t>(std::popcount(blocks));
    named.Numbers(2, count, count, names);
    if (named.ok()) {
      visitor.OnNames(static_cast<uint32_t>(run), static_cast<uint32_t>(space), blocks, names);
    } else {
      row.Refuse(1, "a row of names that is sound");
    }
    statement.Reset();
  });
  if (failed) return tl::unexpected(*failed);
  return done;
}

Status SnapshotReader::Impl::VisitSpans(ChainVisitor& visitor, bool of_pools) {
  return ForEach("alias_spans", "space, run, block, name, span", [&](SnapshotRow& row) {
    const uint64_t space = row.Number(0, 1, spaces.size(), "for a space");
    const uint64_t number = row.Number(1, 1, runs.size(), "for a run");
    if (!row.ok()) return;
    const Run& run = runs[number - 1];
    const uint32_t block = row.Number32(2, 0, run.length - 1u, "for a block of the run");
    const EngineHash name{row.Bits(3)};
    const uint32_t span = row.Number32(4, 2, run.position + block + 1, "blocks of its chain");
    if (!row.ok() || spaces[space - 1].of_pool != of_pools) return;
    visitor.OnSpan(static_cast<uint32_t>(number), block, static_cast<uint32_t>(space), name, span);
  });
}

}  // namespace conductor::store
