#include "lib/wire/small_integers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "payloads.h"

namespace conductor::wire {
namespace {

// What is taken, from bytes and into memory that end exactly where they say.
struct Taken {
  std::vector<uint32_t> numbers;
  size_t left = 0;  // bytes behind them

  friend bool operator==(const Taken&, const Taken&) = default;
};
Taken Take(std::string_view bytes, size_t most, bool wide) {
  const std::unique_ptr<char[]> from(new char[bytes.size()]);
  std::copy(bytes.begin(), bytes.end(), from.get());
  const std::unique_ptr<char[]> to(new char[most * sizeof(uint32_t)]);
  std::string_view rest(from.get(), bytes.size());
  Taken taken;
  taken.numbers.resize(TakeSmallIntegers(rest, to.get(), most, wide));
  if (!taken.numbers.empty()) {
    std::memcpy(taken.numbers.data(), to.get(), taken.numbers.size() * sizeof(uint32_t));
  }
  taken.left = rest.size();
  return taken;
}

void Pack(std::string& bytes, uint32_t number) {
  const auto put = [&](uint8_t format, int size) {
    bytes += static_cast<char>(format);
    for (int i = size; i-- > 0;) bytes += static_cast<char>(number >> (8 * i));
  };
  if (number < 0x80) return put(static_cast<uint8_t>(number), 0);
  if (number < 0x100) return put(0xcc, 1);
  if (number < 0x10000) return put(0xcd, 2);
  put(0xce, 4);
}

class SmallIntegers : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(EveryProcessor, SmallIntegers, testing::Bool());

TEST_P(SmallIntegers, AreTakenInEachForm) {
  const Taken taken =
      Take(Hex("00 7f cc00 ccff cd0000 cdabcd ce00000000 ce12345678 ceffffffff"), 99, GetParam());
  EXPECT_EQ(taken.numbers,
            (std::vector<uint32_t>{0, 127, 0, 255, 0, 0xabcd, 0, 0x12345678, 0xffffffff}));
  EXPECT_EQ(taken.left, 0u);
}

TEST_P(SmallIntegers, AreTakenWhateverTheirSizesAre) {
  std::mt19937 random(1);  // NOLINT: the same every time
  for (int round = 0; round < 300; ++round) {
    // Each round has its own idea of how large numbers are, from all of one byte to all of five.
    std::vector<uint32_t> numbers(random() % 1000);
    const auto least = static_cast<uint32_t>(random() % 33);
    const auto spread = static_cast<uint32_t>(1 + random() % 16);
    for (uint32_t& number : numbers) {
      const auto bits = static_cast<uint32_t>(std::min(least + random() % spread, uint64_t{32}));
      number = bits == 0 ? 0 : static_cast<uint32_t>(random()) >> (32 - bits);
    }
    std::string bytes;
    for (const uint32_t number : numbers) Pack(bytes, number);
    EXPECT_EQ(Take(bytes, numbers.size(), GetParam()).numbers, numbers);
    // No more than are wanted.
    const size_t most = random() % (numbers.size() + 1);
    numbers.resize(most);
    EXPECT_EQ(Take(bytes, most, GetParam()).numbers, numbers);
  }
}

TEST_P(SmallIntegers, EndBeforeWhatIsNone) {
  const std::vector<std::string> others = {"c0",         "ff",
                                           "d005",       "d10005",
                                           "d200000005", "cf0000000000000005",
                                           "ca3fc00000", "cb3ff8000000000000",
                                           "90",         "80",
                                           "a141",       "c1",
                                           "c403010203", "dc0001"};
  for (const std::string& other : others) {
    for (const size_t at : {0, 1, 2, 15, 16, 31, 32, 63, 64, 100, 199}) {
      std::string bytes;
      std::vector<uint32_t> numbers;
      for (uint32_t i = 0; i < 200; ++i) {
        if (i == at) bytes += Hex(other);
        const uint32_t number = i * 2654435761u >> (i % 3 * 8);
        Pack(bytes, number);
        if (i < at) numbers.push_back(number);
      }
      EXPECT_EQ(Take(bytes, 201, GetParam()).numbers, numbers) << other << " at " << at;
    }
  }
}

TEST_P(SmallIntegers, AreWholeWhereverTheBytesAreCutOff) {
  std::string bytes;
  std::vector<uint32_t> numbers;
  std::vector<size_t> ends;
  for (uint32_t i = 0; i < 150; ++i) {
    numbers.push_back(i * 2654435761u >> (i * 7 % 32));
    Pack(bytes, numbers.back());
    ends.push_back(bytes.size());
  }
  for (size_t size = 0; size <= bytes.size(); ++size) {
    const auto whole = std::ranges::upper_bound(ends, size) - ends.begin();
    const Taken taken = Take(std::string_view(bytes).substr(0, size), 150, GetParam());
    EXPECT_EQ(taken.numbers, std::vector<uint32_t>(numbers.begin(), numbers.begin() + whole));
    EXPECT_EQ(taken.left, size - (whole == 0 ? 0 : ends[static_cast<size_t>(whole) - 1]));
  }
}

TEST(SmallIntegers, EveryProcessorTakesTheSameFromAnyBytes) {
  std::mt19937 random(2);  // NOLINT: the same every time
  const std::string usual("\x05\xcc\xcd\xce\xcd\xce", 6);
  for (int round = 0; round < 3000; ++round) {
    std::string bytes(random() % 400, '\0');
    // Mostly what looks like the beginning of one, in which others may stand.
    for (char& byte : bytes) {
      byte = random() % 40 == 0 ? static_cast<char>(random()) : usual[random() % usual.size()];
    }
    EXPECT_EQ(Take(bytes, 500, true), Take(bytes, 500, false));
  }
}

}  // namespace
}  // namespace conductor::wire
