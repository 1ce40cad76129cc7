#include "lib/store/written_runs.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace conductor::store {
namespace {

using Place = WrittenRuns::Place;

std::vector<PrefixHash> Hashes(const std::vector<uint64_t>& numbers) {
  std::vector<PrefixHash> hashes;
  for (const uint64_t number : numbers) hashes.push_back(PrefixHash{number});
  return hashes;
}

class WrittenRunsTest : public testing::Test {
 protected:
  // Where the blocks stand: "1[0,3) 2[0,2)".
  std::string Add(const std::vector<uint64_t>& numbers, std::optional<Place> parent = {},
                  uint32_t name_space = 1) {
    std::string text;
    for (const auto& piece : runs_.Add(
             name_space, parent, Hashes(numbers),
             [this](const WrittenRuns::Row& row) {
               ASSERT_EQ(row.run, rows_.size() + 1);
               rows_.push_back(fmt::format("after {}.{} at {}", row.parent ? row.parent->run : 0,
                                           row.parent ? row.parent->block : 0, row.position));
               written_.emplace_back(row.blocks.begin(), row.blocks.end());
             },
             [this](uint32_t run) {
               ++reads_;
               return written_[run - 1];
             })) {
      text += fmt::format("{}{}[{},{})", text.empty() ? "" : " ", piece.run, piece.first,
                          piece.first + piece.length);
    }
    return text;
  }

  WrittenRuns runs_;
  std::vector<std::string> rows_;
  std::vector<std::vector<PrefixHash>> written_;
  int reads_ = 0;
};

TEST_F(WrittenRunsTest, WhatIsThereIsNotWrittenAgain) {
  EXPECT_EQ(Add({1, 2, 3}), "1[0,3)");
  EXPECT_EQ(Add({1, 2, 3}), "1[0,3)");
  EXPECT_EQ(rows_.size(), 1u);
  EXPECT_EQ(reads_, 0);
}

TEST_F(WrittenRunsTest, OtherNamespacesAndOtherParentsAreOtherRuns) {
  Add({1, 2, 3});
  EXPECT_EQ(Add({1, 2, 3}, {}, 2), "2[0,3)");
  EXPECT_EQ(Add({7, 8}, Place{1, 1}), "3[0,2)");
  EXPECT_EQ(Add({7, 8}, Place{1, 2}), "4[0,2)");
  EXPECT_EQ(rows_[2], "after 1.1 at 2");
  EXPECT_EQ(reads_, 0);
}

TEST_F(WrittenRunsTest, OfARunThatGrewOnlyTheRestIsWritten) {
  Add({1, 2});
  EXPECT_EQ(Add({1, 2, 3, 4}), "1[0,2) 2[0,2)");
  EXPECT_EQ(rows_[1], "after 1.1 at 2");
  EXPECT_EQ(Add({1, 2, 3, 4, 5}), "1[0,2) 2[0,2) 3[0,1)");
  EXPECT_EQ(reads_, 0);
}

TEST_F(WrittenRunsTest, OfARunWithAnotherEndOnlyTheEndIsWritten) {
  Add({1, 2, 3, 4});
  EXPECT_EQ(Add({1, 2}), "1[0,2)");
  EXPECT_EQ(Add({1, 2, 103, 104}), "1[0,2) 2[0,2)");
  EXPECT_EQ(Add({1, 2, 103}), "1[0,2) 2[0,1)");
  EXPECT_EQ(rows_.size(), 2u);
}

// The byte that is kept of a hash is the same for 3 and 259, and for 4 and 260.
TEST_F(WrittenRunsTest, WhatLooksAlikeIsLookedUp) {
  Add({1, 2, 3, 4});
  EXPECT_EQ(Add({1, 2, 259, 260}), "1[0,2) 2[0,2)");
  EXPECT_GT(reads_, 0);
}

// What was the end of a run has become a branch of it meanwhile.
TEST_F(WrittenRunsTest, ABranchThatIsAnotherRunsEndIsFoundThere) {
  Add({1, 2, 3, 4});
  EXPECT_EQ(Add({3, 4, 5}, Place{1, 1}), "1[2,4) 2[0,1)");
  EXPECT_EQ(rows_[1], "after 1.3 at 4");
}

}  // namespace
}  // namespace conductor::store
