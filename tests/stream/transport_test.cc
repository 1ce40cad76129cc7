#include "lib/stream/transport.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fake_publisher.h"
#include "transport_fixture.h"

namespace conductor::stream {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST_F(TransportTest, ReplaysInBothReplyFormsAndFollowsLive) {
  for (const bool topic_in_reply : {false, true}) {
    FakePublisher publisher({.topic_in_reply = topic_in_reply});
    publisher.Publish("a0");
    publisher.Publish("a1");
    const auto board = Listen(publisher);
    ASSERT_TRUE(board->WaitFor(TrustState::kLive, {"a0", "a1"}));
    publisher.Publish("a2");
    ASSERT_TRUE(board->WaitFor(TrustState::kLive, {"a0", "a1", "a2"}));
    transport->Remove(last_id);
    EXPECT_TRUE(board->destroyed);
  }
}

TEST_F(TransportTest, AnEngineThatHoldsNothingIsLive) {
  FakePublisher publisher({});
  const auto board = Listen(publisher);
  ASSERT_TRUE(board->WaitFor(TrustState::kLive, {}));
}

TEST_F(TransportTest, NothingHappensToAPublisherThatIsHeldAndNothingOfItIsLost) {
  transport = std::make_unique<Transport>(Transport::Options{.threads = 1});
  FakePublisher held({});
  FakePublisher other({});
  held.Publish("a0");
  const auto board = Listen(held);
  ASSERT_TRUE(board->WaitFor(TrustState::kLive, {"a0"}));
  const Transport::PublisherId id = last_id;
  const auto others_board = Listen(other);
  ASSERT_TRUE(others_board->WaitFor(TrustState::kLive, {}));
  int steps = 0;
  EXPECT_TRUE(transport->RunHeld(id, [&](PublisherStream& stream, Consumer&) {
    if (++steps == 1) {
      held.Publish("a1");
      other.Publish("b0");
    }
    EXPECT_EQ(stream.position()->cursor, 0u);
    // The other one takes its turns between the steps, on the same thread.
    bool seen = false;
    others_board->Change([&] { seen = others_board->visible == Payloads{"b0"}; });
    return !seen;
  }));
  EXPECT_GT(steps, 1);
  ASSERT_TRUE(board->WaitFor(TrustState::kLive, {"a0", "a1"}));
  EXPECT_FALSE(transport->RunHeld(99, [](PublisherStream&, Consumer&) { return true; }));
}

TEST_F(TransportTest, APublisherThatIsHeldCanBeRemoved) {
  FakePublisher publisher({});
  const auto board = Listen(publisher);
  ASSERT_TRUE(board->WaitFor(TrustState::kLive, {}));
  std::atomic<bool> begun = false;
  std::jthread remover([&] {
    while (!begun) std::this_thread::yield();
    transport->Remove(last_id);
  });
  EXPECT_FALSE(transport->RunHeld(last_id, [&](PublisherStream&, Consumer&) {
    begun = true;
    return true;
  }));
}

TEST_F(TransportTest, APublisherThatStartsLateIsWaitedFor) {
  const int port = FreePort();
  const int replay_port = FreePort();
  const auto board = Listen(LocalEndpoint(port), LocalEndpoint(replay_port));
  ASSERT_TRUE(board->WaitForReason("unreachable"));
  FakePublisher publisher({.port = port, .replay_port = replay_port});
  publisher.Publish("a0");
  ASSERT_TRUE(board->WaitFor(TrustState::kLive, {"a0"}));
}

TEST_F(TransportTest, ALostTailIsFoundByAProbe) {
  FakePublisher publisher({});
  publisher.Publish("a0");
  const auto board = Listen(publisher);
  ASSERT_TRUE(board->WaitFor(TrustState::kLive, {"a0"}));
  publisher.Lose("a1");
  ASSERT_TRUE(board->WaitFor(TrustState::kLive, {"a0", "a1"}));
}

TEST_F(TransportTest, APublisherThatRestartsOwnsNothingOfItsFormerLife) {
  auto publisher = std::make_unique<FakePublisher>(FakePublisher::Options{});
  publisher->Publish("a0");
  publisher->Publish("a1");
  const auto board = Listen(*publisher);
  ASSERT_TRUE(board->WaitFor(TrustState::kLive, {"a0", "a1"}));
  const FakePublisher::Options again = {
      .port = std::stoi(publisher->endpoint().substr(sizeof "tcp://127.0.0.1:" - 1)),
      .replay_port = std::stoi(publisher->replay_endpoint().substr(sizeof "tcp://127.0.0.1:" - 1))};
  publisher.reset();
  ASSERT_TRUE(board->Wait([](const Board& b) { return b.trust.state == TrustState::kStale; }));
  publisher = std::make_unique<FakePublisher>(again);
  for (const char* payload : {"b0", "b1", "b2"}) publisher->Publish(payload);
  ASSERT_TRUE(board->WaitFor(TrustState::kLive, {"b0", "b1", "b2"}));
  ASSERT_TRUE(board->Wait([&](const Board&) { return transport->Counters(last_id).lives == 2; }));
}

TEST_F(TransportTest, APublisherWithoutReplayThatRestartsIsDoubtfulUntilItsFirstFrame) {
  auto publisher = std::make_unique<FakePublisher>(FakePublisher::Options{.replay_port = -1});
  const auto board = Listen(*publisher);
  ASSERT_TRUE(board->WaitForReason("no_events_yet"));
  ASSERT_TRUE(board->Wait([&](const Board&) {
    publisher->Publish("x");  // until the subscription has arrived
    return !board->visible.empty();
  }));
  const int port = std::stoi(publisher->endpoint().substr(sizeof "tcp://127.0.0.1:" - 1));
  publisher.reset();
  ASSERT_TRUE(board->Wait([](const Board& b) { return b.trust.state == TrustState::kStale; }));
  publisher =
      std::make_unique<FakePublisher>(FakePublisher::Options{.port = port, .replay_port = -1});
  ASSERT_TRUE(board->WaitForReason("doubtful"));
}

TEST_F(TransportTest, ASilentPeerIsToldAsOneThatDoesNotSpeakZeroMq) {
  StrangeServer server("");
  const auto board = Listen(LocalEndpoint(server.port()), "");
  ASSERT_TRUE(board->WaitForReason("not_zmtp"));
  EXPECT_TRUE(board->Wait([](const Board& b) {
    return b.trust.detail.find("does not speak ZeroMQ") != std::string::npos;
  }));
}

TEST_F(TransportTest, APeerThatSendsGarbageIsToldAsOneThatDoesNotSpeakZeroMqAndNotHammered) {
  for (const std::string& greeting :
       {std::string("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"),
        std::string(200, '\xff'), std::string("\xff\0\0\0\0\0\0\0\1\x7f\3garbage", 18),
        std::string(100, '\0')}) {
    StrangeServer server(greeting);
    const MonoTime begin = MonoNow();
    const auto board = Listen(LocalEndpoint(server.port()), LocalEndpoint(server.port()));
    ASSERT_TRUE(board->WaitForReason("not_zmtp")) << greeting.substr(0, 8);
    // Two sockets, and each comes again after a tenth of a second at the most.
    const auto accepted = server.accepted();
    EXPECT_LE(accepted, 10 + (MonoNow() - begin) / milliseconds(50));
    transport->Remove(last_id);
  }
}

TEST_F(TransportTest, APeerThatLearnsToSpeakZeroMqIsFollowed) {
  auto server = std::make_unique<StrangeServer>("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n");
  const int port = server->port();
  const int replay_port = FreePort();
  const auto board = Listen(LocalEndpoint(port), LocalEndpoint(replay_port));
  ASSERT_TRUE(board->WaitForReason("not_zmtp"));
  server.reset();
  FakePublisher publisher({.port = port, .replay_port = replay_port});
  publisher.Publish("a0");
  ASSERT_TRUE(board->WaitFor(TrustState::kLive, {"a0"}));
}

TEST_F(TransportTest, GarbageFramesAreCountedAndDoNotDisturb) {
  transport.reset();
  transport = std::make_unique<Transport>(PatientTransport());
  FakePublisher publisher({});
  const auto board = Listen(publisher);
  ASSERT_TRUE(board->Wait([&](const Board&) {
    publisher.Publish("x");  // until the subscription has arrived
    return transport->Counters(last_id).applied_live > 0;
  }));
  publisher.PublishRaw({"one frame"});
  publisher.PublishRaw({"topic", "short", "payload"});
  publisher.PublishRaw(std::vector<std::string_view>(50, "x"));
  publisher.Publish("end");
  ASSERT_TRUE(board->Wait([](const Board& b) {
    return b.trust.state == TrustState::kLive && !b.visible.empty() && b.visible.back() == "end";
  }));
  ASSERT_TRUE(board->Wait(
      [&](const Board&) { return transport->Counters(last_id).malformed_frames == 3; }));
}

TEST_F(TransportTest, AFrameAboveTheLimitEndsTheConnectionAndNotThePublisher) {
  transport.reset();
  transport = std::make_unique<Transport>(
      Transport::Options{.max_publishers = 4, .max_message_bytes = 1000});
  FakePublisher publisher({.replay_port = -1});
  const auto board = Listen(publisher);
  const auto arrives = [&](const std::string& payload) {
    return board->Wait([&](const Board& b) {
      publisher.Publish(payload);
      return !b.visible.empty() && b.visible.back() == payload;
    });
  };
  ASSERT_TRUE(arrives("before"));
  publisher.Publish(std::string(2000, 'x'));
  ASSERT_TRUE(arrives("after"));
  // libzmq may tell of the connection after what came through it.
  EXPECT_TRUE(
      board->Wait([&](const Board&) { return transport->Counters(last_id).connects == 2; }));
  EXPECT_TRUE(board->WaitForReason("doubtful"));
}

TEST_F(TransportTest, AConsumerThatThrowsHarmsOnlyItsPublisher) {
  transport.reset();
  transport = std::make_unique<Transport>(Transport::Options{.threads = 1, .max_publishers = 4});
  FakePublisher publisher({});
  FakePublisher other({});
  publisher.Publish("a0");
  other.Publish("b0");
  const auto board =
      Listen(publisher.endpoint(), publisher.replay_endpoint(), [](Board& b) { b.throws = true; });
  ASSERT_TRUE(board->WaitForReason("doubtful"));
  ASSERT_TRUE(
      board->Wait([&](const Board&) { return transport->Counters(last_id).lossy_batches == 1; }));
  ASSERT_TRUE(Listen(other)->WaitFor(TrustState::kLive, {"b0"}));
}

TEST_F(TransportTest, ASlowPublisherDoesNotStarveTheOthersOfItsThread) {
  transport.reset();
  transport = std::make_unique<Transport>(Transport::Options{.threads = 1, .max_publishers = 4});
  FakePublisher slow({});
  FakePublisher quick({});
  for (int i = 0; i < 20000; ++i) slow.Publish("s");
  quick.Publish("q0");
  const auto slow_board = Listen(slow.endpoint(), slow.replay_endpoint(),
                                 [](Board& b) { b.apply_takes = milliseconds(1); });
  const auto slow_id = last_id;
  const auto quick_board = Listen(quick);
  ASSERT_TRUE(quick_board->WaitFor(TrustState::kLive, {"q0"}));
  transport->Remove(last_id);
  slow_board->Change([&] { EXPECT_LT(slow_board->hidden.size(), 10000u) << "it began first"; });
  transport->Remove(slow_id);
  EXPECT_TRUE(slow_board->destroyed);
  EXPECT_LT(slow_board->hidden.size(), 20000u);
}

TEST_F(TransportTest, ASlowConsumerLosesNothingThatTheReplayHas) {
  Transport::Options tight = QuickTransport();
  tight.live_high_water_mark = 10;
  transport = std::make_unique<Transport>(tight);
  FakePublisher publisher({.send_high_water_mark = 10});
  StreamOptions options = QuickStream(true);
  options.max_pending_bytes = 20'000;
  const auto board = Listen(
      {.endpoint = publisher.endpoint(), .replay_endpoint = publisher.replay_endpoint()}, options);
  publisher.Publish("a");
  ASSERT_TRUE(board->WaitFor(TrustState::kLive, {"a"}));
  board->Change([&] { board->apply_takes = std::chrono::microseconds(300); });
  for (int i = 0; i < 1500; ++i) publisher.Publish(std::string(10'000, 'x') + std::to_string(i));
  EXPECT_TRUE(board->WaitFor(TrustState::kLive, publisher.ring()));
  EXPECT_GT(transport->Counters(last_id).gaps, 0u) << "the test is to overflow something";
}

TEST_F(TransportTest, AConsumersDeadlineIsKept) {
  FakePublisher publisher({.replay_port = -1});
  const auto board =
      Listen(publisher.endpoint(), "", [](Board& b) { b.tick_at = MonoNow() + milliseconds(50); });
  EXPECT_TRUE(board->Wait([](const Board& b) { return b.ticks == 1; }));
}

TEST_F(TransportTest, TwoHundredPublishersComeAndGo) {
  FakePublisher publisher({});
  publisher.Publish("a0");
  std::vector<std::shared_ptr<Board>> boards;
  std::vector<Transport::PublisherId> ids;
  for (int i = 0; i < 200; ++i) {
    boards.push_back(i % 4 == 0 ? Listen(LocalEndpoint(1), LocalEndpoint(1)) : Listen(publisher));
    ids.push_back(last_id);
    if (i % 3 == 0) {
      transport->Remove(ids.back());
      EXPECT_TRUE(boards.back()->destroyed);
    }
  }
  for (size_t i = 0; i < boards.size(); ++i) {
    if (i % 3 != 0 && i % 4 != 0) {
      ASSERT_TRUE(boards[i]->WaitFor(TrustState::kLive, {"a0"})) << i;
    }
  }
  for (const auto id : ids) transport->Remove(id);
  for (const auto& board : boards) EXPECT_TRUE(board->destroyed);
}

TEST_F(TransportTest, PublishersAreAddedAndRemovedFromManyThreads) {
  FakePublisher publisher({});
  publisher.Publish("a0");
  const std::string endpoint = publisher.endpoint();
  const std::string replay_endpoint = publisher.replay_endpoint();
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        const auto board = std::make_shared<Board>();
        const auto id = transport->Add({.endpoint = endpoint, .replay_endpoint = replay_endpoint},
                                       QuickStream(true), std::make_unique<BoardConsumer>(board));
        if (!id || !board->WaitFor(TrustState::kLive, {"a0"})) failures.fetch_add(1);
        if (id) static_cast<void>(transport->Counters(*id));
        if (id) transport->Remove(*id);
        if (!board->destroyed) failures.fetch_add(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures.load(), 0);
}

// Within a second, for which a busy machine may take a few.
constexpr Duration kTheEndTakes = seconds(4);

TEST_F(TransportTest, EndsWithinASecondWhileReplaysHangAndPeersAreStrange) {
  transport.reset();
  transport = std::make_unique<Transport>(PatientTransport());
  FakePublisher hanging({.hangs = true});
  StrangeServer silent("");
  std::vector<std::shared_ptr<Board>> boards;
  const auto listen = [&](const std::string& endpoint, const std::string& replay_endpoint) {
    boards.push_back(
        Listen({.endpoint = endpoint, .replay_endpoint = replay_endpoint}, PatientStream(true)));
  };
  for (int i = 0; i < 20; ++i) {
    listen(hanging.endpoint(), hanging.replay_endpoint());
    listen(LocalEndpoint(silent.port()), LocalEndpoint(silent.port()));
    listen("tcp://192.0.2.1:5557", "tcp://192.0.2.1:5558");
  }
  ASSERT_TRUE(boards[0]->WaitForReason("no_events_yet"));
  const MonoTime start = MonoNow();
  transport.reset();
  EXPECT_LT(MonoNow() - start, kTheEndTakes);
  for (const auto& board : boards) EXPECT_TRUE(board->destroyed);
}

TEST_F(TransportTest, ANameIsTriedInBothAddressFamilies) {
  FakePublisher publisher({.replay_port = -1});
  std::string endpoint = publisher.endpoint();
  endpoint.replace(endpoint.find("127.0.0.1"), sizeof "127.0.0.1" - 1, "localhost");
  ASSERT_TRUE(Listen(endpoint, "")->WaitForReason("no_events_yet"));

  zmq::context_t context;
  zmq::socket_t six(context, zmq::socket_type::pub);
  six.set(zmq::sockopt::ipv6, true);
  six.set(zmq::sockopt::linger, 0);
  try {
    six.bind("tcp://[::1]:*");
  } catch (const zmq::error_t&) {
    GTEST_SKIP() << "this machine has no IPv6";
  }
  endpoint = six.get(zmq::sockopt::last_endpoint);
  ASSERT_TRUE(Listen(endpoint, "")->WaitForReason("no_events_yet"));
}

// Answers for host names as a test wants it; outlives the transport.
class Names {
 public:
  using Addresses = std::vector<std::string>;

  ResolveFunction Function() {
    return [state = state_](const std::string& host) -> HostAddresses {
      std::unique_lock lock(state->mutex);
      ++state->asked;
      if (host == "hangs.test") state->changed.wait(lock, [&] { return state->ended; });
      const auto found = state->addresses.find(host);
      if (found == state->addresses.end()) return Fail("Name or service not known");
      return found->second;
    };
  }
  ~Names() {
    const std::lock_guard lock(state_->mutex);
    state_->ended = true;
    state_->changed.notify_all();
  }
  void Set(const std::string& host, Addresses addresses) {
    const std::lock_guard lock(state_->mutex);
    state_->addresses[host] = std::move(addresses);
  }
  int asked() const {
    const std::lock_guard lock(state_->mutex);
    return state_->asked;
  }

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    std::map<std::string, Addresses> addresses;
    int asked = 0;
    bool ended = false;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

class NamedHosts : public TransportTest {
 protected:
  NamedHosts() {
    // A handshake that a busy machine holds up is none that failed: that would be a reason to ask
    // for the name again.
    auto options = PatientTransport();
    options.resolve = names.Function();
    transport = std::make_unique<Transport>(options);
  }
  static std::string At(const std::string& host, const std::string& local_endpoint) {
    return "tcp://" + host + local_endpoint.substr(local_endpoint.rfind(':'));
  }

  Names names;
};

TEST_F(NamedHosts, TheirAddressesAreTriedInTurn) {
  names.Set("engine.test", {"::1", "127.0.0.2", "127.0.0.1"});  // the last one listens
  FakePublisher publisher({});
  publisher.Publish("a0");
  const auto board = Listen(At("engine.test", publisher.endpoint()),
                            At("engine.test", publisher.replay_endpoint()));
  ASSERT_TRUE(board->WaitFor(TrustState::kLive, {"a0"}));
  EXPECT_EQ(names.asked(), 1) << "the replay goes where the live connection goes";
}

TEST_F(NamedHosts, AReplayEndpointOfAnotherNameIsResolvedToo) {
  names.Set("replay.test", {"127.0.0.2", "127.0.0.1"});  // the first one does not answer
  FakePublisher publisher({});
  publisher.Publish("a0");
  const auto board = Listen(publisher.endpoint(), At("replay.test", publisher.replay_endpoint()));
  ASSERT_TRUE(board->WaitFor(TrustState::kLive, {"a0"}));
}

TEST_F(NamedHosts, OneThatCannotBeResolvedIsToldAndTriedAgain) {
  FakePublisher publisher({});
  publisher.Publish("a0");
  const auto board = Listen(At("engine.test", publisher.endpoint()),
                            At("replay.test", publisher.replay_endpoint()));
  ASSERT_TRUE(board->WaitForReason("unreachable"));
  ASSERT_TRUE(board->Wait([](const Board& b) {
    return b.trust.detail.find("cannot resolve host 'engine.test' of tcp://engine.test:") == 0 &&
           b.trust.detail.find("Name or service not known") != std::string::npos;
  }));
  names.Set("engine.test", {"127.0.0.1"});
  ASSERT_TRUE(board->Wait([](const Board& b) {
    return b.trust.detail.find("cannot resolve host 'replay.test'") != std::string::npos;
  }));
  names.Set("replay.test", {"127.0.0.1"});
  ASSERT_TRUE(board->WaitFor(TrustState::kLive, {"a0"}));
}

TEST_F(NamedHosts, AnEngineThatReturnsAtAnotherAddressIsFollowed) {
  zmq::context_t context;
  const int port = FreePort();
  const auto bind = [&](const std::string& address) {
    zmq::socket_t socket(context, zmq::socket_type::pub);
    socket.set(zmq::sockopt::linger, 0);
    socket.bind("tcp://" + address + ":" + std::to_string(port));
    return socket;
  };
  names.Set("engine.test", {"127.0.0.1"});
  auto socket = bind("127.0.0.1");
  const auto board = Listen("tcp://engine.test:" + std::to_string(port), "");
  ASSERT_TRUE(board->WaitForReason("no_events_yet"));
  names.Set("engine.test", {"127.0.0.2"});
  socket = bind("127.0.0.2");
  ASSERT_TRUE(
      board->Wait([&](const Board&) { return transport->Counters(last_id).connects == 2; }));
  ASSERT_TRUE(board->WaitForReason("no_events_yet"));
}

TEST_F(NamedHosts, ASilentNameServerHoldsUpNobodyElseAndNotTheEnd) {
  auto options = PatientTransport();
  options.handshake_timeout = seconds(5);  // a name's address is waited for as long
  options.resolve = names.Function();
  transport = std::make_unique<Transport>(options);
  names.Set("engine.test", {"127.0.0.1"});
  FakePublisher publisher({});
  publisher.Publish("a0");
  std::vector<std::shared_ptr<Board>> hanging;
  for (int i = 0; i < 20; ++i) {
    hanging.push_back(Listen("tcp://hangs.test:5557", "tcp://hangs.test:5558"));
  }
  const auto replay_hangs = Listen(publisher.endpoint(), "tcp://hangs.test:5558");
  const auto literal = Listen(publisher);
  const auto named = Listen(At("engine.test", publisher.endpoint()),
                            At("engine.test", publisher.replay_endpoint()));
  ASSERT_TRUE(literal->WaitFor(TrustState::kLive, {"a0"}));
  ASSERT_TRUE(named->WaitFor(TrustState::kLive, {"a0"}));
  for (const auto& board : hanging) ASSERT_TRUE(board->WaitForReason("unreachable"));
  EXPECT_TRUE(hanging[0]->Wait(
      [](const Board& b) { return b.trust.detail.find("cannot resolve host 'hangs.test'") == 0; }));
  ASSERT_TRUE(replay_hangs->WaitForReason("no_events_yet"));
  const MonoTime start = MonoNow();
  transport.reset();
  EXPECT_LT(MonoNow() - start, kTheEndTakes);
  for (const auto& board : hanging) EXPECT_TRUE(board->destroyed);
}

TEST_F(TransportTest, RunsWorkOnThePublishersThread) {
  FakePublisher publisher({});
  publisher.Publish("a0");
  const auto board = Listen(publisher);
  ASSERT_TRUE(board->WaitFor(TrustState::kLive, {"a0"}));
  const uint64_t replays = transport->Counters(last_id).replays;
  EXPECT_TRUE(transport->Run(last_id,
                             [](PublisherStream& stream, Consumer&) { stream.Resync(MonoNow()); }));
  ASSERT_TRUE(board->Wait([&](const Board& b) {
    return transport->Counters(last_id).replays > replays && b.trust.state == TrustState::kLive;
  }));
  EXPECT_FALSE(transport->Run(999, [](PublisherStream&, Consumer&) { FAIL(); }));
}

TEST_F(TransportTest, WhatCanNeverWorkIsAnError) {
  const auto add = [&](const std::string& endpoint, const std::string& replay) {
    return transport->Add({.endpoint = endpoint, .replay_endpoint = replay}, QuickStream(true),
                          std::make_unique<BoardConsumer>(std::make_shared<Board>()));
  };
  EXPECT_FALSE(add("127.0.0.1:5557", LocalEndpoint(5558)));
  EXPECT_FALSE(add(LocalEndpoint(5557), "tcp://127.0.0.1"));
  EXPECT_FALSE(add(LocalEndpoint(5557), ""));
  EXPECT_FALSE(add("tcp://127.0.0.1:99999", LocalEndpoint(5558)));
  Transport small({.threads = 1, .max_publishers = 1});
  const auto board = std::make_shared<Board>();
  EXPECT_TRUE(
      small.Add({.endpoint = LocalEndpoint(5557)}, {}, std::make_unique<BoardConsumer>(board)));
  const auto beyond =
      small.Add({.endpoint = LocalEndpoint(5558)}, {}, std::make_unique<BoardConsumer>(board));
  ASSERT_FALSE(beyond);
  EXPECT_NE(beyond.error().Message().find("1 publishers are registered"), std::string::npos);
}

TEST(TransportLimits, AreRaisedOrToldWhenTheyCannotBe) {
  EXPECT_EQ(Transport({.max_publishers = 16}).limit_warning(), "");
  const Transport impossible({.max_publishers = 4'000'000'000});
  EXPECT_NE(impossible.limit_warning().find("open files"), std::string::npos);
  EXPECT_NE(impossible.limit_warning().find("ZeroMQ sockets"), std::string::npos);
}

TEST(TransportIdle, TwoHundredIdlePublishersCostLittle) {
  Transport transport({.threads = 2, .max_publishers = 256});
  FakePublisher publisher({});
  publisher.Publish("a0");
  std::vector<std::shared_ptr<Board>> boards;
  for (int i = 0; i < 200; ++i) {
    boards.push_back(std::make_shared<Board>());
    ASSERT_TRUE(transport.Add(
        {.endpoint = publisher.endpoint(), .replay_endpoint = publisher.replay_endpoint()},
        {.has_replay = true, .probe_interval = std::chrono::hours(1), .first_probe = seconds(60)},
        std::make_unique<BoardConsumer>(boards.back())));
  }
  for (const auto& board : boards) ASSERT_TRUE(board->WaitFor(TrustState::kLive, {"a0"}));
  const auto used = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return seconds(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           std::chrono::microseconds(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
  };
  // Of CPU time, in a second in which nothing happens: a busy loop would take all of it.
  const auto before = used();
  const MonoTime start = MonoNow();
  while (MonoNow() - start < seconds(1)) std::this_thread::sleep_for(milliseconds(50));
  EXPECT_LT(used() - before, milliseconds(300));
}

}  // namespace
}  // namespace conductor::stream
