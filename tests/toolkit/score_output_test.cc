#include "daemon/toolkit/score_output.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace conductor::toolkit {
namespace {

client::RankedInstance Ranked(std::string name, double score, uint64_t matched) {
  client::RankedInstance instance;
  instance.instance_id = std::move(name);
  instance.score = score;
  instance.longest_matched = matched;
  instance.tiers = {matched, matched, matched};
  instance.block_size = 16;
  instance.state = "live";
  instance.parts = client::ScoreParts{.saved_gpu = static_cast<double>(matched), .trust = 1};
  return instance;
}

ScoreResult TwoInstances() {
  ScoreResult result{.number = 2, .source = "stdin:2", .id = "\"x\"", .model = "m"};
  client::ScoreAnswer answer;
  answer.conductor = "http://a:1";
  answer.prompt_tokens = 4100;
  answer.ranking = {Ranked("a", 4096, 4096), Ranked("b", 12.5, 16)};
  answer.ranking[1].state = "degraded";
  answer.ranking[1].reason = "incomplete";
  result.answer = std::move(answer);
  return result;
}

TEST(ScoreTable, HasColumnsForThePartsThatAreNotZero) {
  ScoreResult result = TwoInstances();
  EXPECT_EQ(ScoreTable(result, {}, Terminal()),
            "stdin:2: \"x\", model m, 4,100 tokens\n"
            "INSTANCE  STATE                 MATCHED  SCORE   GPU  TRUST\n"
            "a         live                    4,096   4096  4096      1\n"
            "b         degraded: incomplete       16   12.5    16      1\n");
  result.answer->ranking[1].parts->queue = 3.5;
  result.answer->ranking[0].parts->saved_disk = 0.125;
  EXPECT_EQ(ScoreTable(result, {}, Terminal()),
            "stdin:2: \"x\", model m, 4,100 tokens\n"
            "INSTANCE  STATE                 MATCHED  SCORE   GPU   DISK  TRUST  QUEUE\n"
            "a         live                    4,096   4096  4096  0.125      1      0\n"
            "b         degraded: incomplete       16   12.5    16      0      1   -3.5\n");
}

TEST(ScoreTable, ShowsTheBestAndHowManyThereAreBeside) {
  EXPECT_EQ(ScoreTable(TwoInstances(), 1, Terminal()),
            "stdin:2: \"x\", model m, 4,100 tokens\n"
            "INSTANCE  STATE  MATCHED  SCORE   GPU  TRUST\n"
            "a         live     4,096   4096  4096      1\n"
            "and 1 more\n");
}

TEST(ScoreTable, ExplainsBelow) {
  ScoreResult result = TwoInstances();
  result.explained.emplace("a", ShortExplanation{.cause = "end_of_prompt",
                                                 .detail = "all of it",
                                                 .expected = "null",
                                                 .matched_blocks = 256,
                                                 .prompt_blocks = 256});
  result.explained.emplace("b", Fail("status 404", "http://a:1"));
  const std::string table = ScoreTable(result, {}, Terminal());
  EXPECT_NE(table.find("\n  a: 256 of 256 blocks: end_of_prompt: all of it\n"), std::string::npos);
  EXPECT_NE(table.find("\n  b: not explained: http://a:1: status 404\n"), std::string::npos);
}

TEST(ScoreTable, WhatComesOffTheWireCannotMoveTheCursor) {
  ScoreResult result = TwoInstances();
  result.answer->ranking[0].instance_id = "a\x1b[2J";
  result.model = "m\n";
  result.explained.emplace("a\x1b[2J", ShortExplanation{.cause = "\x07", .expected = "null"});
  EXPECT_EQ(ScoreTable(result, {}, Terminal()).find_first_of("\x1b\x07"), std::string::npos);
}

TEST(ScoreTable, OfAConductorThatTellsNoPartsHasNone) {
  ScoreResult result = TwoInstances();
  for (auto& instance : result.answer->ranking) instance.parts.reset();
  EXPECT_NE(ScoreTable(result, {}, Terminal()).find("MATCHED  SCORE\n"), std::string::npos);
  result.answer.reset();
  EXPECT_EQ(ScoreTable(result, {}, Terminal()), "");
}

TEST(ScoreJson, IsOneLineWithAllThatThereIs) {
  ScoreResult result = TwoInstances();
  result.unmet = {"expected b"};
  result.explained.emplace("a", ShortExplanation{.cause = "removed",
                                                 .detail = "evicted",
                                                 .field = "block_size",
                                                 .field_of = "request",
                                                 .expected = "16",
                                                 .matched_blocks = 1,
                                                 .prompt_blocks = 2});
  EXPECT_EQ(
      ScoreJson(result, 1),
      R"({"prompt":2,"source":"stdin:2","id":"x","model":"m","tenant_id":"default",)"
      R"("conductor":"http://a:1","prompt_tokens":4100,"instances":2,"ranking":[{)"
      R"("instance_id":"a","score":4096.0,"longest_matched":4096,"gpu":4096,"cpu":4096,)"
      R"("disk":4096,"block_size":16,"state":"live","reason":"","lag_seconds":null,"parts":{)"
      R"("saved_gpu":4096.0,"saved_cpu":0.0,"saved_disk":0.0,"trust":1.0,"queue":0.0,)"
      R"("memory":0.0},"explain":{"cause":"removed","detail":"evicted","field":"block_size",)"
      R"("field_of":"request","expected":16,"matched_blocks":1,"prompt_blocks":2}}],)"
      R"("unknown_instances":[],"reason":"","nearest":null,"error":null,"unmet":["expected b"]})"
      "\n");
}

TEST(ScoreJson, OfAPromptWithoutAnAnswerSaysWhy) {
  EXPECT_EQ(ScoreJson({.number = 1, .source = "stdin:1", .error = "bad \xff"}, {}),
            R"({"prompt":1,"source":"stdin:1","model":null,"tenant_id":"default",)"
            "\"error\":\"bad \xef\xbf\xbd\",\"unmet\":[]}\n");
}

TEST(WhyNoScore, NamesTheFlagAndWhatIsMostAlike) {
  client::ScoreAnswer answer = *TwoInstances().answer;
  EXPECT_EQ(WhyNoScore(answer), "");
  answer.reason = "unknown_block_size";
  answer.reason_detail = "there are: 16";
  answer.nearest = "16";
  EXPECT_EQ(WhyNoScore(answer), "there are: 16; did you mean --block-size 16?");
  answer.nearest = "";
  answer.reason = "several_block_sizes";
  EXPECT_EQ(WhyNoScore(answer), "there are: 16; --block-size says which");
  client::ScoreAnswer none;
  EXPECT_EQ(WhyNoScore(none), "none of the instances asked for serves the model");
  none.unknown_instances = {"x", "y"};
  EXPECT_EQ(WhyNoScore(none),
            "none of the instances asked for serves the model, and nobody registered x, y");
}

TEST(ShortExplanation, IsReadFromTheAnswer) {
  const auto read = ShortExplanation::Read(
      R"({"cause": "removed", "detail": "d", "field": null, "field_of": null, "expected": null,
          "matched_blocks": 1, "prompt_blocks": 2, "ranks": []})");
  ASSERT_TRUE(read.has_value()) << read.error().Message();
  EXPECT_EQ(read->cause, "removed");
  EXPECT_EQ(read->field, "");
  EXPECT_EQ(read->expected, "null");
  EXPECT_EQ(read->prompt_blocks, 2U);
  EXPECT_EQ(ShortExplanation::Read(R"({"cause": 1})").error().Message(),
            "its answer: cause: is missing, or of another type");
  EXPECT_FALSE(ShortExplanation::Read("<html>").has_value());
}

}  // namespace
}  // namespace conductor::toolkit
