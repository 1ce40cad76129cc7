#include "lib/base/result.h"

#include <gtest/gtest.h>

#include <utility>

namespace conductor {
namespace {

TEST(Error, IsReadAsWhereWhatAndExpected) {
  EXPECT_EQ((Error{"is negative", "block_size", "1 or more"}.Message()),
            "block_size: is negative (expected 1 or more)");
  EXPECT_EQ((Error{"is negative", "", ""}.Message()), "is negative");
  EXPECT_EQ((Error{"is negative", "", "1 or more"}.Message()), "is negative (expected 1 or more)");
}

TEST(Error, ACallerPutsItsPlaceBeforeTheInnerOne) {
  EXPECT_EQ((Error{"is bad", "port", ""}.Within("file.json").Message()), "file.json: port: is bad");
  EXPECT_EQ((Error{"is bad", "", ""}.Within("file.json").Message()), "file.json: is bad");
}

TEST(Result, IsAValueOrWhyThereIsNone) {
  const auto half = [](int number) -> Result<int> {
    if (number % 2 != 0) return Fail("is odd", "number", "an even one");
    return number / 2;
  };
  EXPECT_EQ(half(4).value(), 2);
  const auto odd = half(3);
  ASSERT_FALSE(odd);
  EXPECT_EQ(odd.error().Message(), "number: is odd (expected an even one)");
}

}  // namespace
}  // namespace conductor
