#ifndef CONDUCTOR_TESTS_STORE_SNAPSHOT_FIXTURE_H_
#define CONDUCTOR_TESTS_STORE_SNAPSHOT_FIXTURE_H_

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "lib/index/prefix_index.h"
#include "lib/store/snapshot_reader.h"
#include "lib/store/snapshot_writer.h"
#include "lib/store/sqlite.h"

namespace conductor::store {

// A snapshot in a directory of its own, that can be written, changed and read.
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

}  // namespace conductor::store

#endif  // CONDUCTOR_TESTS_STORE_SNAPSHOT_FIXTURE_H_
