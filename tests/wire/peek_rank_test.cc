#include "lib/wire/peek_rank.h"

#include <gtest/gtest.h>

#include "lib/base/bytes.h"

namespace conductor::wire {
namespace {

std::optional<int64_t> Peek(std::string_view hex) { return PeekRank(*FromHex(hex)); }

TEST(PeekRank, IsTheThirdSlotOfABatch) {
  EXPECT_EQ(Peek("93 cb3ff8000000000000 90 07"), 7);
  EXPECT_EQ(Peek("93 cb3ff8000000000000 91 91 b0 416c6c426c6f636b73436c6561726564 01"), 1);
  EXPECT_EQ(Peek("93 cb3ff8000000000000 90 ff"), -1);
}

TEST(PeekRank, IsTheValueOfItsNameInAMap) {
  EXPECT_EQ(Peek("83 a27473 01 a76470 5f72616e6b 05 a66576656e7473 90"), 5);
}

TEST(PeekRank, IsNothingWhereNoneIsNamed) {
  EXPECT_EQ(Peek("92 cb3ff8000000000000 90"), std::nullopt);
  EXPECT_EQ(Peek("93 cb3ff8000000000000 90 c0"), std::nullopt);
  EXPECT_EQ(Peek("80"), std::nullopt);
  EXPECT_EQ(Peek("07"), std::nullopt);
  EXPECT_EQ(Peek("93 cb3ff8"), std::nullopt);
  EXPECT_EQ(Peek(""), std::nullopt);
}

}  // namespace
}  // namespace conductor::wire
