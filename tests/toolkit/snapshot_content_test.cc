#include "daemon/toolkit/snapshot_content.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "daemon/serve/snapshots.h"
#include "daemon/toolkit/offline_conductor.h"
#include "daemon/toolkit/snapshot_diff.h"
#include "daemon/toolkit/snapshot_export.h"
#include "daemon/toolkit/snapshot_verify.h"
#include "daemon/toolkit/standard_events.h"
#include "lib/base/log.h"
#include "lib/store/snapshot_writer.h"

namespace conductor::toolkit {
namespace {

using Chains = index::PackedChains;

index::NamespaceKey NamespaceOf() { return {"default", "m", "", 4, ""}; }

// Blocks whose hashes are their numbers; the chains of each engine are as they are given.
class SnapshotContentTest : public testing::Test {
 protected:
  SnapshotContentTest() { log::SetLevel(log::Level::kError); }
  ~SnapshotContentTest() override {
    for (const std::string& path : paths_) std::remove(path.c_str());
  }

  struct Run {
    uint32_t parent = Chains::kNoRun;
    uint8_t parent_block = 0;
    std::vector<uint64_t> blocks;
  };
  static Chains Of(const std::vector<Run>& runs, std::vector<Chains::Holding> holdings,
                   std::vector<Chains::Special> special = {}) {
    Chains chains;
    chains.name_spaces = {NamespaceOf()};
    for (const Run& run : runs) {
      chains.runs.push_back(
          {0, run.parent, run.parent_block, static_cast<uint8_t>(run.blocks.size())});
      for (const uint64_t block : run.blocks) chains.prefixes.push_back(PrefixHash{block});
    }
    chains.holdings = std::move(holdings);
    chains.special = std::move(special);
    return chains;
  }

  std::string NewPath() {
    paths_.push_back(testing::TempDir() + "snapshot_content_test_" + std::to_string(getpid()) +
                     "_" + std::to_string(paths_.size()) + ".db");
    std::remove(paths_.back().c_str());
    return paths_.back();
  }
  // A file in which instance "a", "b", ... holds each of these.
  std::string Write(const std::vector<Chains>& engines) {
    const std::string path = NewPath();
    auto writer = store::SnapshotWriter::Create(
        path, {.conductor = "test", .saved_at = 1000, .hash_seed = hash::kDefaultSeed, .vfs = {}});
    EXPECT_TRUE(writer.has_value()) << writer.error().Message();
    char instance = 'a';
    for (const Chains& chains : engines) {
      const std::string name(1, instance++);
      store::SavedPublisher saved{
          .key = name + "|default|0",
          .registration = R"({"instance_id": ")" + name +
                          R"(", "modelname": "m", "type": "vLLM", "mode": "ingest"})",
          .saved_at = 1000,
          .state = "live",
          .reason = {},
          .detail = {}};
      saved.resume.emplace().cursor = 7;
      ingest::SavedLife& life = saved.life.emplace();
      life.block_size = 4;
      life.holders = {{NamespaceOf(), 0}};
      life.chains = chains;
      EXPECT_TRUE((*writer)->Add(saved).has_value());
    }
    EXPECT_TRUE((*writer)->Finish().has_value());
    return path;
  }
  SnapshotContent Read(const std::string& path) {
    auto reader = store::SnapshotReader::Open(path);
    EXPECT_TRUE(reader.has_value()) << reader.error().Message();
    auto content = SnapshotContent::Read(*reader);
    EXPECT_TRUE(content.has_value()) << content.error().Message();
    return *std::move(content);
  }
  SnapshotContent ContentOf(const std::vector<Chains>& engines) { return Read(Write(engines)); }

 private:
  std::vector<std::string> paths_;
};

constexpr Tier kGpu = Tier::kGpu;
constexpr Tier kCpu = Tier::kCpu;

TEST_F(SnapshotContentTest, HasRunsHoldersAndWhatTheyHold) {
  const SnapshotContent content = ContentOf(
      {Of({{.blocks = {1, 2, 3}}, {.parent = 0, .parent_block = 1, .blocks = {4}}},
          {{0, 0, kGpu, 0b111}, {0, 0, kCpu, 0b1}, {1, 0, kGpu, 0b1}}, {{0, 0, 2, kGpu, 1, 3}})});
  ASSERT_EQ(content.runs().size(), 2U);
  EXPECT_EQ(content.runs()[1].position, 2U) << "after blocks 1 and 2";
  EXPECT_EQ(content.runs()[1].root, PrefixHash{1});
  EXPECT_EQ(content.Before(1, 0), (std::pair<uint32_t, uint32_t>(0, 1)));
  EXPECT_EQ(content.Before(0, 0), std::nullopt);
  ASSERT_EQ(content.holders().size(), 1U);
  EXPECT_EQ(content.holders()[0].instance_id, "a");
  EXPECT_EQ(content.held(0).holdings.size(), 3U);
  ASSERT_EQ(content.held(0).special.size(), 1U);
  EXPECT_EQ(content.held(0).special[0].copies, 3U);
}

TEST_F(SnapshotContentTest, TheSameHoldingsAreTheSameHoweverChainsAreCut) {
  const auto whole = ContentOf({Of({{.blocks = {1, 2, 3, 4}}}, {{0, 0, kGpu, 0b1111}})});
  const auto cut =
      ContentOf({Of({{.blocks = {1, 2}}, {.parent = 0, .parent_block = 1, .blocks = {3, 4}}},
                    {{0, 0, kGpu, 0b11}, {1, 0, kGpu, 0b11}})});
  const SnapshotDiff diff = CompareSnapshots(whole, cut, 10);
  EXPECT_TRUE(diff.same());
  EXPECT_EQ(diff.total().both, 4U);
}

TEST_F(SnapshotContentTest, DifferencesAreCountedByInstanceTierAndPrefix) {
  const auto a = ContentOf({Of({{.blocks = {1, 2, 3}}}, {{0, 0, kGpu, 0b111}, {0, 0, kCpu, 0b1}}),
                            Of({{.blocks = {1}}}, {{0, 0, kGpu, 0b1}})});
  const auto b =
      ContentOf({Of({{.blocks = {1, 2, 9}}}, {{0, 0, kGpu, 0b101}}, {{0, 0, 0, kGpu, 1, 2}}),
                 Of({{.blocks = {1}}}, {{0, 0, kGpu, 0b1}})});
  const SnapshotDiff diff = CompareSnapshots(a, b, 10);
  EXPECT_FALSE(diff.same());
  const auto counts = [&diff](const std::string& instance, Tier tier) {
    const auto& of = diff.ranks.at({{NamespaceOf(), instance, 0}, tier});
    return std::tuple(of.both, of.only_a, of.only_b, of.otherwise);
  };
  EXPECT_EQ(counts("a", kGpu), std::tuple(1, 2, 1, 1)) << "one in both, there twice in B";
  EXPECT_EQ(counts("a", kCpu), std::tuple(0, 1, 0, 0));
  EXPECT_EQ(counts("b", kGpu), std::tuple(1, 0, 0, 0));
  ASSERT_EQ(diff.prefixes.size(), 1U);
  EXPECT_EQ(diff.prefixes.begin()->second.differing(), 5U);
  EXPECT_EQ(diff.prefixes.begin()->second.first, 0U);
  ASSERT_EQ(diff.first.size(), 5U);
  EXPECT_EQ(diff.first[0].hash, PrefixHash{1});
  EXPECT_EQ(diff.first[0].kind, SnapshotDiff::Kind::kOtherwise);
  EXPECT_EQ(diff.first[1].position, 1U) << "by position";
  EXPECT_EQ(CompareSnapshots(a, b, 2).first.size(), 2U);
}

TEST_F(SnapshotContentTest, ABlockThatFollowsTwoOthersIsFound) {
  const auto content = ContentOf({Of({{.blocks = {1, 2}}}, {{0, 0, kGpu, 0b11}}),
                                  Of({{.blocks = {3, 2}}}, {{0, 0, kGpu, 0b11}})});
  const SnapshotCheck check = CheckChains(content);
  EXPECT_FALSE(check.sound);
  EXPECT_NE(check.detail.find("block 0000000000000002"), std::string::npos) << check.detail;
}

TEST_F(SnapshotContentTest, AFileOfOneIsSound) {
  for (const SnapshotCheck& check :
       CheckSnapshot(Write({Of({{.blocks = {1, 2}}}, {{0, 0, kGpu, 0b11}})}))) {
    EXPECT_TRUE(check.sound) << check.name << ": " << check.detail;
  }
  const auto missing = CheckSnapshot("/nowhere/at-all.db");
  ASSERT_EQ(missing.size(), 1U);
  EXPECT_EQ(missing[0].name, "file");
  EXPECT_FALSE(missing[0].sound);
}

// What events come to that are taken in order, by tier; a parent must have been told.
std::map<Tier, std::multiset<uint64_t>> Taken(const SnapshotContent& content) {
  std::map<Tier, std::multiset<uint64_t>> held;
  std::set<PrefixHash> known;
  VisitStandardEvents(content, 0, [&](const StandardEvent& event) {
    EXPECT_EQ(event.parent.has_value(), event.base_block > 0);
    EXPECT_TRUE(!event.parent || known.contains(*event.parent));
    for (const PrefixHash hash : event.hashes) {
      const auto number = static_cast<uint64_t>(hash);
      known.insert(hash);
      if (event.removed) {
        held[event.tier].extract(number);
      } else {
        held[event.tier].insert(number);
      }
    }
    return true;
  });
  return held;
}

TEST_F(SnapshotContentTest, EventsLeadOverHolesAndLeaveThem) {
  const auto content =
      ContentOf({Of({{.blocks = {1, 2, 3}}, {.parent = 0, .parent_block = 2, .blocks = {4, 5}}},
                    {{0, 0, kGpu, 0b001}, {1, 0, kCpu, 0b10}})});
  const auto held = Taken(content);
  EXPECT_EQ(held.at(kGpu), (std::multiset<uint64_t>{1})) << "2, 3 and 4 only led to 5";
  EXPECT_EQ(held.at(kCpu), (std::multiset<uint64_t>{5}));
}

TEST_F(SnapshotContentTest, EventsTellCopiesSpansAndEveryTier) {
  const auto content =
      ContentOf({Of({{.blocks = {1, 2, 3, 4}}}, {{0, 0, kGpu, 0b1011}, {0, 0, kCpu, 0b0011}},
                    {{0, 0, 0, kGpu, 1, 3}, {0, 0, 3, kGpu, 2, 1}})});
  const auto held = Taken(content);
  EXPECT_EQ(held.at(kGpu), (std::multiset<uint64_t>{1, 1, 1, 2, 3, 4})) << "4 stands for 3 too";
  EXPECT_EQ(held.at(kCpu), (std::multiset<uint64_t>{1, 2}));
}

TEST_F(SnapshotContentTest, EventsThatAreTakenInAreTheSameSnapshot) {
  const std::string path = Write({Of(
      {{.blocks = {11, 12, 13, 14}}, {.parent = 0, .parent_block = 1, .blocks = {15, 16}}},
      {{0, 0, kGpu, 0b1011}, {0, 0, kCpu, 0b0110}, {1, 0, kGpu, 0b10}}, {{0, 0, 1, kGpu, 1, 2}})});
  const SnapshotContent content = Read(path);
  serve::Registration registration;
  registration.mode = stream::ListenMode::kIngest;
  registration.type = serve::PublisherType::kRfc1527;
  registration.instance_id = "a";
  registration.model = "m";
  registration.block_size = 4;
  OfflineConductor conductor;
  std::vector<stream::Intake::Message> messages;
  VisitStandardEvents(content, 0, [&](const StandardEvent& event) {
    wire::MsgpackWriter out;
    out.Array(3);
    out.Float(1000);
    out.Array(1);
    WriteStandardEvent(event, NamespaceOf(), 0, {}, out);
    out.Nil();
    messages.push_back({"", messages.size(), out.Take()});
    return true;
  });
  ASSERT_TRUE(conductor.Feed(registration, messages));
  ASSERT_TRUE(conductor.Settle());
  const std::string again = NewPath();
  ASSERT_TRUE(serve::SaveRegistry(conductor.registry(), again));
  const SnapshotDiff diff = CompareSnapshots(content, Read(again), 10);
  EXPECT_TRUE(diff.same()) << DiffJson(diff, 10);
}

TEST_F(SnapshotContentTest, ExportedLinesAreStretchesWithoutGaps) {
  const auto content =
      ContentOf({Of({{.blocks = {1, 2, 3, 4}}}, {{0, 0, kGpu, 0b1011}}, {{0, 0, 1, kGpu, 1, 2}})});
  std::string text;
  ExportRuns(content, {}, [&text](std::string_view line) {
    text += line;
    return true;
  });
  EXPECT_NE(
      text.find(R"("position":0,"parent":null,"hashes":["0000000000000001","0000000000000002"],)"
                R"("copies":[1,2]})"),
      std::string::npos)
      << text;
  EXPECT_NE(text.find(R"("position":3,"parent":"0000000000000003","hashes":["0000000000000004"]})"),
            std::string::npos)
      << text;
  int lines = 0;
  ExportStandardEvents(content, {}, [&lines](std::string_view) { return ++lines < 2; });
  EXPECT_EQ(lines, 2) << "no more are wanted";
  ExportRuns(content, {"another"}, [&lines](std::string_view) { return ++lines > 0; });
  EXPECT_EQ(lines, 2);
}

}  // namespace
}  // namespace conductor::toolkit
