#include "lib/ingest/expiry_queue.h"

#include <gtest/gtest.h>

#include <vector>

namespace conductor::ingest {
namespace {

MonoTime At(int seconds) { return MonoTime{} + std::chrono::seconds(seconds); }

std::vector<int> Due(ExpiryQueue<int>& queue, MonoTime now) {
  std::vector<int> due;
  while (const auto key = queue.TakeDue(now)) due.push_back(*key);
  return due;
}

TEST(ExpiryQueue, GivesWhatHasEndedInTheOrderOfItsEnd) {
  ExpiryQueue<int> queue;
  queue.Announce(2, At(20));
  queue.Announce(1, At(10));
  queue.Announce(3, At(30));
  EXPECT_EQ(queue.NextDeadline(), At(10));
  EXPECT_EQ(Due(queue, At(9)), std::vector<int>{});
  EXPECT_EQ(Due(queue, At(20)), (std::vector{1, 2}));
  EXPECT_EQ(queue.NextDeadline(), At(30));
}

TEST(ExpiryQueue, AnnouncingAgainPutsTheEndOff) {
  ExpiryQueue<int> queue;
  queue.Announce(1, At(10));
  queue.Announce(1, At(25));
  EXPECT_EQ(Due(queue, At(24)), std::vector<int>{});
  EXPECT_EQ(queue.NextDeadline(), At(25));
  EXPECT_EQ(Due(queue, At(25)), std::vector{1});
  EXPECT_EQ(queue.NextDeadline(), std::nullopt);
}

TEST(ExpiryQueue, WhatIsForgottenNeverEnds) {
  ExpiryQueue<int> queue;
  queue.Announce(1, At(10));
  queue.Forget(1);
  EXPECT_EQ(Due(queue, At(100)), std::vector<int>{});
}

TEST(ExpiryQueue, WhatIsAnnouncedAfterItWasForgottenEndsOnceAtItsNewEnd) {
  ExpiryQueue<int> queue;
  queue.Announce(1, At(10));
  queue.Forget(1);
  queue.Announce(1, At(30));
  EXPECT_EQ(Due(queue, At(29)), std::vector<int>{});
  EXPECT_EQ(Due(queue, At(30)), std::vector{1});
  EXPECT_EQ(Due(queue, At(100)), std::vector<int>{});
}

TEST(ExpiryQueue, ClearForgetsAll) {
  ExpiryQueue<int> queue;
  queue.Announce(1, At(10));
  queue.Clear();
  EXPECT_EQ(queue.NextDeadline(), std::nullopt);
}

}  // namespace
}  // namespace conductor::ingest
