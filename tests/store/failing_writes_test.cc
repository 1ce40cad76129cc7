// Whatever fails while a snapshot is saved, the last good one stays where it is.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "failing_vfs.h"
#include "lib/store/snapshot_reader.h"
#include "lib/store/snapshot_writer.h"
#include "lib/store/state_file.h"
#include "saved_examples.h"

namespace conductor::store {
namespace {

class FailingWrites : public testing::Test {
 protected:
  FailingWrites() {
    std::string name = testing::TempDir() + "conductor-failing-XXXXXX";
    directory_ = ::mkdtemp(name.data());
    auto taken = StateFile::Take(directory_ + "/state.db");
    file_ = std::move(*taken);
    old_ = {SavedEngine(index_, "old", 0)};
    // More than SQLite's cache holds, so that it writes before the end too.
    next_ = {SavedEngine(index_, "new", 0, 40'000), SavedEngine(index_, "other", 1)};
    EXPECT_FALSE(Save(old_, {}));
  }
  ~FailingWrites() override { std::filesystem::remove_all(directory_); }

  // What went wrong.
  std::optional<Error> Save(const std::vector<SavedPublisher>& publishers, const std::string& vfs) {
    const auto attempt = [&]() -> Status {
      file_->Discard();
      auto writer = SnapshotWriter::Create(file_->temporary(), {.conductor = "t", .vfs = vfs});
      if (!writer) return tl::unexpected(writer.error());
      for (const SavedPublisher& publisher : publishers) {
        if (auto added = (*writer)->Add(publisher); !added) return added;
      }
      if (auto info = (*writer)->Finish(); !info) return tl::unexpected(info.error());
      writer->reset();
      return file_->Replace();
    };
    const Status saved = attempt();
    if (saved) return std::nullopt;
    return saved.error();
  }

  // The first publisher of a good file; otherwise what is wrong with it.
  [[nodiscard]] std::string First() const {
    auto reader = SnapshotReader::Open(file_->path());
    if (!reader) return reader.error().Message();
    if (const Status sound = reader->Verify(); !sound) return sound.error().Message();
    const auto publishers = reader->Publishers();
    return publishers ? publishers->at(0).saved.key : publishers.error().Message();
  }

  std::string directory_;
  index::PrefixIndex index_{index::PrefixIndex::Options{}};
  std::optional<StateFile> file_;
  std::vector<SavedPublisher> old_;
  std::vector<SavedPublisher> next_;
};

TEST_F(FailingWrites, OfAnyOperationLeaveTheLastGoodSnapshot) {
  FailingVfs::Register();
  uint64_t operation = 1;
  for (;; ++operation) {
    FailingVfs::FailFrom(operation);
    const auto error = Save(next_, FailingVfs::kName);
    if (!error) break;
    EXPECT_NE(error->Message().find("state.db.writing"), std::string::npos) << error->Message();
    ASSERT_EQ(First(), "old|default|0") << "operation " << operation;
    ASSERT_LT(operation, 5000u);
  }
  EXPECT_GT(operation, 20u);
  EXPECT_EQ(First(), "new|default|0");
}

TEST_F(FailingWrites, OfADiskThatIsFullLeaveTheLastGoodSnapshot) {
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  for (rlim_t size = 1; size < 1'000'000; size = size * 3 + 1) {
    const rlimit room{size, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &room), 0);
    const auto error = Save(next_, {});
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    if (!error) break;
    ASSERT_EQ(First(), "old|default|0") << size;
  }
  EXPECT_EQ(First(), "old|default|0");
  EXPECT_FALSE(Save(next_, {}));
  EXPECT_EQ(First(), "new|default|0");
}

TEST_F(FailingWrites, AFileThatIsThereAlreadyIsNotWrittenOver) {
  const auto again = SnapshotWriter::Create(file_->path(), {});
  ASSERT_FALSE(again);
  EXPECT_NE(again.error().Message().find("File exists"), std::string::npos);
  EXPECT_EQ(First(), "old|default|0");
}

}  // namespace
}  // namespace conductor::store
