#include "lib/index/released_blocks.h"

#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

namespace conductor::index {
namespace {

class ReleasedBlocksTest : public testing::Test {
 protected:
  // A run of ten blocks.
  uint32_t Run() {
    BlockRef block;
    for (uint64_t i = 0; i < 10; ++i) {
      block = store_.AddChild(0, block, PrefixHash{++prefix_}, 9 - i);
    }
    return block.run();
  }
  // All of them, the oldest first, taken out.
  std::vector<BlockRef> Drain() {
    std::vector<BlockRef> blocks;
    while (released_.count() > 0) {
      blocks.push_back(released_.Oldest());
      released_.RemoveLast(blocks.back().run());
      store_.DropLast(blocks.back().run());
    }
    return blocks;
  }

  RunStore store_{1};
  ReleasedBlocks released_{store_};
  uint64_t prefix_ = 0;
};

TEST_F(ReleasedBlocksTest, ComeOutAsTheyWentInLastOfEachPieceFirst) {
  const uint32_t a = Run();
  const uint32_t b = Run();
  released_.Add(a, 8, 10);
  released_.Add(b, 9, 10);
  released_.Add(a, 7, 8);
  EXPECT_EQ(released_.count(), 4U);
  EXPECT_EQ(Drain(), (std::vector{BlockRef(a, 9), BlockRef(a, 8), BlockRef(b, 9), BlockRef(a, 7)}));
}

TEST_F(ReleasedBlocksTest, ThatAreHeldAgainLeaveTheList) {
  const uint32_t a = Run();
  const uint32_t b = Run();
  released_.Add(a, 8, 10);
  released_.Add(b, 8, 10);
  released_.Add(a, 2, 8);
  released_.Remove(a, 9);
  EXPECT_EQ(released_.count(), 3U);
  released_.Add(a, 8, 9);
  EXPECT_EQ(Drain(), (std::vector{BlockRef(a, 9), BlockRef(b, 9), BlockRef(b, 8), BlockRef(a, 8)}));
}

TEST_F(ReleasedBlocksTest, KnowWhichBlocksOfARunTheyAre) {
  const uint32_t a = Run();
  uint32_t begin = 0;
  uint32_t end = 0;
  EXPECT_TRUE(released_.Check(a, begin, end));
  EXPECT_EQ(begin, 10U);
  released_.Add(a, 6, 10);
  released_.Add(Run(), 9, 10);
  released_.Add(a, 5, 6);
  EXPECT_TRUE(released_.Check(a, begin, end));
  EXPECT_EQ(begin, 5U);
  EXPECT_EQ(end, 10U);
}

}  // namespace
}  // namespace conductor::index
