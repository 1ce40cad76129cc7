#include "daemon/serve/event_stream.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "daemon/serve/engine_consumer.h"
#include "daemon/serve/http_listener.h"
#include "daemon/serve/pool_consumer.h"
#include "daemon/serve/routes.h"
#include "tests/serve/eventually.h"
#include "tests/serve/http_client.h"

namespace conductor::serve {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::ordered_json;

constexpr size_t kAll = 1 << 20;

void Tell(EventStream& stream, std::string text, EventFacts facts = {}) {
  stream.Tell(facts, [&] { return text; });
}

std::string Stored(const std::string& text) { return "event: stored\ndata: " + text + "\n\n"; }

std::string Lost(int events) {
  return "event: lost\ndata: {\"type\":\"lost\",\"events\":" + std::to_string(events) + "}\n\n";
}

bool IsReadable(int fd) {
  pollfd waited{fd, POLLIN, 0};
  return ::poll(&waited, 1, 0) == 1;
}

TEST(EventStream, TellsNobodyWhileNobodyListens) {
  EventStream stream({});
  EXPECT_FALSE(stream.wanted());
  stream.Tell({}, [] {
    ADD_FAILURE() << "a text was made for nobody";
    return std::string();
  });
  const auto reader = stream.Open({.types = {EventType::kTrust}});
  EXPECT_TRUE(stream.wanted());
  stream.Tell({}, [] {
    ADD_FAILURE() << "a text was made for one who does not want it";
    return std::string();
  });
  EXPECT_EQ(reader->Take(kAll), "");
}

TEST(EventStream, EachReaderHasWhatCameSinceItCame) {
  EventStream stream({});
  const auto first = stream.Open({});
  Tell(stream, "1");
  auto second = stream.Open({});
  EXPECT_TRUE(IsReadable(first->ready()));
  EXPECT_FALSE(IsReadable(second->ready()));
  Tell(stream, "2");
  EXPECT_EQ(first->Take(kAll), Stored("1") + Stored("2"));
  EXPECT_FALSE(IsReadable(first->ready()));
  EXPECT_EQ(first->Take(kAll), "");
  EXPECT_EQ(second->Take(kAll), Stored("2"));
  EXPECT_EQ(stream.counters().readers, 2U);
  second.reset();
  EXPECT_EQ(stream.counters().readers, 1U);
  EXPECT_EQ(stream.counters().told, 3U);
}

TEST(EventStream, TakesWholeEventsAndSaysThatMoreAreThere) {
  EventStream stream({});
  const auto reader = stream.Open({});
  for (const char* text : {"1", "2", "3"}) Tell(stream, text);
  EXPECT_EQ(reader->Take(1), Stored("1"));
  EXPECT_TRUE(IsReadable(reader->ready()));
  EXPECT_EQ(reader->Take(Stored("2").size() + 1), Stored("2") + Stored("3"));
  EXPECT_FALSE(IsReadable(reader->ready()));
}

TEST(EventStream, ASlowReaderLosesEventsAndIsToldHowManyAndWhere) {
  EventStream stream({.queue_bytes = 2 * Stored("1").size()});
  const auto slow = stream.Open({});
  auto quick = stream.Open({});
  for (const char* text : {"1", "2", "3", "4"}) {
    Tell(stream, text);
    EXPECT_EQ(quick->Take(kAll), Stored(text)) << "others are not held up";
  }
  quick.reset();
  EXPECT_EQ(slow->Take(1), Stored("1"));
  Tell(stream, "5");
  Tell(stream, "6");
  EXPECT_EQ(slow->Take(kAll), Stored("2") + Lost(2) + Stored("5") + Lost(1))
      << "in the order in which it happened";
  EXPECT_EQ(slow->Take(kAll), "");
  Tell(stream, "7");
  EXPECT_EQ(slow->Take(kAll), Stored("7"));
  EXPECT_EQ(stream.counters().lost, 3U);
}

TEST(EventStream, AnEventThatNeverFitsIsToldAsLostAtOnce) {
  EventStream stream({.queue_bytes = 100});
  const auto reader = stream.Open({});
  Tell(stream, std::string(1000, 'x'));
  EXPECT_TRUE(IsReadable(reader->ready()));
  EXPECT_EQ(reader->Take(kAll), Lost(1));
}

TEST(EventStream, HasALimitOfReaders) {
  EventStream stream({.max_readers = 2});
  auto first = stream.Open({});
  const auto second = stream.Open({});
  EXPECT_EQ(stream.Open({}), nullptr);
  first.reset();
  EXPECT_NE(stream.Open({}), nullptr);
}

TEST(EventStream, FiltersByEachThatIsNamed) {
  const EventFacts cpu{EventType::kStored, "a|default|0", "a", "m", Tier::kCpu};
  const EventFacts life{EventType::kLife, "a|default|0", "a", "m", std::nullopt};
  const struct {
    EventFilter filter;
    bool takes_cpu;
    bool takes_life;
  } cases[] = {
      {{}, true, true},
      {{.publishers = {"b|default|0", "a|default|0"}}, true, true},
      {{.publishers = {"b|default|0"}}, false, false},
      {{.instances = {"a"}, .models = {"m"}}, true, true},
      {{.instances = {"a"}, .models = {"n"}}, false, false},
      {{.types = {EventType::kStored, EventType::kRemoved}}, true, false},
      {{.tiers = {Tier::kCpu}}, true, true},
      {{.tiers = {Tier::kGpu, Tier::kDisk}}, false, true},
      {{.types = {EventType::kStored}, .tiers = {Tier::kGpu}}, false, false},
  };
  for (size_t i = 0; i < std::size(cases); ++i) {
    EXPECT_EQ(cases[i].filter.Takes(cpu), cases[i].takes_cpu) << i;
    EXPECT_EQ(cases[i].filter.Takes(life), cases[i].takes_life) << i;
  }
}

TEST(EventStream, TypesHaveTheirNames) {
  for (const char* name : {"stored", "removed", "cleared", "life", "rebuild", "trust"}) {
    const auto type = EventTypeNamed(name);
    ASSERT_TRUE(type) << name;
    EXPECT_EQ(EventTypeName(*type), name);
  }
  EXPECT_FALSE(EventTypeNamed("lost"));
  EXPECT_FALSE(EventTypeNamed(""));
}

TEST(EventStreamThreads, ReadersComeAndGoWhileEventsAreTold) {
  EventStream stream({.queue_bytes = 1000});
  constexpr int kTold = 3000;
  std::atomic<int> telling = 2;
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < kTold; ++n) Tell(stream, std::to_string(n));
      --telling;
    });
  }
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      while (telling > 0) {
        const auto reader = stream.Open({});
        for (int n = 0; n < 10; ++n) (void)reader->Take(kAll);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(stream.counters().readers, 0U);
  EXPECT_FALSE(stream.wanted());
}

// What the consumers of publishers tell.

std::string Batch(const char* events, int rank = 0) {
  const auto bytes = Json::to_msgpack(Json::array({1.5, Json::parse(events), rank}));
  return {bytes.begin(), bytes.end()};
}

// The JSON of each event in server-sent events.
std::vector<Json> Told(const std::string& text) {
  constexpr std::string_view kData = "data: ";
  std::vector<Json> events;
  for (size_t at = text.find(kData); at != std::string::npos; at = text.find(kData, at)) {
    at += kData.size();
    events.push_back(Json::parse(text.substr(at, text.find('\n', at) - at)));
  }
  return events;
}

class EventTellerTest : public testing::Test {
 protected:
  EventTellerTest() {
    board_->events = &stream_;
    reader_ = stream_.Open({});
  }

  std::vector<Json> Told() { return serve::Told(reader_->Take(kAll)); }

  EventStream stream_{{}};
  std::unique_ptr<EventStream::Reader> reader_;
  index::PrefixIndex index_{index::PrefixIndex::Options{}};
  std::shared_ptr<PublisherBoard> board_ = std::make_shared<PublisherBoard>();
  Registration registration_{.endpoint = "tcp://engine:5557",
                             .model = "m",
                             .instance_id = "a",
                             .block_size = 2,
                             .dp_rank = 3};
};

TEST_F(EventTellerTest, EngineEventsAreToldInOneForm) {
  EngineConsumer consumer(index_, registration_, {}, 1, board_);
  consumer.Apply(stream::Sequence{7}, Batch(R"([
      ["BlockStored", [18446744073709551615, 2], 5, [1, 2, 3, 4], 2, null, "CPU", "adapter"],
      ["BlockRemoved", [2], "TAPE"],
      ["AllBlocksCleared"]])"));
  const auto told = Told();
  ASSERT_EQ(told.size(), 3U);
  const std::string source =
      R"("publisher":"a|default|3","instance_id":"a","dp_rank":3,"tenant_id":"default",)"
      R"("model":"m","sequence":7,)";
  EXPECT_EQ(told[0].dump(),
            R"({"type":"stored",)" + source +
                R"("tier":"cpu","medium":"CPU","lora_name":"adapter","cache_group":null,)"
                R"("block_size":2,"tokens":4,"parent":"5","blocks":2,)"
                R"("hashes":["18446744073709551615","2"]})");
  EXPECT_EQ(told[1].dump(), R"({"type":"removed",)" + source +
                                R"("tier":null,"medium":"TAPE","cache_group":null,"blocks":1,)"
                                R"("hashes":["2"]})");
  EXPECT_EQ(told[2].dump(), R"({"type":"cleared",)" + source + R"("tier":"gpu","medium":null})");
}

TEST_F(EventTellerTest, TheRankIsTheOneThatCounts) {
  EngineConsumer consumer(index_, registration_, {}, 1, board_);
  const auto rank_of = [&](int said) {
    consumer.Apply(stream::Sequence{0}, Batch(R"([["AllBlocksCleared"]])", said));
    return Told().at(0)["dp_rank"].get<int>();
  };
  EXPECT_EQ(rank_of(0), 3) << "a constant 0 says nothing";
  EXPECT_EQ(rank_of(5), 5);
  EXPECT_EQ(rank_of(0), 0) << "of several ranks it is one";
}

TEST_F(EventTellerTest, LivesRebuildsAndTrustAreToldInTheirPlace) {
  EngineConsumer consumer(index_, registration_, {}, 1, board_);
  consumer.TrustChanged({stream::TrustState::kReplaying, "", ""});
  consumer.BeginRebuild();
  consumer.Apply(stream::Sequence{0}, Batch(R"([["AllBlocksCleared"]])"));
  consumer.CommitRebuild();
  consumer.BeginRebuild();
  consumer.AbandonRebuild();
  consumer.NewLife();
  consumer.TrustChanged({stream::TrustState::kDegraded, "doubtful", "why"});
  std::string types;
  const auto told = Told();
  for (const Json& event : told) {
    types += event["type"].get<std::string>() + " " + event.value("phase", "") + ";";
  }
  EXPECT_EQ(types,
            "trust ;rebuild begun;cleared ;rebuild complete;rebuild begun;rebuild abandoned;life ;"
            "trust ;");
  EXPECT_EQ(told.back().dump(),
            R"({"type":"trust","publisher":"a|default|3","instance_id":"a","dp_rank":3,)"
            R"("tenant_id":"default","model":"m","sequence":null,"state":"degraded",)"
            R"("reason":"doubtful","detail":"why"})");
}

TEST_F(EventTellerTest, AnEventIsToldOnlyOnceItIsApplied) {
  EngineConsumer consumer(index_, registration_, {}, 1, board_);
  std::atomic<bool> held = false;
  std::thread client([&] {
    pollfd waited{reader_->ready(), POLLIN, 0};
    ::poll(&waited, 1, 30'000);
    held = index_.Stats().blocks == 1;
  });
  consumer.Apply(stream::Sequence{0}, Batch(R"([["BlockStored", [1], null, [1, 2], 2]])", 3));
  client.join();
  EXPECT_TRUE(held);
}

TEST_F(EventTellerTest, ObjectsOfAPoolAreToldByTheirKeys) {
  registration_.type = PublisherType::kMooncake;
  PoolConsumer consumer(index_, registration_, {}, board_, std::make_shared<ListingRequests>());
  const auto bytes = Json::to_msgpack(Json::array(
      {1.5,
       Json::array(
           {{{"event_id", 1}, {"event_type", "stored"}, {"object_key", "k1"}, {"medium", "cpu"}},
            {{"event_id", 2},
             {"event_type", "removed"},
             {"object_key", "k1"},
             {"medium", "cpu"}}})}));
  consumer.Apply(stream::Sequence{1}, std::string(bytes.begin(), bytes.end()));
  for (const Json& event : Told()) {
    EXPECT_EQ(event["object"], "k1") << event;
    EXPECT_EQ(event["tier"], event["type"] == "stored" ? Json("cpu") : Json(nullptr)) << event;
    EXPECT_EQ(event["medium"], "cpu") << event;
  }
}

// Over HTTP.

class HttpEventsTest : public testing::Test {
 protected:
  void Start(const Registry::Options& options = {}, Duration heartbeat = 1h) {
    registry_ = std::make_unique<Registry>(options);
    HttpListener::Options listener;
    listener.limits.heartbeat = heartbeat;
    listener_ = std::make_unique<HttpListener>(listener);
    AddEventRoutes(*listener_, {*registry_, http_, {}});
    const auto port = listener_->Start();
    ASSERT_TRUE(port) << port.error().Message();
    port_ = *port;
  }

  HttpClient Follow(const std::string& query = "") {
    HttpClient client(port_);
    client.Send("GET /v1/events" + query + " HTTP/1.1\r\nHost: x\r\n\r\n");
    const std::string head = client.ReadUntil("\r\n\r\n");
    EXPECT_TRUE(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")) << head;
    EXPECT_EQ(head.find("Content-Length"), std::string::npos);
    EXPECT_EQ(client.ReadUntil("\n\n"), ": events from here on\n\n");
    return client;
  }

  // Until as many follow.
  bool Readers(uint64_t count) {
    return Eventually([&] { return registry_->events().counters().readers == count; });
  }

  const HttpApi::Options http_;
  std::unique_ptr<Registry> registry_;
  std::unique_ptr<HttpListener> listener_;
  uint16_t port_ = 0;
};

TEST_F(HttpEventsTest, EventsComeAsTheyAreTold) {
  Start();
  HttpClient client = Follow();
  EXPECT_EQ(listener_->connections().open, 1U);
  for (const char* text : {"1", "2"}) {
    Tell(registry_->events(), text);
    EXPECT_EQ(client.ReadUntil("\n\n"), Stored(text));
  }
}

TEST_F(HttpEventsTest, ParametersFilter) {
  Start();
  HttpClient client = Follow("?publisher=a%7Cdefault%7C0&type=stored&type=removed&tier=gpu");
  EventStream& events = registry_->events();
  Tell(events, "other publisher", {EventType::kStored, "b|default|0", "b", "m", Tier::kGpu});
  Tell(events, "other tier", {EventType::kStored, "a|default|0", "a", "m", Tier::kCpu});
  Tell(events, "other type", {EventType::kTrust, "a|default|0", "a", "m", std::nullopt});
  Tell(events, "this", {EventType::kStored, "a|default|0", "a", "m", Tier::kGpu});
  EXPECT_EQ(client.ReadUntil("\n\n"), Stored("this"));
}

TEST_F(HttpEventsTest, AParameterThatIsNotKnownIsRefused) {
  Start();
  const struct {
    const char* query;
    const char* reason;
    const char* field;
  } cases[] = {{"types=stored", "unknown_field", "types"},
               {"type=lost", "invalid_value", "type"},
               {"tier=GPU", "invalid_value", "tier"},
               {"tier=gpu&=", "unknown_field", ""}};
  for (const auto& [query, reason, field] : cases) {
    const Reply reply = HttpClient(port_).Get(std::string("/v1/events?") + query);
    EXPECT_EQ(reply.status, 400) << query;
    EXPECT_EQ(Json::parse(reply.body)["reason"], reason) << query;
    EXPECT_EQ(Json::parse(reply.body).value("field", ""), field) << query;
  }
  EXPECT_EQ(registry_->events().counters().readers, 0U);
}

TEST_F(HttpEventsTest, MoreThanTheLimitAreToldToComeAgain) {
  Start({.events = {.max_readers = 1}});
  {
    const HttpClient client = Follow();
    const Reply reply = HttpClient(port_).Get("/v1/events");
    EXPECT_EQ(reply.status, 503);
    EXPECT_EQ(Json::parse(reply.body)["reason"], "too_many_readers");
    EXPECT_NE(reply.head.find("Retry-After: 1\r\n"), std::string::npos) << reply.head;
  }
  ASSERT_TRUE(Readers(0)) << "who leaves is noticed although nothing is told";
  Follow();
}

TEST_F(HttpEventsTest, HeadFollowsNothing) {
  Start();
  HttpClient client(port_);
  client.Send("HEAD /v1/events HTTP/1.1\r\n\r\n");
  EXPECT_EQ(client.Read(true).status, 200);
  EXPECT_TRUE(client.AtEnd());
  EXPECT_EQ(registry_->events().counters().readers, 0U);
}

TEST_F(HttpEventsTest, ASilentStreamHasAHeartbeat) {
  Start({}, 1ms);
  HttpClient client = Follow();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.ReadUntil("\n\n"), ": still here\n\n");
}

TEST_F(HttpEventsTest, WhatAFollowerSaysIsPassedOver) {
  Start();
  HttpClient client = Follow();
  client.Send("GET /v1/events HTTP/1.1\r\n\r\n");
  Tell(registry_->events(), "1");
  EXPECT_EQ(client.ReadUntil("\n\n"), Stored("1"));
}

TEST_F(HttpEventsTest, AFollowerThatDoesNotReadHoldsUpNeitherOthersNorTheStop) {
  Start({.events = {.queue_bytes = 1 << 20}});
  HttpClient slow = Follow();
  HttpClient quick = Follow();
  EventStream& events = registry_->events();
  const std::string text(100'000, 'x');
  // Beyond what the kernel keeps for it.
  for (int i = 0; events.counters().lost == 0 && i < 1000; ++i) {
    Tell(events, text);
    ASSERT_EQ(quick.ReadUntil("\n\n").size(), Stored(text).size());
  }
  EXPECT_GT(events.counters().lost, 0U);
  listener_->Stop();
  EXPECT_TRUE(quick.AtEnd());
  EXPECT_EQ(events.counters().readers, 0U);
}

}  // namespace
}  // namespace conductor::serve
