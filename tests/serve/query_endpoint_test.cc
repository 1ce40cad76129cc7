#include "daemon/serve/query_endpoint.h"

#include <gtest/gtest.h>
#include <zmq.h>

#include <array>
#include <condition_variable>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "daemon/serve/http_api.h"
#include "daemon/serve/query_routes.h"
#include "lib/base/bytes.h"
#include "lib/stream/zmq_socket.h"
#include "tests/serve/eventually.h"
#include "tests/stream/raw_peer.h"

namespace conductor::serve {
namespace {

using Json = nlohmann::json;
using Frames = std::vector<std::string>;
using stream::ZmqMessage;
using stream::ZmqSocket;

std::string Packed(const Json& json) {
  std::string bytes;
  Json::to_msgpack(json, bytes);
  return bytes;
}
Json Unpacked(const std::string& bytes) { return Json::from_msgpack(bytes, true, false); }

// Requests at /slow wait here, so that a test decides when they are answered. A body that says
// "throw" throws.
class Gate {
 public:
  void Open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  // Until `count` requests wait.
  void WaitForWaiting(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ >= count; });
  }
  void Reset() {
    const std::lock_guard lock(mutex_);
    open_ = false;
    waiting_ = 0;
  }
  void Pass(const std::stop_token& stop) {
    const std::stop_callback wake(stop, [this] {
      const std::lock_guard lock(mutex_);
      changed_.notify_all();
    });
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_ || stop.stop_requested(); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  int waiting_ = 0;
};

Gate& TheGate() {
  static Gate gate;
  return gate;
}

BodyAnswer AnswerSlowly(const RouteContext& context, const BodyBytes& body, BodyForm, BodyForm) {
  TheGate().Pass(context.stopping);
  return {context.stopping.stop_requested() ? 503 : 200, std::string(body.bytes)};
}
BodyAnswer Echo(const RouteContext&, const BodyBytes& body, BodyForm, BodyForm) {
  if (body.bytes == "throw") throw std::runtime_error("as the test wants it");
  return {200, std::string(body.bytes)};
}

constexpr BodyRoute kTestRoutes[] = {{"/slow", AnswerSlowly}, {"/echo", Echo}};

// A client's socket. Waits half a minute at most, so that an endpoint that hangs is a failed test.
class Client {
 public:
  Client(void* context, const std::string& address, int type = ZMQ_DEALER,
         int receive_high_water_mark = 0) {
    socket_ = *ZmqSocket::Create(context, type);
    socket_.Set(ZMQ_RCVHWM, receive_high_water_mark);
    socket_.Set(ZMQ_SNDHWM, 0);
    EXPECT_TRUE(socket_.Connect(address).has_value());
  }

  void Send(const Frames& frames) {
    const std::vector<std::string_view> views(frames.begin(), frames.end());
    ASSERT_TRUE(socket_.Send(views));
  }
  // Empty when nothing came.
  Frames Receive() {
    zmq_pollitem_t item{socket_.raw(), 0, ZMQ_POLLIN, 0};
    ZmqMessage message;
    if (zmq_poll(&item, 1, 30000) <= 0 || !socket_.Receive(message)) return {};
    Frames frames;
    for (const auto& frame : message.frames) frames.emplace_back(frame.view());
    return frames;
  }
  Frames Ask(const Frames& frames) {
    Send(frames);
    return Receive();
  }

 private:
  ZmqSocket socket_;
};

class QueryEndpointTest : public testing::Test {
 protected:
  QueryEndpointTest() : registry_(Registry::Options{}), http_(registry_, {}) {
    TheGate().Reset();
    zmq_ = zmq_ctx_new();
  }
  ~QueryEndpointTest() override {
    endpoint_.reset();
    clients_.clear();
    zmq_ctx_term(zmq_);
  }

  void Start(QueryEndpoint::Options options = {}, bool own_routes = true) {
    options.address = "tcp://127.0.0.1:*";
    endpoint_ = own_routes ? std::make_unique<QueryEndpoint>(http_.context(), options, kTestRoutes)
                           : std::make_unique<QueryEndpoint>(http_.context(), options);
    const auto bound = endpoint_->Start();
    ASSERT_TRUE(bound.has_value()) << bound.error().Message();
    address_ = *bound;
  }

  Client& Connect(int type = ZMQ_DEALER, int receive_high_water_mark = 0) {
    clients_.push_back(std::make_unique<Client>(zmq_, address_, type, receive_high_water_mark));
    return *clients_.back();
  }

  uint64_t Counted(std::string_view path, int status) const {
    const QueryStats stats = endpoint_->stats();
    const auto count = stats.requests.find({path, status});
    return count == stats.requests.end() ? 0 : count->second;
  }

  Registry registry_;
  HttpApi http_;
  void* zmq_ = nullptr;
  std::string address_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::unique_ptr<QueryEndpoint> endpoint_;
};

TEST_F(QueryEndpointTest, AnswersAQueryAsHttpDoes) {
  Start({}, /*own_routes=*/false);
  const Frames answer =
      Connect().Ask({"7", "/v1/query", Packed({{"model", "m"}, {"token_ids", {1, 2, 3}}})});
  ASSERT_EQ(answer.size(), 3U);
  EXPECT_EQ(answer[0], "7");
  EXPECT_EQ(answer[1], "200");
  EXPECT_EQ(Unpacked(answer[2])["prompt_tokens"], 3);
  EXPECT_EQ(Unpacked(answer[2])["reason"], "unknown_tenant");

  const Frames refused = Connect().Ask({"8", "/v1/query", Packed({{"token_ids", {1}}})});
  ASSERT_EQ(refused.size(), 3U);
  EXPECT_EQ(refused[1], "400");
  EXPECT_EQ(Unpacked(refused[2])["field"], "model");
}

TEST_F(QueryEndpointTest, SpeaksWithReqAndWithDealerSockets) {
  Start();
  EXPECT_EQ(Connect(ZMQ_DEALER).Ask({"7", "/echo", "b"}), (Frames{"7", "200", "b"}));
  EXPECT_EQ(Connect(ZMQ_DEALER).Ask({"", "7", "/echo", "b"}), (Frames{"", "7", "200", "b"}));
  Client& req = Connect(ZMQ_REQ);
  for (const char* id : {"1", "2", "3"}) {
    EXPECT_EQ(req.Ask({id, "/echo", "b"}), (Frames{id, "200", "b"}));
  }
}

TEST_F(QueryEndpointTest, AnswersEachRequestWhenItIsDone) {
  Start({.threads = 2});
  Client& client = Connect();
  client.Send({"slow", "/slow", "s"});
  TheGate().WaitForWaiting(1);
  client.Send({"fast", "/echo", "f"});
  EXPECT_EQ(client.Receive(), (Frames{"fast", "200", "f"}));
  TheGate().Open();
  EXPECT_EQ(client.Receive(), (Frames{"slow", "200", "s"}));
}

TEST_F(QueryEndpointTest, AnswersManyPipelinedRequestsOfManyClients) {
  Start({.threads = 3, .max_queued = 100000});
  std::vector<Client*> clients;
  for (int c = 0; c < 4; ++c) clients.push_back(&Connect());
  constexpr int kRequests = 900;  // fewer than an unread client may have
  for (int i = 0; i < kRequests; ++i) {
    for (Client* client : clients)
      client->Send({std::to_string(i), "/echo", "b" + std::to_string(i)});
  }
  for (Client* client : clients) {
    std::set<std::string> ids;
    for (int i = 0; i < kRequests; ++i) {
      const Frames answer = client->Receive();
      ASSERT_EQ(answer.size(), 3U);
      EXPECT_EQ(answer[1], "200");
      EXPECT_EQ(answer[2], "b" + answer[0]);
      ids.insert(answer[0]);
    }
    EXPECT_EQ(ids.size(), size_t{kRequests});
  }
  EXPECT_EQ(Counted("/echo", 200), 4U * kRequests);
  EXPECT_EQ(endpoint_->stats().durations.at("/echo").counts.size(),
            QueryStats::kDurationBounds.size() + 1);
}

TEST_F(QueryEndpointTest, RefusesAtOnceWhatItCannotQueue) {
  Start({.threads = 1, .max_queued = 2});
  Client& client = Connect();
  client.Send({"answered", "/slow", "1"});
  TheGate().WaitForWaiting(1);
  client.Send({"waits", "/echo", "2"});
  client.Send({"waits too", "/echo", "3"});
  const Frames refused = client.Ask({"refused", "/echo", "4"});
  ASSERT_EQ(refused.size(), 3U);
  EXPECT_EQ(refused[0], "refused");
  EXPECT_EQ(refused[1], "503");
  EXPECT_EQ(Unpacked(refused[2])["reason"], "busy");
  const QueryStats stats = endpoint_->stats();
  EXPECT_EQ(stats.answering, 1U);
  EXPECT_EQ(stats.queued, 2U);
  EXPECT_EQ(stats.queued_bytes, 2U);
  TheGate().Open();
  EXPECT_EQ(client.Receive(), (Frames{"answered", "200", "1"}));
  EXPECT_EQ(client.Receive(), (Frames{"waits", "200", "2"}));
  EXPECT_EQ(client.Receive(), (Frames{"waits too", "200", "3"}));
  EXPECT_EQ(Counted("/echo", 503), 1U);
}

TEST_F(QueryEndpointTest, RefusesBodiesBeyondTheBytesThatMayWait) {
  Start({.threads = 1, .max_queued_bytes = 10});
  Client& client = Connect();
  client.Send({"answered", "/slow", std::string(100, 'b')});  // does not wait
  TheGate().WaitForWaiting(1);
  client.Send({"waits", "/echo", std::string(10, 'b')});
  EXPECT_EQ(client.Ask({"refused", "/echo", "b"})[1], "503");
  TheGate().Open();
  EXPECT_EQ(client.Receive()[1], "200");
  EXPECT_EQ(client.Receive()[1], "200");
}

TEST_F(QueryEndpointTest, RefusesABodyAboveTheLimit) {
  Start({.max_body_bytes = 100});
  Client& client = Connect();
  EXPECT_EQ(client.Ask({"1", "/echo", std::string(100, 'b')})[1], "200");
  const Frames refused = client.Ask({"2", "/echo", std::string(101, 'b')});
  ASSERT_EQ(refused.size(), 3U);
  EXPECT_EQ(refused[1], "413");
  EXPECT_EQ(Unpacked(refused[2])["reason"], "body_too_large");
  EXPECT_EQ(client.Ask({"3", "/echo", "b"})[1], "200") << "the connection goes on";
}

TEST_F(QueryEndpointTest, CutsOffWhoSendsAFrameOfTwiceTheLimit) {
  Start({.max_body_bytes = 100});
  Client& hostile = Connect();
  hostile.Send({"1", "/echo", std::string(201, 'b')});
  hostile.Send({"2", "/echo", "b"});
  EXPECT_EQ(Connect().Ask({"3", "/echo", "b"})[1], "200") << "and nobody else";
}

TEST_F(QueryEndpointTest, CutsOffWhoseMessageHasNoEnd) {
  Start({.max_body_bytes = 1000});
  const stream::RawPeer hostile(std::stoi(address_.substr(address_.rfind(':') + 1)), "DEALER");
  Client& other = Connect();
  // Each says that another one follows.
  std::string empty_frames;
  for (int i = 0; i < (1 << 20); ++i) empty_frames.append("\1\0", 2);
  (void)hostile.Send(empty_frames);
  EXPECT_TRUE(hostile.WaitForEnd());
  EXPECT_TRUE(Eventually([this] { return endpoint_->stats().cut_off == 1; }));
  EXPECT_EQ(other.Ask({"1", "/echo", "b"})[1], "200") << "and nobody else";
}

TEST_F(QueryEndpointTest, AConnectionThatSendsMuchInWholeMessagesIsNotCutOff) {
  Start({.max_body_bytes = 100000});
  Client& client = Connect();
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(client.Ask({"1", "/echo", std::string(100000, 'b')})[1], "200");
  }
  EXPECT_EQ(endpoint_->stats().cut_off, 0U);
}

TEST_F(QueryEndpointTest, AnswersWhatItCannotReadAndGoesOn) {
  Start();
  Client& client = Connect();
  struct Case {
    Frames frames;
    Frames answer;  // without the body
    const char* reason;
  };
  const Case cases[] = {
      {{""}, {"", "", "400"}, "malformed_request"},
      {{"7"}, {"7", "400"}, "malformed_request"},
      {{"7", "/echo"}, {"7", "400"}, "malformed_request"},
      {{"7", "/echo", "b", "more"}, {"7", "400"}, "malformed_request"},
      {{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10"}, {"1", "400"}, "malformed_request"},
      {{std::string(65, 'i'), "/echo", "b"}, {"", "400"}, "malformed_request"},
      {{"7", "/nowhere", "b"}, {"7", "404"}, "unknown_path"},
      {{"7", std::string(1000, '\xff'), "b"}, {"7", "404"}, "unknown_path"},
      {{"7", "/echo", "throw"}, {"7", "500"}, "internal_error"},
  };
  for (const Case& hostile : cases) {
    Frames answer = client.Ask(hostile.frames);
    ASSERT_FALSE(answer.empty()) << hostile.reason;
    EXPECT_EQ(Unpacked(answer.back())["reason"], hostile.reason);
    answer.pop_back();
    EXPECT_EQ(answer, hostile.answer);
    EXPECT_EQ(client.Ask({"8", "/echo", "b"}), (Frames{"8", "200", "b"}));
  }
  EXPECT_EQ(Counted("other", 400), 6U);
  EXPECT_EQ(Counted("other", 404), 2U);
  EXPECT_EQ(Counted("/echo", 500), 1U);
}

TEST_F(QueryEndpointTest, AClientThatDoesNotReadKeepsNobodyWaiting) {
  Start({.threads = 2, .max_queued = 100000});
  // Each answer fills what TCP takes on both sides, then the socket's own queue.
  Client& lazy = Connect(ZMQ_DEALER, /*receive_high_water_mark=*/1);
  Client& other = Connect();
  const std::string body(64 << 10, 'b');
  const int requests = 3 * QueryEndpoint::kMostUnread;
  for (int i = 0; i < requests; ++i) {
    lazy.Send({std::to_string(i), "/echo", body});
    if (i % 100 == 0) {
      EXPECT_EQ(other.Ask({"1", "/echo", "b"})[1], "200");
    }
  }
  while (Counted("/echo", 200) < static_cast<uint64_t>(requests)) {
    EXPECT_EQ(other.Ask({"1", "/echo", "b"})[1], "200");
  }
  EXPECT_GT(endpoint_->stats().dropped_unread, 0U);
}

TEST_F(QueryEndpointTest, CountsTheAnswerWhoseClientHasLeft) {
  Start({.threads = 2});
  Connect().Send({"1", "/slow", "b"});
  TheGate().WaitForWaiting(1);
  clients_.clear();
  TheGate().Open();
  // The connection's end reaches the endpoint on ZeroMQ's own threads: an answer that is sent
  // before it is lost with it.
  Client& other = Connect();
  while (Counted("/slow", 200) < 1) EXPECT_EQ(other.Ask({"1", "/echo", "b"})[1], "200");
  EXPECT_LE(endpoint_->stats().dropped_gone, 1U);
}

TEST_F(QueryEndpointTest, WhatIsUnderWayWhenItStopsIsAnswered503) {
  Start({.threads = 1});
  Client& client = Connect();
  client.Send({"under way", "/slow", "b"});
  TheGate().WaitForWaiting(1);
  client.Send({"waits", "/echo", "b"});
  while (endpoint_->stats().queued < 1) std::this_thread::yield();
  endpoint_->Stop();
  EXPECT_EQ(client.Receive()[1], "503");
  const Frames waited = client.Receive();
  ASSERT_EQ(waited.size(), 3U);
  EXPECT_EQ(waited[1], "503");
  EXPECT_EQ(Unpacked(waited[2])["reason"], "stopping");
}

TEST_F(QueryEndpointTest, MetricsTellWhatItDid) {
  Start();
  Client& client = Connect();
  client.Ask({"1", "/echo", "b"});
  client.Ask({"1", "/nowhere", "b"});
  std::map<std::string, prometheus::MetricFamily> families;
  for (auto& family : QueryMetrics(endpoint_->stats())) families[family.name] = family;
  const auto& requests = families["conductor_query_endpoint_requests_total"].metric;
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_EQ(requests[0].label[0].value, "/echo");
  EXPECT_EQ(requests[0].label[1].value, "200");
  EXPECT_EQ(requests[0].counter.value, 1);
  const auto& durations = families["conductor_query_endpoint_request_duration_seconds"].metric;
  ASSERT_EQ(durations.size(), 2U);
  EXPECT_EQ(durations[0].histogram.sample_count, 1U);
  EXPECT_EQ(durations[0].histogram.bucket.back().cumulative_count, 1U);
}

std::string Page() {
  std::ifstream file(CONDUCTOR_DOCS "/zeromq-api.md");
  EXPECT_TRUE(file.good());
  return {std::istreambuf_iterator<char>(file), {}};
}

// The frames that docs/zeromq-api.md shows, message by message.
std::vector<Frames> DocumentedMessages() {
  std::vector<Frames> messages;
  std::istringstream lines(Page());
  bool inside = false;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("    ")) {
      inside = false;
      continue;
    }
    if (!std::exchange(inside, true)) messages.emplace_back();
    const std::string name = line.substr(4, line.find(' ', 4) - 4);
    const auto bytes = FromHex(std::string_view(line).substr(std::min(line.size(), size_t{12})));
    EXPECT_TRUE(bytes.has_value()) << line;
    if (!name.empty()) messages.back().emplace_back();
    messages.back().back() += *bytes;
  }
  return messages;
}

TEST_F(QueryEndpointTest, TheDocumentsBytesAreRight) {
  Start({}, /*own_routes=*/false);
  const std::vector<Frames> messages = DocumentedMessages();
  ASSERT_EQ(messages.size(), 3U);
  const Frames answer = Connect().Ask(messages[0]);
  ASSERT_EQ(answer.size(), 3U);
  EXPECT_EQ(answer[0], "\x01");
  EXPECT_EQ(answer[1], "200");
  EXPECT_EQ(Unpacked(answer[2])["prompt_tokens"], 3);
  EXPECT_EQ(Connect().Ask(messages[1]), messages[2]);
}

TEST_F(QueryEndpointTest, EveryPathAndMetricIsInTheDocument) {
  const std::string page = Page();
  for (const BodyRoute& route : BodyRoutes()) {
    EXPECT_NE(page.find('`' + std::string(route.path) + '`'), std::string::npos) << route.path;
  }
  size_t metrics = 0;
  for (size_t at = 0; (at = page.find("| `conductor_", at)) != std::string::npos; ++at) ++metrics;
  const auto families = QueryMetrics({});
  EXPECT_EQ(metrics, families.size());
  for (const auto& family : families) {
    EXPECT_NE(page.find("| `" + family.name + "` |"), std::string::npos) << family.name;
  }
}

TEST_F(QueryEndpointTest, AnAddressThatIsTakenIsToldWithIt) {
  Start();
  QueryEndpoint second(http_.context(), {.address = address_});
  const auto bound = second.Start();
  ASSERT_FALSE(bound.has_value());
  EXPECT_NE(bound.error().Message().find(address_ + ": cannot listen: Address already in use"),
            std::string::npos)
      << bound.error().Message();
}

TEST(QueryAddress, IsOfThisMachine) {
  for (const char* good : {"tcp://127.0.0.1:13334", "tcp://*:13334", "tcp://127.0.0.1:*",
                           "tcp://[::1]:13334", "ipc:///run/conductor"}) {
    EXPECT_TRUE(CheckQueryAddress(good).has_value()) << good;
  }
  for (const char* bad : {"", "13334", "127.0.0.1:13334", "tcp://127.0.0.1",
                          "tcp://127.0.0.1:99999", "http://127.0.0.1:13334", "inproc://queries"}) {
    EXPECT_FALSE(CheckQueryAddress(bad).has_value()) << bad;
  }
  EXPECT_TRUE(IsLocalQueryAddress("tcp://127.0.0.1:13334"));
  EXPECT_TRUE(IsLocalQueryAddress("tcp://[::1]:13334"));
  EXPECT_TRUE(IsLocalQueryAddress("ipc:///run/conductor"));
  EXPECT_FALSE(IsLocalQueryAddress("tcp://*:13334"));
  EXPECT_FALSE(IsLocalQueryAddress("tcp://10.0.0.1:13334"));
}

}  // namespace
}  // namespace conductor::serve
