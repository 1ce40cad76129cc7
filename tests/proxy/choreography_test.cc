#include "daemon/proxy/choreography.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "daemon/proxy/choreographies.h"

namespace conductor::proxy {
namespace {

using Json = nlohmann::json;

class ChoreographyTest : public testing::Test {
 protected:
  Json Prefill(Connector connector, const Prefiller& prefiller = {}) {
    return Json::parse(Make(connector)->Prefill(asked_, prefiller).body);
  }
  Json Decode(Connector connector, const Prefiller& prefiller = {}, std::string_view answer = {}) {
    return Json::parse(Make(connector)->Decode(asked_, prefiller, answer).body);
  }
  static std::unique_ptr<Choreography> Make(Connector connector) {
    return MakeChoreography({.connector = connector, .metaserver = "http://p:1/v1/metaserver"});
  }

  const std::string body_ =
      R"({"model": "m", "prompt": "x", "stream": true, "stream_options": {}, "min_tokens": 9,
          "max_completion_tokens": 50, "min_completion_tokens": 9, "n": 1})";
  const JsonMembers members_ = *JsonMembers::Parse(body_);
  const Asked asked_{body_, members_};
};

TEST_F(ChoreographyTest, NamesAreReadBack) {
  for (const char* name :
       {"nixl", "none", "store", "mooncake", "ascend", "ascend-layerwise", "sglang"}) {
    EXPECT_EQ(ConnectorName(*ParseConnector(name)), name);
    ASSERT_NE(Make(*ParseConnector(name)), nullptr);
  }
  EXPECT_EQ(ParseConnector("mooncake-bootstrap"), Connector::kMooncake);
  EXPECT_FALSE(ParseConnector("x"));
}

TEST_F(ChoreographyTest, PrefillIsAskedForOneToken) {
  for (const Connector connector : {Connector::kNixl, Connector::kStore, Connector::kNone,
                                    Connector::kMooncake, Connector::kAscend}) {
    Json body = Prefill(connector);
    body.erase("kv_transfer_params");
    Json want = {{"model", "m"},
                 {"prompt", "x"},
                 {"stream", false},
                 {"max_tokens", 1},
                 {"max_completion_tokens", 1},
                 {"n", 1}};
    if (connector == Connector::kAscend) want["min_tokens"] = 1;
    EXPECT_EQ(body, want) << ConnectorName(connector);
  }
}

TEST_F(ChoreographyTest, AscendsOneTokenIsNotTheEndWhateverTheClientAsks) {
  const std::string body = R"({"prompt": "x"})";
  const auto members = JsonMembers::Parse(body);
  for (const Connector connector : {Connector::kAscend, Connector::kAscendLayerwise}) {
    const Leg leg = Make(connector)->Prefill({body, *members}, {});
    EXPECT_EQ(Json::parse(leg.body)["min_tokens"], 1) << ConnectorName(connector);
  }
}

TEST_F(ChoreographyTest, WhatIsTheProxysIsTakenOutHoweverItIsWritten) {
  const auto without = [](const std::string& body) {
    return WithoutOurs(*JsonMembers::Parse(body));
  };
  EXPECT_EQ(without(R"({"prompt": "kv_transfer_params", "a": 1})"), std::nullopt);
  EXPECT_EQ(without(R"({"kv_transfer_params": {}, "a": 1.50, "bootstrap_room": [1]})"),
            R"({"a": 1.50})");
  EXPECT_EQ(without(R"({"\u006bv_transfer_params": 1, "a": 1, "kv_transfer_params": 2})"),
            R"({"a": 1})");
}

TEST_F(ChoreographyTest, NixlPassesOnWhatPrefillSaysAsItStands) {
  const std::string params = R"({"remote_block_ids": [[1, 2]],  "x": 1e400, "remote_host": "h"})";
  const auto decode =
      Make(Connector::kNixl)
          ->Decode(asked_, {}, R"({"id": 1, "kv_transfer_params": )" + params + "}");
  EXPECT_NE(decode.body.find(R"("kv_transfer_params": )" + params), std::string::npos);
  for (const char* nothing : {"", "{}", R"({"kv_transfer_params": null})",
                              R"({"kv_transfer_params": {}})", R"({"kv_transfer_params": { }})"}) {
    EXPECT_EQ(Make(Connector::kNixl)->Decode(asked_, {}, nothing).body, body_) << nothing;
  }
}

TEST_F(ChoreographyTest, TheRemoteHostIsOverriddenOnlyWhereThereIsOne) {
  EXPECT_EQ(WithRemoteHost(R"({"remote_host": "0.0.0.0", "a": 1})", "h"),
            R"({"remote_host": "h", "a": 1})");
  EXPECT_EQ(WithRemoteHost(R"({"a": 1})", "h"), R"({"a": 1})");
}

TEST_F(ChoreographyTest, NoneForgetsWhatPrefillSays) {
  EXPECT_EQ(Make(Connector::kNone)->Decode(asked_, {}, R"({"kv_transfer_params": {"a": 1}})").body,
            body_);
}

TEST_F(ChoreographyTest, MooncakeNamesTheTransferAndTheRanksEngine) {
  const Prefiller prefiller{"fd00::1", 2, 8998, "e2", 0, "id"};
  EXPECT_EQ(
      Prefill(Connector::kMooncake, prefiller)["kv_transfer_params"],
      Json({{"do_remote_decode", true}, {"do_remote_prefill", false}, {"transfer_id", "xfer-id"}}));
  EXPECT_EQ(Make(Connector::kMooncake)->Prefill(asked_, prefiller).headers.Get(kRankHeader), "2");
  EXPECT_EQ(Decode(Connector::kMooncake, prefiller)["kv_transfer_params"],
            Json({{"do_remote_decode", false},
                  {"do_remote_prefill", true},
                  {"remote_bootstrap_addr", "http://[fd00::1]:8998"},
                  {"remote_engine_id", "e2"},
                  {"transfer_id", "xfer-id"}}));
}

TEST_F(ChoreographyTest, LayerwiseTellsWhereToCallBack) {
  EXPECT_EQ(Decode(Connector::kAscendLayerwise)["kv_transfer_params"],
            Json({{"do_remote_decode", false},
                  {"do_remote_prefill", true},
                  {"metaserver", "http://p:1/v1/metaserver"}}));
}

TEST_F(ChoreographyTest, SglangGivesBothTheSameRoom) {
  const Prefiller prefiller{"h", {}, 8998, "", 77, "id"};
  const Json body = Prefill(Connector::kSglang, prefiller);
  EXPECT_EQ(body, Decode(Connector::kSglang, prefiller));
  EXPECT_EQ(body["bootstrap_host"], "h");
  EXPECT_EQ(body["bootstrap_port"], 8998);
  EXPECT_EQ(body["bootstrap_room"], 77);
  EXPECT_EQ(body["stream"], true);
}

}  // namespace
}  // namespace conductor::proxy
