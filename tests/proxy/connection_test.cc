#include <gtest/gtest.h>
#include <poll.h>

#include <array>
#include <chrono>
#include <functional>
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
  // However long it takes to close it.
  Lane lane({.stale = std::chrono::minutes(1)});
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

// What the coroutine that it is handed does, until nothing is left to do.
template <typename Work>
void RunOn(Lane& lane, Work work) {
  net::co_spawn(
      lane.io,
      [&lane, &work]() -> Awaitable<void> {
        co_await work();
        lane.upstreams.Clear();
      },
      net::detached);
  lane.io.run();
}

// Takes connections and does with each what the test says, on a thread of its own.
class OneEngine {
 public:
  explicit OneEngine(std::function<void(tcp::acceptor&)> work)
      : acceptor_(io_, tcp::endpoint(net::ip::make_address("127.0.0.1"), 0)),
        work_(std::move(work)),
        thread_([this] { work_(acceptor_); }) {}
  ~OneEngine() { thread_.join(); }

  [[nodiscard]] Engine engine() {
    EngineSpec spec;
    spec.host = "127.0.0.1";
    spec.port = acceptor_.local_endpoint().port();
    return Engine(Role::kDecode, spec);
  }

 private:
  net::io_context io_;
  tcp::acceptor acceptor_;
  const std::function<void(tcp::acceptor&)> work_;
  std::thread thread_;
};

std::string ReadSome(tcp::socket& socket) {
  std::array<char, 4096> bytes;
  error_code error;
  return {bytes.data(), socket.read_some(net::buffer(bytes), error)};
}

TEST(ExchangeTest, ATimeThatIsOverOnAKeptConnectionIsNoStaleOne) {
  int connections = 0;
  bool asked_again = true;
  OneEngine engine([&](tcp::acceptor& acceptor) {
    tcp::socket socket = acceptor.accept();
    ++connections;
    ReadSome(socket);
    net::write(socket, net::buffer(std::string("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")));
    ReadSome(socket);
    EXPECT_EQ(ReadSome(socket), "");  // the time is over
    acceptor.non_blocking(true);
    error_code error;
    acceptor.accept(error);
    asked_again = !error;
  });
  Lane lane({});
  const Engine asked = engine.engine();
  std::string first;
  UpstreamError error;
  RunOn(lane, [&]() -> Awaitable<void> {
    co_await AskOnce(lane, asked, first);
    Departure departure;
    Exchange exchange(lane.upstreams, departure);
    exchange.Within(milliseconds(30));
    const auto second = co_await exchange.Ask(asked, kAsk, {});
    EXPECT_TRUE(exchange.is_late());
    if (!second) error = second.error();
  });
  EXPECT_EQ(first, "");
  EXPECT_EQ(KindName(error.kind), "first_byte");
  EXPECT_TRUE(error.what.ends_with("no answer in time")) << error.what;
  EXPECT_EQ(connections, 1);
}

TEST(ExchangeTest, WhatIsNotWantedAnyMoreIsNotAsked) {
  ScriptedEngine engine({});
  Lane lane({});
  const Engine asked = engine.engine();
  RunOn(lane, [&]() -> Awaitable<void> {
    Departure departure;
    departure.Happen();
    Exchange exchange(lane.upstreams, departure);
    const auto answer = co_await exchange.Ask(asked, kAsk, {});
    EXPECT_EQ(answer.error().kind, UpstreamError::Kind::kLeft);
  });
  EXPECT_EQ(engine.connections(), 0);
}

// Larger than what the kernel takes for an engine that reads nothing.
const std::string kLargeBody(32 << 20, 'x');
constexpr std::string_view kPost = "POST / HTTP/1.1\r\nContent-Length: 33554432\r\n\r\n";
constexpr std::string_view kTooLarge =
    "HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge";

// Status and body of the answer to a large request.
std::string AskLarge(const Engine& engine, bool& is_kept) {
  Lane lane({});
  std::string result;
  RunOn(lane, [&]() -> Awaitable<void> {
    Departure departure;
    Exchange exchange(lane.upstreams, departure);
    const auto asked = co_await exchange.Ask(engine, kPost, kLargeBody);
    if (!asked) {
      result = asked.error().what;
      co_return;
    }
    const auto body = co_await exchange.ReadAll(100);
    result = std::to_string(exchange.head().status) + " " + (body ? *body : body.error().what);
    is_kept = lane.upstreams.Take(engine.name()).has_value();
  });
  return result;
}

TEST(ExchangeTest, ARefusalBeforeTheWholeBodyIsTheAnswer) {
  for (const bool closes : {true, false}) {
    OneEngine engine([&](tcp::acceptor& acceptor) {
      tcp::socket socket = acceptor.accept();
      // The second piece would wait for word of the first, and be lost where this closes.
      socket.set_option(tcp::no_delay(true));
      ReadSome(socket);
      net::write(socket, net::buffer(kTooLarge.substr(0, 20)));
      net::write(socket, net::buffer(kTooLarge.substr(20)));
      if (closes) return;
      // It is not sent the rest.
      size_t got = 0;
      for (std::string some = ReadSome(socket); !some.empty(); some = ReadSome(socket)) {
        got += some.size();
      }
      EXPECT_LT(got, kLargeBody.size());
    });
    bool is_kept = true;
    EXPECT_EQ(AskLarge(engine.engine(), is_kept), "413 large") << closes;
    EXPECT_FALSE(is_kept);
  }
}

TEST(ExchangeTest, AnAnswerThatBeginsEarlyEndsNoRequest) {
  OneEngine engine([](tcp::acceptor& acceptor) {
    tcp::socket socket = acceptor.accept();
    size_t got = ReadSome(socket).size();
    net::write(socket, net::buffer(std::string("HTTP/1.1 100 Continue\r\n\r\n"
                                               "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")));
    while (got < kPost.size() + kLargeBody.size()) got += ReadSome(socket).size();
    net::write(socket, net::buffer(std::string("late")));
    ReadSome(socket);
  });
  bool is_kept = false;
  EXPECT_EQ(AskLarge(engine.engine(), is_kept), "200 late");
  EXPECT_TRUE(is_kept);
}

TEST(ExchangeTest, AnEngineThatClosesWithoutAWordIsBroken) {
  OneEngine engine([](tcp::acceptor& acceptor) {
    tcp::socket socket = acceptor.accept();
    ReadSome(socket);
  });
  bool is_kept = true;
  EXPECT_NE(AskLarge(engine.engine(), is_kept).find("does not take the request"),
            std::string::npos);
}

TEST(UpstreamsTest, WhatIsKeptOfWhoLeftIsClosed) {
  net::io_context io;
  tcp::acceptor acceptor(io, tcp::endpoint(net::ip::make_address("127.0.0.1"), 0));
  std::vector<tcp::socket> theirs;
  Lane lane({});
  const auto keep = [&](const std::string& engine) {
    tcp::socket socket(lane.io);
    socket.connect(acceptor.local_endpoint());
    theirs.push_back(acceptor.accept());
    lane.upstreams.Keep(engine, std::move(socket));
  };
  const auto is_closed = [&](size_t which, milliseconds within = milliseconds(0)) {
    pollfd item = {theirs[which].native_handle(), POLLIN, 0};
    ::poll(&item, 1, static_cast<int>(within.count()));
    theirs[which].non_blocking(true);
    error_code error;
    std::array<char, 1> byte;
    theirs[which].read_some(net::buffer(byte), error);
    return error == net::error::eof;
  };
  for (const char* engine : {"gone", "a", "b"}) keep(engine);
  const auto sweep = [&] { lane.upstreams.Sweep([](const auto& name) { return name != "gone"; }); };
  constexpr milliseconds kSoon(10'000);  // the system may take a moment
  sweep();
  EXPECT_TRUE(is_closed(0, kSoon));
  EXPECT_FALSE(is_closed(1));
  EXPECT_FALSE(is_closed(2));
  // Closed by the engine: gone after a turn for each.
  theirs[1].shutdown(tcp::socket::shutdown_send);
  theirs[2].shutdown(tcp::socket::shutdown_send);
  sweep();
  sweep();
  EXPECT_TRUE(is_closed(1, kSoon));
  EXPECT_TRUE(is_closed(2, kSoon));
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

// Sets limits of all lengths, in any order, again and again.
TEST(TimeLimitsTest, EachCutsInItsTimeAndNoOther) {
  net::io_context io;
  TimeLimits limits(io);
  struct One {
    std::unique_ptr<TimeLimits::Limit> limit;
    MonoTime due;
    int cuts = 0;
  };
  std::vector<One> all(200);
  for (One& one : all) {
    one.limit = std::make_unique<TimeLimits::Limit>(limits, [&one] {
      ++one.cuts;
      EXPECT_GE(MonoNow(), one.due);
    });
  }
  for (size_t i = 0; i < all.size(); ++i) {
    // Longer ones first, so that it has to be moved to an earlier place; and later ones behind.
    all[i].limit->Set(std::chrono::hours(1));
    const Duration time = milliseconds((i * 37) % 120);
    all[i].due = MonoNow() + time;
    all[i].limit->Set(time);
    if (i % 3 == 1) all[i].limit->Clear();
    if (i % 3 == 2) all[i].limit.reset();
  }
  io.run();  // ends: nothing waits any more
  for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i].cuts, i % 3 == 0 ? 1 : 0) << i;
}

TEST(TimeLimitsTest, OneThatIsSetAgainBeforeItIsOverGoesOn) {
  net::io_context io;
  TimeLimits limits(io);
  int left = 5;
  bool is_over = false;
  MonoTime due;
  TimeLimits::Limit late(limits, [&] {
    is_over = true;
    // Of the last time that it was set: on a busy machine it may be over before it is set again.
    EXPECT_GE(MonoNow(), due);
  });
  const auto set_late = [&] {
    due = MonoNow() + milliseconds(100);
    late.Set(milliseconds(100));
  };
  TimeLimits::Limit ticks(limits, [&] {
    set_late();
    if (--left > 0) ticks.Set(milliseconds(25));
  });
  set_late();
  ticks.Set(milliseconds(25));
  io.run();
  EXPECT_EQ(left, 0);
  EXPECT_TRUE(is_over);
  EXPECT_TRUE(late.passed());
}

TEST(TimeLimitsTest, ACutMayDestroyOthers) {
  net::io_context io;
  TimeLimits limits(io);
  std::vector<std::unique_ptr<TimeLimits::Limit>> others;
  TimeLimits::Limit first(limits, [&] { others.clear(); });
  for (int i = 0; i < 10; ++i) {
    others.push_back(std::make_unique<TimeLimits::Limit>(limits, [] { FAIL(); }));
    others.back()->Set(milliseconds(1));
  }
  first.Set(milliseconds(1));  // in front of them
  io.run();
  EXPECT_TRUE(others.empty());
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
