#include "daemon/toolkit/tap_facts.h"

#include <gtest/gtest.h>

namespace conductor::toolkit {
namespace {

TEST(TapFacts, AValueIsWhatItsFieldTakes) {
  const auto facts = ReadFacts(
      {"model=llama", "instance_id=7", "block_size=16", "hash_profile={\"algorithm\":\"sha256\"}"},
      wire::Dialect::kSglang);
  ASSERT_TRUE(facts) << facts.error().Message();
  EXPECT_EQ(facts->dump(), R"({"type":"SGLang","model":"llama","instance_id":"7","block_size":16,)"
                           R"("hash_profile":{"algorithm":"sha256"}})");
  EXPECT_EQ(ReadFacts({}, {})->dump(), "{}");
}

TEST(TapFacts, WhatNoRegistrationTakesIsAnError) {
  const std::pair<const char*, const char*> cases[] = {
      {"model", "--fact: 'model' is no fact (expected NAME=VALUE)"},
      {"=m", "'=m' is no fact"},
      {"block_size=abc", "--fact block_size: "},
      {"block_size=-1", "(expected an integer from"},
      {"foo=bar", "--fact: 'foo' is no field of a registration (expected one as"},
      {"type=GPT", "--fact type: "},
      {"hash_profile=7", "--fact hash_profile: "},
  };
  for (const auto& [fact, message] : cases) {
    const auto read = ReadFacts({fact}, {});
    ASSERT_FALSE(read) << fact;
    EXPECT_NE(read.error().Message().find(message), std::string::npos) << read.error().Message();
  }
}

}  // namespace
}  // namespace conductor::toolkit
