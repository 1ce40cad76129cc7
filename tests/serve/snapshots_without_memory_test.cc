// What saving does where there is no memory, not even to say so.

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <new>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "daemon/serve/snapshots.h"
#include "failing_memory.h"
#include "fed_publisher.h"
#include "lib/base/log.h"
#include "lib/store/snapshot_reader.h"

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

// Wherever it is that what is loaded, which is large, finds no room.
TEST_F(SnapshotsWithoutMemoryTest, ALoadThatFailsHalfWayLeavesAnIndexThatIsEmpty) {
  {
    Registry registry({});
    for (const char* instance : {"a", "b"}) Feed(registry, Ingested(instance), 1000);
    ASSERT_TRUE(SaveRegistry(registry, path_, {}));
  }
  log::SetLevel(log::Level::kError);
  {
    // What libraries make once, at their first use, is not the matter here.
    Registry registry({});
    auto reader = store::SnapshotReader::Open(path_);
    ASSERT_TRUE(reader && registry.Restore(*reader, {}));
  }
  uint64_t failed = 0;
  bool loaded = false;
  for (uint64_t at = 1; !loaded; ++at) {
    Registry registry({});
    {
      auto reader = store::SnapshotReader::Open(path_);
      ASSERT_TRUE(reader) << reader.error().Message();
      large_ones_until_one_fails = at;
      bool threw = false;
      try {
        (void)registry.Restore(*reader, {});
      } catch (const std::bad_alloc&) {
        threw = true;
      }
      loaded = std::exchange(large_ones_until_one_fails, 0) > 0;
      if (loaded || !threw) continue;
    }
    ++failed;
    EXPECT_EQ(registry.size(), 0u) << at;
    EXPECT_EQ(registry.index().Stats().blocks, 0u) << at;
    const Status sound = registry.index().Validate();
    ASSERT_TRUE(sound) << at << ": " << sound.error().Message();
    Feed(registry, Ingested("a"), 70);
    EXPECT_EQ(registry.index().Stats().holdings, 70u) << at;
  }
  EXPECT_GT(failed, 5u);
}

}  // namespace
}  // namespace conductor::serve
