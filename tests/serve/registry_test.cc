#include "daemon/serve/registry.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

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
  EXPECT_EQ(registry_.Remove("a|default|0"), Registry::Removed::kRemoved);
  EXPECT_EQ(registry_.Remove("a|default|0"), Registry::Removed::kUnknown);
  EXPECT_EQ(AdviceOn(Engine("a", "tcp://127.0.0.1:2", "tcp://127.0.0.1:1")), "");
}

TEST_F(RegistryTest, EnginesOfAContextHashAlikeWhereTheyMust) {
  const auto of = [](const char* name, const char* seed) {
    Registration engine = Engine(name, std::string("ipc:///nowhere/") + name);
    engine.hash_profile =
        hash::HashProfile{.algorithm = hash::HashAlgorithm::kSha256, .seed = seed};
    return engine;
  };
  const auto add = [this](const Registration& engine) {
    const auto added = registry_.Add(engine, Registry::Profiles::kMustAgree);
    if (added) (void)registry_.Remove(engine.Key());
    return added ? "" : added.error().where;
  };
  ASSERT_TRUE(registry_.Add(of("a", "0")));
  EXPECT_EQ(add(of("b", "0")), "");
  EXPECT_EQ(add(of("b", "1")), "hash_profile");
  Registration pool = of("pool", "1");
  pool.type = PublisherType::kMooncake;
  EXPECT_EQ(add(pool), "hash_profile");
  Registration silent = of("b", "1");
  silent.hash_profile.reset();
  EXPECT_EQ(add(silent), "");
  for (const auto change :
       {+[](Registration& r) { r.model = "n"; }, +[](Registration& r) { r.tenant = "t"; },
        +[](Registration& r) { r.lora_name = "l"; }, +[](Registration& r) { r.block_size = 64; }}) {
    Registration elsewhere = of("b", "1");
    change(elsewhere);
    EXPECT_EQ(add(elsewhere), "") << "another context";
  }
  EXPECT_TRUE(registry_.Add(of("b", "1"))) << "Conductor's own index does not mind";
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

TEST_F(RegistryTest, APublisherThatMovedTakesThePlaceOfItself) {
  ASSERT_TRUE(registry_.Add(Engine("a", "tcp://127.0.0.1:1")));
  EXPECT_EQ(*registry_.Replace(Engine("a", "tcp://127.0.0.1:2")), Registry::Put::kReplaced);
  EXPECT_EQ(registry_.size(), 1u);
  EXPECT_EQ(registry_.Publisher("a|default|0")->registration.endpoint, "tcp://127.0.0.1:2");
  EXPECT_EQ(*registry_.Replace(Engine("a", "tcp://127.0.0.1:2")), Registry::Put::kAlreadyThere);
  EXPECT_TRUE(registry_.Add(Engine("b", "tcp://127.0.0.1:1"))) << "its old endpoint is free";
  EXPECT_EQ(*registry_.Replace(Engine("c", "tcp://127.0.0.1:3")), Registry::Put::kNew);
  EXPECT_EQ(*registry_.Replace(Engine("c", "tcp://127.0.0.1:4")), Registry::Put::kReplaced)
      << "the limit of publishers does not stand in the way";
}

TEST_F(RegistryTest, APublisherThatCannotMoveStaysWhereItIs) {
  ASSERT_TRUE(registry_.Add(Engine("a", "tcp://127.0.0.1:1")));
  ASSERT_TRUE(registry_.Add(Engine("b", "tcp://127.0.0.1:2")));
  const auto taken = registry_.Replace(Engine("a", "tcp://127.0.0.1:2"));
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().kind, Refusal::Kind::kConflict);
  EXPECT_EQ(taken.error().where, "endpoint");
  const auto invalid = registry_.Replace(Engine("a", "nonsense"));
  ASSERT_FALSE(invalid);
  EXPECT_EQ(invalid.error().kind, Refusal::Kind::kInvalid);
  EXPECT_EQ(registry_.Publisher("a|default|0")->registration.endpoint, "tcp://127.0.0.1:1");
  EXPECT_FALSE(registry_.Add(Engine("c", "tcp://127.0.0.1:1"))) << "its endpoint is still its own";
}

TEST_F(RegistryTest, WhatIsOnlyToldChangesWithoutAnotherLife) {
  Registration engine = Engine("a", "tcp://127.0.0.1:1");
  ASSERT_TRUE(registry_.Add(engine));
  engine.bytes_per_block = 65536;
  EXPECT_EQ(*registry_.Replace(engine), Registry::Put::kNoted);
  EXPECT_EQ(registry_.Publisher("a|default|0")->registration.bytes_per_block, 65536u);
}

TEST_F(RegistryTest, RefusalsSayOfWhichKindTheyAre) {
  for (const char* name : {"a", "b", "c"}) {
    ASSERT_TRUE(registry_.Add(Engine(name, std::string("ipc:///nowhere/") + name)));
  }
  EXPECT_EQ(registry_.Add(Engine("a", "ipc:///else")).error().kind, Refusal::Kind::kConflict);
  EXPECT_EQ(registry_.Add(Engine("d", "ipc:///else")).error().kind, Refusal::Kind::kFull);
  EXPECT_EQ(registry_.Add(Engine("d", "")).error().kind, Refusal::Kind::kInvalid);
}

// A publisher whose events are handed in.
Registration Ingested(const std::string& instance_id, const std::string& incarnation) {
  Registration registration = Engine(instance_id, "");
  registration.mode = stream::ListenMode::kIngest;
  registration.incarnation = incarnation;
  return registration;
}

std::vector<stream::Intake::Message> Messages(std::initializer_list<uint64_t> sequences) {
  std::vector<stream::Intake::Message> messages;
  // [0.0, [], nil]: a batch of nothing.
  for (const uint64_t sequence : sequences) {
    messages.push_back({"", sequence, std::string("\x93\x00\x90\xc0", 4)});
  }
  return messages;
}

TEST_F(RegistryTest, WhatIsIngestedMakesItsPublisher) {
  auto messages = Messages({0, 1});
  const auto ingested = registry_.Ingest(Ingested("a", "one"), messages);
  ASSERT_TRUE(ingested) << ingested.error().Message();
  EXPECT_TRUE(ingested->created);
  EXPECT_EQ(ingested->taken, 2u);
  ASSERT_TRUE(registry_.WaitApplied("a|default|0", *ingested, MonoTime::max(), {}));
  const auto status = registry_.Publisher("a|default|0");
  EXPECT_EQ(status->stream.cursor, 1u);
  EXPECT_EQ(status->trust.state, stream::TrustState::kLive);
  EXPECT_EQ(status->ingest.batches, 2u);

  auto more = Messages({2});
  EXPECT_FALSE(registry_.Ingest(Ingested("a", "one"), more)->created);
  auto others = Messages({0});
  EXPECT_TRUE(registry_.Ingest(Ingested("b", "one"), others)) << "none has an endpoint";
}

TEST_F(RegistryTest, NothingOfAFormerLifeIsIngested) {
  auto first = Messages({0});
  auto second = Messages({0});
  ASSERT_TRUE(registry_.Ingest(Ingested("a", "one"), first));
  ASSERT_TRUE(registry_.Ingest(Ingested("a", "two"), second));
  auto third = Messages({1});
  const auto late = registry_.Ingest(Ingested("a", "one"), third);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().where, "incarnation");
  EXPECT_EQ(late.error().kind, Refusal::Kind::kConflict);
  EXPECT_EQ(registry_.Publisher("a|default|0")->registration.incarnation, "two");
}

TEST_F(RegistryTest, APublisherThatIsListenedToIsNotIngestedInto) {
  ASSERT_TRUE(registry_.Add(Engine("a", "tcp://127.0.0.1:1")));
  auto messages = Messages({0});
  const auto ingested = registry_.Ingest(Ingested("a", "one"), messages);
  ASSERT_FALSE(ingested);
  EXPECT_EQ(ingested.error().kind, Refusal::Kind::kConflict);
}

TEST_F(RegistryTest, AnIngestedPublisherHasNoAddresses) {
  for (const char* field : {"endpoint", "replay_endpoint", "peer", "topic"}) {
    Registration registration = Ingested("a", "one");
    const std::string name = field;
    (name == "endpoint"          ? registration.endpoint
     : name == "replay_endpoint" ? registration.replay_endpoint
     : name == "peer"            ? registration.peer
                                 : registration.topic) = "tcp://127.0.0.1:1";
    EXPECT_EQ(Blamed(registration), name);
  }
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
