#include "daemon/toolkit/token_file.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lib/base/bytes.h"

namespace conductor::toolkit {
namespace {

using Tokens = std::vector<TokenId>;

TEST(TokenFile, TextAndJsonAreIntegersWithSomethingBetween) {
  for (const char* text : {"1 2 300", "1,2,300", " 1,\n2 ,\t300\r\n", "[1, 2, 300]", "[1,2,300]\n",
                           " \n[ 1 , 2 , 300 ] "}) {
    const auto tokens = ParseTokens(text);
    ASSERT_TRUE(tokens.has_value()) << text << ": " << tokens.error().Message();
    EXPECT_EQ(*tokens, (Tokens{1, 2, 300})) << text;
  }
  EXPECT_EQ(*ParseTokens("4294967295"), Tokens{4294967295});
  EXPECT_EQ(*ParseTokens(""), Tokens());
  EXPECT_EQ(*ParseTokens("[]"), Tokens());
}

TEST(TokenFile, BytesAreLittleEndianAndToldByAZero) {
  const std::string bytes = FromHex("010000002c010000").value_or("");
  EXPECT_EQ(*ParseTokens(bytes), (Tokens{1, 300}));
  const std::string digits = "12345678";
  EXPECT_EQ(*ParseTokens(digits, true), (Tokens{0x34333231, 0x38373635}));
  EXPECT_EQ(*ParseTokens(digits), (Tokens{12345678}));
}

TEST(TokenFile, WhatIsNoTokenIsToldWithItsPlace) {
  struct Case {
    const char* text;
    const char* message;
  };
  for (const Case& bad : {
           Case{"1 2 x3 4",
                "byte 4: 'x3' is no token id (expected an integer from 0 to 4294967295)"},
           Case{"1 -2", "byte 2: '-2' is no token id (expected an integer from 0 to 4294967295)"},
           Case{"1 4294967296",
                "byte 2: '4294967296' is no token id (expected an integer from 0 to 4294967295)"},
           Case{"[1, 2.5]",
                "byte 4: '2.5' is no token id (expected an integer from 0 to 4294967295)"},
           Case{"[1, [2]]",
                "byte 4: '[2' is no token id (expected an integer from 0 to 4294967295)"},
           Case{"[1, 2", "byte 5: the array does not end (expected ']')"},
           Case{"[", "byte 1: the array does not end (expected ']')"},
           Case{"1 \x1b[31m",
                "byte 2: '\\x1b[31m' is no token id (expected an integer from 0 to 4294967295)"},
       }) {
    const auto tokens = ParseTokens(bad.text);
    ASSERT_FALSE(tokens.has_value()) << bad.text;
    EXPECT_EQ(tokens.error().Message(), bad.message);
  }
  EXPECT_EQ(ParseTokens("12345", true).error().Message(),
            "has 5 bytes (expected 4 for each token, little-endian)");
}

TEST(TokenFile, AFileThatIsNotThereIsNamed) {
  EXPECT_EQ(ReadTokenFile("/nowhere/at-all").error().Message(),
            "/nowhere/at-all: No such file or directory");
  EXPECT_FALSE(ReadTokenFile("/").has_value());
}

}  // namespace
}  // namespace conductor::toolkit
