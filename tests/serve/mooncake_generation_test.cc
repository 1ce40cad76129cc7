#include "daemon/serve/mooncake_generation.h"

#include <gtest/gtest.h>

#include <string>

namespace conductor::serve {
namespace {

constexpr Generation kGo = Generation::kGo;
constexpr Generation kCppJson = Generation::kCppJson;
constexpr Generation kMsgpack = Generation::kMsgpack;

HttpRequest Asking(const std::string& compat, const std::string& accept,
                   const std::string& content_type) {
  HttpRequest request;
  request.compat = compat;
  request.accept = accept;
  request.content_type = content_type;
  return request;
}

TEST(Generations, AreChosenByHeaderThenAcceptThenBodyThenSetting) {
  const struct {
    const char* compat;
    const char* accept;
    const char* content_type;
    Generation setting;
    Generation chosen;
  } cases[] = {
      {"", "", "", kGo, kGo},
      {"", "", "", kCppJson, kCppJson},
      {"", "", "", kMsgpack, kMsgpack},
      {"", "*/*", "application/x-www-form-urlencoded", kGo, kGo},
      {"", "*/*", "application/json", kMsgpack, kMsgpack},
      {"", "", "application/msgpack", kGo, kMsgpack},
      {"", "", "application/x-msgpack; charset=binary", kCppJson, kMsgpack},
      {"", "application/msgpack", "", kGo, kMsgpack},
      {"", "application/json, text/plain, */*", "", kGo, kGo},
      {"", "application/json", "", kCppJson, kCppJson},
      {"", "application/json", "", kMsgpack, kCppJson},
      {"", "application/json", "application/msgpack", kGo, kGo},
      {"go", "application/msgpack", "application/msgpack", kMsgpack, kGo},
      {"cpp-json", "application/msgpack", "", kGo, kCppJson},
      {"msgpack", "application/json", "", kGo, kMsgpack},
      {"dynamo", "application/msgpack", "", kGo, Generation::kDynamo},
  };
  for (const auto& [compat, accept, content_type, setting, chosen] : cases) {
    const auto generation = GenerationOf(Asking(compat, accept, content_type), setting);
    ASSERT_TRUE(generation.has_value()) << generation.error().Message();
    EXPECT_EQ(*generation, chosen)
        << compat << "|" << accept << "|" << content_type << "|" << GenerationName(setting);
  }
}

TEST(Generations, OfUnknownNamesAreAnErrorThatListsTheKnownOnes) {
  const auto generation = GenerationOf(Asking("rust", "", ""), kGo);
  ASSERT_FALSE(generation.has_value());
  EXPECT_EQ(generation.error().Message(),
            "X-Conductor-Compat: 'rust' is no generation (expected go, cpp-json, msgpack or "
            "dynamo)");
}

TEST(Generations, OfTheSettingAreThoseOfMooncakeAlone) {
  for (const Generation generation : {kGo, kCppJson, kMsgpack}) {
    EXPECT_EQ(ParseCompat(GenerationName(generation)), generation);
  }
  EXPECT_FALSE(ParseCompat("dynamo").has_value());
  EXPECT_FALSE(ParseCompat("Go").has_value());
  EXPECT_FALSE(ParseCompat("").has_value());
}

}  // namespace
}  // namespace conductor::serve
