// SnapshotDiff, for people and for programs.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "daemon/toolkit/json_text.h"
#include "daemon/toolkit/snapshot_diff.h"
#include "daemon/toolkit/table.h"
#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

using Json = nlohmann::ordered_json;
using Align = Table::Align;

constexpr std::string_view KindName(SnapshotDiff::Kind kind) {
  switch (kind) {
    case SnapshotDiff::Kind::kOnlyA:
      return "only_a";
    case SnapshotDiff::Kind::kOnlyB:
      return "only_b";
    case SnapshotDiff::Kind::kOtherwise:
      return "otherwise";
  }
  return "";
}

// Those with most differing blocks first.
auto Sorted(const SnapshotDiff& diff, size_t most) {
  std::vector<std::pair<std::pair<index::NamespaceKey, PrefixHash>, SnapshotDiff::Prefix>> all(
      diff.prefixes.begin(), diff.prefixes.end());
  std::ranges::stable_sort(all, std::greater{},
                           [](const auto& entry) { return entry.second.differing(); });
  if (all.size() > most) all.resize(most);
  return all;
}

std::string ModelText(const index::NamespaceKey& key) {
  std::string text = key.model;
  if (!key.lora_name.empty()) text += "+" + key.lora_name;
  if (key.tenant != "default") text = key.tenant + "/" + text;
  return Printable(text);
}

std::string RanksTable(const SnapshotDiff& diff, const Terminal& terminal) {
  Table table({{"INSTANCE"},
               {"RANK", Align::kRight},
               {"MODEL"},
               {"TIER"},
               {"BOTH", Align::kRight},
               {"ONLY A", Align::kRight},
               {"ONLY B", Align::kRight},
               {"OTHERWISE", Align::kRight}});
  for (const auto& [key, counts] : diff.ranks) {
    if (counts.differing() == 0) continue;
    table.Add({Printable(key.rank.instance_id), fmt::format("{}", key.rank.dp_rank),
               ModelText(key.rank.name_space), std::string(TierName(key.tier)),
               Grouped(counts.both), Grouped(counts.only_a), Grouped(counts.only_b),
               Grouped(counts.otherwise)});
  }
  return table.rows() == 0 ? "" : table.Render(terminal);
}

std::string ObjectsTable(const SnapshotDiff& diff, const Terminal& terminal) {
  Table table({{"POOL"},
               {"OBJECTS IN BOTH", Align::kRight},
               {"ONLY A", Align::kRight},
               {"ONLY B", Align::kRight}});
  for (const auto& publisher : diff.publishers) {
    if (publisher.objects_only_a + publisher.objects_only_b == 0) continue;
    table.Add({Printable(publisher.key), Grouped(publisher.objects_both),
               Grouped(publisher.objects_only_a), Grouped(publisher.objects_only_b)});
  }
  return table.rows() == 0 ? "" : "\n" + table.Render(terminal);
}

std::string PrefixesTable(const SnapshotDiff& diff, size_t most, const Terminal& terminal) {
  Table table({{"PREFIX"},
               {"MODEL"},
               {"FROM BLOCK", Align::kRight},
               {"ONLY A", Align::kRight},
               {"ONLY B", Align::kRight},
               {"OTHERWISE", Align::kRight},
               {"INSTANCES"}});
  for (const auto& [of, prefix] : Sorted(diff, most)) {
    table.Add({HashText(of.second), ModelText(of.first), Grouped(prefix.first),
               Grouped(prefix.only_a), Grouped(prefix.only_b), Grouped(prefix.otherwise),
               Printable(fmt::format("{}", fmt::join(prefix.instances, ",")))});
  }
  if (table.rows() == 0) return "";
  return fmt::format("\nby prefix, {} of {}{}:\n{}", table.rows(), diff.prefixes.size(),
                     diff.more_prefixes ? " and more" : "", table.Render(terminal));
}

std::string BlocksTable(const SnapshotDiff& diff, size_t most, uint64_t all,
                        const Terminal& terminal) {
  Table table({{"INSTANCE"},
               {"RANK", Align::kRight},
               {"TIER"},
               {"BLOCK", Align::kRight},
               {"HASH"},
               {"PREFIX"},
               {"WHERE"}});
  for (const auto& block : diff.first) {
    if (table.rows() == most) break;
    table.Add({Printable(block.key.rank.instance_id), fmt::format("{}", block.key.rank.dp_rank),
               std::string(TierName(block.key.tier)), Grouped(block.position), HashText(block.hash),
               HashText(block.root), std::string(KindName(block.kind))});
  }
  if (table.rows() == 0) return "";
  return fmt::format("\nthe first {} of {}:\n{}", table.rows(), Counted(all, "block"),
                     table.Render(terminal));
}

Json CountsJson(const SnapshotDiff::Counts& counts) {
  return {{"both", counts.both},
          {"only_a", counts.only_a},
          {"only_b", counts.only_b},
          {"otherwise", counts.otherwise}};
}

void AddNamespace(const index::NamespaceKey& key, Json& json) {
  json["tenant_id"] = key.tenant;
  json["model"] = key.model;
  json["lora_name"] = key.lora_name;
  json["block_size"] = key.block_size;
  json["additional_salt"] = key.additional_salt;
}

Json KeyJson(const SnapshotDiff::Key& key) {
  Json json{{"instance_id", key.rank.instance_id}, {"dp_rank", key.rank.dp_rank}};
  AddNamespace(key.rank.name_space, json);
  json["tier"] = TierName(key.tier);
  return json;
}

Json CursorJson(const std::optional<uint64_t>& cursor) {
  return cursor ? Json(*cursor) : Json(nullptr);
}

}  // namespace

std::string DiffText(const SnapshotDiff& diff, size_t most, const Terminal& terminal) {
  std::string text = fmt::format("A: {}\nB: {}\n", Printable(diff.name_a), Printable(diff.name_b));
  const SnapshotDiff::Counts total = diff.total();
  if (diff.same()) {
    text += fmt::format("the same: {} holdings\n", Grouped(total.both));
  } else {
    text +=
        fmt::format("different: {} holdings in both, {} only in A, {} only in B, {} otherwise\n",
                    Grouped(total.both), Grouped(total.only_a), Grouped(total.only_b),
                    Grouped(total.otherwise));
    text += RanksTable(diff, terminal);
    text += ObjectsTable(diff, terminal);
    text += PrefixesTable(diff, most, terminal);
    text += BlocksTable(diff, most, total.differing(), terminal);
  }
  for (const auto& publisher : diff.publishers) {
    const std::string key = Printable(publisher.key);
    const auto cursor = [](const std::optional<uint64_t>& of) {
      return of ? fmt::format("sequence {}", *of) : std::string("no batch");
    };
    if (publisher.in_a != publisher.in_b) {
      text += fmt::format("publisher {} is only in {}\n", key, publisher.in_a ? "A" : "B");
    } else if (publisher.cursor_a != publisher.cursor_b) {
      text += fmt::format("publisher {} is at {} in A, at {} in B\n", key,
                          cursor(publisher.cursor_a), cursor(publisher.cursor_b));
    }
  }
  return text;
}

std::string DiffJson(const SnapshotDiff& diff, size_t most) {
  Json ranks = Json::array();
  for (const auto& [key, counts] : diff.ranks) {
    Json rank = KeyJson(key);
    rank.update(CountsJson(counts));
    ranks.push_back(std::move(rank));
  }
  Json prefixes = Json::array();
  for (const auto& [of, prefix] : Sorted(diff, most)) {
    Json json{{"root", HashText(of.second)}};
    AddNamespace(of.first, json);
    json["first_position"] = prefix.first;
    json["only_a"] = prefix.only_a;
    json["only_b"] = prefix.only_b;
    json["otherwise"] = prefix.otherwise;
    json["instances"] = prefix.instances;
    prefixes.push_back(std::move(json));
  }
  Json blocks = Json::array();
  for (const auto& block : diff.first) {
    if (blocks.size() == most) break;
    Json json = KeyJson(block.key);
    json["position"] = block.position;
    json["hash"] = HashText(block.hash);
    json["root"] = HashText(block.root);
    json["where"] = KindName(block.kind);
    blocks.push_back(std::move(json));
  }
  Json publishers = Json::array();
  for (const auto& publisher : diff.publishers) {
    publishers.push_back({{"id", publisher.key},
                          {"in_a", publisher.in_a},
                          {"in_b", publisher.in_b},
                          {"cursor_a", CursorJson(publisher.cursor_a)},
                          {"cursor_b", CursorJson(publisher.cursor_b)},
                          {"objects",
                           {{"both", publisher.objects_both},
                            {"only_a", publisher.objects_only_a},
                            {"only_b", publisher.objects_only_b}}}});
  }
  return DumpJson({{"a", diff.name_a},
                   {"b", diff.name_b},
                   {"same", diff.same()},
                   {"holdings", CountsJson(diff.total())},
                   {"ranks", std::move(ranks)},
                   {"prefixes", std::move(prefixes)},
                   {"blocks", std::move(blocks)},
                   {"publishers", std::move(publishers)}}) +
         "\n";
}

}  // namespace conductor::toolkit
