#include "lib/stream/resolver.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <latch>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace conductor::stream {
namespace {

// Waits for it.
HostAddresses AnswerOf(Lookup& lookup) {
  pollfd readable{.fd = lookup.fd(), .events = POLLIN, .revents = 0};
  if (poll(&readable, 1, 15'000) != 1) return Fail("no answer");
  auto answer = lookup.Take();
  if (!answer) return Fail("the descriptor is readable and there is no answer");
  return *answer;
}

std::vector<std::string> AddressesOf(Lookup& lookup) {
  const auto answer = AnswerOf(lookup);
  return answer ? *answer : std::vector<std::string>{answer.error().Message()};
}

TEST(ResolveHost, FindsWhatThisMachineCallsItself) {
  const auto addresses = ResolveHost("localhost");
  ASSERT_TRUE(addresses) << addresses.error().Message();
  EXPECT_TRUE(std::ranges::all_of(*addresses, [](const std::string& address) {
    return address == "127.0.0.1" || address == "::1";
  }));
}

TEST(Resolver, AnswersEachHostWithItsOwn) {
  Resolver resolver([](const std::string& host) -> HostAddresses {
    if (host == "nowhere") return Fail("Name or service not known");
    if (host == "broken") throw std::runtime_error("out of memory");
    return std::vector<std::string>{"of " + host};
  });
  const auto a = resolver.Resolve("a").value();
  const auto nowhere = resolver.Resolve("nowhere").value();
  const auto broken = resolver.Resolve("broken").value();
  EXPECT_EQ(AddressesOf(*a), std::vector<std::string>{"of a"});
  EXPECT_EQ(AddressesOf(*nowhere), std::vector<std::string>{"Name or service not known"});
  EXPECT_EQ(AddressesOf(*broken), std::vector<std::string>{"out of memory"});
  EXPECT_FALSE(a->Take()) << "an answer is given once";
}

TEST(Resolver, AsksForAHostOnceHoweverManyWantToKnow) {
  std::latch open(1);
  std::atomic<int> asked{0};
  Resolver resolver([&](const std::string& host) -> HostAddresses {
    asked.fetch_add(1);
    open.wait();
    return std::vector<std::string>{host};
  });
  std::vector<std::shared_ptr<Lookup>> lookups;
  for (int i = 0; i < 50; ++i) lookups.push_back(resolver.Resolve("a").value());
  lookups.pop_back();  // who has gone is not answered
  open.count_down();
  for (const auto& lookup : lookups) {
    EXPECT_EQ(AddressesOf(*lookup), std::vector<std::string>{"a"});
  }
  EXPECT_EQ(asked.load(), 1);
  EXPECT_EQ(AddressesOf(*resolver.Resolve("a").value()), std::vector<std::string>{"a"});
  EXPECT_EQ(asked.load(), 2) << "what is asked later is asked anew";
}

TEST(Resolver, MoreHostsThanThreadsAreAllAnswered) {
  std::atomic<int> at_once{0};
  std::atomic<int> most{0};
  Resolver resolver([&](const std::string& host) -> HostAddresses {
    const int now = at_once.fetch_add(1) + 1;
    for (int seen = most.load(); seen < now && !most.compare_exchange_weak(seen, now);) {
    }
    at_once.fetch_sub(1);
    return std::vector<std::string>{host};
  });
  std::vector<std::shared_ptr<Lookup>> lookups;
  for (int i = 0; i < 200; ++i) lookups.push_back(resolver.Resolve(std::to_string(i)).value());
  for (int i = 0; i < 200; ++i) {
    EXPECT_EQ(AddressesOf(*lookups[static_cast<size_t>(i)]),
              std::vector<std::string>{std::to_string(i)});
  }
  EXPECT_LE(most.load(), static_cast<int>(Resolver::kMostThreads));
}

TEST(Resolver, EndsWhileAHostIsAskedFor) {
  struct Shared {
    std::latch asked{1};
    std::latch open{1};
    std::latch done{1};
  };
  const auto shared = std::make_shared<Shared>();
  auto resolver = std::make_unique<Resolver>([shared](const std::string& host) -> HostAddresses {
    shared->asked.count_down();
    shared->open.wait();
    shared->done.count_down();
    return std::vector<std::string>{host};
  });
  const auto lookup = resolver->Resolve("a").value();
  shared->asked.wait();
  resolver.reset();
  shared->open.count_down();
  shared->done.wait();
  EXPECT_FALSE(lookup->Take());
}

}  // namespace
}  // namespace conductor::stream
