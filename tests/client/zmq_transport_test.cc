#include "lib/client/zmq_transport.h"

#include <gtest/gtest.h>
#include <zmq.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "lib/stream/zmq_socket.h"

namespace conductor::client {
namespace {

using namespace std::chrono_literals;
using Frames = std::vector<std::string>;
using stream::ZmqMessage;
using stream::ZmqSocket;

// A ROUTER that answers each message as the test says: any number of messages, without the
// identity.
class FakeEndpoint {
 public:
  using Serve = std::function<std::vector<Frames>(const Frames& request)>;

  explicit FakeEndpoint(Serve serve) : serve_(std::move(serve)), zmq_(zmq_ctx_new()) {
    socket_ = *ZmqSocket::Create(zmq_, ZMQ_ROUTER);
    EXPECT_EQ(zmq_bind(socket_.raw(), "tcp://127.0.0.1:*"), 0);
    char last[64] = {};
    size_t size = sizeof last;
    zmq_getsockopt(socket_.raw(), ZMQ_LAST_ENDPOINT, last, &size);
    url_ = last;
    thread_ = std::thread([this] { Run(); });
  }
  ~FakeEndpoint() {
    ends_ = true;
    thread_.join();
    socket_ = ZmqSocket();
    zmq_ctx_term(zmq_);
  }
  FakeEndpoint(const FakeEndpoint&) = delete;
  FakeEndpoint& operator=(const FakeEndpoint&) = delete;

  [[nodiscard]] const std::string& url() const { return url_; }

 private:
  void Run() {
    while (!ends_) {
      zmq_pollitem_t item{socket_.raw(), 0, ZMQ_POLLIN, 0};
      zmq_poll(&item, 1, 10);
      ZmqMessage message;
      while (socket_.Receive(message)) {
        Frames request;
        for (const auto& frame : message.frames) request.emplace_back(frame.view());
        const std::string identity = request.front();
        request.erase(request.begin());
        for (Frames answer : serve_(request)) {
          answer.insert(answer.begin(), identity);
          const std::vector<std::string_view> views(answer.begin(), answer.end());
          EXPECT_TRUE(socket_.Send(views));
        }
      }
    }
  }

  const Serve serve_;
  void* zmq_;
  ZmqSocket socket_;
  std::string url_;
  std::atomic<bool> ends_ = false;
  std::thread thread_;
};

std::unique_ptr<Transport> Connect(const std::string& url) {
  return MakeZmqTransport(*ConductorUrl::Parse(url));
}

Deadlines Plenty() { return {MonoNow() + 30s, MonoNow() + 30s}; }
// Room to connect, and little time to answer.
Deadlines Little() { return {MonoNow() + 30s, MonoNow() + 50ms}; }

const Request kQuestion{
    .method = "POST", .path = "/v1/query", .body = "body", .form = Form::kMsgpack};

TEST(ZmqTransport, CarriesQueriesAndScoresInMessagePackOnly) {
  const auto transport = Connect("tcp://127.0.0.1:1");
  EXPECT_TRUE(transport->Carries(kQuestion));
  EXPECT_TRUE(transport->Carries({.method = "POST", .path = "/v1/score", .form = Form::kMsgpack}));
  EXPECT_FALSE(transport->Carries({.method = "POST", .path = "/v1/query"}));
  EXPECT_FALSE(transport->Carries({.method = "POST", .path = "/register", .form = Form::kMsgpack}));
  EXPECT_FALSE(transport->Carries({.method = "GET", .path = "/healthz"}));
}

TEST(ZmqTransport, AsksAndTellsTheStatus) {
  std::mutex mutex;
  Frames seen;
  FakeEndpoint endpoint([&](const Frames& request) {
    const std::lock_guard lock(mutex);
    seen = request;
    return std::vector<Frames>{{request[0], "418", "short and stout"}};
  });
  const auto transport = Connect(endpoint.url());
  for (int i = 0; i < 3; ++i) {
    const auto reply = transport->Exchange(kQuestion, Plenty());
    ASSERT_TRUE(reply.has_value()) << reply.error().error.Message();
    EXPECT_EQ(reply->status, 418);
    EXPECT_EQ(reply->form, Form::kMsgpack);
    EXPECT_EQ(reply->body, "short and stout");
  }
  const std::lock_guard lock(mutex);
  ASSERT_EQ(seen.size(), 3U);
  EXPECT_EQ(seen[1], "/v1/query");
  EXPECT_EQ(seen[2], "body");
}

TEST(ZmqTransport, PassesOverAnswersToOthers) {
  FakeEndpoint endpoint([](const Frames& request) {
    return std::vector<Frames>{{""},
                               {"another", "200", "wrong"},
                               {request[0], "200", "right"},
                               {request[0], "200", "twice"}};
  });
  const auto transport = Connect(endpoint.url());
  for (int i = 0; i < 3; ++i) {
    const auto reply = transport->Exchange(kQuestion, Plenty());
    ASSERT_TRUE(reply.has_value()) << reply.error().error.Message();
    EXPECT_EQ(reply->body, "right");
  }
}

TEST(ZmqTransport, AnAnswerOfAnotherShapeIsNone) {
  const Frames tails[] = {{}, {"200"}, {"200", "body", "more"}, {"ok", "body"}, {"", "body"}};
  for (const Frames& tail : tails) {
    FakeEndpoint endpoint([&](const Frames& request) {
      Frames answer = tail;
      answer.insert(answer.begin(), request[0]);
      return std::vector<Frames>{answer};
    });
    const auto reply = Connect(endpoint.url())->Exchange(kQuestion, Plenty());
    ASSERT_FALSE(reply.has_value());
    EXPECT_TRUE(reply.error().error.what.starts_with("its answer has "))
        << reply.error().error.what;
    EXPECT_TRUE(reply.error().asked);
  }
}

TEST(ZmqTransport, GivesUpOnAnEndpointThatSaysNothingAndIsOfUseAgain) {
  std::atomic<bool> answers = false;
  FakeEndpoint endpoint([&](const Frames& request) {
    return answers ? std::vector<Frames>{{request[0], "200", ""}} : std::vector<Frames>{};
  });
  const auto transport = Connect(endpoint.url());
  auto reply = transport->Exchange(kQuestion, Little());
  ASSERT_FALSE(reply.has_value());
  // It may not even have come to a connection on a busy machine.
  EXPECT_TRUE(reply.error().error.what.ends_with("in time")) << reply.error().error.what;
  answers = true;
  EXPECT_TRUE(transport->Exchange(kQuestion, Plenty()).has_value());
}

TEST(ZmqTransport, NobodyThereIsNotAsked) {
  std::string url;
  {
    FakeEndpoint gone([](const Frames&) { return std::vector<Frames>{}; });
    url = gone.url();
  }
  const auto reply = Connect(url)->Exchange(kQuestion, {MonoNow() + 30ms, MonoNow() + 30s});
  ASSERT_FALSE(reply.has_value());
  EXPECT_EQ(reply.error().error.what, "no connection in time");
  EXPECT_FALSE(reply.error().asked);
}

}  // namespace
}  // namespace conductor::client
