#include "lib/store/state_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <set>
#include <string>
#include <utility>

namespace conductor::store {
namespace {

class StateFileTest : public testing::Test {
 protected:
  StateFileTest() {
    std::string name = testing::TempDir() + "conductor-state-XXXXXX";
    directory_ = ::mkdtemp(name.data());
    path_ = directory_ + "/state.db";
  }
  ~StateFileTest() override { std::filesystem::remove_all(directory_); }

  static void Put(const std::string& path, const std::string& text) { std::ofstream(path) << text; }
  static std::string Get(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }

  std::string directory_;
  std::string path_;
};

TEST_F(StateFileTest, IsOneProcessesAtATime) {
  auto first = StateFile::Take(path_);
  ASSERT_TRUE(first) << first.error().Message();
  const auto second = StateFile::Take(path_);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().Message().find("process " + std::to_string(::getpid())),
            std::string::npos);
  { const StateFile gone = *std::move(first); }
  EXPECT_TRUE(StateFile::Take(path_));
}

TEST_F(StateFileTest, WhatAnInterruptedSaveLeftIsRemoved) {
  Put(path_, "good");
  Put(path_ + ".writing", "half");
  const auto file = StateFile::Take(path_);
  ASSERT_TRUE(file);
  EXPECT_FALSE(std::filesystem::exists(path_ + ".writing"));
  EXPECT_EQ(Get(path_), "good");
}

TEST_F(StateFileTest, WhatWasWrittenTakesThePlaceOfTheLast) {
  const auto file = StateFile::Take(path_);
  ASSERT_TRUE(file);
  Put(path_, "old");
  Put(file->temporary(), "new");
  EXPECT_TRUE(file->Replace());
  EXPECT_TRUE(file->Sync());
  EXPECT_EQ(Get(path_), "new");
  EXPECT_FALSE(file->Replace());  // there is nothing any more
  EXPECT_EQ(Get(path_), "new");
}

TEST_F(StateFileTest, WhatIsSetAsideTakesNothingsPlace) {
  const auto file = StateFile::Take(path_);
  ASSERT_TRUE(file);
  for (const char* name : {".unusable", ".unusable.1", ".unusable.2"}) {
    Put(path_, name);
    const auto aside = file->SetAside();
    ASSERT_TRUE(aside) << aside.error().Message();
    EXPECT_EQ(*aside, path_ + name);
    EXPECT_EQ(Get(*aside), name);
    EXPECT_FALSE(std::filesystem::exists(path_));
  }
}

TEST_F(StateFileTest, AtMostFiveAreKeptAsideTheOldestGoes) {
  const auto file = StateFile::Take(path_);
  ASSERT_TRUE(file);
  std::set<std::string> names;
  for (int i = 0; i < 3 * StateFile::kMostAside; ++i) {
    const std::string content = std::to_string(i);
    Put(path_, content);
    const auto aside = file->SetAside();
    ASSERT_TRUE(aside) << aside.error().Message();
    EXPECT_EQ(Get(*aside), content);
    names.insert(*aside);
  }
  EXPECT_EQ(names.size(), static_cast<size_t>(StateFile::kMostAside));
  const std::filesystem::directory_iterator entries(directory_);
  EXPECT_EQ(std::distance(begin(entries), end(entries)),
            StateFile::kMostAside + 1);  // and the lock
}

TEST_F(StateFileTest, WhatIsBesideADatabaseGoesWithIt) {
  const auto file = StateFile::Take(path_);
  ASSERT_TRUE(file);
  for (const char* suffix : {"-journal", "-wal", "-shm"}) {
    Put(path_ + suffix, "of the old one");
    Put(file->temporary() + suffix, "left");
  }
  Put(path_, "old");
  const auto aside = file->SetAside();
  ASSERT_TRUE(aside);
  EXPECT_EQ(Get(*aside + "-wal"), "of the old one");
  for (const char* suffix : {"-journal", "-wal", "-shm"}) Put(path_ + suffix, "of the old one");
  file->Discard();
  Put(file->temporary(), "new");
  EXPECT_TRUE(file->Replace());
  for (const char* suffix : {"-journal", "-wal", "-shm"}) {
    EXPECT_FALSE(std::filesystem::exists(path_ + suffix)) << suffix;
    EXPECT_FALSE(std::filesystem::exists(file->temporary() + suffix)) << suffix;
  }
}

TEST_F(StateFileTest, IsTheOneThatALinkLeadsTo) {
  std::filesystem::create_directory(directory_ + "/disk");
  std::filesystem::create_symlink("disk/there.db", path_);  // not there yet
  std::filesystem::create_symlink(directory_ + "/disk", directory_ + "/also");
  const std::string target = std::filesystem::canonical(directory_ + "/disk") / "there.db";
  const auto file = StateFile::Take(path_);
  ASSERT_TRUE(file) << file.error().Message();
  EXPECT_EQ(file->path(), target);
  for (const std::string& same : {target, directory_ + "/also/there.db", path_}) {
    const auto second = StateFile::Take(same);
    ASSERT_FALSE(second) << same;
    EXPECT_NE(second.error().what.find("another conductor uses it"), std::string::npos);
  }
  Put(file->temporary(), "new");
  EXPECT_TRUE(file->Replace());
  EXPECT_TRUE(std::filesystem::is_symlink(path_));
  EXPECT_EQ(Get(target), "new");
}

TEST_F(StateFileTest, LinksThatLeadNowhereAreAnError) {
  std::filesystem::create_symlink(path_, path_ + "2");
  std::filesystem::create_symlink(path_ + "2", path_);
  const auto file = StateFile::Take(path_);
  ASSERT_FALSE(file);
  EXPECT_NE(file.error().what.find("too many links"), std::string::npos);
}

TEST_F(StateFileTest, AHardLinkIsAnotherFileFromTheFirstSaveOn) {
  const std::string other = directory_ + "/other.db";
  Put(path_, "old");
  std::filesystem::create_hard_link(path_, other);
  const auto first = StateFile::Take(path_);
  const auto second = StateFile::Take(other);
  ASSERT_TRUE(first && second);
  Put(first->temporary(), "first");
  EXPECT_TRUE(first->Replace());
  EXPECT_EQ(Get(other), "old");
  Put(second->temporary(), "second");
  EXPECT_TRUE(second->Replace());
  EXPECT_EQ(Get(path_), "first");
}

TEST_F(StateFileTest, WhatIsNoRegularFileIsRefusedAndStays) {
  std::filesystem::create_directory(directory_ + "/directory");
  ASSERT_EQ(::mkfifo((directory_ + "/fifo").c_str(), 0600), 0);
  for (const auto& [path, what] : {std::pair(directory_ + "/directory", "is a directory"),
                                   std::pair(directory_ + "/directory/", "is a directory"),
                                   std::pair(directory_ + "/fifo", "is a FIFO")}) {
    const auto file = StateFile::Take(path);
    ASSERT_FALSE(file) << path;
    EXPECT_EQ(file.error().what, what);
    EXPECT_FALSE(file.error().unwritable);
    EXPECT_FALSE(std::filesystem::exists(path + ".lock"));
    EXPECT_TRUE(std::filesystem::exists(path));
  }
}

TEST_F(StateFileTest, ALockThatIsSomethingElseIsLeftAlone) {
  Put(directory_ + "/mine", "precious");
  std::filesystem::create_symlink(directory_ + "/mine", path_ + ".lock");
  auto file = StateFile::Take(path_);
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().where, path_ + ".lock");
  EXPECT_EQ(Get(directory_ + "/mine"), "precious");
  std::filesystem::remove(path_ + ".lock");
  Put(path_ + ".lock", "[[package]]\n");
  file = StateFile::Take(path_);
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().what, "is no lock of Conductor's");
  EXPECT_EQ(Get(path_ + ".lock"), "[[package]]\n");
}

// As `rm state.db*` does it.
TEST_F(StateFileTest, ALockThatWasRemovedIsGivenUp) {
  auto first = StateFile::Take(path_);
  ASSERT_TRUE(first);
  EXPECT_TRUE(first->Holds());
  Put(path_, "the second's");
  Put(first->temporary(), "the first's");
  std::filesystem::remove(path_ + ".lock");
  EXPECT_FALSE(first->Holds());
  {
    const auto second = StateFile::Take(path_);
    ASSERT_TRUE(second) << second.error().Message();
    Put(first->temporary(), "the first's");
    EXPECT_FALSE(first->Holds());
    const Status replaced = first->Replace();
    ASSERT_FALSE(replaced);
    EXPECT_EQ(replaced.error().where, path_ + ".lock");
    EXPECT_FALSE(first->SetAside());
    EXPECT_EQ(Get(path_), "the second's");
    // What the first has locks nobody out, and it may have it anew once the second is gone.
    EXPECT_TRUE(second->Holds());
    EXPECT_FALSE(StateFile::Take(path_));
  }
  first = StateFile::Take(path_);
  ASSERT_TRUE(first) << first.error().Message();
  EXPECT_TRUE(first->Holds());
}

TEST_F(StateFileTest, AFileThatWasWrittenToOrReplacedIsAnotherVersion) {
  EXPECT_FALSE(VersionOf(path_));
  Put(path_, "old");
  const auto old = VersionOf(path_);
  ASSERT_TRUE(old);
  EXPECT_EQ(VersionOf(path_), old);
  Put(path_, "older");
  EXPECT_NE(VersionOf(path_), old);
  Put(path_ + "2", "older");
  const auto other = VersionOf(path_ + "2");
  std::filesystem::rename(path_ + "2", path_);
  EXPECT_EQ(VersionOf(path_), other);
}

TEST_F(StateFileTest, ADirectoryThatMayBeWrittenAndNotReadIsNoError) {
  const bool as_root = ::geteuid() == 0;
  if (as_root) {
    ASSERT_EQ(::chown(directory_.c_str(), 65534, 65534), 0);
  }
  ASSERT_EQ(::chmod(directory_.c_str(), 0300), 0);
  if (as_root) {
    ASSERT_EQ(::seteuid(65534), 0);
  }
  const Status synced = SyncDirectoryOf(path_);
  if (as_root) {
    ASSERT_EQ(::seteuid(0), 0);
  }
  ASSERT_EQ(::chmod(directory_.c_str(), 0700), 0);
  EXPECT_TRUE(synced) << synced.error().Message();
}

TEST_F(StateFileTest, WhereNothingCanBeMadeItSaysSo) {
  const auto file = StateFile::Take("/proc/self/state.db");
  ASSERT_FALSE(file);
  EXPECT_TRUE(file.error().unwritable);
}

TEST_F(StateFileTest, NeedsADirectory) {
  const auto file = StateFile::Take(directory_ + "/none/state.db");
  ASSERT_FALSE(file);
  EXPECT_NE(file.error().Message().find("No such file or directory"), std::string::npos);
  EXPECT_FALSE(file.error().unwritable);
}

}  // namespace
}  // namespace conductor::store
