#include "lib/trace/workload_trace.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "made_trace.h"

namespace conductor::trace {
namespace {

constexpr const char* kFirst =
    R"({"timestamp": 27482, "input_length": 1000, "output_length": 52, "hash_ids": [46, 47]})";
constexpr const char* kSecond =
    R"({"timestamp": 30535, "input_length": 512, "output_length": 0, "hash_ids": [46]})";

TraceReader Reader(std::string text, TraceReader::Options options = {}) {
  return TraceReader::OfText("a.jsonl", std::move(text), options);
}

WorkloadTrace Read(std::string text) {
  auto trace = ReadTrace(Reader(std::move(text)));
  EXPECT_TRUE(trace) << trace.error().Message();
  return trace ? *trace : WorkloadTrace{};
}

// What is wrong with one line after a good one.
std::string ErrorOf(const std::string& line) {
  const WorkloadTrace trace = Read(std::string(kFirst) + "\n" + line + "\n" + kSecond + "\n");
  EXPECT_EQ(trace.requests.size(), 2u);
  EXPECT_EQ(trace.counters.skipped, 1u);
  return trace.counters.errors.empty() ? "" : trace.counters.errors[0].Message();
}

TEST(WorkloadTrace, ReadsMooncakesForm) {
  const WorkloadTrace trace = Read(std::string(kFirst) + "\n\n" + kSecond);
  ASSERT_EQ(trace.requests.size(), 2u);
  EXPECT_EQ(trace.form, TraceForm::kMooncake);
  const TraceRequest& request = trace.requests[0];
  EXPECT_EQ(request.line, 1u);
  EXPECT_EQ(request.arrival, std::chrono::milliseconds(27482));
  EXPECT_EQ(request.input, 1000u);
  EXPECT_EQ(request.output, 52u);
  EXPECT_EQ(request.id_block, 512u);
  EXPECT_EQ(request.hash_ids, (std::vector<uint64_t>{46, 47}));
  EXPECT_EQ(request.chat_id, std::nullopt);
  EXPECT_EQ(trace.requests[1].line, 3u);
  EXPECT_EQ(trace.counters.lines, 2u);
}

TEST(WorkloadTrace, ReadsQwenBailiansForm) {
  const WorkloadTrace trace =
      Read(R"({"chat_id": 55, "parent_chat_id": -1, "timestamp": 61.114, "input_length": 20, )"
           R"("output_length": 3, "type": "text", "turn": 1, "hash_ids": [1089, 1090]})"
           "\r\n"
           R"({"chat_id": 159, "parent_chat_id": 55, "timestamp": 70, "input_length": 32, )"
           R"("output_length": 3, "type": "search", "turn": 2, "hash_ids": [1089, 1091]})");
  ASSERT_EQ(trace.requests.size(), 2u);
  EXPECT_EQ(trace.form, TraceForm::kBailian);
  EXPECT_EQ(trace.requests[0].arrival, std::chrono::microseconds(61114000));
  EXPECT_EQ(trace.requests[0].id_block, 16u);
  EXPECT_EQ(trace.requests[0].parent_chat_id, std::nullopt);
  EXPECT_EQ(trace.requests[1].chat_id, 159);
  EXPECT_EQ(trace.requests[1].parent_chat_id, 55);
  EXPECT_EQ(trace.requests[1].turn, 2u);
  EXPECT_EQ(trace.requests[1].type, "search");
}

TEST(WorkloadTrace, ReadsBackWhatIsWritten) {
  const std::vector<TraceRequest> made = MakeTrace({.requests = 50, .id_block = 16});
  const WorkloadTrace read = Read(TraceText(made, TraceForm::kBailian));
  ASSERT_EQ(read.requests.size(), made.size());
  for (size_t i = 0; i < made.size(); ++i) {
    EXPECT_EQ(read.requests[i].arrival, made[i].arrival);
    EXPECT_EQ(read.requests[i].input, made[i].input);
    EXPECT_EQ(read.requests[i].hash_ids, made[i].hash_ids);
  }
}

TEST(WorkloadTrace, TheIdsBlockCanBeSaid) {
  auto reader = Reader(R"({"timestamp": 0, "input_length": 40, "output_length": 1, )"
                       R"("hash_ids": [1, 2]})",
                       {.id_block = 20});
  const auto request = reader.Next();
  ASSERT_TRUE(request && *request);
  EXPECT_EQ((*request)->id_block, 20u);
}

TEST(WorkloadTrace, ALineThatCannotBeReadIsToldAndLosesNoOther) {
  EXPECT_EQ(ErrorOf("nonsense").substr(0, 25), "a.jsonl, line 2: not JSON");
  EXPECT_EQ(ErrorOf("[1]"),
            "a.jsonl, line 2: no JSON object (expected an object with timestamp, input_length, "
            "output_length and hash_ids)");
  EXPECT_EQ(ErrorOf(R"({"timestamp": 1, "output_length": 1, "hash_ids": []})"),
            "a.jsonl, line 2: input_length is missing (expected an integer from 1 to 16777216)");
  EXPECT_EQ(ErrorOf(R"({"timestamp": 1, "input_length": -1, "output_length": 1, "hash_ids": []})"),
            "a.jsonl, line 2: input_length is -1 (expected an integer from 1 to 16777216)");
  EXPECT_EQ(ErrorOf(R"({"timestamp": 1, "input_length": 9, "output_length": "1", "hash_ids": []})"),
            "a.jsonl, line 2: output_length is \"1\" (expected an integer from 0 to 16777216)");
  EXPECT_EQ(ErrorOf(R"({"timestamp": -1, "input_length": 9, "output_length": 1, "hash_ids": []})"),
            "a.jsonl, line 2: timestamp is -1 (expected milliseconds since the trace's start, at "
            "most a year's)");
  EXPECT_EQ(ErrorOf(R"({"timestamp": 1, "input_length": 9, "output_length": 1, "hash_ids": [-1]})"),
            "a.jsonl, line 2: hash_ids[0] is -1 (expected an integer from 0 to "
            "18446744073709551615)");
  EXPECT_EQ(
      ErrorOf(R"({"timestamp": 1, "input_length": 513, "output_length": 1, "hash_ids": [1,2,3]})"),
      "a.jsonl, line 2: hash_ids has 3 ids for an input_length of 513 (expected 2, one per 512 "
      "tokens, or 1 without that of the last block, which is not whole)");
}

TEST(WorkloadTrace, InStrictModeTheFirstOfThemEndsTheTrace) {
  auto reader = Reader(std::string(kFirst) + "\n{}\n" + kSecond, {.strict = true});
  EXPECT_TRUE(reader.Next());
  const auto broken = reader.Next();
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().Message().substr(0, 40), "a.jsonl, line 2: timestamp is missing (e");
  EXPECT_EQ(*reader.Next(), std::nullopt);
}

TEST(WorkloadTrace, RequestsThatGoBackInTimeAreSortedOrInStrictModeRefused) {
  const std::string text = std::string(kSecond) + "\n" + kFirst + "\n" + kFirst;
  const WorkloadTrace trace = Read(text);
  ASSERT_EQ(trace.requests.size(), 3u);
  EXPECT_EQ(trace.requests[0].line, 2u);
  EXPECT_EQ(trace.requests[1].line, 3u);
  EXPECT_EQ(trace.requests[2].line, 1u);
  EXPECT_EQ(trace.counters.went_back, 1u);
  const auto refused = ReadTrace(Reader(text, {.strict = true}));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().where, "a.jsonl, line 2");
}

TEST(WorkloadTrace, AFileThatIsNoTraceIsAnError) {
  EXPECT_EQ(ReadTrace(Reader("")).error().where, "a.jsonl");
  EXPECT_EQ(ReadTrace(Reader("nonsense\n")).error().where, "a.jsonl, line 1");
  EXPECT_EQ(TraceReader::Open("/no/such/file", {}).error().Message(),
            "/no/such/file: cannot be read: No such file or directory (expected a workload trace)");
  EXPECT_FALSE(TraceReader::Open("/", {}));
}

TEST(WorkloadTrace, ALimitLeavesTheRestUnread) {
  const auto trace = ReadTrace(Reader(std::string(kFirst) + "\n" + kSecond), 1);
  ASSERT_TRUE(trace);
  EXPECT_EQ(trace->requests.size(), 1u);
  EXPECT_EQ(trace->counters.lines, 1u);
}

TraceRequest Request(uint64_t line, uint32_t input, std::vector<uint64_t> ids) {
  return {.line = line, .input = input, .id_block = 8, .hash_ids = std::move(ids)};
}

TEST(TraceTokens, EqualIdsAreEqualBlocksAndDifferentIdsAreDifferentOnes) {
  const auto one = TraceTokens(Request(1, 24, {7, 8, 9}));
  const auto two = TraceTokens(Request(2, 20, {7, 8, 10}));
  ASSERT_EQ(one.size(), 24u);
  ASSERT_EQ(two.size(), 20u);
  EXPECT_TRUE(std::equal(one.begin(), one.begin() + 16, two.begin()));
  EXPECT_NE(std::vector(one.begin() + 16, one.begin() + 20),
            std::vector(two.begin() + 16, two.end()));
  std::set<std::vector<TokenId>> blocks;
  for (uint64_t id = 0; id < 5000; ++id) blocks.insert(TraceTokens(Request(1, 8, {id << 20})));
  EXPECT_EQ(blocks.size(), 5000u);
}

// The last block of a prompt that goes on later.
TEST(TraceTokens, APartialBlockIsTheHeadOfTheWholeOne) {
  const auto partial = TraceTokens(Request(1, 11, {7, 8}));
  const auto whole = TraceTokens(Request(2, 16, {7, 8}));
  EXPECT_TRUE(std::equal(partial.begin(), partial.end(), whole.begin()));
}

TEST(TraceTokens, WhatNoIdStandsForIsOfItsRequestAlone) {
  const auto one = TraceTokens(Request(1, 12, {7}));
  const auto two = TraceTokens(Request(2, 12, {7}));
  ASSERT_EQ(one.size(), 12u);
  EXPECT_TRUE(std::equal(one.begin(), one.begin() + 8, two.begin()));
  EXPECT_NE(one, two);
  EXPECT_NE(TraceAnswer(Request(1, 12, {7}), 8), TraceAnswer(Request(2, 12, {7}), 8));
}

TEST(TraceTokens, AreTheSameOnEveryMachine) {
  EXPECT_EQ(TraceTokens(Request(1, 6, {0x0001'0002'0003'0004})),
            (std::vector<TokenId>{4, 3, 2, 1, 27112, 12597}));
}

}  // namespace
}  // namespace conductor::trace
