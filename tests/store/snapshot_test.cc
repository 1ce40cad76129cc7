#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "lib/index/chain_restore.h"
#include "lib/store/snapshot_reader.h"
#include "lib/store/snapshot_schema.h"
#include "lib/store/snapshot_writer.h"
#include "lib/store/sqlite.h"
#include "saved_examples.h"

namespace conductor::store {
namespace {

class SnapshotTest : public testing::Test {
 protected:
  SnapshotTest() {
    std::string name = testing::TempDir() + "conductor-snapshot-XXXXXX";
    directory_ = ::mkdtemp(name.data());
    path_ = directory_ + "/state.db";
  }
  ~SnapshotTest() override { std::filesystem::remove_all(directory_); }

  SnapshotInfo Write(const std::vector<SavedPublisher>& publishers) {
    std::filesystem::remove(path_);
    auto writer = SnapshotWriter::Create(
        path_, {.conductor = "1.2", .saved_at = 1001, .hash_seed = 1337, .vfs = {}});
    EXPECT_TRUE(writer) << writer.error().Message();
    for (const SavedPublisher& publisher : publishers) {
      const auto added = (*writer)->Add(publisher);
      EXPECT_TRUE(added) << added.error().Message();
    }
    auto info = (*writer)->Finish();
    EXPECT_TRUE(info) << info.error().Message();
    return info.value_or(SnapshotInfo{});
  }

  // Changes the file as people could.
  void Change(const std::string& sql) const {
    auto database = Database::Open(path_, Database::Mode::kWrite);
    ASSERT_TRUE(database);
    const auto done = database->Execute(sql);
    ASSERT_TRUE(done) << done.error().Message();
  }

  [[nodiscard]] std::string WhyNot() const {
    auto reader = SnapshotReader::Open(path_);
    if (!reader) return reader.error().Message();
    const Status sound = reader->Verify();
    return sound ? "" : sound.error().Message();
  }

  std::string directory_;
  std::string path_;
  index::PrefixIndex index_{index::PrefixIndex::Options{}};
};

TEST_F(SnapshotTest, IsReadAsItWasWritten) {
  const SavedPublisher engine = SavedEngine(index_, "a", 0);
  const SavedPublisher pool = SavedPoolOf(index_);
  const SavedPublisher idle{.key = "idle|default|0", .registration = "{}", .configured = true};
  const SnapshotInfo written = Write({engine, idle, pool});
  EXPECT_EQ(written.publishers, 3u);
  EXPECT_EQ(written.holdings, 102u);
  struct stat status {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);

  auto reader = SnapshotReader::Open(path_);
  ASSERT_TRUE(reader) << reader.error().Message();
  EXPECT_EQ(reader->info().conductor, "1.2");
  EXPECT_EQ(reader->info().hash_seed, 1337u);
  EXPECT_EQ(reader->info().holdings, 102u);
  const Status sound = reader->Verify();
  EXPECT_TRUE(sound) << sound.error().Message();

  const auto publishers = reader->Publishers();
  ASSERT_TRUE(publishers) << publishers.error().Message();
  ASSERT_EQ(publishers->size(), 3u);
  const SavedPublisher& a = (*publishers)[0].saved;
  EXPECT_EQ(a.key, "a|default|0");
  EXPECT_EQ(a.registration, engine.registration);
  EXPECT_EQ(a.saved_at, 1000.5);
  ASSERT_TRUE(a.resume);
  EXPECT_EQ(a.resume->cursor, 4u);
  EXPECT_EQ(a.resume->digest, engine.resume->digest);
  EXPECT_EQ(a.resume->digests, engine.resume->digests);
  EXPECT_EQ(a.resume->first, 0u);
  EXPECT_EQ(a.resume->newest_time, 17.25);
  EXPECT_EQ(a.resume->damage, stream::Damage::Kind::kIncomplete);
  EXPECT_EQ(a.resume->damage_detail, "its ring was too short");
  ASSERT_TRUE(a.life);
  ASSERT_EQ(a.life->holders.size(), 1u);
  EXPECT_EQ(a.life->holders[0].name_space.model, "m");
  EXPECT_EQ((*publishers)[0].holders, std::vector<uint32_t>{1});
  ASSERT_EQ(a.life->waiting.size(), 1u);
  EXPECT_EQ(a.life->waiting[0].parent, EngineHash{8999});
  EXPECT_EQ(a.life->waiting[0].hashes, engine.life->waiting[0].hashes);
  EXPECT_EQ(a.life->waiting[0].locals, engine.life->waiting[0].locals);
  ASSERT_EQ(a.life->deadlines.size(), 1u);
  EXPECT_EQ(a.life->deadlines[0].left, std::chrono::minutes(10));

  const SavedPublisher& nobody = (*publishers)[1].saved;
  EXPECT_TRUE(nobody.configured);
  EXPECT_FALSE(nobody.resume);
  EXPECT_FALSE(nobody.life);

  const SavedPublisher& p = (*publishers)[2].saved;
  ASSERT_TRUE(p.pool);
  ASSERT_EQ(p.pool->families.size(), 1u);
  EXPECT_EQ(p.pool->families[0].shape, pool.pool->families[0].shape);
  EXPECT_EQ(p.pool->objects.size(), 3u);
}

TEST_F(SnapshotTest, WhatPublishersShareIsWrittenOnce) {
  Write({SavedEngine(index_, "a", 0, 10'000)});
  const auto alone = std::filesystem::file_size(path_);
  const SavedPublisher a = SavedEngine(index_, "a", 0, 10'000);
  const SavedPublisher b = SavedEngine(index_, "b", 1, 10'000);
  Write({a, b});
  EXPECT_LT(static_cast<double>(std::filesystem::file_size(path_)),
            static_cast<double>(alone) * 1.15);
}

TEST_F(SnapshotTest, SamePublishersMakeTheSameContent) {
  const SavedPublisher a = SavedEngine(index_, "a", 0);
  Write({a});
  std::vector<std::string> contents;
  for (int i = 0; i < 2; ++i) {
    Write({a});
    std::ifstream file(path_, std::ios::binary);
    contents.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  EXPECT_TRUE(contents[0] == contents[1]);
}

TEST_F(SnapshotTest, SaysWhatIsNone) {
  EXPECT_NE(WhyNot().find("No such file"), std::string::npos);
  std::ofstream(path_) << std::string(5000, 'x');
  EXPECT_NE(WhyNot().find("not a database"), std::string::npos);
  std::filesystem::remove(path_);
  std::ofstream(path_).close();
  EXPECT_NE(WhyNot().find("another program's"), std::string::npos);
}

TEST_F(SnapshotTest, SaysThatItIsNewer) {
  Write({SavedEngine(index_, "a", 0)});
  Change("PRAGMA user_version = 2");
  EXPECT_NE(WhyNot().find("a newer Conductor wrote it"), std::string::npos);
}

TEST_F(SnapshotTest, SaysWhichRowIsWrong) {
  struct Case {
    const char* change;
    const char* what;
  };
  for (const auto& [change, what] : std::vector<Case>{
           {"DELETE FROM snapshot", "was never finished"},
           {"UPDATE runs SET parent_block = 64 WHERE id = 2", "runs: parent_block is wrong"},
           {"UPDATE runs SET length = 3 WHERE id = 1", "runs: prefixes is wrong"},
           {"UPDATE runs SET prefixes = zeroblob(length * 8)", "are not those that were written"},
           {"UPDATE holdings SET holder = 7", "holders that is not there"},
           {"UPDATE holdings SET blocks = 1, held = 1", "are not those that were written"},
           {"UPDATE names SET names = zeroblob(7)", "names.names is wrong"},
           {"UPDATE aliases SET names = 99", "names that is not there"},
           {"UPDATE waiting SET gone = x'00'", "waiting: gone is wrong"},
           {"UPDATE waiting SET locals = x'00'", "waiting: locals is wrong"},
           {"UPDATE publishers SET digests = x'00'", "publishers: digests is wrong"},
           {"DROP TABLE waiting", "no such table"},
       }) {
    Write({SavedEngine(index_, "a", 0)});
    Change(std::string("PRAGMA foreign_keys = OFF;") + change);
    EXPECT_NE(WhyNot().find(what), std::string::npos) << change << ": " << WhyNot();
  }
}

// Whatever is in the file, reading it ends, with an error or with an index that is whole.
TEST_F(SnapshotTest, AnyBytesCanBeRead) {
  Write({SavedEngine(index_, "a", 0), SavedEngine(index_, "b", 1), SavedPoolOf(index_)});
  std::ifstream file(path_, std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::mt19937_64 random(1);
  class Into : public ChainVisitor {
   public:
    Into(index::ChainRestore& restore, index::HolderId holder, index::AliasSpace space)
        : restore_(restore), holder_(holder), space_(space) {}
    void OnRun(const Run& run) override {
      restore_.AddRun(*run.name_space, run.parent ? std::optional(*run.parent - 1) : std::nullopt,
                      run.parent_block, run.blocks);
    }
    void OnHolding(uint32_t run, uint32_t, Tier tier, uint64_t blocks) override {
      restore_.Hold(run - 1, holder_, tier, blocks);
    }
    void OnSpecial(uint32_t run, uint32_t, Tier tier, uint32_t block, uint32_t span,
                   uint32_t copies) override {
      restore_.HoldSpecial(run - 1, block, holder_, tier, span, copies);
    }
    void OnNames(uint32_t run, uint32_t, uint64_t blocks,
                 std::span<const EngineHash> names) override {
      restore_.Name(run - 1, space_, blocks, names);
    }

   private:
    index::ChainRestore& restore_;
    index::HolderId holder_;
    index::AliasSpace space_;
  };
  for (int i = 0; i < 150; ++i) {
    std::string bad = good;
    for (size_t flips = 1 + random() % 4; flips > 0; --flips) {
      bad[random() % bad.size()] = static_cast<char>(random());
    }
    if (i % 10 == 0) bad.resize(random() % bad.size());
    std::ofstream(path_, std::ios::binary) << bad;
    auto reader = SnapshotReader::Open(path_);
    if (!reader) continue;
    (void)reader->Publishers();
    index::PrefixIndex into{index::PrefixIndex::Options{}};
    {
      auto writer = into.Write();
      const auto holder = writer.AddHolder({{"default", "m", "", 4, ""}, "a", 0}, 0, true);
      const auto space = writer.AddSpace(0);
      index::ChainRestore restore(writer);
      Into visitor(restore, holder, space);
      (void)reader->VisitChains(visitor);
      restore.Finish();
    }
    const Status whole = into.Validate();
    ASSERT_TRUE(whole) << whole.error().Message();
  }
}

}  // namespace
}  // namespace conductor::store
