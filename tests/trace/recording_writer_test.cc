#include "lib/trace/recording_writer.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <array>
#include <chrono>
#include <csignal>
#include <filesystem>

#include "recording_fixture.h"

namespace conductor::trace {
namespace {

using std::chrono::milliseconds;

constexpr MonoTime kStart{};
const RecordedPublisher kPublisher = {.endpoint = "tcp://a:1", .facts = R"({"type":"vLLM"})"};

RecordingWriter Open(const RecordingWriter::Options& options) {
  auto writer = RecordingWriter::Open(options);
  EXPECT_TRUE(writer) << writer.error().Message();
  return *std::move(writer);
}

Status WriteFrame(RecordingWriter& writer, MonoTime now, int64_t time, std::string_view payload,
                  uint32_t publisher = 0) {
  const std::array<std::string_view, 3> frames = {"t", "s", payload};
  return writer.Frame(now, time, publisher, false, frames);
}

// Bytes that do not compress.
std::string Noise(size_t size, uint64_t seed) {
  std::string bytes(size, '\0');
  for (char& c : bytes) {
    seed = seed * 6364136223846793005 + 1442695040888963407;
    c = static_cast<char>(seed >> 56);
  }
  return bytes;
}

// While it lives no file grows beyond `bytes`, as if the disk were full.
class FullDisk {
 public:
  explicit FullDisk(uint64_t bytes) {
    before_ = std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit_);
    const rlimit lower{bytes, limit_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &lower);
  }
  ~FullDisk() {
    setrlimit(RLIMIT_FSIZE, &limit_);
    std::signal(SIGXFSZ, before_);
  }

 private:
  rlimit limit_{};
  void (*before_)(int) = nullptr;
};

TEST(RecordingWriter, WhatItWritesIsRead) {
  const TemporaryFolder folder;
  {
    RecordingWriter writer = Open({.path = folder.File("r")});
    EXPECT_EQ(*writer.AddPublisher(kStart, kPublisher), 0u);
    EXPECT_EQ(*writer.AddPublisher(kStart, {.endpoint = "tcp://b:1"}), 1u);
    EXPECT_EQ(*writer.AddPublisher(kStart, kPublisher), 0u);
    ASSERT_TRUE(writer.Mark(kStart, {.publisher = 1, .kind = MarkKind::kConnected}));
    ASSERT_TRUE(WriteFrame(writer, kStart, 1, "x", 1));
    ASSERT_TRUE(writer.Mark(kStart, {.kind = MarkKind::kEnd}));
    ASSERT_TRUE(writer.Close());
  }
  EXPECT_EQ(ToldOf(folder.File("r")),
            (Strings{"publisher 0 tcp://a:1", "publisher 1 tcp://b:1", "mark 1 connected 0",
                     "frame 1 @1 t|s|x", "mark all end 0"}));
}

TEST(RecordingWriter, ABlockIsWrittenWhenItIsASecondOld) {
  const TemporaryFolder folder;
  RecordingWriter writer = Open({.path = folder.File("r")});
  EXPECT_FALSE(writer.Deadline());
  ASSERT_TRUE(writer.AddPublisher(kStart, kPublisher));
  ASSERT_TRUE(WriteFrame(writer, kStart + milliseconds(600), 1, "x"));
  EXPECT_EQ(writer.Deadline(), kStart + milliseconds(1000));
  ASSERT_TRUE(writer.Tick(kStart + milliseconds(999)));
  EXPECT_EQ(ToldOf(folder.File("r")), (Strings{}));
  ASSERT_TRUE(writer.Tick(kStart + milliseconds(1000)));
  EXPECT_EQ(ToldOf(folder.File("r")), (Strings{"publisher 0 tcp://a:1", "frame 0 @1 t|s|x"}));
  EXPECT_FALSE(writer.Deadline());
}

TEST(RecordingWriter, ABlockIsWrittenWhenItIsLargeEnough) {
  const TemporaryFolder folder;
  RecordingWriter writer = Open({.path = folder.File("r"), .block_bytes = 1000});
  ASSERT_TRUE(writer.AddPublisher(kStart, kPublisher));
  ASSERT_TRUE(WriteFrame(writer, kStart, 1, Noise(800, 1)));
  ASSERT_TRUE(WriteFrame(writer, kStart, 2, Noise(800, 2)));
  EXPECT_EQ(ToldOf(folder.File("r")).size(), 2u);
}

TEST(RecordingWriter, ASecondWriterIsRefusedAndToldWhoHasTheFile) {
  const TemporaryFolder folder;
  RecordingWriter writer = Open({.path = folder.File("r")});
  const auto second = RecordingWriter::Open({.path = folder.File("r")});
  ASSERT_FALSE(second);
  EXPECT_TRUE(second.error().Message().starts_with(folder.File("r") + ": "))
      << second.error().Message();
  EXPECT_TRUE(
      Has(second.error().Message(), "process " + std::to_string(::getpid()) + " (recording_test)"))
      << second.error().Message();
  EXPECT_TRUE(Has(second.error().Message(), "is recording to it")) << second.error().Message();
}

TEST(RecordingWriter, GoesOnWithARecordingThatExists) {
  const TemporaryFolder folder;
  for (int64_t time : {1, 2}) {
    RecordingWriter writer = Open({.path = folder.File("r")});
    EXPECT_EQ(writer.found().recording, time == 2);
    ASSERT_TRUE(writer.AddPublisher(kStart, {.endpoint = time == 1 ? "tcp://a:1" : "tcp://b:1"}));
    ASSERT_TRUE(WriteFrame(writer, kStart, time, "x"));
  }
  EXPECT_EQ(ToldOf(folder.File("r")), (Strings{"publisher 0 tcp://a:1", "frame 0 @1 t|s|x",
                                               "publisher 1 tcp://b:1", "frame 1 @2 t|s|x"}));
}

TEST(RecordingWriter, CutsOffATornEndBeforeItGoesOn) {
  const TemporaryFolder folder;
  const std::string path = folder.File("r");
  {
    RecordingWriter writer = Open({.path = path});
    ASSERT_TRUE(writer.AddPublisher(kStart, kPublisher));
    ASSERT_TRUE(writer.Flush());
    ASSERT_TRUE(WriteFrame(writer, kStart, 1, "lost"));
  }
  const std::string whole = Contents(path);
  const std::string header = EncodeHeader({.written_by = "conductor " CONDUCTOR_VERSION});
  for (size_t size = 0; size < whole.size(); ++size) {
    SCOPED_TRACE(size);
    Write(path, whole.substr(0, size));
    RecordingWriter writer = Open({.path = path});
    EXPECT_EQ(writer.found().recording, size >= header.size());
    ASSERT_TRUE(writer.AddPublisher(kStart, kPublisher));
    ASSERT_TRUE(WriteFrame(writer, kStart, 2, "new"));
    ASSERT_TRUE(writer.Flush());
    EXPECT_EQ(ToldOf(path), (Strings{"publisher 0 tcp://a:1", "frame 0 @2 t|s|new"}));
    if (size == whole.size() - 1) {
      EXPECT_GT(writer.found().truncated_bytes, 0u);
      EXPECT_TRUE(Has(writer.found().torn, "the file ends within a block")) << writer.found().torn;
    }
  }
}

TEST(RecordingWriter, WholeRecordsOfATornBlockAreWrittenAgain) {
  const TemporaryFolder folder;
  const std::string path = folder.File("r");
  {
    RecordingWriter writer = Open({.path = path, .block_bytes = 1 << 20});
    ASSERT_TRUE(writer.AddPublisher(kStart, kPublisher));
    for (int64_t i = 0; i < 400; ++i) {
      ASSERT_TRUE(WriteFrame(writer, kStart, i, Noise(1000, static_cast<uint64_t>(i))));
    }
  }
  const std::string whole = Contents(path);
  Write(path, whole.substr(0, whole.size() - 50'000));
  Strings expected = ToldOf(path);
  ASSERT_GT(expected.size(), 100u);
  expected.pop_back();  // the damage
  RecordingWriter writer = Open({.path = path});
  EXPECT_EQ(writer.found().kept_records, expected.size());
  EXPECT_EQ(ToldOf(path), expected);
  EXPECT_EQ(*writer.AddPublisher(kStart, {.endpoint = "tcp://b:1"}), 0u);
  ASSERT_TRUE(WriteFrame(writer, kStart, 400, "new"));
  ASSERT_TRUE(writer.Close());
  expected.insert(expected.end(), {"publisher 1 tcp://b:1", "frame 1 @400 t|s|new"});
  EXPECT_EQ(ToldOf(path), expected);
}

TEST(RecordingWriter, OneThatIsStoppedWhileItLooksThroughAFileLeavesItAlone) {
  const TemporaryFolder folder;
  const std::string path = folder.File("r");
  {
    RecordingWriter writer = Open({.path = path});
    ASSERT_TRUE(writer.AddPublisher(kStart, kPublisher));
  }
  const std::string bytes = Contents(path) + "torn";
  Write(path, bytes);
  EXPECT_FALSE(RecordingWriter::Open({.path = path, .stopped = [] { return true; }}));
  EXPECT_EQ(Contents(path), bytes);
}

TEST(RecordingWriter, NeverTouchesAFileThatIsNoRecording) {
  const TemporaryFolder folder;
  const std::string newer = EncodeHeader({.major = 2, .written_by = "x"});
  for (const std::string& bytes : {std::string("notes"), std::string(500, 'x'), newer}) {
    Write(folder.File("r"), bytes);
    const auto writer = RecordingWriter::Open({.path = folder.File("r")});
    EXPECT_FALSE(writer);
    EXPECT_EQ(Contents(folder.File("r")), bytes);
  }
  const auto device = RecordingWriter::Open({.path = "/dev/full"});
  ASSERT_FALSE(device);
  EXPECT_EQ(device.error().Message(),
            "/dev/full: is no regular file (expected a file to record to)");
  const auto nowhere = RecordingWriter::Open({.path = folder.File("no/such/folder")});
  ASSERT_FALSE(nowhere);
  EXPECT_TRUE(Has(nowhere.error().Message(), "No such file or directory"))
      << nowhere.error().Message();
}

TEST(RecordingWriter, OnAFullDiskItSaysSoAndLeavesWholeBlocks) {
  const TemporaryFolder folder;
  RecordingWriter writer = Open({.path = folder.File("r")});
  ASSERT_TRUE(writer.AddPublisher(kStart, kPublisher));
  ASSERT_TRUE(WriteFrame(writer, kStart, 1, "kept"));
  ASSERT_TRUE(writer.Flush());
  const uint64_t whole = writer.file_bytes();
  {
    const FullDisk full(whole + 500);
    ASSERT_TRUE(WriteFrame(writer, kStart, 2, Noise(5000, 1)));
    const Status failed = writer.Flush();
    ASSERT_FALSE(failed);
    EXPECT_TRUE(Has(failed.error().Message(), "cannot be written: File too large"))
        << failed.error().Message();
    EXPECT_FALSE(WriteFrame(writer, kStart, 3, "x"));
  }
  EXPECT_EQ(std::filesystem::file_size(folder.File("r")), whole);
  EXPECT_EQ(ToldOf(folder.File("r")), (Strings{"publisher 0 tcp://a:1", "frame 0 @1 t|s|kept"}));
}

TEST(RecordingWriter, RotatesIntoFilesThatAreWholeByThemselves) {
  const TemporaryFolder folder;
  const std::string path = folder.File("r");
  {
    RecordingWriter writer = Open({.path = path, .rotate_bytes = 2000, .block_bytes = 500});
    ASSERT_TRUE(writer.AddPublisher(kStart, kPublisher));
    for (int64_t i = 0; i < 10; ++i) {
      ASSERT_TRUE(WriteFrame(writer, kStart, i, Noise(700, static_cast<uint64_t>(i))));
    }
    ASSERT_TRUE(writer.Close());
    EXPECT_GT(writer.files(), 3u);
  }
  const auto files = RecordingFiles(path);
  ASSERT_GT(files.size(), 3u);
  EXPECT_EQ(files.front(), path + ".0001");
  EXPECT_EQ(files.back(), path);
  for (const std::string& file : files) {
    EXPECT_LE(std::filesystem::file_size(file), 2000u) << file;
    EXPECT_EQ(ToldOf(file).at(0), "publisher 0 tcp://a:1") << file;
  }
  auto reader = RecordingReader::Open(files);
  ASSERT_TRUE(reader);
  const auto told = Told(*reader);
  ASSERT_EQ(told.size(), 11u);
  for (size_t i = 0; i < 10; ++i) {
    EXPECT_TRUE(told.at(i + 1).starts_with("frame 0 @" + std::to_string(i) + " "))
        << told.at(i + 1);
  }
  // The one who comes next goes on counting.
  RecordingWriter next = Open({.path = path, .rotate_bytes = 100, .block_bytes = 500});
  ASSERT_TRUE(next.AddPublisher(kStart, kPublisher));
  ASSERT_TRUE(WriteFrame(next, kStart, 10, "x"));
  ASSERT_TRUE(next.Close());
  EXPECT_EQ(RecordingFiles(path).size(), files.size() + 1);
}

TEST(RecordingWriter, ARotationLosesNothingOfOthersNorOfItself) {
  const TemporaryFolder folder;
  const std::string path = folder.File("///r");
  const Strings others = {folder.File("r.new"), folder.File("r.99999999999999999999999"),
                          folder.File("r.20261126")};
  for (const std::string& other : others) Write(other, "somebody's own");
  // Twice, as the second one finds the parts of the first.
  for (int64_t run = 0; run < 2; ++run) {
    RecordingWriter writer = Open({.path = path, .rotate_bytes = 100});
    ASSERT_TRUE(writer.AddPublisher(kStart, kPublisher));
    for (int64_t i = 0; i < 20; ++i) {
      ASSERT_TRUE(WriteFrame(writer, kStart, 20 * run + i, "x"));
      ASSERT_TRUE(writer.Flush());
    }
    ASSERT_TRUE(writer.Close());
  }
  for (const std::string& other : others) EXPECT_EQ(Contents(other), "somebody's own") << other;
  EXPECT_FALSE(std::filesystem::exists(folder.File(".r.rotating")));
  auto reader = RecordingReader::Open(RecordingFiles(path));
  ASSERT_TRUE(reader);
  const Strings told = Told(*reader);
  ASSERT_EQ(told.size(), 41u);
  for (size_t i = 0; i < 40; ++i) {
    EXPECT_EQ(told[i + 1], "frame 0 @" + std::to_string(i) + " t|s|x");
  }
}

TEST(RecordingWriter, HoldsItsFileOverRotations) {
  const TemporaryFolder folder;
  RecordingWriter writer = Open({.path = folder.File("r"), .rotate_bytes = 100});
  ASSERT_TRUE(writer.AddPublisher(kStart, kPublisher));
  for (int64_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(WriteFrame(writer, kStart, i, "x"));
    ASSERT_TRUE(writer.Flush());
    EXPECT_FALSE(RecordingWriter::Open({.path = folder.File("r")}));
  }
  EXPECT_EQ(writer.files(), 3u);
}

TEST(RecordingWriter, AMessageThatIsTooLargeIsMarkedAsLost) {
  const TemporaryFolder folder;
  {
    RecordingWriter writer = Open({.path = folder.File("r")});
    ASSERT_TRUE(writer.AddPublisher(kStart, kPublisher));
    ASSERT_TRUE(WriteFrame(writer, kStart, 1, std::string(kMostRecordBytes, 'x')));
    const std::vector<std::string_view> many(kMostFrames + 1);
    ASSERT_TRUE(writer.Frame(kStart, 2, 0, false, many));
    ASSERT_TRUE(WriteFrame(writer, kStart, 3, "x"));
  }
  EXPECT_EQ(ToldOf(folder.File("r")), (Strings{"publisher 0 tcp://a:1", "mark 0 lost 1",
                                               "mark 0 lost 1", "frame 0 @3 t|s|x"}));
}

TEST(RecordingWriter, TheLargestMessageIsReadBack) {
  const TemporaryFolder folder;
  const std::string payload(kMostRecordBytes - 64, 'x');
  {
    RecordingWriter writer = Open({.path = folder.File("r")});
    ASSERT_TRUE(writer.AddPublisher(kStart, kPublisher));
    ASSERT_TRUE(WriteFrame(writer, kStart, 1, payload));
  }
  const auto told = ToldOf(folder.File("r"));
  ASSERT_EQ(told.size(), 2u);
  EXPECT_EQ(told.at(1).size(), payload.size() + std::string("frame 0 @1 t|s|").size());
}

}  // namespace
}  // namespace conductor::trace
