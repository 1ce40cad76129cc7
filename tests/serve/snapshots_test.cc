#include "daemon/serve/snapshots.h"

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <new>
#include <semaphore>
#include <set>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "daemon/serve/registration_json.h"
#include "eventually.h"
#include "fed_publisher.h"
#include "lib/store/snapshot_reader.h"
#include "lib/store/snapshot_writer.h"
#include "lib/store/sqlite.h"
#include "tests/serve/eventually.h"

namespace conductor::serve {
namespace {

class SnapshotsTest : public testing::Test {
 protected:
  SnapshotsTest() {
    std::string name = testing::TempDir() + "conductor-snapshots-XXXXXX";
    directory_ = ::mkdtemp(name.data());
    path_ = directory_ + "/state.db";
  }
  ~SnapshotsTest() override { std::filesystem::remove_all(directory_); }

  void Save(const Registry& registry, const std::set<std::string>& configured = {}) {
    std::filesystem::remove(path_);
    const auto report = SaveRegistry(registry, path_, configured);
    ASSERT_TRUE(report) << report.error().Message();
  }

  [[nodiscard]] Registry::Restored Restore(Registry& registry,
                                           const Registry::RestoreOptions& options = {}) const {
    auto reader = store::SnapshotReader::Open(path_);
    EXPECT_TRUE(reader) << reader.error().Message();
    auto restored = registry.Restore(*reader, options);
    EXPECT_TRUE(restored) << restored.error().Message();
    return restored.value_or(Registry::Restored{});
  }

  [[nodiscard]] std::unique_ptr<Snapshots> Open(
      Registry& registry, decltype(Snapshots::Options::write) write = SaveRegistry) const {
    auto snapshots = Snapshots::Open(
        registry, {.file = path_, .interval = {}, .write = std::move(write)}, {}, false);
    EXPECT_TRUE(snapshots) << snapshots.error().Message();
    return *std::move(snapshots);
  }

  [[nodiscard]] std::string WhyNotSound() const {
    auto reader = store::SnapshotReader::Open(path_);
    if (!reader) return reader.error().Message();
    const Status sound = reader->Verify();
    return sound ? "" : sound.error().Message();
  }

  std::string directory_;
  std::string path_;
};

// A save that waits to be let on.
class HeldSave {
 public:
  Result<SaveReport> operator()(const Registry& registry, const std::string& path,
                                const std::set<std::string>& configured) {
    begun_.release();
    go_on_.acquire();
    return SaveRegistry(registry, path, configured);
  }
  void WaitBegun() { begun_.acquire(); }
  void LetOn() { go_on_.release(); }

 private:
  std::counting_semaphore<> begun_{0};
  std::counting_semaphore<> go_on_{0};
};

TEST_F(SnapshotsTest, AReportHasTheCursorOfEachPublisher) {
  Registry registry({});
  Feed(registry, Ingested("a"), 3);
  Feed(registry, Ingested("b"), 1);
  const auto report = SaveRegistry(registry, path_, {});
  ASSERT_TRUE(report) << report.error().Message();
  ASSERT_EQ(report->publishers.size(), 2u);
  EXPECT_EQ(report->publishers[0].key, "a|default|0");
  EXPECT_EQ(report->publishers[0].cursor, 2u);
  EXPECT_EQ(report->publishers[0].holdings, 3u);
  EXPECT_EQ(report->publishers[1].cursor, 0u);
  EXPECT_EQ(report->info.blocks, 3u);  // the first is both's
}

// What counts of a publisher begins then behind its cursor.
TEST_F(SnapshotsTest, OnesOfWhichAllWasDroppedAreSound) {
  Registry registry({});
  Feed(registry, Ingested("cleared"), 3);
  registry.Clear("cleared|default|0");
  Feed(registry, Ingested("resynchronised"), 3);
  registry.Resync("resynchronised|default|0");
  Save(registry);
  EXPECT_EQ(WhyNotSound(), "");
  Registry next({});
  const auto restored = Restore(next);
  EXPECT_EQ(restored.publishers, 2u);
  EXPECT_EQ(restored.holdings, 0u);
  EXPECT_TRUE(restored.left_out.empty());
}

TEST_F(SnapshotsTest, WhatIsShownAndNotFollowedIsStale) {
  {
    Registry registry({});
    Feed(registry, Ingested("a"), 3);
    Save(registry);
  }
  Registry registry({});
  const auto restored = Restore(registry, {.configured = {}, .followed = false});
  EXPECT_EQ(restored.publishers, 1u);
  EXPECT_EQ(restored.holdings, 3u);
  const auto status = registry.Publisher("a|default|0");
  ASSERT_TRUE(status);
  EXPECT_EQ(status->trust.state, stream::TrustState::kStale);
  EXPECT_NE(status->trust.detail.find("live then"), std::string::npos);
  EXPECT_EQ(registry.index().Stats().holdings, 3u);
  EXPECT_EQ(registry.Remove("a|default|0"), Registry::Removed::kRemoved);
  EXPECT_EQ(registry.index().Stats().holdings, 0u);
}

TEST_F(SnapshotsTest, WhatIsHandedInWithoutReplayIsDoubtfulAfterwards) {
  {
    Registry registry({});
    Feed(registry, Ingested("a"), 3);
    Save(registry);
  }
  Registry registry({});
  (void)Restore(registry);
  const auto status = registry.Publisher("a|default|0");
  ASSERT_TRUE(status);
  EXPECT_EQ(status->trust.reason, "doubtful");
  EXPECT_EQ(registry.restored().undecided, 1u);
}

TEST_F(SnapshotsTest, TheConfigurationFileDecides) {
  {
    Registry registry({});
    for (const char* name : {"same", "changed", "left", "asked"}) Feed(registry, Ingested(name), 2);
    Save(registry, {"same|default|0", "changed|default|0", "left|default|0"});
  }
  Registration changed = Ingested("changed");
  changed.block_size = 4;
  Registry registry({});
  const auto restored = Restore(registry, {.configured = {Ingested("same"), changed}});
  EXPECT_EQ(registry.Keys(), (std::vector<std::string>{"asked|default|0", "same|default|0"}));
  EXPECT_EQ(restored.with_blocks, 2u);
  ASSERT_EQ(restored.left_out.size(), 2u);
  EXPECT_EQ(restored.left_out[0].where, "changed|default|0");
  EXPECT_NE(restored.left_out[0].what.find("block_size"), std::string::npos);
  EXPECT_EQ(restored.left_out[1].where, "left|default|0");
  EXPECT_EQ(registry.restored().left_out, 2u);
  EXPECT_EQ(registry.restored().left_out_holdings, 4u);
}

TEST_F(SnapshotsTest, AnotherIncarnationOfTheConfigurationFileIsAnotherLife) {
  {
    Registry registry({});
    Feed(registry, Ingested("a"), 2);
    Save(registry, {"a|default|0"});
  }
  Registration next = Ingested("a");
  next.incarnation = "run-2";
  Registry registry({});
  const auto restored = Restore(registry, {.configured = {next}});
  EXPECT_EQ(restored.publishers, 0u);
  ASSERT_EQ(restored.left_out.size(), 1u);
  EXPECT_NE(restored.left_out[0].what.find("another life"), std::string::npos);
}

TEST_F(SnapshotsTest, AnotherSeedMeansOtherHashes) {
  {
    Registry registry({});
    Feed(registry, Ingested("a"), 2);
    Save(registry);
  }
  Registry::Options options;
  options.index.hash_seed = 7;
  Registry registry(options);
  auto reader = store::SnapshotReader::Open(path_);
  ASSERT_TRUE(reader);
  const auto restored = registry.Restore(*reader, {});
  ASSERT_FALSE(restored);
  EXPECT_NE(restored.error().Message().find("seed 1337"), std::string::npos);
}

// It is saved as of tomorrow: how long ago that is nobody knows, so nothing may outlive its time.
TEST_F(SnapshotsTest, WhatHasATimeToLiveEndsWhereTheClockWasSetBack) {
  Registration registration = Ingested("a");
  registration.ttl[static_cast<size_t>(Tier::kGpu)] = std::chrono::hours(100);
  {
    Registry registry({});
    Feed(registry, registration, 3);
    auto saved = registry.Copy(registration.Key());
    ASSERT_TRUE(saved && *saved);
    (*saved)->saved_at = UnixNow() + 86400;
    auto writer =
        store::SnapshotWriter::Create(path_, {.conductor = "1",
                                              .saved_at = (*saved)->saved_at,
                                              .hash_seed = registry.index().options().hash_seed,
                                              .vfs = {}});
    ASSERT_TRUE(writer && (*writer)->Add(**saved) && (*writer)->Finish());
  }
  Registry registry({});
  EXPECT_EQ(Restore(registry).holdings, 3u);
  EXPECT_TRUE(Eventually([&] { return registry.index().Stats().holdings == 0; }));
}

TEST_F(SnapshotsTest, ADamagedFileLeavesNothingBehind) {
  {
    Registry registry({});
    Feed(registry, Ingested("a"), 200);
    Save(registry);
  }
  {
    auto database = store::Database::Open(path_, store::Database::Mode::kWrite);
    ASSERT_TRUE(database->Execute("UPDATE names SET names = zeroblob(length(names))"));
  }
  Registry registry({});
  auto reader = store::SnapshotReader::Open(path_);
  ASSERT_TRUE(reader);
  EXPECT_FALSE(registry.Restore(*reader, {}));
  EXPECT_EQ(registry.size(), 0u);
  EXPECT_EQ(registry.index().Stats().holdings, 0u);
  EXPECT_EQ(registry.index().Stats().aliases, 0u);
}

TEST_F(SnapshotsTest, SavesAtTheEndAndNoMoreAfterIt) {
  Registry registry({});
  auto snapshots = Snapshots::Open(registry, {.file = path_, .interval = {}}, {}, false);
  ASSERT_TRUE(snapshots) << snapshots.error().Message();
  Feed(registry, Ingested("a"), 2);
  (*snapshots)->Start();
  EXPECT_FALSE(std::filesystem::exists(path_));
  (*snapshots)->Stop();
  EXPECT_TRUE(std::filesystem::exists(path_));
  EXPECT_FALSE((*snapshots)->Save());
  EXPECT_EQ((*snapshots)->stats().saved, 1u);
}

TEST_F(SnapshotsTest, WhoWaitsForTheNextSaveSharesIt) {
  Registry registry({});
  HeldSave held;
  const auto snapshots = Open(registry, std::ref(held));
  std::vector<std::jthread> asking;
  std::atomic<int> answered = 0;
  const auto ask = [&] {
    const auto report = snapshots->Save();
    EXPECT_TRUE(report) << report.error().Message();
    EXPECT_EQ(report->publishers.size(), registry.size());
    ++answered;
  };
  asking.emplace_back([&] { EXPECT_TRUE(snapshots->Save()); });
  held.WaitBegun();
  Feed(registry, Ingested("a"), 2);  // who asks from now on has it in
  for (int i = 0; i < 8; ++i) asking.emplace_back(ask);
  ASSERT_TRUE(Eventually([&] { return snapshots->stats().waiting == 8; }));
  held.LetOn();
  held.WaitBegun();
  EXPECT_EQ(answered, 0);
  held.LetOn();
  asking.clear();
  EXPECT_EQ(answered, 8);
  EXPECT_EQ(snapshots->stats().saved, 2u);
}

TEST_F(SnapshotsTest, TheLastSaveComesWhateverIsUnderWay) {
  Registry registry({});
  HeldSave held;
  const auto snapshots = Open(registry, std::ref(held));
  std::jthread under_way([&] { EXPECT_TRUE(snapshots->Save()); });
  held.WaitBegun();
  std::jthread waiting([&] {
    const auto report = snapshots->Save();
    ASSERT_FALSE(report);
    EXPECT_NE(report.error().what.find("the daemon stops"), std::string::npos);
  });
  ASSERT_TRUE(Eventually([&] { return snapshots->stats().waiting == 1; }));
  Feed(registry, Ingested("a"), 2);
  std::jthread stopping([&] { snapshots->Stop(); });
  waiting.join();  // at once
  held.LetOn();
  held.WaitBegun();
  held.LetOn();
  stopping.join();
  snapshots->Stop();  // nothing more
  EXPECT_EQ(snapshots->stats().saved, 2u);
  Registry next({});
  EXPECT_EQ(Restore(next).holdings, 2u);
}

TEST_F(SnapshotsTest, WhatIsThrownIsAFailedSave) {
  Registry registry({});
  Feed(registry, Ingested("a"), 2);
  int saves = 0;
  const auto snapshots = Open(registry,
                              [&](const Registry& of, const std::string& path,
                                  const std::set<std::string>& configured) -> Result<SaveReport> {
                                if (++saves == 2) throw std::bad_alloc();
                                if (saves == 3)
                                  throw std::filesystem::filesystem_error("no", std::error_code());
                                return SaveRegistry(of, path, configured);
                              });
  EXPECT_TRUE(snapshots->Save());
  for (int i = 0; i < 2; ++i) {
    const auto report = snapshots->Save();
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().where, path_);
    EXPECT_EQ(WhyNotSound(), "");
    EXPECT_FALSE(std::filesystem::exists(path_ + ".writing"));
  }
  EXPECT_TRUE(snapshots->Save());
  EXPECT_EQ(snapshots->stats().saved, 2u);
  EXPECT_EQ(snapshots->stats().failed, 2u);
}

TEST_F(SnapshotsTest, WhatHappensMeanwhileIsInItOrNot) {
  Registry registry({});
  const auto snapshots = Open(registry);
  Feed(registry, Ingested("stays"), 100);
  std::jthread changing([&](const std::stop_token& stop) {
    for (uint64_t i = 0; !stop.stop_requested(); ++i) {
      const Registration registration = Ingested("comes-" + std::to_string(i % 3));
      Feed(registry, registration, 1 + i % 90);
      if (i % 4 == 0) registry.Clear(registration.Key());
      if (i % 4 == 1) registry.Resync(registration.Key());
      if (i % 2 == 0) (void)registry.Remove(registration.Key());
    }
  });
  for (int i = 0; i < 20; ++i) {
    const auto report = snapshots->Save();
    ASSERT_TRUE(report) << report.error().Message();
    ASSERT_EQ(WhyNotSound(), "");
    Registry next({});
    const auto restored = Restore(next);
    EXPECT_EQ(restored.publishers, report->publishers.size());
    EXPECT_TRUE(restored.left_out.empty());
    uint64_t holdings = 0;
    for (const SaveReport::Publisher& publisher : report->publishers) {
      holdings += publisher.holdings;
      if (publisher.key == "stays|default|0") {
        EXPECT_EQ(publisher.holdings, 100u);
      }
    }
    EXPECT_EQ(restored.holdings, holdings);
  }
}

TEST_F(SnapshotsTest, NobodyIsRegisteredAndThatIsSavedToo) {
  Registry registry({});
  const auto snapshots = Open(registry);
  const auto report = snapshots->Save();
  ASSERT_TRUE(report) << report.error().Message();
  EXPECT_EQ(report->info.publishers, 0u);
  EXPECT_EQ(WhyNotSound(), "");
  Registry next({});
  EXPECT_EQ(Restore(next).publishers, 0u);
}

// Of a mistake in what is written.
TEST_F(SnapshotsTest, WhatCouldNotBeLoadedAgainIsNotSaved) {
  bool wrong = false;
  const auto write = [&wrong](const Registry& of, const std::string& path,
                              const std::set<std::string>& configured) -> Result<SaveReport> {
    if (!wrong) return SaveRegistry(of, path, configured);
    auto writer = store::SnapshotWriter::Create(path, {});
    store::SavedPublisher pool{.key = "pool|default|0", .registration = "{}"};
    pool.resume.emplace();
    pool.pool.emplace().families.emplace_back().shape.tensor_ranks = 0;
    EXPECT_TRUE((*writer)->Add(pool));
    SaveReport report;
    report.info = (*writer)->Finish().value();
    return report;
  };
  Registry registry({});
  Feed(registry, Ingested("a"), 3);
  const auto snapshots = Open(registry, write);
  ASSERT_TRUE(snapshots->Save());
  wrong = true;
  const auto refused = snapshots->Save();
  ASSERT_FALSE(refused);
  for (const char* part :
       {"what was written cannot be loaded again: ",
        "pool_families: told_tensor_ranks is 0 (expected 1 to 2147483647 ranks)"}) {
    EXPECT_NE(refused.error().Message().find(part), std::string::npos) << refused.error().Message();
  }
  EXPECT_EQ(snapshots->stats().failed, 1u);
  EXPECT_EQ(snapshots->stats().info->publishers, 1u) << "of the last good one";
  EXPECT_FALSE(std::filesystem::exists(path_ + ".writing"));
  Registry next({});
  EXPECT_EQ(Restore(next).holdings, 3u);
  wrong = false;
  EXPECT_TRUE(snapshots->Save());
}

TEST_F(SnapshotsTest, AClockThatWasSetBackIsNoAge) {
  {
    Registry registry({});
    Feed(registry, Ingested("a"), 2);
    auto saved = registry.Copy("a|default|0");
    ASSERT_TRUE(saved && *saved);
    (*saved)->saved_at += 1e6;
    auto writer =
        store::SnapshotWriter::Create(path_, {.conductor = "t",
                                              .saved_at = (*saved)->saved_at,
                                              .hash_seed = registry.index().options().hash_seed,
                                              .vfs = {}});
    ASSERT_TRUE(writer);
    ASSERT_TRUE((*writer)->Add(**saved));
    ASSERT_TRUE((*writer)->Finish());
  }
  Registry registry({});
  const auto snapshots = Open(registry);
  EXPECT_EQ(registry.index().Stats().holdings, 2u);
  EXPECT_GE(snapshots->stats().age, 0);
  EXPECT_LT(snapshots->stats().age, 1e5);
}

TEST_F(SnapshotsTest, WhatCannotBeReadButMayBeGoodStaysAndIsNotSavedOver) {
  {
    Registry registry({});
    Feed(registry, Ingested("a"), 200);
    Save(registry);
  }
  Registry registry({});
  sqlite3_hard_heap_limit64(sqlite3_memory_used() + 30'000);
  auto snapshots = Open(registry);
  sqlite3_hard_heap_limit64(0);
  EXPECT_EQ(registry.size(), 0u);
  const auto report = snapshots->Save();
  ASSERT_FALSE(report);
  EXPECT_NE(report.error().what.find("could not be read at the start"), std::string::npos);
  snapshots->Stop();
  EXPECT_EQ(snapshots->stats().failed, 2u);
  snapshots.reset();
  EXPECT_FALSE(std::filesystem::exists(path_ + ".unusable"));
  const auto again = Open(registry);
  EXPECT_EQ(registry.index().Stats().holdings, 200u);
}

TEST_F(SnapshotsTest, WhatCouldNotBeWrittenAtTheStartIsTriedAgain) {
  {
    Registry registry({});
    Feed(registry, Ingested("a"), 2);
    Save(registry);
  }
  // Even root cannot create a file in a directory of this kind.
  const std::string link = directory_ + "/link";
  std::filesystem::create_symlink("/proc/self/state.db", link);
  Registry registry({});
  auto snapshots = Snapshots::Open(registry, {.file = link, .interval = {}}, {}, false);
  ASSERT_TRUE(snapshots) << snapshots.error().Message();
  EXPECT_FALSE((*snapshots)->Save());
  std::filesystem::remove(link);
  std::filesystem::create_symlink(path_, link);
  EXPECT_TRUE((*snapshots)->Save());
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_FALSE(Snapshots::Open(registry, {.file = link, .interval = {}}, {}, true));
  // What was never loaded may be worth more than what took its place.
  std::filesystem::rename(path_ + ".unusable", path_);
  Registry next({});
  EXPECT_EQ(Restore(next).holdings, 2u);
}

// As when the volume is mounted after the start.
TEST_F(SnapshotsTest, WhatCameThereAfterTheStartIsKept) {
  Registry registry({});
  Feed(registry, Ingested("a"), 2);
  Save(registry);
  std::filesystem::rename(path_, path_ + ".late");
  Registry cold({});
  const auto snapshots = Open(cold);
  EXPECT_TRUE(snapshots->Save());
  EXPECT_TRUE(snapshots->Save());  // its own is not kept
  EXPECT_FALSE(std::filesystem::exists(path_ + ".unusable"));
  std::filesystem::rename(path_ + ".late", path_);
  const auto report = snapshots->Save();
  ASSERT_TRUE(report) << report.error().Message();
  EXPECT_EQ(report->info.publishers, 0u);
  EXPECT_TRUE(snapshots->Save());
  EXPECT_FALSE(std::filesystem::exists(path_ + ".unusable.1"));
  std::filesystem::rename(path_ + ".unusable", path_);
  Registry next({});
  EXPECT_EQ(Restore(next).holdings, 2u);
}

TEST_F(SnapshotsTest, WhatWasLoadedIsSavedOver) {
  {
    Registry registry({});
    Feed(registry, Ingested("a"), 2);
    Save(registry);
  }
  Registry registry({});
  const auto snapshots = Open(registry);
  EXPECT_TRUE(snapshots->Save());
  EXPECT_FALSE(std::filesystem::exists(path_ + ".unusable"));
}

TEST_F(SnapshotsTest, ALockThatWasRemovedIsTakenAgain) {
  Registry registry({});
  const auto snapshots = Open(registry);
  EXPECT_TRUE(snapshots->Save());
  std::filesystem::remove(path_ + ".lock");
  {
    Registry other({});
    const auto second = Open(other);
    const auto report = snapshots->Save();
    ASSERT_FALSE(report);
    EXPECT_NE(report.error().what.find("another conductor uses it"), std::string::npos);
    EXPECT_TRUE(second->Save());
  }
  EXPECT_TRUE(snapshots->Save());
  EXPECT_FALSE(Snapshots::Open(registry, {.file = path_, .interval = {}}, {}, false));
}

TEST_F(SnapshotsTest, ADamagedFileThatCouldNotBeKeptIsKeptByTheFirstSaveThatCan) {
  const std::string link = directory_ + "/link";
  std::filesystem::create_symlink("/proc/self/status", link);  // nothing can be made beside it
  Registry registry({});
  const auto snapshots = Snapshots::Open(registry, {.file = link, .interval = {}}, {}, false);
  ASSERT_TRUE(snapshots) << snapshots.error().Message();
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_FALSE(std::filesystem::exists(link + ".unusable"));
  const auto report = (*snapshots)->Save();
  ASSERT_FALSE(report);
  EXPECT_NE(report.error().what.find("cannot be created"), std::string::npos);
  std::ofstream(path_) << "no snapshot";
  std::filesystem::remove(link);
  std::filesystem::create_symlink(path_, link);
  EXPECT_TRUE((*snapshots)->Save());
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_EQ(WhyNotSound(), "");
  EXPECT_EQ(std::filesystem::file_size(path_ + ".unusable"), 11u);
}

TEST(RegistrationJson, IsReadAsTheSameRegistration) {
  Registration engine;
  engine.endpoint = "tcp://127.0.0.1:5557";
  engine.replay_endpoint = "tcp://127.0.0.1:5558";
  engine.mode = stream::ListenMode::kBind;
  engine.peer = "10.0.0.1";
  engine.topic = "kv@";
  engine.type = PublisherType::kSglang;
  engine.model = "m";
  engine.lora_name = "sql";
  engine.tenant = "t";
  engine.instance_id = "a";
  engine.block_size = 16;
  engine.dp_rank = 3;
  engine.additional_salt = "salt";
  engine.copies = index::CopyMode::kSet;
  engine.incarnation = "pod-1";
  engine.ttl = {std::chrono::seconds(0), std::chrono::minutes(10), std::chrono::milliseconds(5)};
  engine.hash_profile.emplace();
  engine.hash_profile->hash_block_size = 32;
  engine.bytes_per_block = 4096;
  Registration pool;
  pool.endpoint = "tcp://127.0.0.1:19997";
  pool.type = PublisherType::kMooncake;
  pool.model = "m";
  pool.instance_id = "pool";
  pool.pool = {.lookup = index::PoolLookup::kContinue,
               .tp_size = 2,
               .kv_heads = 1,
               .pp_size = 3,
               .layers = 4,
               .admin_endpoint = "127.0.0.1:9003",
               .key_models = {{"x", "m"}}};
  for (const Registration& registration : {engine, pool, Ingested("b")}) {
    const RegistrationFields read = ReadRegistration(RegistrationJson(registration), std::nullopt);
    EXPECT_TRUE(read.problems.empty()) << read.problems.front().what;
    EXPECT_TRUE(read.unknown.empty());
    EXPECT_TRUE(read.registration == registration) << RegistrationJson(registration).dump();
  }
}

}  // namespace
}  // namespace conductor::serve
