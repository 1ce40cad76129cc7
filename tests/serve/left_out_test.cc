// What of a snapshot is not restored, and that it is told and counted once.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "daemon/serve/registration_json.h"
#include "daemon/serve/registry.h"
#include "lib/store/snapshot_reader.h"
#include "lib/store/snapshot_writer.h"
#include "tests/store/saved_examples.h"

namespace conductor::serve {
namespace {

Registration EngineAt(const std::string& endpoint) {
  Registration registration;
  registration.endpoint = endpoint;
  registration.model = "m";
  registration.instance_id = "a";
  registration.block_size = 4;
  return registration;
}

Registration PoolAt(const std::string& endpoint) {
  Registration registration;
  registration.endpoint = endpoint;
  registration.type = PublisherType::kMooncake;
  registration.model = "m";
  registration.instance_id = "pool";
  return registration;
}

store::SavedPublisher As(const Registration& registration, store::SavedPublisher saved) {
  saved.key = registration.Key();
  saved.registration = RegistrationJson(registration).dump();
  return saved;
}

class LeftOut : public testing::Test {
 protected:
  LeftOut() {
    std::string name = testing::TempDir() + "conductor-left-out-XXXXXX";
    directory_ = ::mkdtemp(name.data());
    path_ = directory_ + "/state.db";
  }
  ~LeftOut() override { std::filesystem::remove_all(directory_); }

  // Writes it, and restores it: why what is not.
  std::vector<Error> Restore(const store::SavedPublisher& saved,
                             std::vector<Registration> configured = {}) {
    std::filesystem::remove(path_);
    auto writer =
        store::SnapshotWriter::Create(path_, {.conductor = "1",
                                              .saved_at = saved.saved_at,
                                              .hash_seed = registry_.index().options().hash_seed,
                                              .vfs = {}});
    EXPECT_TRUE(writer && (*writer)->Add(saved));
    const auto info = (*writer)->Finish();
    EXPECT_TRUE(info);
    holdings_ = info->holdings;
    auto reader = store::SnapshotReader::Open(path_);
    EXPECT_TRUE(reader);
    auto restored = registry_.Restore(*reader, {.configured = std::move(configured)});
    EXPECT_TRUE(restored) << restored.error().Message();
    return restored->left_out;
  }

  std::string directory_;
  std::string path_;
  index::PrefixIndex saved_{index::PrefixIndex::Options{}};
  uint64_t holdings_ = 0;  // of ranks and tiers, in the file
  Registry registry_{{}};
};

TEST_F(LeftOut, ThatNothingWasEverAppliedIsToldAndNotCounted) {
  store::SavedPublisher saved = As(EngineAt("tcp://127.0.0.1:1"), {.saved_at = 1000});
  saved.configured = true;
  EXPECT_EQ(Restore(saved).size(), 1u);
  EXPECT_EQ(registry_.restored().left_out, 0u);
  EXPECT_EQ(registry_.restored().left_out_holdings, 0u);
}

TEST_F(LeftOut, OfAPoolItsObjectsAreCounted) {
  store::SavedPublisher saved = As(PoolAt("tcp://127.0.0.1:1"), store::SavedPoolOf(saved_));
  saved.configured = true;
  EXPECT_EQ(Restore(saved).size(), 1u);
  EXPECT_EQ(registry_.restored().left_out, 1u);
  EXPECT_EQ(registry_.restored().left_out_holdings, saved.pool->objects.size());
}

TEST_F(LeftOut, WhatAnotherTypeHeldIsCountedThoughItsRegistrationComesBack) {
  const auto left = Restore(As(PoolAt("tcp://127.0.0.1:1"), store::SavedEngine(saved_, "a", 0)));
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0].what, "what it held is no publisher's of its type");
  EXPECT_EQ(registry_.Keys().size(), 1u);
  EXPECT_EQ(registry_.restored().left_out, 1u);
  EXPECT_EQ(registry_.restored().left_out_holdings, holdings_);
  EXPECT_GT(holdings_, 0u);
}

TEST_F(LeftOut, APublisherCountsOnceHoweverMuchIsWrongWithIt) {
  Registration other = EngineAt("tcp://127.0.0.1:1");
  other.instance_id = "b";
  const auto left =
      Restore(As(PoolAt("tcp://127.0.0.1:1"), store::SavedEngine(saved_, "a", 0)), {other});
  ASSERT_EQ(left.size(), 1u);
  EXPECT_NE(left[0].what.find("in the configuration file"), std::string::npos) << left[0].what;
  EXPECT_EQ(registry_.restored().left_out, 1u);
  EXPECT_EQ(registry_.restored().left_out_holdings, holdings_);
}

TEST_F(LeftOut, WhatAnotherTypeHeldIsToldOfOneThatTheConfigurationHas) {
  const Registration pool = PoolAt("tcp://127.0.0.1:1");
  const auto left = Restore(As(pool, store::SavedEngine(saved_, "a", 0)), {pool});
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0].what, "what it held is no publisher's of its type");
  EXPECT_EQ(registry_.restored().left_out, 1u);
}

}  // namespace
}  // namespace conductor::serve
