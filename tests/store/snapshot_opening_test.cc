// Which snapshots can be opened, whatever is around the file, and what an error is laid to.

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "lib/store/snapshot_reader.h"
#include "lib/store/snapshot_schema.h"
#include "lib/store/snapshot_writer.h"
#include "lib/store/sqlite.h"
#include "saved_examples.h"
#include "snapshot_fixture.h"

namespace conductor::store {
namespace {

class SnapshotOpening : public SnapshotTest {
 protected:
  void WriteOne() { Write({SavedEngine(index_, "a", 0)}); }
};

TEST_F(SnapshotOpening, IsReadWhoeverHasItOpenAndWhateverLiesBesideIt) {
  WriteOne();
  auto shell = Database::Open(path_, Database::Mode::kWrite);
  ASSERT_TRUE(shell);
  ASSERT_TRUE(shell->Execute("BEGIN EXCLUSIVE"));
  EXPECT_EQ(WhyNot(), "");
  for (const char* suffix : {"-journal", "-wal", "-shm"}) {
    std::ofstream(path_ + suffix) << std::string(100'000, 'x');
    EXPECT_EQ(WhyNot(), "") << suffix;
  }
}

TEST_F(SnapshotOpening, IsReadByAnyName) {
  WriteOne();
  for (const char* name : {"a b", "what?mode=rw", "50%41", "#1", "state:db", "\xc3\xa4"}) {
    const std::string path = directory_ + "/" + name;
    std::filesystem::rename(path_, path);
    path_ = path;
    EXPECT_EQ(WhyNot(), "") << name;
  }
}

TEST_F(SnapshotOpening, AnErrorSaysWhetherTheFileIsToBlame) {
  using Blame = SnapshotReader::Blame;
  const auto blamed = [this] {
    Blame blame{};
    auto reader = SnapshotReader::Open(path_, &blame);
    if (!reader) return blame;
    EXPECT_FALSE(reader->Verify());
    return reader->blame();
  };
  EXPECT_EQ(blamed(), Blame::kReading);  // it is not there
  std::filesystem::create_directory(path_);
  EXPECT_EQ(blamed(), Blame::kReading);
  std::filesystem::remove(path_);
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  EXPECT_EQ(blamed(), Blame::kReading);

  WriteOne();

  {
    auto database = Database::Open(path_, Database::Mode::kWrite);
    ASSERT_TRUE(database);
    ASSERT_TRUE(database->Execute("PRAGMA user_version = 99"));
  }
  EXPECT_EQ(blamed(), Blame::kFile);
  WriteOne();
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) / 2);
  EXPECT_EQ(blamed(), Blame::kFile);
  std::ofstream(path_) << std::string(100'000, 'x');
  EXPECT_EQ(blamed(), Blame::kFile);
}

TEST_F(SnapshotOpening, IsReadWithAsManyViewsOfPeoplesOwnAsThePageSays) {
  WriteOne();
  {
    auto database = Database::Open(path_, Database::Mode::kWrite);
    ASSERT_TRUE(database);
    const std::string columns = "SELECT '" + std::string(15'900, 'x') + "'";
    std::string views = "BEGIN;";
    for (int i = 0; i < 200; ++i) {
      views += "CREATE VIEW mine_" + std::to_string(i) + " AS " + columns + ";";
    }
    ASSERT_TRUE(database->Execute(views + "COMMIT"));
  }
  const auto reader = SnapshotReader::Open(path_);
  EXPECT_TRUE(reader) << reader.error().Message();
}

TEST_F(SnapshotOpening, ThePageHasTheNumbersThatTellASnapshot) {
  std::ifstream file(CONDUCTOR_DOCS "/snapshot-format.md");
  const std::string page((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::string numbers = "`PRAGMA application_id` is " + std::to_string(kApplicationId) +
                              " (`Cndr`), `PRAGMA user_version` the format, " +
                              std::to_string(kFormatVersion) + ".";
  EXPECT_NE(page.find(numbers), std::string::npos) << numbers;
}

// Wherever on the way it ends.
TEST_F(SnapshotOpening, WithoutMemoryNoFileIsToBlame) {
  WriteOne();
  size_t failed = 0;
  bool good = false;
  for (int64_t limit = 10'000; limit < 1'500'000 && !good; limit += 3'000) {
    sqlite3_hard_heap_limit64(sqlite3_memory_used() + limit);
    SnapshotReader::Blame blame{};
    auto reader = SnapshotReader::Open(path_, &blame);
    Status read = reader ? Status{} : tl::unexpected(reader.error());
    if (reader) {
      ChainVisitor nobody;
      read = reader->VisitChains(nobody);
      if (!read) blame = reader->blame();
    }
    sqlite3_hard_heap_limit64(0);
    good = read.has_value();
    if (good) continue;
    ++failed;
    EXPECT_EQ(blame, SnapshotReader::Blame::kReading) << limit << ": " << read.error().Message();
  }
  EXPECT_TRUE(good);
  EXPECT_GT(failed, 10u);
  EXPECT_EQ(WhyNot(), "");
}

}  // namespace
}  // namespace conductor::store
