// What saving does where there is no memory, not even to say so.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <new>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "daemon/serve/snapshots.h"
#include "failing_memory.h"

namespace conductor::serve {
namespace {

class SnapshotsWithoutMemoryTest : public testing::Test {
 protected:
  SnapshotsWithoutMemoryTest() {
    std::string name = testing::TempDir() + "conductor-memory-XXXXXX";
    directory_ = ::mkdtemp(name.data());
    path_ = directory_ + "/state.db";
  }
  ~SnapshotsWithoutMemoryTest() override { std::filesystem::remove_all(directory_); }

  // Saves by way of `write`, after which there may be no memory.
  [[nodiscard]] std::unique_ptr<Snapshots> Open(Registry& registry,
                                                decltype(Snapshots::Options::write) write) const {
    auto snapshots = Snapshots::Open(
        registry, {.file = path_, .interval = {}, .write = std::move(write)}, {}, false);
    EXPECT_TRUE(snapshots) << snapshots.error().Message();
    return *std::move(snapshots);
  }

  // What a save says that finds no memory when it begins, if `at_once`, or when it has written.
  static std::optional<std::string> WhyNot(Snapshots& snapshots, bool at_once) {
    no_memory = at_once;
    const auto report = snapshots.Save();
    no_memory = false;
    if (report) return std::nullopt;
    return report.error().what;
  }

  std::string directory_;
  std::string path_;
};

TEST_F(SnapshotsWithoutMemoryTest, ASaveThatCannotEvenBeginIsAFailedOne) {
  Registry registry({});
  const auto snapshots = Open(registry, SaveRegistry);
  EXPECT_EQ(WhyNot(*snapshots, /*at_once=*/true), "no memory");
  EXPECT_EQ(snapshots->stats().failed, 1u);
  EXPECT_EQ(WhyNot(*snapshots, /*at_once=*/false), std::nullopt);
  EXPECT_EQ(snapshots->stats().saved, 1u);
}

TEST_F(SnapshotsWithoutMemoryTest, OnesThatCannotBeToldOfLeaveTheWayToTheNext) {
  enum class Then : uint8_t { kThrows, kFails, kEnds };
  Registry registry({});
  Then then = Then::kEnds;
  bool memory = true;
  const auto snapshots = Open(registry,
                              [&](const Registry& of, const std::string& path,
                                  const std::set<std::string>& configured) -> Result<SaveReport> {
                                auto report = SaveRegistry(of, path, configured);
                                no_memory = !memory;
                                if (then == Then::kThrows) throw std::bad_alloc();
                                if (then == Then::kFails) {
                                  return tl::unexpected(Error{"full", {}, {}});
                                }
                                return report;
                              });
  uint64_t saved = 0;
  for (const Then end : {Then::kThrows, Then::kFails, Then::kEnds}) {
    then = end;
    memory = false;
    EXPECT_TRUE(WhyNot(*snapshots, /*at_once=*/false));
    then = Then::kEnds;
    memory = true;
    EXPECT_EQ(WhyNot(*snapshots, /*at_once=*/false), std::nullopt);
    EXPECT_EQ(snapshots->stats().saved, ++saved);
    EXPECT_EQ(snapshots->stats().failed, saved);
    EXPECT_FALSE(std::filesystem::exists(path_ + ".writing"));
  }
  memory = false;
  then = Then::kThrows;
  snapshots->Stop();  // which waits for nobody
  no_memory = false;
}

}  // namespace
}  // namespace conductor::serve
