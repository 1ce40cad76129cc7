#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "lib/store/snapshot_reader.h"
#include "saved_examples.h"
#include "snapshot_fixture.h"

namespace conductor::store {
namespace {

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

}  // namespace
}  // namespace conductor::store
