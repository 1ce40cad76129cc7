#include "daemon/serve/registry.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <sstream>
#include <string>

#include "daemon/serve/reservations.h"

namespace conductor::serve {
namespace {

// An engine that never comes.
Registration Engine(const std::string& instance_id, const std::string& endpoint,
                    const std::string& replay_endpoint = "") {
  Registration registration;
  registration.instance_id = instance_id;
  registration.endpoint = endpoint;
  registration.replay_endpoint = replay_endpoint;
  registration.model = "m";
  return registration;
}

class RegistryTest : public testing::Test {
 protected:
  static Registry::Options AtMost(uint32_t publishers) {
    Registry::Options options;
    options.transport.max_publishers = publishers;
    return options;
  }

  // What the registry itself says of `registration` while adding it, which must succeed; what its
  // stream says meanwhile ("publisher <key> at <endpoint>: ...") is left out.
  std::string AdviceOn(const Registration& registration) {
    testing::internal::CaptureStderr();
    const auto added = registry_.Add(registration);
    std::istringstream log(testing::internal::GetCapturedStderr());
    EXPECT_TRUE(added) << added.error().Message();
    std::string advice;
    for (std::string line; std::getline(log, line);) {
      const size_t begin = line.find("publisher " + registration.Key() + ": ");
      if (begin != std::string::npos) advice += line.substr(begin) + "\n";
    }
    return advice;
  }

  // The field that is to blame for the failure to add `registration`.
  std::string Blamed(const Registration& registration) {
    const auto added = registry_.Add(registration);
    return added ? "nothing" : added.error().where;
  }

  Registry registry_{AtMost(3)};
};

TEST_F(RegistryTest, AConflictNamesTheFieldsThatDiffer) {
  EXPECT_EQ(registry_.Add(Engine("a", "tcp://127.0.0.1:1")), Registry::Added::kNew);
  Registration other = Engine("a", "tcp://127.0.0.1:2");
  other.block_size = 16;
  const auto added = registry_.Add(other);
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().what,
            "conflicting registration for service key: a|default|0 (other values of endpoint, "
            "block_size)");
}

TEST_F(RegistryTest, TheSameRegistrationAgainIsNoError) {
  EXPECT_EQ(registry_.Add(Engine("a", "tcp://127.0.0.1:1")), Registry::Added::kNew);
  EXPECT_EQ(registry_.Add(Engine("a", "tcp://127.0.0.1:1")), Registry::Added::kAlreadyThere);
  EXPECT_EQ(registry_.size(), 1u);
}

TEST_F(RegistryTest, AKeyIsTakenOnce) {
  ASSERT_TRUE(registry_.Add(Engine("a", "tcp://127.0.0.1:1")));
  EXPECT_EQ(Blamed(Engine("a", "tcp://127.0.0.1:2")), "instance_id");
}

TEST_F(RegistryTest, AnEndpointIsTakenOnceHoweverItIsWritten) {
  ASSERT_TRUE(registry_.Add(Engine("a", "tcp://localhost:1")));
  EXPECT_EQ(Blamed(Engine("b", "tcp://localhost:1")), "endpoint");
  EXPECT_EQ(Blamed(Engine("b", "tcp://LOCALHOST:0001")), "endpoint");
}

TEST_F(RegistryTest, WhatWasRemovedIsFreeAgain) {
  ASSERT_TRUE(registry_.Add(Engine("a", "tcp://127.0.0.1:1", "tcp://127.0.0.1:2")));
  EXPECT_TRUE(registry_.Remove("a|default|0"));
  EXPECT_FALSE(registry_.Remove("a|default|0"));
  EXPECT_EQ(AdviceOn(Engine("a", "tcp://127.0.0.1:2", "tcp://127.0.0.1:1")), "");
}

TEST_F(RegistryTest, PublishersBeyondTheLimitAreRefused) {
  for (const char* name : {"a", "b", "c"}) {
    ASSERT_TRUE(registry_.Add(Engine(name, std::string("ipc:///nowhere/") + name)));
  }
  EXPECT_EQ(Blamed(Engine("d", "ipc:///nowhere/d")), "instance_id");
}

TEST_F(RegistryTest, WhatCannotBeHealedIsToldOnce) {
  const Registration engine = Engine("a", "tcp://127.0.0.1:1");
  EXPECT_EQ(AdviceOn(engine),
            "publisher a|default|0: no replay endpoint: what the engine stored before cannot be "
            "learnt, and after a hole or a reconnect its figures are no longer proven\n");
  EXPECT_EQ(AdviceOn(engine), "");
  Registration pool = Engine("pool", "tcp://127.0.0.1:2");
  pool.type = PublisherType::kMooncake;
  EXPECT_EQ(AdviceOn(pool),
            "publisher pool|default|0: no admin_endpoint: what the pool held before cannot be "
            "learnt, nor can what is lost on the way\n");
  Registration listed = Engine("listed", "tcp://127.0.0.1:3");
  listed.type = PublisherType::kMooncake;
  listed.pool.admin_endpoint = "127.0.0.1:4";
  EXPECT_EQ(AdviceOn(listed), "");
}

TEST_F(RegistryTest, AnotherIncarnationIsANewLifeAndNoConflict) {
  Registration engine = Engine("a", "tcp://127.0.0.1:1");
  EXPECT_EQ(*registry_.Add(engine), Registry::Added::kNew);
  engine.incarnation = "one";
  EXPECT_EQ(*registry_.Add(engine), Registry::Added::kAlreadyThere) << "it is only named";
  EXPECT_EQ(*registry_.Add(engine), Registry::Added::kAlreadyThere);
  engine.incarnation = "two";
  EXPECT_EQ(*registry_.Add(engine), Registry::Added::kNewIncarnation);
  engine.incarnation = "";
  EXPECT_EQ(*registry_.Add(engine), Registry::Added::kAlreadyThere) << "nothing is said of it";
  EXPECT_EQ(registry_.Publishers().front().registration.incarnation, "two");
}

TEST_F(RegistryTest, AReplayEndpointThatIsAnothersSocketIsWarnedOf) {
  EXPECT_EQ(AdviceOn(Engine("a", "tcp://127.0.0.1:1", "tcp://127.0.0.1:2")), "");
  EXPECT_EQ(AdviceOn(Engine("b", "tcp://127.0.0.1:2", "tcp://127.0.0.1:3")),
            "publisher b|default|0: its endpoint 'tcp://127.0.0.1:2' is the replay endpoint of "
            "a|default|0: one of the two is wrong, and what was missed may not be healed\n");
}

TEST(Reservations, TwoWithOneReplayEndpointGiveItBackOneByOne) {
  Reservations reservations;
  reservations.Add(Engine("a", "tcp://h:1", "tcp://h:9"), "a");
  reservations.Add(Engine("b", "tcp://h:2", "tcp://h:9"), "b");
  reservations.Remove(Engine("a", "tcp://h:1", "tcp://h:9"));
  EXPECT_EQ(reservations.RoleOf("tcp://h:9"), "the replay endpoint of b");
  reservations.Remove(Engine("b", "tcp://h:2", "tcp://h:9"));
  EXPECT_EQ(reservations.RoleOf("tcp://h:9"), std::nullopt);
  EXPECT_EQ(reservations.RoleOf("tcp://h:1"), std::nullopt);
}

TEST(Reservations, AnEndpointThatCannotBeReadIsItsOwnText) {
  Reservations reservations;
  reservations.Add(Engine("a", "nonsense"), "a");
  EXPECT_EQ(reservations.RoleOf("nonsense"), "the event endpoint of a");
}

}  // namespace
}  // namespace conductor::serve
