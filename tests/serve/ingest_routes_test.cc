// POST /v1/ingest: what is handed in goes the way of what comes over ZeroMQ.

#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "lib/base/bytes.h"
#include "tests/serve/api_fixture.h"
#include "tests/serve/http_api_page.h"

namespace conductor::serve {
namespace {

// G0 of vLLM: [1.5, [["BlockStored", [0xfedcba9876543210], nil, [7, 300], 2, nil]]]
constexpr char kStoredHex[] =
    "92cb3ff80000000000009196ab426c6f636b53746f72656491cffedcba9876543210c09207cd012c02c0";
constexpr char kStoredBase64[] = "kss/+AAAAAAAAJGWq0Jsb2NrU3RvcmVkkc/+3LqYdlQyEMCSB80BLALA";

class IngestRoute : public ApiTest {
 protected:
  explicit IngestRoute(const Registry::Options& options = {}) : ApiTest(options) {}

  static Json Publisher() {
    return {{"type", "vLLM"}, {"instance_id", "a"}, {"modelname", "m"}, {"block_size", 2}};
  }
  static Json Body(const char* name, const std::vector<Json>& list,
                   const std::string& incarnation = "one") {
    return {{"publisher", Publisher()},
            {"incarnation", incarnation},
            {name, list},
            {"wait", "applied"}};
  }
  // A block with the name `hash` after `parent`.
  static Json Stored(uint64_t sequence, uint64_t hash, std::vector<int> tokens,
                     Json parent = nullptr) {
    return {{"sequence", sequence},       {"type", "stored"}, {"block_hashes", {hash}},
            {"token_ids", tokens},        {"block_size", 2},  {"medium", "GPU"},
            {"parent_block_hash", parent}};
  }
  // Of a line of GET /metrics; -1: there is none.
  double Metric(const std::string& series) {
    const std::string page = client_.Get("/metrics").body;
    const size_t at = page.find("\n" + series + " ");
    return at == std::string::npos ? -1 : std::atof(page.c_str() + at + series.size() + 2);
  }
  // How much of the prompt instance a holds on its device, in tokens.
  Json Matched(const std::vector<int>& tokens) {
    return Post("/v1/query", {{"model", "m"}, {"token_ids", tokens}})["instances"][0]["gpu"];
  }
};

TEST_F(IngestRoute, RecordedFramesAreAppliedAndAnswerQueries) {
  Json frame{{"sequence", 0}, {"topic", "kv"}, {"received_at", 1700000000.5}};
  frame["payload"] = Json::binary({});
  auto& bytes = frame["payload"].get_binary();
  const std::string payload = FromHex(kStoredHex).value_or("");
  for (const char c : payload) bytes.push_back(static_cast<uint8_t>(c));
  const Json answer = Post("/v1/ingest", Body("frames", {frame}), Form::kMsgpack);
  EXPECT_EQ(answer, (Json{{"publisher", "a|default|0"},
                          {"incarnation", "one"},
                          {"created", true},
                          {"accepted", 1},
                          {"last_sequence", 0},
                          {"applied", true},
                          {"cursor", 0},
                          {"state", "live"},
                          {"reason", ""},
                          {"detail", ""}}));
  EXPECT_EQ(status_, 200);
  EXPECT_EQ(Matched({7, 300, 1, 2}), 2);
  const Json publisher = Get("/v1/publishers/a%7Cdefault%7C0");
  EXPECT_EQ(publisher["mode"], "ingest");
  EXPECT_EQ(publisher["counters"]["applied_live"], 1);
}

TEST_F(IngestRoute, PayloadsAreBase64InJson) {
  const Json frame{{"sequence", 0}, {"payload", kStoredBase64}};
  EXPECT_EQ(Post("/v1/ingest", Body("frames", {frame}))["accepted"], 1);
  EXPECT_EQ(Matched({7, 300, 1, 2}), 2);
}

TEST_F(IngestRoute, NormalisedEventsAreTheSameInBothForms) {
  const std::vector<Json> events{Stored(0, 1, {7, 8}),
                                 Stored(1, 2, {9, 10}, 1),
                                 {{"sequence", 2}, {"type", "removed"}, {"block_hashes", {2}}}};
  EXPECT_EQ(Post("/v1/ingest", Body("events", events))["accepted"], 3);
  EXPECT_EQ(Matched({7, 8, 9, 10}), 2);
  const Json again = Post("/v1/ingest", Body("events", events), Form::kMsgpack);
  EXPECT_EQ(again["cursor"], 2);
  EXPECT_EQ(again["state"], "live");
  EXPECT_EQ(Get("/v1/publishers/a%7Cdefault%7C0")["counters"]["duplicates"], 3)
      << "the same events are the same bytes";
}

TEST_F(IngestRoute, EventsOfOneSequenceAreOneBatch) {
  const std::vector<Json> events{Stored(0, 1, {7, 8}), Stored(0, 2, {9, 10}, 1),
                                 Stored(1, 3, {11, 12}, 2)};
  const Json answer = Post("/v1/ingest", Body("events", events));
  EXPECT_EQ(answer["accepted"], 3);
  EXPECT_EQ(answer["cursor"], 1);
  EXPECT_EQ(Matched({7, 8, 9, 10, 11, 12}), 6);
}

TEST_F(IngestRoute, AClearingOfEverythingLeavesNothing) {
  Post("/v1/ingest", Body("events", {Stored(0, 1, {7, 8})}));
  Post("/v1/ingest", Body("events", {{{"sequence", 1}, {"type", "cleared"}}}));
  EXPECT_EQ(Matched({7, 8}), 0);
}

TEST_F(IngestRoute, AHoleIsAsDoubtfulAsOnTheWire) {
  Post("/v1/ingest", Body("events", {Stored(0, 1, {7, 8})}));
  const Json answer = Post("/v1/ingest", Body("events", {Stored(3, 2, {9, 10}, 1)}));
  EXPECT_EQ(answer["state"], "degraded");
  EXPECT_EQ(answer["reason"], "doubtful");
  EXPECT_NE(answer["detail"].get<std::string>().find("another incarnation"), std::string::npos);
  EXPECT_EQ(Matched({7, 8, 9, 10}), 4);
}

TEST_F(IngestRoute, AStreamThatBeginsLaterIsIncomplete) {
  const Json answer = Post("/v1/ingest", Body("events", {Stored(5, 1, {7, 8})}));
  EXPECT_EQ(answer["reason"], "incomplete");
}

TEST_F(IngestRoute, ANewIncarnationDropsWhatTheOldOneOwned) {
  Post("/v1/ingest", Body("events", {Stored(0, 1, {7, 8}), Stored(1, 2, {9, 10}, 1)}));
  const Json answer = Post("/v1/ingest", Body("events", {Stored(0, 5, {20, 21})}, "two"));
  EXPECT_EQ(answer["state"], "live");
  EXPECT_EQ(answer["created"], false);
  EXPECT_EQ(Matched({7, 8, 9, 10}), 0);
  EXPECT_EQ(Matched({20, 21}), 2);
  const Json late = Post("/v1/ingest", Body("events", {Stored(2, 3, {11, 12}, 2)}));
  EXPECT_EQ(status_, 409);
  EXPECT_EQ(late["reason"], "former_incarnation");
  EXPECT_EQ(Matched({20, 21}), 2);
}

TEST_F(IngestRoute, AKnownPublisherIsNamedByItsId) {
  Post("/v1/ingest", Body("events", {Stored(0, 1, {7, 8})}));
  Json body = Body("events", {Stored(1, 2, {9, 10}, 1)});
  body["publisher"] = "a|default|0";
  EXPECT_EQ(Post("/v1/ingest", body)["cursor"], 1);
  body["publisher"] = "b|default|0";
  EXPECT_EQ(Post("/v1/ingest", body)["reason"], "unknown_publisher");
  EXPECT_EQ(status_, 404);
}

TEST_F(IngestRoute, APublisherMayBeMadeBeforeItsFirstEvents) {
  Json publisher = Publisher();
  publisher["mode"] = "ingest";
  EXPECT_EQ(Post("/v1/publishers", publisher)["state"], "connecting");
  EXPECT_EQ(status_, 201);
  const Json answer = Post("/v1/ingest", Body("events", {Stored(0, 1, {7, 8})}));
  EXPECT_EQ(answer["created"], false);
  EXPECT_EQ(answer["state"], "live");
}

TEST_F(IngestRoute, WhatIsListenedToIsNotIngestedInto) {
  Post("/v1/publishers", Absent("a", 1));
  const Json refused = Post("/v1/ingest", Body("events", {Stored(0, 1, {7, 8})}));
  EXPECT_EQ(status_, 409);
  EXPECT_EQ(refused["reason"], "conflict");
  Json body = Body("events", {Stored(0, 1, {7, 8})});
  body["publisher"] = "a|default|0";
  EXPECT_EQ(Post("/v1/ingest", body)["reason"], "conflict");
  EXPECT_EQ(status_, 409);
  EXPECT_EQ(Get("/v1/publishers/a%7Cdefault%7C0")["incarnation"], "");
}

TEST_F(IngestRoute, NothingIsTakenOfABodyThatCannotBeRead) {
  struct Case {
    const char* what;
    Json change;
    const char* reason;
    const char* field;
  };
  const Json good = Stored(0, 1, {7, 8});
  const auto with = [&](const char* name, Json value) {
    Json event = good;
    event[name] = std::move(value);
    return Json{{"events", {good, event}}};
  };
  Json typeless = good;
  typeless.erase("type");
  const std::vector<Case> cases = {
      {"no publisher", {{"publisher", nullptr}}, "missing", "publisher"},
      {"no incarnation", {{"incarnation", nullptr}}, "missing", "incarnation"},
      {"no instance", {{"publisher", {{"modelname", "m"}}}}, "missing", "publisher.instance_id"},
      {"neither frames nor events", {{"events", nullptr}}, "missing", "frames"},
      {"both", {{"frames", Json::array()}}, "invalid_value", "events"},
      {"an unknown field", {{"event", 1}}, "unknown_field", "event"},
      {"a wait for something else", {{"wait", "soon"}}, "invalid_value", "wait"},
      {"no sequence", with("sequence", nullptr), "missing", "events[1].sequence"},
      {"a negative sequence", with("sequence", -1), "out_of_range", "events[1].sequence"},
      {"a field of an event that is not known", with("token_id", 1), "unknown_field", "events"},
      {"a type that is not known", with("type", "moved"), "invalid_value", "events"},
      {"tokens that are none", with("token_ids", {"x", "y"}), "invalid_value", "events"},
      {"no type", {{"events", {good, typeless}}}, "invalid_value", "events"},
      {"an event that is no map", {{"events", {good, 1}}}, "invalid_type", "events"},
  };
  for (const Case& c : cases) {
    Json body = Body("events", {good});
    body.update(c.change);
    const Json refused = Post("/v1/ingest", body);
    EXPECT_EQ(status_, 400) << c.what << refused;
    EXPECT_EQ(refused["reason"], c.reason) << c.what << refused;
    EXPECT_EQ(refused["field"], c.field) << c.what << refused;
  }
  const Json no_base64{{"sequence", 0}, {"payload", "!"}};
  EXPECT_EQ(Post("/v1/ingest", Body("frames", {no_base64}))["field"], "frames[0].payload");
  EXPECT_EQ(registry_.size(), 0u);
}

TEST_F(IngestRoute, AnEndpointOfItsOwnIsRefused) {
  Json body = Body("events", {Stored(0, 1, {7, 8})});
  body["publisher"]["endpoint"] = "tcp://127.0.0.1:1";
  const Json refused = Post("/v1/ingest", body);
  EXPECT_EQ(status_, 400);
  EXPECT_EQ(refused["field"], "publisher.endpoint");
}

TEST_F(IngestRoute, TheDocumentsExampleHasTheFieldsOfTheAnswer) {
  EXPECT_EQ(NamesIn(Post("/v1/ingest", Body("events", {Stored(0, 1, {7, 8})}))),
            NamesIn(ExampleAfter("### `POST /v1/ingest`")));
}

class SmallQueue : public IngestRoute {
 protected:
  SmallQueue() : IngestRoute(Options()) {}
  static Registry::Options Options() {
    Registry::Options options;
    options.stream.max_pending_bytes = 1000;
    return options;
  }
};

TEST_F(SmallQueue, WhatFindsNoRoomIsTakenLaterFromThereOn) {
  Json all = Json::array();
  for (uint64_t i = 0; i < 200; ++i) {
    const int token = static_cast<int>(i) * 2;
    all.push_back(Stored(i, i + 1, {token, token + 1}, i == 0 ? Json(nullptr) : Json(i)));
  }
  size_t done = 0;
  bool was_full = false;
  while (done < all.size()) {
    Json rest = Json::array();
    for (size_t i = done; i < all.size(); ++i) rest.push_back(all[i]);
    const Json answer = Post("/v1/ingest", Body("events", {rest.begin(), rest.end()}));
    if (status_ == 429) {
      was_full = true;
      EXPECT_EQ(NamesIn(answer), NamesIn(ExampleAfter("status 429 with `Retry-After`")));
      EXPECT_NE(head_.find("Retry-After: 1\r\n"), std::string::npos);
      EXPECT_EQ(answer["reason"], "queue_full");
    } else {
      ASSERT_EQ(status_, 200) << answer;
    }
    done += answer["accepted"].get<size_t>();
  }
  EXPECT_TRUE(was_full) << "200 events fit into no queue of 1000 bytes";
  EXPECT_EQ(Metric("conductor_ingest_accepted_total{kind=\"events\"}"), 200);
  EXPECT_GE(Metric("conductor_ingest_deferred_total{kind=\"events\"}"), 1);
  EXPECT_GE(Metric("conductor_ingest_refusals_total{reason=\"queue_full\"}"), 1);
  std::vector<int> prompt;
  for (int token = 0; token < 400; ++token) prompt.push_back(token);
  EXPECT_EQ(Matched(prompt), 400);
  EXPECT_EQ(Get("/v1/publishers/a%7Cdefault%7C0")["state"], "live");
}

TEST_F(IngestRoute, WhatIsTakenAndRefusedIsCounted) {
  Post("/v1/ingest", Body("events", {Stored(0, 1, {7, 8}), Stored(0, 2, {9, 10}, 1)}));
  const Json frame{{"sequence", 1}, {"payload", kStoredBase64}};
  Post("/v1/ingest", Body("frames", {frame}));
  Post("/v1/ingest", Body("frames", {frame}, "two"));
  Post("/v1/ingest", Body("frames", {frame}));
  EXPECT_EQ(status_, 409);
  Json another = Body("frames", {frame}, "two");
  another["publisher"]["block_size"] = 4;
  Post("/v1/ingest", another);
  EXPECT_EQ(status_, 409);
  Post("/v1/ingest", Json{{"publisher", "nobody|default|0"}, {"incarnation", "one"}});
  EXPECT_EQ(status_, 404);
  Post("/v1/ingest", Json::object());
  EXPECT_EQ(status_, 400);
  EXPECT_EQ(Metric("conductor_ingest_accepted_total{kind=\"events\"}"), 2);
  EXPECT_EQ(Metric("conductor_ingest_accepted_total{kind=\"frames\"}"), 2);
  EXPECT_EQ(Metric("conductor_ingest_deferred_total{kind=\"frames\"}"), 0);
  for (const auto& [reason, count] :
       {std::pair("queue_full", 0), std::pair("former_incarnation", 1), std::pair("conflict", 1),
        std::pair("unknown_publisher", 1), std::pair("missing", 1)}) {
    EXPECT_EQ(Metric("conductor_ingest_refusals_total{reason=\"" + std::string(reason) + "\"}"),
              count)
        << reason;
  }
}

TEST_F(IngestRoute, ManyMayHandInAtOnce) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      HttpClient client(port());
      for (uint64_t sequence = 0; sequence < 50; ++sequence) {
        Json body = Body("events", {Stored(sequence, sequence + 1, {7, 8})});
        body["publisher"]["dp_rank"] = i;
        EXPECT_EQ(client.Post("/v1/ingest", body.dump()).status, 200);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const Json publishers = Get("/v1/publishers");
  EXPECT_EQ(publishers["count"], 4);
  for (const Json& publisher : publishers["publishers"]) {
    EXPECT_EQ(publisher["cursor"], 49);
    EXPECT_EQ(publisher["state"], "live");
  }
}

}  // namespace
}  // namespace conductor::serve
