// `conductor snapshot info`.

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "daemon/toolkit/console.h"
#include "daemon/toolkit/json_text.h"
#include "daemon/toolkit/offline_snapshot.h"
#include "daemon/toolkit/snapshot_commands.h"
#include "daemon/toolkit/snapshot_content.h"
#include "daemon/toolkit/table.h"
#include "lib/base/number.h"
#include "lib/store/snapshot_reader.h"
#include "lib/store/sqlite.h"

namespace conductor::toolkit {
namespace {

using Json = nlohmann::ordered_json;
using Align = Table::Align;
using Tiers = std::array<uint64_t, kTierCount>;

struct Namespace {
  index::NamespaceKey key;
  uint64_t runs = 0;
  uint64_t blocks = 0;
  Tiers held{};
};

struct Summary {
  store::SnapshotInfo info;
  std::vector<store::StoredPublisher> publishers;
  std::map<std::string, Tiers> held;  // by publisher
  std::vector<Namespace> namespaces;
};

// `row(statement)` for each.
template <typename Row>
Status ForEach(store::Database& database, const char* sql, Row row) {
  auto rows = store::Statement::Prepare(database, sql);
  if (!rows) return tl::unexpected(std::move(rows.error()));
  for (;;) {
    const auto more = rows->Next("cannot be read");
    if (!more) return tl::unexpected(more.error());
    if (!*more) return {};
    row(*rows);
  }
}

void AddTo(Tiers& tiers, int64_t tier, uint64_t blocks) {
  if (tier >= 0 && static_cast<size_t>(tier) < kTierCount) {
    tiers[static_cast<size_t>(tier)] += blocks;
  }
}

// Counted in SQL, which needs no memory for the blocks.
Status Count(store::Database& database, Summary& summary) {
  auto done =
      ForEach(database,
              "SELECT publishers.key, holdings.tier, sum(holdings.held) FROM holdings "
              "JOIN holders ON holders.id = holdings.holder "
              "JOIN publishers ON publishers.id = holders.publisher GROUP BY 1, 2",
              [&](const store::Statement& row) {
                AddTo(summary.held[std::string(row.Text(0))], row.Integer(1), row.Unsigned(2));
              });
  if (!done) return done;
  std::map<int64_t, size_t> at;
  done = ForEach(
      database,
      "SELECT namespaces.id, tenant, model, lora_name, block_size, additional_salt, "
      "count(runs.id), coalesce(sum(runs.length), 0) FROM namespaces "
      "LEFT JOIN runs ON runs.namespace = namespaces.id GROUP BY namespaces.id",
      [&](const store::Statement& row) {
        at[row.Integer(0)] = summary.namespaces.size();
        summary.namespaces.push_back(
            {.key = {std::string(row.Text(1)), std::string(row.Text(2)), std::string(row.Text(3)),
                     static_cast<uint32_t>(row.Integer(4)), std::string(row.Text(5))},
             .runs = row.Unsigned(6),
             .blocks = row.Unsigned(7)});
      });
  if (!done) return done;
  return ForEach(database,
                 "SELECT holders.namespace, holdings.tier, sum(holdings.held) FROM holdings "
                 "JOIN holders ON holders.id = holdings.holder GROUP BY 1, 2",
                 [&](const store::Statement& row) {
                   const auto found = at.find(row.Integer(0));
                   if (found == at.end()) return;
                   AddTo(summary.namespaces[found->second].held, row.Integer(1), row.Unsigned(2));
                 });
}

Result<Summary> Read(const std::string& path) {
  auto reader = store::SnapshotReader::Open(path);
  if (!reader) return tl::unexpected(std::move(reader.error()));
  Summary summary{.info = reader->info()};
  auto publishers = reader->Publishers();
  if (!publishers) return tl::unexpected(std::move(publishers.error()));
  summary.publishers = *std::move(publishers);
  // What is counted below is what was written, and counting it ends.
  store::ChainVisitor nobody;
  if (auto sound = reader->VisitChains(nobody); !sound) {
    return tl::unexpected(std::move(sound.error()));
  }
  auto database = store::Database::Open(path, store::Database::Mode::kRead);
  if (!database) return tl::unexpected(std::move(database.error()));
  if (auto counted = Count(*database, summary); !counted) {
    return tl::unexpected(std::move(counted.error()));
  }
  return summary;
}

// A member of what it is registered as; empty: it has none.
std::string Member(const store::SavedPublisher& publisher, const char* name) {
  const Json registration = Json::parse(publisher.registration, nullptr, false);
  if (!registration.is_object()) return {};
  const auto found = registration.find(name);
  return found != registration.end() && found->is_string() ? found->get<std::string>()
                                                           : std::string();
}

std::string StateText(const store::SavedPublisher& publisher) {
  return publisher.reason.empty() ? publisher.state : publisher.state + ": " + publisher.reason;
}

std::string Dash(std::string text) { return text.empty() ? "-" : Printable(text); }

std::string Text(const Summary& summary, const Terminal& terminal) {
  const store::SnapshotInfo& info = summary.info;
  std::string text = fmt::format(
      "{}: format {}, {}\nsaved {} by conductor {}, hash seed {}\n{} of {} in {}\n\n",
      Printable(info.path), info.format, Counted(info.bytes, "byte"), UtcText(info.saved_at),
      Printable(info.conductor), info.hash_seed, Counted(info.holdings, "holding"),
      Counted(info.blocks, "block"), Counted(info.runs, "run"));
  Table publishers({{"PUBLISHER"},
                    {"TYPE"},
                    {"STATE THEN"},
                    {"CURSOR", Align::kRight},
                    {"GPU", Align::kRight},
                    {"CPU", Align::kRight},
                    {"DISK", Align::kRight},
                    {"OBJECTS", Align::kRight},
                    {"INCARNATION"}});
  for (const auto& [saved, holders, spaces] : summary.publishers) {
    const auto found = summary.held.find(saved.key);
    const Tiers held = found == summary.held.end() ? Tiers() : found->second;
    publishers.Add({Printable(saved.key), Dash(Member(saved, "type")), Printable(StateText(saved)),
                    saved.resume ? fmt::format("{}", saved.resume->cursor) : "-", Grouped(held[0]),
                    Grouped(held[1]), Grouped(held[2]),
                    saved.pool ? Grouped(saved.pool->objects.size()) : "-",
                    Dash(Member(saved, "incarnation"))});
  }
  text += publishers.rows() == 0 ? "no publishers\n" : publishers.Render(terminal);
  Table namespaces({{"MODEL"},
                    {"TENANT"},
                    {"LORA"},
                    {"SALT"},
                    {"BLOCK SIZE", Align::kRight},
                    {"BLOCKS", Align::kRight},
                    {"GPU", Align::kRight},
                    {"CPU", Align::kRight},
                    {"DISK", Align::kRight}});
  for (const Namespace& of : summary.namespaces) {
    namespaces.Add({Printable(of.key.model), Printable(of.key.tenant), Dash(of.key.lora_name),
                    Dash(of.key.additional_salt), fmt::format("{}", of.key.block_size),
                    Grouped(of.blocks), Grouped(of.held[0]), Grouped(of.held[1]),
                    Grouped(of.held[2])});
  }
  if (namespaces.rows() > 0) text += "\n" + namespaces.Render(terminal);
  return text;
}

Json TiersJson(const Tiers& tiers) {
  Json json = Json::object();
  for (const Tier tier : kTiers)
    json[std::string(TierName(tier))] = tiers[static_cast<size_t>(tier)];
  return json;
}

Json PublisherJson(const store::SavedPublisher& saved, const Tiers& held) {
  const Json registration = Json::parse(saved.registration, nullptr, false);
  Json json{{"id", saved.key},
            {"registration", registration.is_discarded() ? Json(nullptr) : registration},
            {"configured", saved.configured},
            {"saved_at", saved.saved_at},
            {"state", saved.state},
            {"reason", saved.reason},
            {"detail", saved.detail},
            {"incarnation", Member(saved, "incarnation")},
            {"cursor", nullptr},
            {"digest", nullptr},
            {"first_sequence", nullptr},
            {"block_size", saved.life ? Json(saved.life->block_size) : Json(nullptr)},
            {"holdings", TiersJson(held)},
            {"waiting", saved.life ? saved.life->waiting.size() : 0},
            {"objects", saved.pool ? saved.pool->objects.size() : 0}};
  if (saved.resume) {
    json["cursor"] = saved.resume->cursor;
    json["digest"] = fmt::format("{:016x}", saved.resume->digest);
    if (saved.resume->first) json["first_sequence"] = *saved.resume->first;
  }
  return json;
}

std::string JsonOf(const Summary& summary) {
  const store::SnapshotInfo& info = summary.info;
  Json publishers = Json::array();
  for (const auto& [saved, holders, spaces] : summary.publishers) {
    const auto found = summary.held.find(saved.key);
    publishers.push_back(
        PublisherJson(saved, found == summary.held.end() ? Tiers() : found->second));
  }
  Json namespaces = Json::array();
  for (const Namespace& of : summary.namespaces) {
    namespaces.push_back({{"tenant_id", of.key.tenant},
                          {"model", of.key.model},
                          {"lora_name", of.key.lora_name},
                          {"block_size", of.key.block_size},
                          {"additional_salt", of.key.additional_salt},
                          {"runs", of.runs},
                          {"blocks", of.blocks},
                          {"holdings", TiersJson(of.held)}});
  }
  return DumpJson({{"path", info.path},
                   {"bytes", info.bytes},
                   {"format", info.format},
                   {"conductor", info.conductor},
                   {"saved_at", info.saved_at},
                   {"hash_seed", info.hash_seed},
                   {"blocks", info.blocks},
                   {"runs", info.runs},
                   {"holdings", info.holdings},
                   {"publishers", std::move(publishers)},
                   {"namespaces", std::move(namespaces)}}) +
         "\n";
}

}  // namespace

int RunSnapshotInfo(const SnapshotInfoOptions& options) {
  Output output;
  const auto summary = Read(options.file);
  if (!summary) return Complain(kExitFailed, summary.error());
  output.Print(options.json ? JsonOf(*summary) : Text(*summary, TerminalOf(STDOUT_FILENO)));
  return output.End(kExitDone);
}

}  // namespace conductor::toolkit
