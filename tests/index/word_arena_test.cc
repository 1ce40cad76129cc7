#include "lib/index/word_arena.h"

#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace conductor::index {
namespace {

TEST(WordArena, WastesASixteenthAtMost) {
  for (uint32_t words = 1; words <= 1024; ++words) {
    const uint32_t rounded = WordArena::Rounded(words);
    EXPECT_GE(rounded, words);
    EXPECT_LE(rounded - words, words / 16) << words;
    EXPECT_EQ(WordArena::Rounded(rounded), rounded);
  }
}

TEST(WordArena, GivesEverybodyWordsOfTheirOwn) {
  WordArena arena;
  std::mt19937_64 random(1);
  struct Array {
    WordArena::Ref ref;
    uint32_t words;
    uint64_t mark;
  };
  std::vector<Array> arrays;
  const auto check = [&](const Array& array) {
    for (uint32_t i = 0; i < array.words; ++i) {
      ASSERT_EQ(arena.At(array.ref)[i].load(), array.mark + i);
    }
  };
  for (int i = 0; i < 20'000; ++i) {
    if (arrays.empty() || random() % 3 != 0) {
      const auto words = static_cast<uint32_t>(1 + random() % (random() % 50 == 0 ? 20'000 : 130));
      Array array{arena.Allocate(words), words, random()};
      ASSERT_NE(array.ref, WordArena::kNone);
      for (uint32_t k = 0; k < words; ++k) arena.At(array.ref)[k].store(array.mark + k);
      arrays.push_back(array);
    } else {
      std::swap(arrays[random() % arrays.size()], arrays.back());
      check(arrays.back());
      arena.Free(arrays.back().ref, arrays.back().words);
      arrays.pop_back();
    }
  }
  for (const Array& array : arrays) check(array);
}

TEST(WordArena, GivesMemoryBack) {
  WordArena arena;
  std::vector<WordArena::Ref> refs;
  for (int i = 0; i < 100'000; ++i) refs.push_back(arena.Allocate(100));
  const uint64_t full = arena.bytes();
  EXPECT_GT(full, 80'000'000U);
  for (const WordArena::Ref ref : refs) arena.Free(ref, 100);
  EXPECT_EQ(arena.used_bytes(), 0U);
  EXPECT_EQ(arena.slot_bytes(), 0U);
  EXPECT_LT(arena.bytes(), full / 10);
  // And is none the worse for it.
  for (int i = 0; i < 100'000; ++i) arena.At(arena.Allocate(50))->store(1);
}

}  // namespace
}  // namespace conductor::index
