#include "daemon/proxy/access_log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace conductor::proxy {
namespace {

class AccessLogTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "/access_log.XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path folder_;
};

AccessRecord Named(const std::string& id) {
  AccessRecord record;
  record.request_id = id;
  return record;
}

size_t Lines(std::string_view text) { return static_cast<size_t>(std::ranges::count(text, '\n')); }

TEST_F(AccessLogTest, AllLinesOfAllThreadsAreThereAtTheEnd) {
  const std::string path = folder_ / "log";
  std::ofstream(path) << "before\n";
  {
    const auto log = AccessLog::Open(path);
    ASSERT_TRUE(log);
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&log] {
        for (int j = 0; j < 250; ++j) (*log)->Write(Named(std::string(200, 'x')));
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  std::ifstream file(path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  EXPECT_EQ(Lines(text), 1001u);
  EXPECT_TRUE(text.starts_with("before\n{"));
  EXPECT_TRUE(text.ends_with("}\n"));
}

TEST_F(AccessLogTest, WhoReadsNothingStopsNobodyAndWhatIsLostIsCounted) {
  const std::string path = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  uint64_t lost = 0;
  constexpr uint64_t kLines = 700;
  {
    const auto log = AccessLog::Open(path);
    ASSERT_TRUE(log);
    for (uint64_t i = 0; i < kLines; ++i) (*log)->Write(Named(std::string(16 << 10, 'x')));
    lost = (*log)->lost();
    EXPECT_GT(lost, 0u);
    std::array<char, 65536> bytes;
    size_t lines = 0;
    while (lines < kLines - lost) {
      const ssize_t got = ::read(reader, bytes.data(), bytes.size());
      if (got > 0) lines += Lines({bytes.data(), static_cast<size_t>(got)});
    }
    EXPECT_EQ((*log)->lost(), lost);
    // Nobody reads this: the end does not wait for long.
    for (int i = 0; i < 20; ++i) (*log)->Write(Named(std::string(16 << 10, 'y')));
  }
  ::close(reader);
}

TEST_F(AccessLogTest, WhatCannotBeOpenedSaysSo) {
  EXPECT_FALSE(AccessLog::Open(folder_ / "none" / "log"));
  EXPECT_TRUE(AccessLog::Open(""));
}

}  // namespace
}  // namespace conductor::proxy
