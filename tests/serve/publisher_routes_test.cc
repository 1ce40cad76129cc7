// The routes by which publishers come, move and go, and those that tell what there is.

#include <string>
#include <vector>

#include "tests/serve/api_fixture.h"
#include "tests/serve/http_api_page.h"

namespace conductor::serve {
namespace {

class PublisherRoutes : public ApiTest {
 protected:
  // Four tokens a block.
  static Json Stored(uint64_t sequence, uint64_t first_hash, int blocks, int first_token,
                     const char* medium = "GPU") {
    Json hashes = Json::array();
    Json tokens = Json::array();
    for (int i = 0; i < blocks; ++i) hashes.push_back(first_hash + static_cast<uint64_t>(i));
    for (int i = 0; i < blocks * 4; ++i) tokens.push_back(first_token + i);
    return {{"sequence", sequence}, {"type", "stored"}, {"block_hashes", hashes},
            {"token_ids", tokens},  {"block_size", 4},  {"medium", medium}};
  }
  void Ingest(const std::string& instance, const std::vector<Json>& events,
              const Json& more = Json::object()) {
    Json publisher{{"instance_id", instance}, {"modelname", "m"}, {"block_size", 4}};
    publisher.update(more);
    Post("/v1/ingest", {{"publisher", publisher},
                        {"incarnation", "one"},
                        {"events", events},
                        {"wait", "applied"}});
    ASSERT_EQ(status_, 200);
  }
};

constexpr char kPath[] = "/v1/publishers/a%7Cdefault%7C0";

TEST_F(PublisherRoutes, APublisherIsMadeAndItsDocumentAnswered) {
  const Json made = Post("/v1/publishers", Absent("a", 1));
  EXPECT_EQ(status_, 201);
  EXPECT_NE(head_.find(std::string("Location: ") + kPath + "\r\n"), std::string::npos) << head_;
  EXPECT_EQ(made["id"], "a|default|0");
  EXPECT_EQ(made["endpoint"], "tcp://127.0.0.1:1");
  EXPECT_EQ(Post("/v1/publishers", Absent("a", 1))["id"], "a|default|0");
  EXPECT_EQ(status_, 200) << "it was there already";
}

TEST_F(PublisherRoutes, ThePublishersAreTheSameInBothForms) {
  const Json made = Post("/v1/publishers", Absent("a", 1), Form::kMsgpack);
  EXPECT_EQ(status_, 201);
  EXPECT_EQ(made["id"], "a|default|0");
  Post("/v1/publishers", {{"instance_id", "b"}, {"modelname", "m"}, {"mode", "ingest"}});
  const auto still = [](Json publishers) {
    // The connection to the absent one is being tried meanwhile.
    for (Json& publisher : publishers["publishers"]) {
      for (const char* moving : {"state", "reason", "detail", "counters"}) publisher.erase(moving);
    }
    return publishers;
  };
  EXPECT_EQ(still(Get("/v1/publishers", Form::kMsgpack)), still(Get("/v1/publishers")));
  EXPECT_EQ(Get("/v1/publishers/nobody", Form::kMsgpack)["reason"], "unknown_publisher");
  EXPECT_EQ(status_, 404);
  EXPECT_NE(head_.find("application/msgpack"), std::string::npos);
}

TEST_F(PublisherRoutes, WhatStandsInTheWayIsStatus409) {
  Post("/v1/publishers", Absent("a", 1));
  const Json other = Post("/v1/publishers", Absent("a", 2));
  EXPECT_EQ(status_, 409);
  EXPECT_EQ(other["reason"], "conflict");
  EXPECT_EQ(other["field"], "instance_id");
  EXPECT_EQ(Post("/v1/publishers", Absent("b", 1))["field"], "endpoint");
  EXPECT_EQ(status_, 409);
  EXPECT_EQ(registry_.size(), 1u);
}

TEST_F(PublisherRoutes, FieldsThatSayNothingAreRefused) {
  Json registration = Absent("a", 1);
  registration["blocksize"] = 16;
  const Json refused = Post("/v1/publishers", registration);
  EXPECT_EQ(status_, 400);
  EXPECT_EQ(refused["reason"], "unknown_field");
  EXPECT_EQ(refused["field"], "blocksize");
  EXPECT_EQ(Ask("PUT", kPath, registration)["field"], "blocksize");
  EXPECT_EQ(Post("/v1/publishers", {{"instance_id", "a"}})["reason"], "missing");
  Json nonsense = Absent("a", 1);
  nonsense["endpoint"] = "nonsense";
  EXPECT_EQ(Post("/v1/publishers", nonsense)["reason"], "invalid_registration");
  EXPECT_EQ(status_, 400);
  EXPECT_EQ(registry_.size(), 0u);
}

TEST_F(PublisherRoutes, AllRanksOfAnEngineAreMadeAtOnceOrNone) {
  Json ranks = Absent("a", 1);
  ranks["dp_size"] = 2;
  const Json made = Post("/v1/publishers", ranks);
  EXPECT_EQ(status_, 201);
  EXPECT_EQ(made["count"], 2);
  EXPECT_EQ(made["publishers"][1]["endpoint"], "tcp://127.0.0.1:2");
  Json others = Absent("b", 10);
  others["dp_size"] = 3;
  Post("/v1/publishers", Absent("c", 12));
  EXPECT_EQ(Post("/v1/publishers", others)["reason"], "conflict");
  EXPECT_EQ(registry_.size(), 3u);
  EXPECT_EQ(Ask("PUT", "/v1/publishers/b%7Cdefault%7C0", others)["field"], "dp_size");
}

TEST_F(PublisherRoutes, PutMakesMovesAndLeavesAlone) {
  EXPECT_EQ(Ask("PUT", kPath, Absent("a", 1))["id"], "a|default|0");
  EXPECT_EQ(status_, 201);
  Ask("PUT", kPath, Absent("a", 1));
  EXPECT_EQ(status_, 200);
  const Json moved = Ask("PUT", kPath, Absent("a", 2), Form::kMsgpack);
  EXPECT_EQ(status_, 200);
  EXPECT_EQ(moved["endpoint"], "tcp://127.0.0.1:2");
  EXPECT_EQ(registry_.size(), 1u);
  Post("/v1/publishers", Absent("b", 3));
  EXPECT_EQ(Ask("PUT", kPath, Absent("a", 3))["reason"], "conflict");
  EXPECT_EQ(status_, 409);
  EXPECT_EQ(Get(kPath)["endpoint"], "tcp://127.0.0.1:2") << "it stays where it was";
}

TEST_F(PublisherRoutes, ThePathOfAPutSaysWhoseItIs) {
  const Json short_form{{"endpoint", "tcp://127.0.0.1:1"}, {"modelname", "m"}};
  EXPECT_EQ(Ask("PUT", "/v1/publishers/a%7Cteam%7C3", short_form)["id"], "a|team|3");
  EXPECT_EQ(status_, 201);
  EXPECT_EQ(Ask("PUT", kPath, Absent("b", 1))["field"], "instance_id");
  EXPECT_EQ(status_, 400);
  for (const char* id : {"a", "a%7Cb", "a%7Cb%7Cx", "a%7Cb%7C", "a%7Cb%7C-1"}) {
    EXPECT_EQ(Ask("PUT", std::string("/v1/publishers/") + id, short_form)["reason"],
              "invalid_value")
        << id;
  }
}

TEST_F(PublisherRoutes, AnEmptyTextInABodyOfAPutIsNoRank) {
  Json body{{"endpoint", "tcp://127.0.0.1:1"},
            {"modelname", "m"},
            {"instance_id", ""},
            {"tenant_id", ""},
            {"dp_rank", ""}};
  const Json refused = Ask("PUT", kPath, body);
  EXPECT_EQ(status_, 400);
  EXPECT_EQ(refused["reason"], "invalid_type");
  EXPECT_EQ(refused["field"], "dp_rank");
  body["dp_rank"] = nullptr;
  EXPECT_EQ(Ask("PUT", kPath, body)["id"], "a|default|0");
  EXPECT_EQ(status_, 201);
}

TEST_F(PublisherRoutes, APublisherThatIsReplacedHoldsNothingOfBefore) {
  Ingest("a", {Stored(0, 1, 3, 100)});
  const Json query{{"model", "m"}, {"token_ids", {100, 101, 102, 103, 104, 105, 106, 107}}};
  EXPECT_EQ(Post("/v1/query", query)["instances"][0]["gpu"], 8);
  Ask("PUT", kPath, Absent("a", 1));
  EXPECT_EQ(status_, 200);
  const Json answer = Post("/v1/query", query);
  ASSERT_EQ(answer["instances"].size(), 1u);
  EXPECT_EQ(answer["instances"][0]["gpu"], 0);
  EXPECT_EQ(answer["instances"][0]["state"], "connecting");
}

TEST_F(PublisherRoutes, DeleteForgetsAPublisher) {
  Post("/v1/publishers", Absent("a", 1));
  EXPECT_EQ(Ask("DELETE", kPath), nullptr);
  EXPECT_EQ(status_, 204);
  EXPECT_EQ(Ask("DELETE", kPath)["reason"], "unknown_publisher");
  EXPECT_EQ(status_, 404);
  EXPECT_EQ(Get("/v1/publishers")["count"], 0);
}

class TwoPublishers : public ApiTest {
 protected:
  TwoPublishers() : ApiTest(AtMostTwo()) {}
  static Registry::Options AtMostTwo() {
    Registry::Options options;
    options.transport.max_publishers = 2;
    return options;
  }
};

TEST_F(TwoPublishers, AFullRegistryIsStatus503AndStillLetsPublishersMove) {
  Post("/v1/publishers", Absent("a", 1));
  Post("/v1/publishers", Absent("b", 2));
  EXPECT_EQ(Post("/v1/publishers", Absent("c", 3))["reason"], "too_many_publishers");
  EXPECT_EQ(status_, 503);
  Ask("PUT", kPath, Absent("a", 3));
  EXPECT_EQ(status_, 200);
}

TEST_F(PublisherRoutes, NamespacesTellWhoStandsInThem) {
  Ingest("a", {Stored(0, 1, 3, 100)});
  Ingest("b", {Stored(0, 1, 2, 100)}, {{"dp_rank", 1}});
  Post("/v1/publishers", Absent("c", 1));
  const Json expected{{"count", 1},
                      {"namespaces",
                       {{{"tenant_id", "default"},
                         {"model", "m"},
                         {"lora_name", ""},
                         {"block_size", 4},
                         {"additional_salt", ""},
                         {"blocks", 3},
                         {"holders", 2},
                         {"instances",
                          {{{"instance_id", "a"}, {"dp_ranks", {0}}},
                           {{"instance_id", "b"}, {"dp_ranks", {1}}},
                           {{"instance_id", "c"}, {"dp_ranks", {0}}}}}}}}};
  EXPECT_EQ(Get("/v1/namespaces"), expected);
  EXPECT_EQ(Get("/v1/namespaces", Form::kMsgpack), expected);
}

TEST_F(PublisherRoutes, AnAdapterThatOnlyEventsNameIsANamespaceToo) {
  Json event = Stored(0, 1, 1, 100);
  event["lora_name"] = "adapter";
  Ingest("a", {event});
  const Json namespaces = Get("/v1/namespaces")["namespaces"];
  ASSERT_EQ(namespaces.size(), 2u);
  EXPECT_EQ(namespaces[1]["lora_name"], "adapter");
  EXPECT_EQ(namespaces[1]["instances"][0]["instance_id"], "a");
}

TEST_F(PublisherRoutes, AnInstanceTellsWhatItHoldsByRankAndTier) {
  Ingest("a", {Stored(0, 1, 3, 100), Stored(1, 1, 2, 100, "CPU")}, {{"bytes_per_block", 1000}});
  Ingest("a", {Stored(0, 1, 1, 100)}, {{"dp_rank", 1}});
  const Json instance = Get("/v1/instances/a");
  EXPECT_EQ(status_, 200);
  EXPECT_EQ(instance["state"], "live");
  EXPECT_EQ(instance["publishers"], (Json{"a|default|0", "a|default|1"}));
  EXPECT_EQ(instance["blocks"], (Json{{"gpu", 4}, {"cpu", 2}, {"disk", 0}}));
  EXPECT_EQ(instance["bytes"], (Json{{"gpu", 3000}, {"cpu", 2000}, {"disk", 0}}));
  ASSERT_EQ(instance["ranks"].size(), 2u);
  EXPECT_EQ(instance["ranks"][0]["blocks"], (Json{{"gpu", 3}, {"cpu", 2}, {"disk", 0}}));
  EXPECT_EQ(instance["ranks"][0]["bytes"], (Json{{"gpu", 3000}, {"cpu", 2000}, {"disk", 0}}));
  EXPECT_EQ(instance["ranks"][1]["dp_rank"], 1);
  EXPECT_EQ(instance["ranks"][1]["bytes"], nullptr);
  EXPECT_GT(instance["churn"]["1m"]["stored_per_second"], 0);
  EXPECT_EQ(instance["churn"]["5m"]["removed_per_second"], 0);
  EXPECT_EQ(instance["hottest"], Json::array());
  EXPECT_EQ(Get("/v1/instances/a", Form::kMsgpack)["blocks"], instance["blocks"]);
}

TEST_F(PublisherRoutes, AnInstanceTellsWhichPrefixesQueriesFindOnIt) {
  Ingest("a", {Stored(0, 1, 3, 100)});
  const Json query{{"model", "m"}, {"token_ids", {100, 101, 102, 103, 104, 105, 106, 107, 0}}};
  for (int i = 0; i < 64; ++i) Post("/v1/query", query);
  const Json instance = Get("/v1/instances/a");
  EXPECT_EQ(instance["sampled_queries"], (Json{{"one_in", 16}, {"counted", 4}}));
  ASSERT_EQ(instance["hottest"].size(), 1u);
  const Json& hot = instance["hottest"][0];
  EXPECT_EQ(hot["blocks"], 2);
  EXPECT_EQ(hot["count"], 4);
  EXPECT_EQ(hot["share"], 1);
  EXPECT_EQ(hot["model"], "m");
  EXPECT_TRUE(hot["prefix_hash"].is_string());
}

TEST_F(PublisherRoutes, TheDocumentsExamplesHaveTheFieldsOfTheAnswers) {
  Post("/v1/publishers", Absent("c", 1));
  Ingest("a", {Stored(0, 1, 3, 100)}, {{"block_size", 4}, {"bytes_per_block", 65536}});
  Json other = Absent("c", 1, 1);
  other["block_size"] = 16;
  other["endpoint"] = "tcp://127.0.0.1:2";
  Ask("PUT", "/v1/publishers/c%7Cdefault%7C1", other);
  Ask("DELETE", "/v1/publishers/c%7Cdefault%7C0");
  const Json query{{"model", "m"}, {"token_ids", {100, 101, 102, 103}}, {"block_size", 4}};
  for (int i = 0; i < 16; ++i) Post("/v1/query", query);
  EXPECT_EQ(NamesIn(Get("/v1/namespaces")), NamesIn(ExampleAfter("### `GET /v1/namespaces`")));
  EXPECT_EQ(NamesIn(Get("/v1/instances/a")), NamesIn(ExampleAfter("### `GET /v1/instances/{id}`")));
}

TEST_F(PublisherRoutes, AnInstanceThatNobodyRegisteredIsStatus404) {
  EXPECT_EQ(Get("/v1/instances/nobody")["reason"], "unknown_instance");
  EXPECT_EQ(status_, 404);
  Json pool = Absent("p", 1);
  pool["type"] = "Mooncake";
  Post("/v1/publishers", pool);
  Get("/v1/instances/p");
  EXPECT_EQ(status_, 404) << "a pool is no instance";
}

}  // namespace
}  // namespace conductor::serve
