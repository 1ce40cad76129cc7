#include "lib/client/client.h"

#include <gtest/gtest.h>

#include <deque>
#include <nlohmann/json.hpp>

namespace conductor::client {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::json;

std::string GoodAnswer() {
  std::string bytes;
  Json::to_msgpack(Json{{"model", "m"},
                        {"tenant_id", "default"},
                        {"prompt_tokens", 3},
                        {"instances", Json::array()},
                        {"reason", ""},
                        {"reason_detail", ""}},
                   bytes);
  return bytes;
}

// A fleet of conductors that answer what the test says, and a clock that stands still but for what
// they and the pauses take.
class ClientTest : public testing::Test {
 protected:
  struct Step {
    tl::expected<Reply, Failure> reply;
    Duration takes{};
  };
  struct Fake {
    bool http = true;
    std::deque<Step> steps;  // the last one stays
    std::vector<std::string> asked;
    std::vector<Deadlines> deadlines;
  };

  class FakeTransport final : public Transport {
   public:
    FakeTransport(ClientTest& test, Fake& fake) : test_(test), fake_(fake) {}
    [[nodiscard]] bool Carries(const Request& request) const override {
      return fake_.http || request.form == Form::kMsgpack;
    }
    [[nodiscard]] tl::expected<Reply, Failure> Exchange(const Request& request,
                                                        const Deadlines& deadlines) override {
      fake_.asked.push_back(std::string(request.method) + " " + std::string(request.path));
      fake_.deadlines.push_back(deadlines);
      test_.order_ += &fake_ == test_.fakes_.data() ? 'a' : &fake_ == &test_.fakes_[1] ? 'b' : 'c';
      Step step = fake_.steps.front();
      if (fake_.steps.size() > 1) fake_.steps.pop_front();
      test_.now_ += step.takes;
      return step.reply;
    }

   private:
    ClientTest& test_;
    Fake& fake_;
  };

  static Step Ok() { return {Reply{200, Form::kMsgpack, GoodAnswer()}}; }
  static Step Status(int status) {
    return {Reply{status, Form::kJson, R"({"error": "no", "reason": "word"})"}};
  }
  static Step Unreachable() { return {tl::unexpected(Failure{{"cannot connect", {}, {}}, false})}; }
  static Step Silent(Duration takes = {}) {
    return {tl::unexpected(Failure{{"no whole answer in time", {}, {}}, true}), takes};
  }

  Client Make(size_t conductors, ClientOptions options = {}) {
    options.now = [this] { return now_; };
    options.pause = [this](Duration pause) {
      pauses_.push_back(pause);
      now_ += pause;
    };
    options.random = [] { return 1.0; };
    fakes_.resize(3);
    std::vector<Client::Way> ways;
    for (size_t i = 0; i < conductors; ++i) {
      if (fakes_[i].steps.empty()) fakes_[i].steps.push_back(Ok());
      ways.push_back({std::string(1, static_cast<char>('a' + i)),
                      std::make_unique<FakeTransport>(*this, fakes_[i])});
    }
    return {std::move(ways), std::move(options)};
  }
  void Say(size_t conductor, std::deque<Step> steps) {
    fakes_.resize(3);
    fakes_[conductor].steps = std::move(steps);
  }

  const QuerySpec spec_{.model = "m"};
  MonoTime now_{1h};
  std::vector<Fake> fakes_;
  std::vector<Duration> pauses_;
  std::string order_;  // who was asked
};

TEST_F(ClientTest, AsksTheFirstWhileItIsWell) {
  Client client = Make(3);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.Query(spec_)->conductor, "a");
  EXPECT_EQ(order_, "aaa");
  EXPECT_EQ(fakes_[0].asked[0], "POST /v1/query");
}

TEST_F(ClientTest, GoesOnToTheNextWhereOneFails) {
  std::string garbage = GoodAnswer();
  garbage.pop_back();
  const std::pair<const char*, Step> faults[] = {
      {"unreachable", Unreachable()},
      {"silent", Silent()},
      {"busy", Status(503)},
      {"defect", Status(500)},
      {"proxy before it", Status(502)},
      {"too many requests", Status(429)},
      {"garbage", {Reply{200, Form::kMsgpack, garbage}}},
      {"another form", {Reply{200, Form::kJson, "{}"}}},
  };
  for (const auto& [what, fault] : faults) {
    order_.clear();
    fakes_.clear();
    Say(0, {fault});
    Client client = Make(2);
    const auto answer = client.Query(spec_);
    ASSERT_TRUE(answer.has_value()) << what << ": " << answer.error().Message();
    EXPECT_EQ(answer->conductor, "b");
    EXPECT_EQ(order_, "ab") << what;
    EXPECT_TRUE(pauses_.empty()) << "there is nothing to wait for";
  }
}

TEST_F(ClientTest, LeavesOutWhoFailedForAWhileAndComesBack) {
  Say(0, {Unreachable(), Ok()});
  Client client = Make(2, {.failover = {.backoff_min = 100ms}});
  (void)client.Query(spec_);
  (void)client.Query(spec_);
  EXPECT_EQ(order_, "abb");
  now_ += 100ms;
  EXPECT_EQ(client.Query(spec_)->conductor, "a");
}

TEST_F(ClientTest, WhatIsWrongWithTheRequestIsNobodysFault) {
  Say(0, {Status(400), Ok()});
  Client client = Make(2);
  const auto answer = client.Query(spec_);
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error().Message(), "a: status 400: no (word)");
  EXPECT_EQ(order_, "a");
  EXPECT_EQ(client.Query(spec_)->conductor, "a");
}

TEST_F(ClientTest, TellsEveryFailureInOrder) {
  Say(0, {Unreachable()});
  Say(1, {Silent()});
  Say(2, {Status(503)});
  Client client = Make(3);
  EXPECT_EQ(client.Query(spec_).error().Message(),
            "no conductor answered: a: cannot connect; b: no whole answer in time; "
            "c: status 503: no (word)");
  EXPECT_EQ(order_, "abc");
}

TEST_F(ClientTest, ASingleConductorIsAskedAgainAfterPausesThatDouble) {
  Say(0, {Unreachable(), Status(503), Ok()});
  Client client = Make(1, {.retry_pause = 20ms});
  EXPECT_TRUE(client.Query(spec_).has_value());
  EXPECT_EQ(order_, "aaa");
  EXPECT_EQ(pauses_, (std::vector<Duration>{20ms, 40ms}));
}

TEST_F(ClientTest, ManyAttemptsGoRoundAllConductors) {
  Say(0, {Unreachable()});
  Say(1, {Unreachable()});
  Client client = Make(2, {.attempts = 5});
  EXPECT_FALSE(client.Query(spec_).has_value());
  // Who comes back first is asked first: both were left out in the same order.
  EXPECT_EQ(order_, "ababa");
  EXPECT_EQ(pauses_.size(), 2U);
}

TEST_F(ClientTest, NoCallTakesLongerThanItsLimit) {
  Say(0, {Silent(400ms)});
  Say(1, {Silent(400ms)});
  Client client = Make(2, {.time_limit = 1s, .attempt_limit = 400ms, .attempts = 100});
  const MonoTime begin = now_;
  EXPECT_FALSE(client.Query(spec_).has_value());
  EXPECT_EQ(order_, "aba") << "the pause before the third is short";
  EXPECT_EQ(fakes_[0].deadlines[0].whole, begin + 400ms);
  EXPECT_EQ(fakes_[0].deadlines[0].connect, begin + 250ms);
  EXPECT_EQ(fakes_[0].deadlines[1].whole, begin + 1s) << "what is left";
  EXPECT_LE(fakes_[0].deadlines[1].connect, begin + 1s);
}

TEST_F(ClientTest, WhenAllAreLeftOutOneIsAskedAllTheSame) {
  Say(0, {Unreachable(), Unreachable(), Ok()});
  Client client = Make(1, {.attempts = 2});
  EXPECT_FALSE(client.Query(spec_).has_value());
  EXPECT_TRUE(client.Query(spec_).has_value());
}

TEST_F(ClientTest, APostIsSentAgainOnlyIfNobodyCanHaveGotIt) {
  Say(0, {Unreachable()});
  Client first = Make(2);
  EXPECT_TRUE(first.Post("/v1/publishers/a/resync", "").has_value());
  EXPECT_EQ(order_, "ab");

  order_.clear();
  fakes_.clear();
  Say(0, {Silent()});
  Client second = Make(2);
  EXPECT_EQ(second.Post("/v1/publishers/a/resync", "").error().Message(),
            "a: no whole answer in time");
  EXPECT_EQ(order_, "a");

  order_.clear();
  fakes_.clear();
  Say(0, {Silent()});
  Client third = Make(2);
  EXPECT_TRUE(third.Post("/v1/query", "", Form::kMsgpack).has_value()) << "a question is";
  EXPECT_EQ(order_, "ab");
}

TEST_F(ClientTest, GetGoesOnlyToThoseThatAreAskedOverHttp) {
  fakes_.resize(3);
  fakes_[0].http = false;
  Client client = Make(2);
  EXPECT_TRUE(client.Get("/healthz").has_value());
  EXPECT_EQ(order_, "b");
  Client zmq_only = Make(1);
  EXPECT_EQ(zmq_only.Get("/healthz").error().Message(),
            "GET /healthz goes over HTTP, and no conductor is asked that way (expected an http:// "
            "or https:// URL)");
}

TEST_F(ClientTest, RegistersAtEveryConductor) {
  fakes_.resize(3);
  fakes_[1].http = false;
  Client client = Make(3);
  EXPECT_TRUE(client.Register("{}").has_value());
  EXPECT_EQ(order_, "ac");
  EXPECT_EQ(fakes_[0].asked[0], "POST /register");

  order_.clear();
  fakes_.clear();
  Say(0, {Unreachable()});
  Say(1, {Status(400)});
  Client failing = Make(3);
  EXPECT_EQ(failing.Register("{}").error().Message(),
            "not done at 2 of 3 conductors: a: cannot connect; b: status 400: no (word)");
  EXPECT_EQ(order_, "abc") << "all are tried";
}

TEST_F(ClientTest, UnregisteringWhatIsNotThereIsFine) {
  Say(0, {Status(404)});
  Client client = Make(2);
  EXPECT_TRUE(client.Unregister("a", "default", 0).has_value());
  EXPECT_EQ(order_, "ab");
  EXPECT_EQ(fakes_[0].asked[0], "POST /unregister");
}

TEST(ClientOptions, ThatCannotBeUsedAreTold) {
  EXPECT_FALSE(Client::Create(std::vector<std::string>{}, {}).has_value());
  EXPECT_FALSE(Client::Create({"http://a", "nonsense"}, {}).has_value());
  EXPECT_FALSE(Client::Create({"http://a"}, {.token = "two words"}).has_value());
  EXPECT_FALSE(Client::Create({"http://a"}, {.token = "a\r\nX-Header: b"}).has_value());
  EXPECT_TRUE(Client::Create({"http://a", "https://b", "tcp://127.0.0.1:1"}, {}).has_value());
}

}  // namespace
}  // namespace conductor::client
