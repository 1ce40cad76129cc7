#include "lib/trace/recording_reader.h"

#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <fstream>

#include "lib/base/bytes.h"
#include "recording_fixture.h"

namespace conductor::trace {
namespace {

constexpr int kLevel = 3;

std::string Header() { return EncodeHeader({.created_ns = 5, .written_by = "test"}); }

std::string PublisherRecord(uint32_t number, const std::string& endpoint) {
  std::string block;
  EXPECT_TRUE(AppendPublisher(block, number, {.endpoint = endpoint, .facts = "{}"}));
  return block;
}

std::string FrameRecord(int64_t time, uint32_t publisher, std::string_view payload) {
  std::string block;
  const std::array<std::string_view, 3> frames = {"topic", "sequence", payload};
  EXPECT_TRUE(AppendFrame(block, time, publisher, false, frames));
  return block;
}

std::string Block(const std::string& records, uint32_t count) {
  return *EncodeBlock(records, count, kLevel);
}

RecordingReader Reading(const std::string& bytes) {
  auto reader = RecordingReader::From(Bytes(bytes), "file");
  EXPECT_TRUE(reader) << reader.error().Message();
  return *std::move(reader);
}

std::vector<std::string> ToldBy(const std::string& bytes) {
  auto reader = Reading(bytes);
  return Told(reader);
}

// Three blocks: a publisher and a frame, two frames, one frame.
struct Sample {
  std::string head = Header();
  std::string first = Block(PublisherRecord(0, "tcp://a:1") + FrameRecord(1, 0, "one"), 2);
  std::string second = Block(FrameRecord(2, 0, "two") + FrameRecord(3, 0, "three"), 2);
  std::string third = Block(FrameRecord(4, 0, "four"), 1);
  std::vector<std::string> all = {
      "publisher 0 tcp://a:1", "frame 0 @1 topic|sequence|one", "frame 0 @2 topic|sequence|two",
      "frame 0 @3 topic|sequence|three", "frame 0 @4 topic|sequence|four"};
  [[nodiscard]] std::string whole() const { return head + first + second + third; }
};

TEST(RecordingReader, GivesWhatWasRecordedInOrder) {
  const Sample sample;
  auto reader = Reading(sample.whole());
  EXPECT_EQ(Told(reader), sample.all);
  EXPECT_EQ(reader.header().created_ns, 5);
  EXPECT_EQ(reader.header().written_by, "test");
  EXPECT_EQ(reader.counters().blocks, 3u);
  EXPECT_EQ(reader.counters().records, 5u);
  EXPECT_EQ(reader.counters().damages, 0u);
  EXPECT_EQ(reader.whole_bytes(), sample.whole().size());
  EXPECT_EQ(reader.bytes_read(), sample.whole().size());
}

TEST(RecordingReader, KeepsMessagesOfAnyNumberOfFrames) {
  std::string records = PublisherRecord(0, "tcp://a:1");
  ASSERT_TRUE(AppendFrame(records, 1, 0, false, {}));
  const std::array<std::string_view, 9> nine = {"", "1", "22", "", "4", "5", "6", "7", "\0"};
  ASSERT_TRUE(AppendFrame(records, 2, 0, true, nine));
  EXPECT_EQ(ToldBy(Header() + Block(records, 3)),
            (Strings{"publisher 0 tcp://a:1", "frame 0 @1 ", "replayed 0 @2 |1|22||4|5|6|7|"}));
}

TEST(RecordingReader, ReadsAllBeforeTheCutWhereverAFileIsCutOff) {
  const Sample sample;
  const std::string whole = sample.whole();
  const size_t after_first = sample.head.size() + sample.first.size();
  for (size_t size = sample.head.size(); size < whole.size(); ++size) {
    SCOPED_TRACE(size);
    auto told = ToldBy(whole.substr(0, size));
    const bool between = size == sample.head.size() || size == after_first ||
                         size == after_first + sample.second.size();
    if (!between) {
      ASSERT_FALSE(told.empty());
      EXPECT_TRUE(told.back().starts_with("damage ")) << told.back();
      told.pop_back();
    }
    ASSERT_LE(told.size(), sample.all.size());
    EXPECT_TRUE(std::equal(told.begin(), told.end(), sample.all.begin()));
    if (size >= after_first) {
      EXPECT_GE(told.size(), 2u);
    }
  }
}

TEST(RecordingReader, AFileThatIsCutOffInItsHeaderIsAnErrorThatSaysSo) {
  const std::string head = Header();
  for (size_t size = 0; size < head.size(); ++size) {
    const auto reader = RecordingReader::From(Bytes(head.substr(0, size)), "file");
    ASSERT_FALSE(reader) << size;
    EXPECT_TRUE(reader.error().Message().starts_with("file: byte ")) << reader.error().Message();
  }
}

TEST(RecordingReader, AHeaderThatIsDamagedCostsNoBlock) {
  const Sample sample;
  Strings expected = sample.all;
  expected.insert(expected.begin(), "damage 0+" + std::to_string(sample.head.size()));
  for (size_t at = 0; at < sample.head.size(); ++at) {
    SCOPED_TRACE(at);
    std::string bytes = sample.whole();
    bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
    auto reader = Reading(bytes);
    EXPECT_EQ(Told(reader), expected);
    EXPECT_EQ(reader.counters().damages, 1u);
  }
  auto cut = Reading(sample.head.substr(0, 9) + sample.first);
  EXPECT_EQ(Told(cut), (Strings{"damage 0+9", sample.all.at(0), sample.all.at(1)}));
  const auto newer =
      RecordingReader::From(Bytes(EncodeHeader({.major = 2}) + sample.first), "file");
  ASSERT_FALSE(newer);
  EXPECT_TRUE(Has(newer.error().Message(), "a recording of version 2.0"));
}

TEST(RecordingReader, OneFlippedBitCostsNoMoreThanItsBlock) {
  const Sample sample;
  const std::string whole = sample.whole();
  const size_t second = sample.head.size() + sample.first.size();
  const size_t third = second + sample.second.size();
  for (size_t at = second; at < third; ++at) {
    SCOPED_TRACE(at - second);
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
    const auto told = ToldBy(bytes);
    EXPECT_EQ(told.at(0), sample.all.at(0));
    EXPECT_EQ(told.at(1), sample.all.at(1));
    EXPECT_EQ(told.back(), sample.all.back());
    EXPECT_TRUE(
        Has(told, "damage " + std::to_string(second) + "+" + std::to_string(third - second)))
        << testing::PrintToString(told);
    for (const std::string& item : told) {
      const bool known = std::ranges::find(sample.all, item) != sample.all.end();
      EXPECT_TRUE(known || item.starts_with("damage ")) << item;
    }
  }
}

TEST(RecordingReader, FindsTheNextBlockBehindGarbage) {
  const Sample sample;
  const std::string garbage = "no block" + std::string(kBlockMarker) + std::string(kBlockMarker);
  auto reader = Reading(sample.head + sample.first + garbage + sample.second + sample.third);
  auto told = Told(reader);
  EXPECT_TRUE(Has(told, "damage " + std::to_string(sample.head.size() + sample.first.size()) + "+" +
                            std::to_string(garbage.size())))
      << testing::PrintToString(told);
  std::erase_if(told, [](const std::string& item) { return item.starts_with("damage"); });
  EXPECT_EQ(told, sample.all);
  EXPECT_EQ(reader.counters().damages, 1u);
  EXPECT_EQ(reader.counters().damaged_bytes, garbage.size());
}

TEST(RecordingReader, DamageSaysWhatAndWhereAndHowMuch) {
  const Sample sample;
  auto reader = Reading(sample.head + sample.first + sample.second.substr(0, 40));
  std::optional<Damage> damage;
  while (const auto item = reader.Next()) {
    if (const auto* told = std::get_if<Damage>(&*item)) damage = *told;
  }
  ASSERT_TRUE(damage);
  EXPECT_TRUE(damage->to_end);
  EXPECT_EQ(damage->offset, sample.head.size() + sample.first.size());
  EXPECT_EQ(damage->records, 2u);
  EXPECT_TRUE(Has(damage->Describe(), "the file ends within a block: 12 of its"))
      << damage->Describe();
  EXPECT_TRUE(Has(damage->Describe(), "40 bytes are passed over, 2 records with them"))
      << damage->Describe();
}

TEST(RecordingReader, ReadsTheRecordsBeforeTheCutOfALargeBlock) {
  // Payloads that do not compress, so that zstd makes several blocks of its own.
  std::string records = PublisherRecord(0, "tcp://a:1");
  uint64_t random = 88172645463325252;
  for (int64_t i = 0; i < 8; ++i) {
    std::string payload(100'000, '\0');
    for (char& c : payload) {
      random ^= random << 13;
      random ^= random >> 7;
      random ^= random << 17;
      c = static_cast<char>(random);
    }
    records += FrameRecord(i, 0, payload);
  }
  const std::string block = Block(records, 9);
  auto reader = Reading(Header() + block.substr(0, block.size() / 2));
  const auto told = Told(reader);
  ASSERT_GE(told.size(), 4u);
  EXPECT_EQ(told.at(0), "publisher 0 tcp://a:1");
  EXPECT_TRUE(told.at(2).starts_with("frame 0 @1 topic|sequence|")) << told.at(2);
  EXPECT_TRUE(told.back().starts_with("damage")) << told.back();
}

TEST(RecordingReader, ANewerMajorVersionIsRefusedClearly) {
  const auto reader = RecordingReader::From(Bytes(EncodeHeader({.major = 2, .minor = 3})), "file");
  ASSERT_FALSE(reader);
  EXPECT_EQ(reader.error().Message(),
            "file: byte 8: a recording of version 2.3 (expected version 1.x: a newer conductor "
            "reads it)");
}

TEST(RecordingReader, WhatANewerMinorVersionAddsIsPassedOverAndCounted) {
  std::string longer = FrameRecord(7, 0, "payload");
  std::string body = longer.substr(8) + "a field that is new";
  std::string unknown = "\x2a some record";
  std::string records = PublisherRecord(0, "tcp://a:1");
  for (const std::string& made : {body, unknown}) {
    const auto checksum = static_cast<uint32_t>(Checksum(made));
    for (const uint32_t number : {static_cast<uint32_t>(made.size()), checksum}) {
      for (int shift = 0; shift < 32; shift += 8) {
        records += static_cast<char>(number >> shift & 0xff);
      }
    }
    records += made;
  }
  auto reader = Reading(EncodeHeader({.minor = 9}) + Block(records, 3));
  EXPECT_EQ(Told(reader), (Strings{"publisher 0 tcp://a:1", "frame 0 @7 topic|sequence|payload"}));
  EXPECT_EQ(reader.counters().unknown_records, 1u);
  EXPECT_EQ(reader.counters().damages, 0u);
}

TEST(RecordingReader, OtherFilesAreNoRecordings) {
  for (const std::string& bytes :
       {std::string(), std::string("{\"model\": \"m\"}"), std::string(1000, '\0')}) {
    const auto reader = RecordingReader::From(Bytes(bytes), "file");
    ASSERT_FALSE(reader);
    EXPECT_TRUE(Has(reader.error().Message(), "this is no recording")) << reader.error().Message();
  }
}

TEST(RecordingReader, PublishersOfSeveralFilesAreOneWhereTheyAreTheSame) {
  const TemporaryFolder folder;
  const auto file = [&](const std::string& name, const std::string& records, uint32_t count) {
    Write(folder.File(name), Header() + Block(records, count));
    return folder.File(name);
  };
  const std::string a = file(
      "a",
      PublisherRecord(0, "tcp://a:1") + PublisherRecord(1, "tcp://b:1") + FrameRecord(1, 1, "x"),
      3);
  const std::string b = file("b", PublisherRecord(0, "tcp://b:1") + FrameRecord(2, 0, "y"), 2);
  auto reader = RecordingReader::Open({a, b});
  ASSERT_TRUE(reader);
  EXPECT_EQ(Told(*reader), (Strings{"publisher 0 tcp://a:1", "publisher 1 tcp://b:1",
                                    "frame 1 @1 topic|sequence|x", "frame 1 @2 topic|sequence|y"}));
}

TEST(RecordingReader, AFrameWhosePublisherWasLostIsStillGiven) {
  auto reader = Reading(Header() + Block(FrameRecord(1, 7, "x") + FrameRecord(2, 7, "y"), 2));
  EXPECT_EQ(Told(reader), (Strings{"publisher 0 unknown publisher 7 of file",
                                   "frame 0 @1 topic|sequence|x", "frame 0 @2 topic|sequence|y"}));
}

TEST(RecordingReader, AFileThatIsMissingBetweenOthersIsTold) {
  const TemporaryFolder folder;
  const Sample sample;
  Write(folder.File("a"), sample.whole());
  auto reader = RecordingReader::Open({folder.File("a"), folder.File("b"), folder.File("a")});
  ASSERT_TRUE(reader);
  const auto told = Told(*reader);
  EXPECT_EQ(told.size(), 2 * sample.all.size());  // the publisher once, and the damage
  EXPECT_TRUE(Has(told, "damage 0+0")) << testing::PrintToString(told);
}

TEST(RecordingReader, ADamageNamesTheFileThatCouldNotBeRead) {
  const TemporaryFolder folder;
  const Sample sample;
  Write(folder.File("a"), sample.whole());
  Write(folder.File("c"), "notes");
  auto reader = RecordingReader::Open({folder.File("a"), folder.File("b"), folder.File("c")});
  ASSERT_TRUE(reader);
  Strings said;
  while (const auto item = reader->Next()) {
    if (const auto* damage = std::get_if<Damage>(&*item)) said.push_back(damage->Describe());
  }
  ASSERT_EQ(said.size(), 2u);
  EXPECT_TRUE(said[0].starts_with(folder.File("b") + ": byte 0: cannot be opened: No such file"))
      << said[0];
  EXPECT_TRUE(said[1].starts_with(folder.File("c") + ": byte 0: this is no recording")) << said[1];
}

TEST(RecordingReader, FilesOfARotationComeOldestFirst) {
  const TemporaryFolder folder;
  for (const char* name :
       {"r", "r.0002", "r.0010", "r.10000", "r.0001", "r.txt", "rr.0001", "r.12"}) {
    Write(folder.File(name), "");
  }
  EXPECT_EQ(RecordingFiles(folder.File("r")),
            (Strings{folder.File("r.0001"), folder.File("r.0002"), folder.File("r.0010"),
                     folder.File("r.10000"), folder.File("r")}));
  EXPECT_EQ(RecordingFiles(folder.File("r.0002")), (Strings{folder.File("r.0002")}));
  EXPECT_EQ(RecordingFiles(folder.File("none")), (Strings{folder.File("none")}));
}

// Damages of a recording whose files are these.
Strings DamagesOf(const TemporaryFolder& folder, const Strings& names) {
  const Sample sample;
  Strings files;
  for (const std::string& name : names) {
    files.push_back(folder.File(name));
    Write(files.back(), sample.whole());
  }
  auto reader = RecordingReader::Open(files);
  Strings said;
  while (const auto item = reader->Next()) {
    if (const auto* damage = std::get_if<Damage>(&*item)) said.push_back(damage->Describe());
  }
  EXPECT_EQ(reader->counters().damages, said.size());
  return said;
}

TEST(RecordingReader, PartsThatAreMissingBetweenOthersAreADamage) {
  const TemporaryFolder folder;
  EXPECT_EQ(DamagesOf(folder, {"r.0001", "r.0002", "r"}), Strings());
  EXPECT_EQ(DamagesOf(folder, {"r.0001", "r.0003", "r"}),
            (Strings{folder.File("r.0002") + ": this part of the recording is missing"}));
  EXPECT_EQ(DamagesOf(folder, {"r.0001", "r.9998", "r.10002", "r"}),
            (Strings{folder.File("r.0002") + ": this part of the recording and all up to " +
                         folder.File("r.9997") + " are missing, 9,996 parts together",
                     folder.File("r.9999") + ": this part of the recording and all up to " +
                         folder.File("r.10001") + " are missing, 3 parts together"}));
}

TEST(RecordingReader, FilesThatAreNoPartsOfOneRecordingHaveNothingBetween) {
  const TemporaryFolder folder;
  EXPECT_EQ(DamagesOf(folder, {"r.0001", "s.0003", "t.0005"}), Strings());
  EXPECT_EQ(DamagesOf(folder, {"r.0004", "r.0002"}), Strings()) << "in an order of one's own";
}

TEST(RecordingReader, MissingPartsAreCounted) {
  const TemporaryFolder folder;
  const Sample sample;
  for (const char* name : {"r.0001", "r.0004"}) Write(folder.File(name), sample.whole());
  auto reader = RecordingReader::Open({folder.File("r.0001"), folder.File("r.0004")});
  while (reader->Next()) {
  }
  EXPECT_EQ(reader->counters().missing_parts, 2u);
}

TEST(RecordingReader, BothEndsOfARotationAreLookedAt) {
  const TemporaryFolder folder;
  const auto missing = [&folder](const char* name) {
    return MissingEnds(Strings{folder.File(name)});
  };
  for (const char* name : {"a", "a.0001", "b", "b.0002", "c", "c.0009", "d.0001"}) {
    Write(folder.File(name), "");
  }
  EXPECT_EQ(missing("a"), Strings());
  EXPECT_EQ(missing("none"), Strings());
  EXPECT_EQ(missing("b.0002"), Strings());
  EXPECT_EQ(missing("b"), (Strings{folder.File("b.0002") +
                                   ": the recording begins with this part, without the one before "
                                   "it"}));
  EXPECT_EQ(missing("c"), (Strings{folder.File("c.0009") +
                                   ": the recording begins with this part, without the 8 before "
                                   "it"}));
  EXPECT_EQ(missing("d"),
            (Strings{folder.File("d") + ": the newest part of the recording is not there"}));
}

TEST(RecordingReader, OnlyNamesThatARotationGivesAreParts) {
  EXPECT_EQ(PartNumber("r", "r.0002"), 2u);
  EXPECT_EQ(PartNumber("r", "r.9999999"), 9'999'999u);
  for (const char* other : {"r", "r.", "r.12", "r.02026", "r.20261126", "r.99999999999999999999999",
                            "r.00x1", "r.-001", "rr.0001", "R.0001", "r.0001.gz"}) {
    EXPECT_EQ(PartNumber("r", other), std::nullopt) << other;
  }
}

TEST(RecordingReader, NoFileIsReadTwice) {
  const TemporaryFolder folder;
  for (const char* name : {"r", "r.0001", "s"}) Write(folder.File(name), "");
  // As a recorder leaves them that ends between the two steps of a rotation.
  std::filesystem::create_hard_link(folder.File("r"), folder.File("r.0002"));
  const Strings parts = {folder.File("r.0001"), folder.File("r.0002")};
  EXPECT_EQ(RecordingFiles(folder.File("r")), parts);
  const Strings named = {folder.File("r"), folder.File("r.0001"), folder.File("r.0002"),
                         folder.File("s"), folder.File("./s"),    folder.File("none")};
  EXPECT_EQ(RecordingFiles(named),
            (Strings{parts[0], parts[1], folder.File("s"), folder.File("none")}));
}

// A block of 64 bytes that claims to hold 64 MiB costs no more than what it has.
TEST(RecordingReader, BelievesNoSize) {
  std::string records(1000, 'x');
  std::string block = Block(records, UINT32_MAX);
  const auto told = ToldBy(Header() + block);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_TRUE(told.front().starts_with("damage"));
  // zstd's own frame says a window that is too large.
  std::string stored;
  const Status status =
      DecompressBlock(std::string("\x28\xb5\x2f\xfd\x00\x98\x01\x00\x00", 9), 100, stored);
  ASSERT_FALSE(status);
  EXPECT_TRUE(Has(status.error().Message(), "zstd")) << status.error().Message();
}

TEST(RecordingReader, ABlockThatHoldsMoreThanItClaimsIsDamaged) {
  std::string block;
  const std::string stored = Block(std::string(5000, 'x'), 1).substr(kBlockHeadBytes);
  const Status status = DecompressBlock(stored, 100, block);
  ASSERT_FALSE(status);
  EXPECT_TRUE(Has(status.error().Message(), "more bytes than the 100 it claims"))
      << status.error().Message();
  EXPECT_LE(block.size(), 100u);
}

// The hex digits between the line that begins so and the end of that part. Two spaces end them.
std::string HexOfPage(std::string_view begin) {
  std::ifstream page(CONDUCTOR_DOCS "/recording-format.md");
  std::string hex;
  bool inside = false;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("<!--")) inside = line.starts_with(begin);
    if (inside && line.starts_with("    ")) hex += line.substr(4, line.find("  ", 4) - 4);
  }
  return hex;
}

// docs/recording-format.md shows a recording byte by byte: it is one.
TEST(RecordingFormat, TheExampleOfItsPageIsARecording) {
  const auto bytes = FromHex(HexOfPage("<!-- bytes"));
  ASSERT_TRUE(bytes);
  auto reader = Reading(*bytes);
  EXPECT_EQ(reader.header().created_ns, 1700000000000000000);
  EXPECT_EQ(reader.header().written_by, "conductor 0.1.0");
  EXPECT_EQ(Told(reader),
            (Strings{"publisher 0 tcp://a:5557",
                     "frame 0 @1700000000250000000 |" + std::string(8, '\0') + "|\x92" + "\x01\x90",
                     "mark all end 0"}));
  EXPECT_EQ(reader.publishers().at(0).facts, "{\"type\":\"vLLM\"}");
  EXPECT_EQ(reader.counters().damages, 0u);
  // All but zstd's own bytes, which another version of it may choose otherwise, are made so here.
  const std::string header = EncodeHeader(reader.header());
  EXPECT_TRUE(bytes->starts_with(header));
  std::string records;
  ASSERT_TRUE(AppendPublisher(records, 0, reader.publishers().at(0)));
  const std::string sequence(8, '\0');
  const std::array<std::string_view, 3> frames = {"", sequence, "\x92\x01\x90"};
  ASSERT_TRUE(AppendFrame(records, 1700000000250000000, 0, false, frames));
  ASSERT_TRUE(AppendMark(records, {.time_ns = 1700000001000000000, .kind = MarkKind::kEnd}));
  const std::string_view block = std::string_view(*bytes).substr(header.size());
  std::string raw;
  ASSERT_TRUE(DecompressBlock(block.substr(kBlockHeadBytes), records.size(), raw));
  EXPECT_EQ(ToHex(raw), ToHex(records));
  EXPECT_EQ(ToHex(raw), ToHex(*FromHex(HexOfPage("<!-- records"))));
}

}  // namespace
}  // namespace conductor::trace
