#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "daemon/proxy/departure.h"
#include "daemon/proxy/lane.h"
#include "daemon/proxy/parcel.h"
#include "daemon/proxy/upstream.h"

namespace conductor::proxy {
namespace {

using std::chrono::milliseconds;

// An engine that gives what it is told to, on a thread of its own: to each request on each of its
// connections the next of `answers`, and closes the connection behind one that ends with "CLOSE".
class ScriptedEngine {
 public:
  explicit ScriptedEngine(std::vector<std::string> answers)
      : acceptor_(io_, tcp::endpoint(net::ip::make_address("127.0.0.1"), 0)),
        answers_(std::move(answers)),
        thread_([this] { Run(); }) {}
  ~ScriptedEngine() { thread_.join(); }

  [[nodiscard]] Engine engine() {
    EngineSpec spec;
    spec.host = "127.0.0.1";
    spec.port = acceptor_.local_endpoint().port();
    return Engine(Role::kDecode, spec);
  }
  [[nodiscard]] int connections() const { return connections_; }

 private:
  void Run() {
    size_t next = 0;
    while (next < answers_.size()) {
      tcp::socket socket = acceptor_.accept();
      ++connections_;
      std::array<char, 4096> bytes;
      error_code error;
      while (next < answers_.size()) {
        socket.read_some(net::buffer(bytes), error);
        if (error) break;
        std::string answer = answers_[next++];
        const bool closes = answer.ends_with("CLOSE");
        if (closes) answer.resize(answer.size() - 5);
        net::write(socket, net::buffer(answer), error);
        if (closes) break;
      }
    }
  }

  net::io_context io_;
  tcp::acceptor acceptor_;
  const std::vector<std::string> answers_;
  std::atomic<int> connections_ = 0;
  std::thread thread_;
};

constexpr std::string_view kAsk = "GET / HTTP/1.1\r\n\r\n";

// The body of one answer, or the kind of its failure.
Awaitable<void> AskOnce(Lane& lane, const Engine& engine, std::string& result) {
  Departure departure;
  Exchange exchange(lane.upstreams, departure);
  auto asked = co_await exchange.Ask(engine, kAsk, {});
  if (!asked) {
    result = KindName(asked.error().kind);
    co_return;
  }
  auto body = co_await exchange.ReadAll(100);
  result = body ? *body : std::string(KindName(body.error().kind));
}

std::vector<std::string> AskInTurn(Lane& lane, const Engine& engine, int times) {
  std::vector<std::string> results;
  net::co_spawn(
      lane.io,
      [&]() -> Awaitable<void> {
        for (int i = 0; i < times; ++i) {
          std::string result;
          co_await AskOnce(lane, engine, result);
          results.push_back(result);
        }
        lane.upstreams.Clear();
      },
      net::detached);
  lane.io.run();
  return results;
}

TEST(ExchangeTest, AConnectionIsKeptForTheNextRequest) {
  ScriptedEngine engine({"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
                         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\n\r\n",
                         "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\ncCLOSE"});
  Lane lane({});
  EXPECT_EQ(AskInTurn(lane, engine.engine(), 3), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(engine.connections(), 1);
}

TEST(ExchangeTest, AKeptConnectionThatTheEngineClosedIsNoFailure) {
  ScriptedEngine engine({"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naCLOSE",
                         "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nbCLOSE"});
  Lane lane({});
  EXPECT_EQ(AskInTurn(lane, engine.engine(), 2), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(engine.connections(), 2);
}

TEST(ExchangeTest, ABodyWithoutLengthEndsWithItsConnection) {
  ScriptedEngine engine({"HTTP/1.1 200 OK\r\n\r\nallCLOSE"});
  Lane lane({});
  EXPECT_EQ(AskInTurn(lane, engine.engine(), 1), (std::vector<std::string>{"all"}));
}

TEST(ExchangeTest, WhatIsNoAnswerIsBroken) {
  for (const char* answer : {"CLOSE", "garbage\r\n\r\nCLOSE", "HTTP/1.1 200 OK\r\nCLOSE",
                             "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabCLOSE",
                             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\nCLOSE",
                             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naCLOSE"}) {
    ScriptedEngine engine({answer});
    Lane lane({});
    EXPECT_EQ(AskInTurn(lane, engine.engine(), 1), (std::vector<std::string>{"broken"})) << answer;
  }
}

TEST(ExchangeTest, AnAnswerThatIsTooLargeIsNone) {
  ScriptedEngine engine({"HTTP/1.1 200 OK\r\n\r\n" + std::string(200, 'x') + "CLOSE"});
  Lane lane({});
  EXPECT_EQ(AskInTurn(lane, engine.engine(), 1), (std::vector<std::string>{"broken"}));
}

TEST(ExchangeTest, NobodyThereIsAFailureToConnect) {
  EngineSpec spec;
  spec.host = "127.0.0.1";
  {
    net::io_context io;
    tcp::acceptor spare(io, tcp::endpoint(net::ip::make_address("127.0.0.1"), 0));
    spec.port = spare.local_endpoint().port();
  }
  Lane lane({});
  EXPECT_EQ(AskInTurn(lane, Engine(Role::kDecode, spec), 1), (std::vector<std::string>{"connect"}));
}

TEST(TimeLimitsTest, ALimitCutsOnceAndNotWhenItWasCleared) {
  net::io_context io;
  TimeLimits limits(io);
  int cuts = 0;
  TimeLimits::Limit kept(limits, [&] { ++cuts; });
  TimeLimits::Limit cleared(limits, [] { FAIL(); });
  kept.Set(milliseconds(1));
  cleared.Set(milliseconds(1));
  cleared.Clear();
  io.run();
  EXPECT_EQ(cuts, 1);
  EXPECT_TRUE(kept.passed());
  EXPECT_FALSE(cleared.passed());
}

TEST(DepartureTest, EverybodyWhoIsThereIsToldOnce) {
  Departure departure;
  int told = 0;
  const Departure::Listener stays(departure, [&] { ++told; });
  {
    const Departure::Listener goes(departure, [] { FAIL(); });
  }
  departure.Happen();
  departure.Happen();
  EXPECT_EQ(told, 1);
  const Departure::Listener late(departure, [&] { ++told; });
  EXPECT_EQ(told, 2);
}

TEST(ParcelTest, AValueFromAnotherThreadEndsTheWait) {
  net::io_context io;
  const auto parcel = std::make_shared<Parcel<int>>(io);
  const auto nothing = std::make_shared<Parcel<int>>(io);
  std::optional<int> got;
  std::optional<int> not_got = 1;
  Departure departure;
  net::co_spawn(
      io,
      [&]() -> Awaitable<void> {
        got = co_await parcel->Wait(departure, std::chrono::hours(1));
        not_got = co_await nothing->Wait(departure, milliseconds(1));
      },
      net::detached);
  std::thread other([&] {
    parcel->Deliver(5);
    parcel->Deliver(6);
  });
  io.run();
  other.join();
  EXPECT_EQ(got, 5);
  EXPECT_EQ(not_got, std::nullopt);
}

}  // namespace
}  // namespace conductor::proxy
