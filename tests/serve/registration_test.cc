#include "daemon/serve/registration.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "daemon/serve/reservations.h"

namespace conductor::serve {
namespace {

using namespace std::chrono_literals;
using Names = std::vector<std::string_view>;

Registration Good() {
  Registration good;
  good.endpoint = "tcp://127.0.0.1:5557";
  good.model = "m";
  good.instance_id = "i";
  return good;
}

Registration Pool() {
  Registration pool = Good();
  pool.type = PublisherType::kMooncake;
  return pool;
}

Registration Bound(const std::string& instance_id, const std::string& peer,
                   const std::string& topic = "", uint32_t dp_rank = 0) {
  Registration bound = Good();
  bound.endpoint = "tcp://*:5557";
  bound.mode = stream::ListenMode::kBind;
  bound.instance_id = instance_id;
  bound.peer = peer;
  bound.topic = topic;
  bound.dp_rank = dp_rank;
  return bound;
}

TEST(Registration, TypesAreReadInAnyCase) {
  for (const auto& [text, type] : {std::pair{"VLLM", PublisherType::kVllm},
                                   {"vllm-ascend", PublisherType::kVllmAscend},
                                   {"sglang", PublisherType::kSglang},
                                   {"lmcache", PublisherType::kLmcache},
                                   {"tensorrt-llm", PublisherType::kTensorRtLlm},
                                   {"rfc1527", PublisherType::kRfc1527},
                                   {"mooncake", PublisherType::kMooncake}}) {
    EXPECT_EQ(ParsePublisherType(text), type) << text;
    EXPECT_EQ(ParsePublisherType(PublisherTypeName(type)), type) << text;
    EXPECT_EQ(IsPool(type), type == PublisherType::kMooncake) << text;
  }
  const auto wrong = ParsePublisherType("");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().expected,
            "vLLM, vLLM-Ascend, SGLang, LMCache, TensorRT-LLM, RFC1527 or Mooncake");
}

TEST(Registration, NamesTheFieldThatIsWrong) {
  EXPECT_TRUE(Validate(Good()));
  const struct {
    const char* field;
    void (*breaks)(Registration&);
  } cases[] = {
      {"endpoint", [](Registration& r) { r.endpoint = ""; }},
      {"endpoint", [](Registration& r) { r.endpoint = "udp://h:1"; }},
      {"endpoint", [](Registration& r) { r.endpoint = "tcp://h:"; }},
      {"endpoint", [](Registration& r) { r.endpoint = "tcp://-h:1"; }},
      {"endpoint", [](Registration& r) { r.endpoint = "inproc://here"; }},
      {"endpoint", [](Registration& r) { r.endpoint = "ipc://" + std::string(108, 'p'); }},
      {"replay_endpoint", [](Registration& r) { r.replay_endpoint = "tcp://*:5558"; }},
      {"replay_endpoint", [](Registration& r) { r.replay_endpoint = r.endpoint; }},
      {"modelname", [](Registration& r) { r.model = ""; }},
      {"modelname", [](Registration& r) { r.model = std::string(4097, 'm'); }},
      {"instance_id", [](Registration& r) { r.instance_id = ""; }},
      {"instance_id", [](Registration& r) { r.instance_id = "a|b"; }},
      {"tenant_id", [](Registration& r) { r.tenant = "a|b"; }},
      {"tenant_id", [](Registration& r) { r.tenant = ""; }},
      {"topic", [](Registration& r) { r.topic = std::string(4097, 't'); }},
      {"block_size", [](Registration& r) { r.block_size = 2147483648u; }},
      {"dp_rank", [](Registration& r) { r.dp_rank = 2147483648u; }},
      {"incarnation", [](Registration& r) { r.incarnation = std::string(4097, 'x'); }},
      {"peer", [](Registration& r) { r.peer = "10.0.0.1"; }},
      {"hash_profile.python_hash_seed",
       [](Registration& r) { r.hash_profile.emplace().seed = ""; }},
      {"pool_lookup", [](Registration& r) { r.pool.lookup = index::PoolLookup::kContinue; }},
      {"admin_endpoint", [](Registration& r) { r.pool.admin_endpoint = "h:1"; }},
      {"key_models", [](Registration& r) { r.pool.key_models["a"] = "b"; }},
  };
  for (const auto& [field, breaks] : cases) {
    Registration bad = Good();
    breaks(bad);
    const auto status = Validate(bad);
    ASSERT_FALSE(status) << field;
    EXPECT_EQ(status.error().where, field) << status.error().Message();
  }
}

TEST(Registration, APoolsFieldsAreCheckedToo) {
  Registration pool = Pool();
  pool.pool.tp_size = 8;
  pool.pool.kv_heads = 4;
  pool.pool.admin_endpoint = "h:9003";
  EXPECT_TRUE(Validate(pool));
  const struct {
    const char* field;
    void (*breaks)(PoolRegistration&);
  } cases[] = {
      {"kv_heads", [](PoolRegistration& p) { p.kv_heads = 4; }},
      {"admin_endpoint", [](PoolRegistration& p) { p.admin_endpoint = "h"; }},
      {"key_models", [](PoolRegistration& p) { p.key_models["a"] = ""; }},
  };
  for (const auto& [field, breaks] : cases) {
    Registration bad = Pool();
    breaks(bad.pool);
    const auto status = Validate(bad);
    ASSERT_FALSE(status) << field;
    EXPECT_EQ(status.error().where, field) << status.error().Message();
  }
}

TEST(Registration, ABoundOneMayHaveAnyAddressAsItsHostAndAPeerThatIsAnAddress) {
  EXPECT_TRUE(Validate(Bound("i", "")));
  EXPECT_TRUE(Validate(Bound("i", "10.0.0.1")));
  EXPECT_TRUE(Validate(Bound("i", "fd00::7")));
  EXPECT_TRUE(Validate(Bound("i", "fe80::1%eth0")));
  for (const char* peer : {"engine-a", "10.0.0.1:5557", "10.0.0"}) {
    const auto status = Validate(Bound("i", peer));
    ASSERT_FALSE(status) << peer;
    EXPECT_EQ(status.error().where, "peer");
  }
}

TEST(Registration, ItsDifferencesAreNamedAsRequestsSpellThem) {
  Registration other = Pool();
  EXPECT_EQ(DifferingFields(Pool(), other), Names());
  other.mode = stream::ListenMode::kBind;
  other.incarnation = "2";
  other.ttl[1] = 10min;
  other.hash_profile.emplace();
  other.pool.layers = 32;
  EXPECT_EQ(DifferingFields(Pool(), other),
            (Names{"mode", "incarnation", "ttl", "hash_profile", "layers"}));
}

TEST(AdminEndpoint, IsHostAndPortWithOrWithoutItsScheme) {
  for (const auto& [text, endpoint] : {std::pair{"h:9003", "h:9003"},
                                       {"http://h:9003", "h:9003"},
                                       {"http://10.0.0.9:9003/", "10.0.0.9:9003"},
                                       {"[fd00::7]:9003", "[fd00::7]:9003"}}) {
    EXPECT_EQ(ParseAdminEndpoint(text), endpoint);
  }
  for (const char* text : {"", "h", "h:", "h:0x1", "https://h:1", "http://h:1/path", "*:1", "h:1//",
                           "http://", "a b:1"}) {
    const auto parsed = ParseAdminEndpoint(text);
    ASSERT_FALSE(parsed) << text << " is " << *parsed;
    EXPECT_EQ(parsed.error().where, "admin_endpoint");
  }
}

TEST(Ranks, HaveBothPortsOneFurtherOnEach) {
  Registration first = Good();
  first.replay_endpoint = "tcp://127.0.0.1:5657";
  const auto ranks = ExpandRanks(first, 3);
  ASSERT_TRUE(ranks) << ranks.error().Message();
  ASSERT_EQ(ranks->size(), 3u);
  EXPECT_EQ(ranks->front(), first);
  EXPECT_EQ(ranks->at(2).dp_rank, 2u);
  EXPECT_EQ(ranks->at(2).endpoint, "tcp://127.0.0.1:5559");
  EXPECT_EQ(ranks->at(2).replay_endpoint, "tcp://127.0.0.1:5659");
  EXPECT_EQ(ranks->at(2).Key(), "i|default|2");
  for (const Registration& rank : *ranks) EXPECT_TRUE(Validate(rank));
}

TEST(Ranks, OfASizeOfOneAreTheRegistrationItself) {
  Registration third = Good();
  third.dp_rank = 3;
  EXPECT_EQ(ExpandRanks(third, 1), std::vector{third});
}

TEST(Ranks, OfABoundEndpointHaveAPortEach) {
  const auto ranks = ExpandRanks(Bound("i", "10.0.0.1"), 2);
  ASSERT_TRUE(ranks) << ranks.error().Message();
  EXPECT_EQ(ranks->at(1).endpoint, "tcp://*:5558");
}

TEST(Ranks, ThatCannotBeAreRefusedWithTheField) {
  const struct {
    const char* field;
    const char* what;
    void (*breaks)(Registration&);
  } cases[] = {
      {"dp_rank", "is 1 beside dp_size 4", [](Registration& r) { r.dp_rank = 1; }},
      {"dp_size", "of one rank is",
       [](Registration& r) { r.replay_endpoint = "tcp://127.0.0.1:5560"; }},
      {"dp_size", "of one rank is",
       [](Registration& r) { r.replay_endpoint = "tcp://127.0.0.1:5554"; }},
      {"dp_size", "has no port for rank 0", [](Registration& r) { r.endpoint = "ipc:///tmp/x"; }},
      {"dp_size", "has no port for rank 3", [](Registration& r) { r.endpoint = "tcp://h:65533"; }},
  };
  for (const auto& [field, what, breaks] : cases) {
    Registration bad = Good();
    breaks(bad);
    const auto ranks = ExpandRanks(bad, 4);
    ASSERT_FALSE(ranks) << what;
    EXPECT_EQ(ranks.error().where, field) << ranks.error().Message();
    EXPECT_NE(ranks.error().what.find(what), std::string::npos) << ranks.error().Message();
  }
}

TEST(Ranks, MayHaveReplayJustBeyondTheirEventPortsOrOnAnotherHost) {
  Registration first = Good();
  first.replay_endpoint = "tcp://127.0.0.1:5561";
  EXPECT_TRUE(ExpandRanks(first, 4));
  first.replay_endpoint = "tcp://127.0.0.2:5558";
  EXPECT_TRUE(ExpandRanks(first, 4));
}

TEST(BoundEndpoints, AreSharedByWhatPeerTopicOrRankTellsApart) {
  Reservations reservations;
  reservations.Add(Bound("a", "10.0.0.1"), "a");
  EXPECT_FALSE(reservations.FindConflict(Bound("b", "10.0.0.2")));
  EXPECT_FALSE(reservations.FindConflict(Bound("b", "10.0.0.1", "kv")));
  EXPECT_FALSE(reservations.FindConflict(Bound("b", "10.0.0.1", "", 1)));
  const auto conflict = reservations.FindConflict(Bound("b", "10.0.0.1"));
  ASSERT_TRUE(conflict);
  EXPECT_EQ(conflict->what, Reservations::What::kEndpoint);
  EXPECT_EQ(conflict->holder, "a");
}

TEST(BoundEndpoints, AreNotConnectedTo) {
  Registration connects = Bound("b", "");
  connects.endpoint = "tcp://10.0.0.1:5557";
  Registration binds = connects;
  binds.instance_id = "a";
  connects.mode = stream::ListenMode::kConnect;
  Reservations reservations;
  reservations.Add(binds, "a");
  EXPECT_TRUE(reservations.FindConflict(connects));
  reservations.Remove(binds);
  reservations.Add(connects, "b");
  EXPECT_TRUE(reservations.FindConflict(binds));
}

TEST(BoundEndpoints, AreGivenBackOneByOne) {
  Reservations reservations;
  reservations.Add(Bound("a", "10.0.0.1"), "a");
  reservations.Add(Bound("b", "10.0.0.2"), "b");
  reservations.Remove(Bound("a", "10.0.0.1"));
  EXPECT_FALSE(reservations.FindConflict(Bound("c", "10.0.0.1")));
  EXPECT_TRUE(reservations.FindConflict(Bound("c", "10.0.0.2")));
}

}  // namespace
}  // namespace conductor::serve
