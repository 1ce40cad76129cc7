#include "lib/store/state_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

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
  EXPECT_EQ(Get(path_), "new");
  EXPECT_FALSE(file->Replace());  // there is nothing any more
  EXPECT_EQ(Get(path_), "new");
}

TEST_F(StateFileTest, WhatIsSetAsideTakesNothingsPlace) {
  for (const char* name : {".unusable", ".unusable.1", ".unusable.2"}) {
    Put(path_, name);
    const auto aside = StateFile::SetAside(path_);
    ASSERT_TRUE(aside) << aside.error().Message();
    EXPECT_EQ(*aside, path_ + name);
    EXPECT_EQ(Get(*aside), name);
    EXPECT_FALSE(std::filesystem::exists(path_));
  }
}

TEST_F(StateFileTest, NeedsADirectory) {
  const auto file = StateFile::Take(directory_ + "/none/state.db");
  ASSERT_FALSE(file);
  EXPECT_NE(file.error().Message().find("No such file or directory"), std::string::npos);
}

}  // namespace
}  // namespace conductor::store
