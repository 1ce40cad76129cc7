#include "daemon/proxy/upstream.h"

#include <gtest/gtest.h>

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

  std::optional<UpstreamError> Ask(Departure& departure) {
    std::optional<UpstreamError> error;
    net::co_spawn(
        io_,
        [&]() -> Awaitable<void> {
          Exchange exchange(upstreams_, departure);
          auto asked = co_await exchange.Ask(engine_, "GET / HTTP/1.1\r\n\r\n", {});
          if (!asked) error = std::move(asked.error());
        },
        net::detached);
    while (!error && io_.run_one() > 0) {
    }
    return error;
  }

  net::io_context io_;
  TimeLimits limits_{io_};
  Upstreams upstreams_{io_, limits_, {}};
  tcp::acceptor acceptor_{io_, tcp::endpoint(net::ip::address_v4::loopback(), 0)};
  tcp::socket taken_{io_};
  Engine engine_{
      Role::kDecode,
      *EngineSpec::Parse("127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port()))};
};

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
