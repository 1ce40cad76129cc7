#include "daemon/proxy/upstream.h"

#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <string>
#include <utility>

namespace conductor::proxy {
namespace {

// An engine that takes connections, and what comes on the one that was kept.
class UpstreamTest : public testing::Test {
 protected:
  UpstreamTest() {
    tcp::socket kept(io_);
    kept.connect(acceptor_.local_endpoint());
    acceptor_.accept(taken_);
    upstreams_.Keep(engine_.name(), std::move(kept));
  }

  std::optional<UpstreamError> Ask(Departure& departure) { return Ask(upstreams_, departure); }

  std::optional<UpstreamError> Ask(Upstreams& upstreams, Departure& departure) {
    std::optional<UpstreamError> error;
    bool is_done = false;
    net::co_spawn(
        io_,
        [&]() -> Awaitable<void> {
          Exchange exchange(upstreams, departure);
          auto asked = co_await exchange.Ask(engine_, "GET / HTTP/1.1\r\n\r\n", {});
          if (!asked) error = std::move(asked.error());
          is_done = true;
        },
        net::detached);
    io_.restart();
    while (!is_done && io_.run_one() > 0) {
    }
    return error;
  }

  // Closes the connection that was kept when the request has come whole, and answers on the next.
  void CloseAndAnswer() {
    taken_.async_read_some(net::buffer(request_), [this](error_code, size_t) { taken_.close(); });
    acceptor_.async_accept([this](error_code error, tcp::socket next) {
      if (error) return;
      is_sent_again_ = true;
      next_ = std::move(next);
      net::write(next_, net::buffer(std::string("HTTP/1.1 204 No Content\r\n\r\n")));
    });
  }

  net::io_context io_;
  TimeLimits limits_{io_};
  // However long an engine takes to close a connection.
  Upstreams upstreams_{io_, limits_, {.stale = std::chrono::minutes(1)}};
  tcp::acceptor acceptor_{io_, tcp::endpoint(net::ip::address_v4::loopback(), 0)};
  tcp::socket taken_{io_};
  tcp::socket next_{io_};
  std::array<char, 1024> request_{};
  bool is_sent_again_ = false;
  Engine engine_{
      Role::kDecode,
      *EngineSpec::Parse("127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port()))};
};

TEST_F(UpstreamTest, AKeptConnectionThatWasBeingClosedIsReplaced) {
  CloseAndAnswer();
  Departure departure;
  const auto error = Ask(departure);
  EXPECT_FALSE(error) << error->what;
  EXPECT_TRUE(is_sent_again_);
}

TEST_F(UpstreamTest, WhatAnEngineHasWorkedOnIsNotSentAgain) {
  Upstreams upstreams(io_, limits_, {.stale = Duration(0)});
  auto kept = upstreams_.Take(engine_.name());
  ASSERT_TRUE(kept);
  upstreams.Keep(engine_.name(), *std::move(kept));
  CloseAndAnswer();
  Departure departure;
  const auto error = Ask(upstreams, departure);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->kind, UpstreamError::Kind::kBroken);
  EXPECT_FALSE(is_sent_again_);
}

TEST_F(UpstreamTest, WhatNobodyWantsAnyMoreIsNotAsked) {
  Departure departure;
  departure.Happen();
  const auto error = Ask(departure);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->kind, UpstreamError::Kind::kLeft);
  EXPECT_TRUE(upstreams_.Take(engine_.name()).has_value()) << "the connection was used";
  EXPECT_EQ(taken_.available(), 0u);
}

}  // namespace
}  // namespace conductor::proxy
