#include "lib/trace/recording_survey.h"

#include <gtest/gtest.h>

#include <array>

#include "recording_fixture.h"

namespace conductor::trace {
namespace {

constexpr int kLevel = 3;

std::string Header() { return EncodeHeader({.written_by = "test"}); }

// A block of `count` messages of so many bytes each, that do not compress.
std::string Block(uint32_t count, size_t bytes) {
  std::string records;
  uint64_t seed = 1;
  for (uint32_t i = 0; i < count; ++i) {
    std::string payload(bytes, '\0');
    for (char& c : payload) {
      seed = seed * 6364136223846793005 + 1442695040888963407;
      c = static_cast<char>(seed >> 56);
    }
    EXPECT_TRUE(AppendFrame(records, i, 0, false, std::array<std::string_view, 1>{payload}));
  }
  return *EncodeBlock(records, count, kLevel);
}

// All of `bytes`, then an error.
ReadBytes FailingBehind(std::string bytes) {
  return [read = Bytes(std::move(bytes))](char* to, size_t size) -> Result<size_t> {
    auto got = read(to, size);
    if (got && *got > 0) return got;
    return Fail("cannot be read: Input/output error");
  };
}

TEST(RecordingSurvey, AWholeRecordingHasNothingTorn) {
  const std::string bytes = Header() + Block(3, 10) + Block(2, 10);
  const auto survey = SurveyRecording(Bytes(bytes), "r", {});
  ASSERT_TRUE(survey) << survey.error().Message();
  EXPECT_TRUE(survey->has_blocks);
  EXPECT_EQ(survey->whole_bytes, bytes.size());
  EXPECT_EQ(survey->torn, "");
  EXPECT_EQ(survey->record_count, 0u);
}

TEST(RecordingSurvey, DamageBetweenBlocksIsNoTornEnd) {
  const std::string bytes = Header() + Block(3, 10) + "damage" + Block(2, 10);
  const auto survey = SurveyRecording(Bytes(bytes), "r", {});
  ASSERT_TRUE(survey) << survey.error().Message();
  EXPECT_EQ(survey->whole_bytes, bytes.size());
  EXPECT_EQ(survey->torn, "");
}

TEST(RecordingSurvey, WholeRecordsOfATornBlockAreKept) {
  const std::string whole = Header() + Block(2, 10);
  const std::string torn = Block(400, 1000);
  const auto survey = SurveyRecording(Bytes(whole + torn.substr(0, torn.size() - 50'000)), "r", {});
  ASSERT_TRUE(survey) << survey.error().Message();
  EXPECT_EQ(survey->whole_bytes, whole.size());
  EXPECT_TRUE(Has(survey->torn, "the file ends within a block")) << survey->torn;
  ASSERT_GT(survey->record_count, 100u);
  EXPECT_LT(survey->record_count, 400u);
  EXPECT_TRUE(Has(survey->torn, std::to_string(400 - survey->record_count) + " records with them"))
      << survey->torn;
  std::string_view rest = survey->records;
  for (uint32_t i = 0; i < survey->record_count; ++i) {
    const auto record = TakeRecord(rest);
    ASSERT_TRUE(record) << record.error().Message();
    EXPECT_EQ(std::get<RecordedFrame>(*record).received_ns, i);
  }
  EXPECT_TRUE(rest.empty());
}

TEST(RecordingSurvey, AFileThatCannotBeReadIsNotTorn) {
  const std::string whole = Header() + Block(2, 10) + Block(3, 10);
  for (size_t size = 0; size <= whole.size(); ++size) {
    const auto survey = SurveyRecording(FailingBehind(whole.substr(0, size)), "r", {});
    ASSERT_FALSE(survey) << size;
    EXPECT_EQ(survey.error().Message(), "r: cannot be read: Input/output error") << size;
  }
}

TEST(RecordingSurvey, EndsWhenItIsStopped) {
  const std::string whole = Header() + Block(2, 10) + Block(3, 10) + Block(4, 10);
  int asked = 0;
  const auto survey = SurveyRecording(Bytes(whole), "r", [&asked] { return ++asked == 2; });
  ASSERT_FALSE(survey);
  EXPECT_EQ(asked, 2);
  EXPECT_TRUE(Has(survey.error().Message(), "r: was stopped")) << survey.error().Message();
}

}  // namespace
}  // namespace conductor::trace
