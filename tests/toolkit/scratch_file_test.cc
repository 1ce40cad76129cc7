#include "daemon/toolkit/scratch_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

namespace conductor::toolkit {
namespace {

class ScratchFileTest : public testing::Test {
 protected:
  ScratchFileTest() {
    std::string name = testing::TempDir() + "conductor-scratch-test-XXXXXX";
    directory_ = ::mkdtemp(name.data());
    if (const char* before = std::getenv("TMPDIR")) before_ = before;
    SetTmpdir(directory_);
  }
  ~ScratchFileTest() override {
    if (before_) {
      SetTmpdir(*before_);
    } else {
      ::unsetenv("TMPDIR");
    }
    std::filesystem::remove_all(directory_);
  }
  static void SetTmpdir(const std::string& path) { ::setenv("TMPDIR", path.c_str(), 1); }

  std::string directory_;
  std::optional<std::string> before_;
};

TEST_F(ScratchFileTest, IsInADirectoryOfItsOwnAndGoneAtTheEnd) {
  {
    const auto file = ScratchFile::Make();
    ASSERT_TRUE(file) << file.error().Message();
    const auto own = std::filesystem::path(file->path()).parent_path();
    EXPECT_EQ(own.parent_path(), directory_);
    struct stat status {};
    ASSERT_EQ(::stat(own.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0700u);
    EXPECT_FALSE(std::filesystem::exists(file->path()));
    std::ofstream(file->path()) << "x";
    std::ofstream(file->path() + "-journal") << "x";
  }
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
}

TEST_F(ScratchFileTest, IsGoneAfterASignal) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    EXPECT_EXIT(
        {
          auto file = ScratchFile::Make();
          std::ofstream(file->path()) << "x";
          ::raise(signal);
        },
        testing::KilledBySignal(signal), "");
    EXPECT_TRUE(std::filesystem::is_empty(directory_)) << signal;
  }
}

TEST_F(ScratchFileTest, SaysWhereNothingCanBeMade) {
  SetTmpdir(directory_ + "/gone");
  const auto file = ScratchFile::Make();
  ASSERT_FALSE(file);
  EXPECT_NE(file.error().Message().find("TMPDIR"), std::string::npos) << file.error().Message();
}

}  // namespace
}  // namespace conductor::toolkit
