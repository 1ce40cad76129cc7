#include "daemon/proxy/client_connection.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <memory>
#include <string>
#include <string_view>

#include "daemon/proxy/lane.h"

namespace conductor::proxy {
namespace {

// A client, and the proxy's end of its connection, on one thread.
class ClientConnectionTest : public testing::Test {
 protected:
  explicit ClientConnectionTest(uint64_t budget = 100) : budget_(budget) {
    tcp::acceptor acceptor(lane_.io, tcp::endpoint(net::ip::make_address("127.0.0.1"), 0));
    client_.connect(acceptor.local_endpoint());
    tcp::socket ours = acceptor.accept();
    handle_ = ours.native_handle();
    ClientConnection::Options options;
    options.is_work = [](std::string_view, std::string_view path) { return path == "/work"; };
    connection_ =
        std::make_shared<ClientConnection>(std::move(ours), lane_.limits, budget_, options);
  }

  template <typename Work>
  void Run(Work work) {
    net::co_spawn(lane_.io, std::move(work), net::detached);
    lane_.io.run();
  }

  // It is gone when this returns.
  void Reset() {
    client_.set_option(tcp::socket::linger(true, 0));
    client_.close();
    pollfd hears{handle_, POLLRDHUP, 0};
    ASSERT_EQ(::poll(&hears, 1, 20'000), 1);
  }

  Lane lane_{{}};
  BodyBudget budget_;
  tcp::socket client_{lane_.io};
  int handle_ = -1;
  std::shared_ptr<ClientConnection> connection_;
};

TEST_F(ClientConnectionTest, AClientThatIsFoundGoneByItsAnswerHasLeft) {
  bool is_sent = true;
  bool has_left = false;
  Run([&]() -> Awaitable<void> {
    Departure departure;
    connection_->Watch(departure);
    Reset();
    is_sent = co_await connection_->Answer(200, "text/plain", "x");
    has_left = departure.happened();
    connection_->Unwatch();
  });
  EXPECT_FALSE(is_sent);
  EXPECT_TRUE(has_left);
}

TEST_F(ClientConnectionTest, WhatIsNoWorkNeedsNoRoomInTheBudget) {
  budget_.Add(100);
  net::write(client_,
             net::buffer(std::string("POST /call HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde"
                                     "POST /work HTTP/1.1\r\nContent-Length: 1\r\n\r\nf")));
  std::string body;
  uint64_t counted = 0;
  int refused = 0;
  Run([&]() -> Awaitable<void> {
    auto call = co_await connection_->Next();
    if (!call || !*call) co_return;
    body = (*call)->body;
    counted = budget_.used();
    connection_->ReleaseBody(**call);
    const auto work = co_await connection_->Next();
    if (work && !*work) refused = work->error().status;
    connection_.reset();  // or its time limit would be waited for
  });
  EXPECT_EQ(body, "abcde");
  EXPECT_EQ(counted, 105u);
  EXPECT_EQ(refused, 503);
  EXPECT_EQ(budget_.used(), 100u);
}

TEST(BodyBudgetTest, APartCountsAsMuchAsItHoldsNow) {
  BodyBudget budget(10);
  {
    BodyBudget::Part part(budget);
    part.Holds(20);
    part.Holds(7);
    EXPECT_EQ(budget.used(), 7u);
    EXPECT_FALSE(budget.Take(4));
  }
  EXPECT_EQ(budget.used(), 0u);
}

}  // namespace
}  // namespace conductor::proxy
