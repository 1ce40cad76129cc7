#include "lib/index/reader_gate.h"

#include <atomic>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace conductor::index {
namespace {

TEST(ReaderGate, FreesAtOnceWhatNobodyCanSee) {
  ReaderGate gate;
  bool freed = false;
  gate.Retire([&] { freed = true; });
  EXPECT_TRUE(freed);
}

TEST(ReaderGate, WaitsForWhoWasInsideAndForNobodyElse) {
  ReaderGate gate;
  bool freed = false;
  {
    const auto early = gate.Enter();
    gate.Retire([&] { freed = true; });
    EXPECT_FALSE(freed);
    const auto late = gate.Enter();
    gate.Collect();
    EXPECT_FALSE(freed);
  }
  const auto later = gate.Enter();
  gate.Collect();
  EXPECT_TRUE(freed);
}

TEST(ReaderGate, FreesTheRestAtItsEnd) {
  int freed = 0;
  {
    ReaderGate gate;
    std::optional<ReaderGate> other;
    {
      const auto pass = gate.Enter();
      gate.Retire([&] { ++freed; });
      gate.Retire([&] { ++freed; });
    }
  }
  EXPECT_EQ(freed, 2);
}

TEST(ReaderGate, ReadersNeverSeeWhatWasFreed) {
  struct Thing {
    explicit Thing(int the_value) : value(the_value) {}
    ~Thing() { value = -1; }
    std::atomic<int> value;
  };
  ReaderGate gate;
  std::atomic<Thing*> current = new Thing(0);
  std::atomic<bool> done = false;  // order does not matter: it only ends the readers
  std::atomic<int> wrong = 0;
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      while (!done) {
        const auto pass = gate.Enter();
        const Thing* thing = current.load();
        std::this_thread::yield();
        if (thing->value < 0) ++wrong;
      }
    });
  }
  for (int i = 1; i < 2000; ++i) {
    Thing* old = current.exchange(new Thing(i));
    gate.Retire([old] { delete old; });
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
  delete current.load();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace conductor::index
