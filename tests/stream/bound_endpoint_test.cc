// Publishers that connect to us, against the real libzmq.

#include "lib/stream/bound_endpoint.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "fake_publisher.h"
#include "raw_peer.h"
#include "transport_fixture.h"

namespace conductor::stream {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// "3 text": a batch of rank 3.
std::optional<int64_t> RankOf(std::string_view payload) {
  if (payload.empty() || payload[0] < '0' || payload[0] > '9') return std::nullopt;
  return std::stoll(std::string(payload));
}

class BoundTest : public TransportTest {
 protected:
  std::shared_ptr<Board> Bound(PublisherAddress address) {
    if (address.endpoint.empty()) address.endpoint = LocalEndpoint(port);
    address.mode = ListenMode::kBind;
    StreamOptions options = QuickStream(!address.replay_endpoint.empty());
    options.batch_rank = RankOf;
    options.max_pending_bytes = max_pending_bytes;
    return Listen(address, options);
  }
  void LimitMessages(int64_t bytes) {
    Transport::Options options = PatientTransport();
    options.max_message_bytes = bytes;
    transport = std::make_unique<Transport>(options);
  }
  FakePublisher::Options Connecting(const std::string& topic, bool has_replay) const {
    return {.replay_port = has_replay ? 0 : -1, .connect = LocalEndpoint(port), .topic = topic};
  }
  // Publishes until something arrives: nobody knows when a subscription has taken effect.
  static bool Arrives(FakePublisher& publisher, Board& board, const std::string& payload) {
    const MonoTime until = MonoNow() + kSoon;
    while (MonoNow() < until) {
      publisher.Publish(payload);
      const MonoTime soon = MonoNow() + milliseconds(50);
      bool there = false;
      while (!there && MonoNow() < soon) {
        board.Change([&] { there = !board.visible.empty() && board.visible.back() == payload; });
      }
      if (there) return true;
    }
    return false;
  }

  // Publishes until live messages arrive.
  bool Flows(FakePublisher& publisher, Board& board, Transport::PublisherId id) {
    return board.Wait([&](const Board&) {
      publisher.Publish("flows");
      return transport->Counters(id).applied_live > 0;
    }) && board.WaitFor(TrustState::kLive, publisher.ring());
  }

  int port = FreePort();
  size_t max_pending_bytes = 64 << 20;
};

TEST_F(BoundTest, APublisherThatConnectsIsReplayedAndFollowed) {
  FakePublisher publisher(Connecting("kv", true));
  publisher.Lose("a0");
  const auto board = Bound({.replay_endpoint = publisher.replay_endpoint()});
  ASSERT_TRUE(board->WaitFor(TrustState::kLive, {"a0"})) << "an idle one too";
  publisher.Publish("a1");
  ASSERT_TRUE(board->WaitFor(TrustState::kLive, {"a0", "a1"}));
}

TEST_F(BoundTest, AMessageWithoutAnEndIsCutOffAndNobodyElse) {
  LimitMessages(64 << 10);
  FakePublisher publisher(Connecting("kv", true));
  publisher.Lose("a0");
  const auto board = Bound({.replay_endpoint = publisher.replay_endpoint()});
  ASSERT_TRUE(board->WaitFor(TrustState::kLive, {"a0"}));
  const RawPeer hostile(port, "PUB");
  // Each frame says that another one follows.
  std::string empty_frames;
  for (int i = 0; i < (1 << 20); ++i) empty_frames.append("\1\0", 2);
  (void)hostile.Send(empty_frames);
  EXPECT_TRUE(hostile.WaitForEnd());
  publisher.Publish("a1");
  EXPECT_TRUE(board->WaitFor(TrustState::kLive, {"a0", "a1"}));
}

TEST_F(BoundTest, MuchThatComesInWholeMessagesIsNotCutOff) {
  LimitMessages(64 << 10);
  FakePublisher publisher(Connecting("kv", true));
  const auto board = Bound({.replay_endpoint = publisher.replay_endpoint()});
  ASSERT_TRUE(Flows(publisher, *board, last_id));
  const uint64_t before = transport->Counters(last_id).disconnects;
  for (int i = 0; i < 64; ++i) {  // 4 MiB, and one message may have little more than 1
    publisher.Publish(std::string(60 << 10, 'b') + std::to_string(i));
  }
  EXPECT_TRUE(board->WaitFor(TrustState::kLive, publisher.ring()));
  EXPECT_EQ(transport->Counters(last_id).disconnects, before) << "it is the same connection";
}

TEST_F(BoundTest, OneWithoutReplayIsConnectingUntilItsFirstMessage) {
  const auto board = Bound({});
  ASSERT_TRUE(board->Wait([](const Board& b) {
    return b.trust.detail.find("nothing of this publisher has come yet") != std::string::npos;
  })) << board->LastTrust().detail;
  EXPECT_EQ(board->LastTrust().reason, "not_connected");
  FakePublisher publisher(Connecting("kv", false));
  ASSERT_TRUE(Arrives(publisher, *board, "a"));
}

TEST_F(BoundTest, ManyPublishersOfOneEndpointAreToldApartByTheirTopics) {
  std::vector<std::unique_ptr<FakePublisher>> publishers;
  std::vector<std::shared_ptr<Board>> boards;
  for (int i = 0; i < 5; ++i) {
    const std::string topic = "kv@" + std::to_string(i);
    publishers.push_back(std::make_unique<FakePublisher>(Connecting(topic, true)));
    boards.push_back(
        Bound({.replay_endpoint = publishers.back()->replay_endpoint(), .topic = topic}));
  }
  for (size_t i = 0; i < 5; ++i) publishers[i]->Publish("a" + std::to_string(i));
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_TRUE(boards[i]->WaitFor(TrustState::kLive, {"a" + std::to_string(i)})) << i;
  }
}

TEST_F(BoundTest, RanksOfOneMachineAreToldApartByTheirBatches) {
  FakePublisher zero(Connecting("kv", true));
  FakePublisher one(Connecting("kv", true));
  const auto board0 = Bound({.replay_endpoint = zero.replay_endpoint(), .peer = "127.0.0.1"});
  const auto board1 =
      Bound({.replay_endpoint = one.replay_endpoint(), .peer = "127.0.0.1", .rank = 1});
  zero.Publish("0 a");
  one.Publish("1 a");
  EXPECT_TRUE(board0->WaitFor(TrustState::kLive, {"0 a"}));
  EXPECT_TRUE(board1->WaitFor(TrustState::kLive, {"1 a"}));
}

TEST_F(BoundTest, AnotherPeersMessagesAreCountedAndIgnored) {
  FakePublisher publisher(Connecting("kv", false));
  const auto board = Bound({.peer = "192.0.2.7"});
  const auto id = last_id;
  ASSERT_TRUE(board->Wait([&](const Board&) {
    publisher.Publish("a");
    return transport->Counters(id).unrouted > 0;
  }));
  EXPECT_EQ(board->LastTrust().state, TrustState::kConnecting);
}

TEST_F(BoundTest, ARestartedPublisherOwnsNothingOfItsFormerLife) {
  auto publisher = std::make_unique<FakePublisher>(Connecting("kv", true));
  const std::string replay = publisher->replay_endpoint();
  const auto board = Bound({.replay_endpoint = replay});
  ASSERT_TRUE(Flows(*publisher, *board, last_id));
  publisher.reset();
  ASSERT_TRUE(board->WaitForReason("unreachable"));
  FakePublisher::Options again = Connecting("kv", true);
  again.replay_port = std::stoi(replay.substr(replay.rfind(':') + 1));
  publisher = std::make_unique<FakePublisher>(again);
  publisher->Publish("b0");
  ASSERT_TRUE(board->WaitFor(TrustState::kLive, {"b0"}));
}

TEST_F(BoundTest, OneThatIsBackBeforeItIsKnownToBeGoneIsAskedThoughItIsSilent) {
  auto publisher = std::make_unique<FakePublisher>(Connecting("kv", true));
  const auto board = Bound({.replay_endpoint = publisher->replay_endpoint()});
  ASSERT_TRUE(Flows(*publisher, *board, last_id));
  // Its new process, which says nothing. It is connected when it hears of a subscription.
  zmq::context_t context;
  zmq::socket_t back(context, zmq::socket_type::xpub);
  back.set(zmq::sockopt::linger, 0);
  back.connect(LocalEndpoint(port));
  zmq::message_t subscription;
  ASSERT_TRUE(back.recv(subscription));
  const uint64_t connects = transport->Counters(last_id).connects;
  publisher.reset();
  EXPECT_TRUE(
      board->Wait([&](const Board&) { return transport->Counters(last_id).connects > connects; }));
}

TEST_F(BoundTest, OneWithoutReplayThatReconnectsIsDoubtful) {
  auto publisher = std::make_unique<FakePublisher>(Connecting("kv", false));
  const auto board = Bound({});
  ASSERT_TRUE(Arrives(*publisher, *board, "a"));
  publisher.reset();
  ASSERT_TRUE(board->WaitForReason("unreachable"));
  publisher = std::make_unique<FakePublisher>(Connecting("kv", false));
  // Its first message that comes is not by chance the one behind the last of its predecessor.
  for (int i = 0; i < 1000; ++i) publisher->Lose("lost");
  ASSERT_TRUE(board->Wait([&](const Board& b) {
    publisher->Publish("b");
    return b.trust.state == TrustState::kDegraded;
  }));
}

TEST_F(BoundTest, TwoEnginesOfOneRegistrationAreSharedUntilOneLeaves) {
  auto one = std::make_unique<FakePublisher>(Connecting("kv", true));
  FakePublisher other(Connecting("kv", false));
  const auto board = Bound({.replay_endpoint = one->replay_endpoint()});
  one->Publish("a0");
  ASSERT_TRUE(board->WaitFor(TrustState::kLive, {"a0"}));
  ASSERT_TRUE(board->Wait([&](const Board& b) {
    one->Publish("a");
    other.Publish("b");
    return b.trust.reason == "shared_endpoint";
  }));
  EXPECT_TRUE(board->Wait([](const Board& b) {
    return b.trust.state == TrustState::kDegraded &&
           b.trust.detail.find("127.0.0.1 with topic 'kv'") != std::string::npos;
  })) << board->LastTrust().detail;
  one.reset();
  EXPECT_TRUE(board->Wait([](const Board& b) { return b.trust.reason != "shared_endpoint"; }));
}

TEST_F(BoundTest, RegistrationsThatCannotBeToldApartAreSharedUntilOneIsRemoved) {
  const auto first = Bound({});
  const auto second = Bound({});
  EXPECT_TRUE(first->WaitForReason("shared_endpoint"));
  EXPECT_TRUE(second->WaitForReason("shared_endpoint"));
  transport->Remove(last_id);
  EXPECT_TRUE(first->WaitForReason("not_connected"));
  FakePublisher publisher(Connecting("kv", false));
  EXPECT_TRUE(Arrives(publisher, *first, "a"));
}

TEST_F(BoundTest, ASlowOneLosesItsOwnMessagesOnlyAndHealsByReplay) {
  max_pending_bytes = 4000;
  FakePublisher slow_publisher(Connecting("slow", true));
  FakePublisher quick_publisher(Connecting("quick", true));
  const auto slow = Bound({.replay_endpoint = slow_publisher.replay_endpoint(), .topic = "slow"});
  const auto slow_id = last_id;
  const auto quick =
      Bound({.replay_endpoint = quick_publisher.replay_endpoint(), .topic = "quick"});
  ASSERT_TRUE(Flows(slow_publisher, *slow, slow_id));
  ASSERT_TRUE(Flows(quick_publisher, *quick, last_id));
  slow->Change([&] { slow->apply_takes = milliseconds(2); });
  for (int i = 0; i < 200; ++i) slow_publisher.Publish(std::string(100, 's') + std::to_string(i));
  quick_publisher.Publish("q1");
  EXPECT_TRUE(quick->WaitFor(TrustState::kLive, quick_publisher.ring()));
  EXPECT_TRUE(slow->WaitFor(TrustState::kLive, slow_publisher.ring()));
  EXPECT_GT(transport->Counters(slow_id).pending_dropped, 0u);
}

TEST_F(BoundTest, APortThatIsTakenIsWaitedFor) {
  auto taken = std::make_unique<TcpListener>();
  port = taken->port();
  FakePublisher publisher(Connecting("kv", false));
  const auto board = Bound({});
  ASSERT_TRUE(board->WaitForReason("unreachable"));
  EXPECT_NE(board->LastTrust().detail.find("cannot listen at"), std::string::npos);
  taken.reset();
  EXPECT_TRUE(Arrives(publisher, *board, "a"));
}

TEST_F(BoundTest, AnyAddressTakesBothFamilies) {
  const auto board = Bound({.endpoint = "tcp://*:" + std::to_string(port), .peer = "127.0.0.1"});
  FakePublisher publisher(Connecting("kv", false));
  EXPECT_TRUE(Arrives(publisher, *board, "a")) << "mapped into IPv6 or not, it is one address";
}

TEST_F(BoundTest, AnIpv6AddressIsBound) {
  const int probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in6 loopback{};
  loopback.sin6_family = AF_INET6;
  loopback.sin6_addr = in6addr_loopback;
  const bool has_ipv6 =
      probe >= 0 && bind(probe, reinterpret_cast<sockaddr*>(&loopback), sizeof loopback) == 0;
  if (probe >= 0) close(probe);
  if (!has_ipv6) GTEST_SKIP() << "this machine has no IPv6";
  const auto board = Bound({.endpoint = "tcp://[::]:" + std::to_string(port), .peer = "::1"});
  FakePublisher publisher({.replay_port = -1, .connect = "tcp://[::1]:" + std::to_string(port)});
  EXPECT_TRUE(Arrives(publisher, *board, "a"));
}

TEST_F(BoundTest, AnEndpointMayBeBoundAgainWhenAllOfItAreGone) {
  for (int i = 0; i < 3; ++i) {
    const auto board = Bound({});
    FakePublisher publisher(Connecting("kv", false));
    EXPECT_TRUE(Arrives(publisher, *board, "a")) << i;
    transport->Remove(last_id);
    EXPECT_TRUE(board->destroyed);
  }
}

TEST_F(BoundTest, WhatCanNeverBeBoundIsAnError) {
  const auto refused = [&](const std::string& endpoint, const std::string& peer) {
    const auto added = transport->Add(
        {.endpoint = endpoint, .mode = ListenMode::kBind, .peer = peer}, QuickStream(false),
        std::make_unique<BoardConsumer>(std::make_shared<Board>()));
    return added ? std::string() : added.error().Message();
  };
  EXPECT_NE(refused("tcp://conductor:5557", "").find("'conductor' is a name"), std::string::npos);
  EXPECT_NE(refused("tcp://*:5557", "engine").find("'engine' is no address"), std::string::npos);
  EXPECT_NE(refused("ipc:///no/such/folder/socket", "").find("cannot listen"), std::string::npos);
}

TEST(BoundEndpointKey, IsOneForAllSpellings) {
  EXPECT_EQ(BoundEndpoint::KeyOf("tcp://[::]:5557"), BoundEndpoint::KeyOf("tcp://*:5557"));
  EXPECT_EQ(BoundEndpoint::KeyOf("tcp://[0:0::1]:5557"), BoundEndpoint::KeyOf("tcp://[::1]:5557"));
  EXPECT_NE(BoundEndpoint::KeyOf("tcp://*:5557"), BoundEndpoint::KeyOf("tcp://*:5558"));
}

TEST(CanonicalAddress, IsOneForAllSpellings) {
  EXPECT_EQ(CanonicalAddress("10.0.0.1"), "10.0.0.1");
  EXPECT_EQ(CanonicalAddress("::ffff:10.0.0.1"), "10.0.0.1");
  EXPECT_EQ(CanonicalAddress("[0:0::1]"), "::1");
  EXPECT_EQ(CanonicalAddress("fe80::1%eth0"), "fe80::1%eth0");
  EXPECT_EQ(CanonicalAddress("engine"), std::nullopt);
  EXPECT_EQ(CanonicalAddress(""), std::nullopt);
}

}  // namespace
}  // namespace conductor::stream
