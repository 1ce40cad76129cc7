#include "lib/trace/simulated_publisher.h"

#include <gtest/gtest.h>

#include <chrono>
#include <iterator>
#include <zmq.hpp>
#include <zmq_addon.hpp>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/wire/decoder.h"

namespace conductor::trace {
namespace {

using Frames = std::vector<std::string>;

std::string SequenceBytes(uint64_t sequence) {
  const auto bytes = StoreBigEndian64(sequence);
  return {bytes.begin(), bytes.end()};
}

// What a listener does, with sockets of its own.
class Listener {
 public:
  explicit Listener(const SimulatedPublisher& publisher, const std::string& topic = "")
      : live_(context_, zmq::socket_type::sub), replay_(context_, zmq::socket_type::dealer) {
    for (zmq::socket_t* socket : {&live_, &replay_}) {
      socket->set(zmq::sockopt::linger, 0);
      socket->set(zmq::sockopt::rcvhwm, 0);
    }
    live_.set(zmq::sockopt::subscribe, topic);
    live_.connect(publisher.endpoint());
    if (!publisher.replay_endpoint().empty()) replay_.connect(publisher.replay_endpoint());
  }

  // The next live message; empty after `limit` without one.
  Frames NextLive(std::chrono::milliseconds limit = std::chrono::seconds(10)) {
    return Receive(live_, limit);
  }

  void Ask(const Frames& frames) {
    std::vector<zmq::const_buffer> parts;
    for (const std::string& frame : frames) parts.push_back(zmq::buffer(frame));
    zmq::send_multipart(replay_, parts);
  }

  Frames NextReply(std::chrono::milliseconds limit = std::chrono::seconds(10)) {
    return Receive(replay_, limit);
  }

  // All replies to a request from `start`, the end marker last.
  std::vector<Frames> Replay(uint64_t start) {
    Ask({"", SequenceBytes(start)});
    std::vector<Frames> replies;
    do {
      replies.push_back(NextReply());
    } while (replies.back().size() == 4 && !replies.back()[3].empty());
    return replies;
  }

 private:
  static Frames Receive(zmq::socket_t& socket, std::chrono::milliseconds limit) {
    socket.set(zmq::sockopt::rcvtimeo, static_cast<int>(limit.count()));
    std::vector<zmq::message_t> parts;
    Frames frames;
    if (!zmq::recv_multipart(socket, std::back_inserter(parts))) return frames;
    for (const zmq::message_t& part : parts) frames.push_back(part.to_string());
    return frames;
  }

  zmq::context_t context_;
  zmq::socket_t live_;
  zmq::socket_t replay_;
};

std::vector<wire::KvEvent> Removal(uint64_t name) {
  return {wire::BlockRemoved{{EngineHash{name}}, "GPU", {}}};
}

std::unique_ptr<SimulatedPublisher> Publisher(const SimulatedPublisher::Options& options) {
  auto publisher = SimulatedPublisher::Create(options);
  EXPECT_TRUE(publisher) << publisher.error().Message();
  return std::move(*publisher);
}

const Frames kEndMarker = {"", "", std::string(8, '\xff'), ""};

TEST(SimulatedPublisher, PublishesTopicSequenceAndPayload) {
  const auto publisher = Publisher({.topic = "kv@demo", .dp_rank = 3});
  Listener listener(*publisher, "kv@");
  // A subscription takes a while to arrive: the first message heard is that of some number.
  Frames first;
  uint64_t published = 0;
  while (first.empty() && published < 1000) {
    publisher->Publish(Removal(published++));
    first = listener.NextLive(std::chrono::milliseconds(10));
  }
  ASSERT_EQ(first.size(), 3u);
  EXPECT_EQ(first[0], "kv@demo");
  ASSERT_EQ(first[1].size(), 8u);
  const uint64_t sequence = LoadBigEndian64(first[1]);
  EXPECT_LT(sequence, published);

  wire::Decoder decoder(wire::Dialect::kVllm);
  const auto batch = decoder.Decode(first[2]);
  ASSERT_TRUE(batch) << batch.error().Message();
  EXPECT_EQ(batch->dp_rank, 3);
  EXPECT_NEAR(batch->timestamp, UnixNow(), 60);
  EXPECT_EQ(batch->events, Removal(sequence));

  for (uint64_t next = sequence + 1; next < published; ++next) {
    EXPECT_EQ(listener.NextLive()[1], SequenceBytes(next));
  }
}

TEST(SimulatedPublisher, ReplaysFromTheSequenceAskedFor) {
  const auto publisher = Publisher({.topic = "t"});
  for (uint64_t i = 0; i < 5; ++i) publisher->Publish(Removal(i));
  Listener listener(*publisher);
  const auto replies = listener.Replay(2);
  ASSERT_EQ(replies.size(), 4u);
  wire::Decoder decoder(wire::Dialect::kVllm);
  for (uint64_t i = 0; i < 3; ++i) {
    ASSERT_EQ(replies[i].size(), 4u);
    EXPECT_EQ(replies[i][0], "");
    EXPECT_EQ(replies[i][1], "t");
    EXPECT_EQ(replies[i][2], SequenceBytes(i + 2));
    EXPECT_EQ(decoder.Decode(replies[i][3])->events, Removal(i + 2));
  }
  EXPECT_EQ(replies[3], kEndMarker);
}

TEST(SimulatedPublisher, AnEmptyReplayIsOnlyTheEndMarker) {
  const auto publisher = Publisher({});
  Listener listener(*publisher);
  EXPECT_EQ(listener.Replay(0), std::vector<Frames>{kEndMarker});
  publisher->Publish(Removal(1));
  EXPECT_EQ(listener.Replay(1), std::vector<Frames>{kEndMarker});
  EXPECT_EQ(listener.Replay(0).size(), 2u);
}

TEST(SimulatedPublisher, TheRingForgetsTheOldest) {
  const auto publisher = Publisher({.ring_batches = 3});
  for (uint64_t i = 0; i < 10; ++i) publisher->Publish(Removal(i));
  Listener listener(*publisher);
  const auto replies = listener.Replay(0);
  ASSERT_EQ(replies.size(), 4u);
  EXPECT_EQ(replies[0][2], SequenceBytes(7));
}

TEST(SimulatedPublisher, ReplaysAreWholeWhateverTheirLength) {
  const auto publisher = Publisher({.ring_batches = 5000});
  for (uint64_t i = 0; i < 5000; ++i) publisher->Publish(Removal(i));
  Listener listener(*publisher);
  EXPECT_EQ(listener.Replay(0).size(), 5001u);
}

TEST(SimulatedPublisher, RequestsOfAnotherFormGetNoAnswer) {
  const auto publisher = Publisher({});
  Listener listener(*publisher);
  listener.Ask({SequenceBytes(0)});
  listener.Ask({"", "\1"});
  listener.Ask({"x", SequenceBytes(0)});
  listener.Ask({"", SequenceBytes(0), ""});
  // The one that is right is the first to be answered, and the only one.
  EXPECT_EQ(listener.Replay(0), std::vector<Frames>{kEndMarker});
  EXPECT_TRUE(listener.NextReply(std::chrono::milliseconds(50)).empty());
}

TEST(SimulatedPublisher, CanDoWithoutReplay) {
  const auto publisher = Publisher({.replay_endpoint = ""});
  EXPECT_EQ(publisher->replay_endpoint(), "");
  EXPECT_NE(publisher->endpoint(), "");
  publisher->Publish(Removal(1));
}

TEST(SimulatedPublisher, AnAddressInUseIsAnErrorThatNamesIt) {
  const auto publisher = Publisher({});
  const auto live = SimulatedPublisher::Create({.endpoint = publisher->endpoint()});
  ASSERT_FALSE(live);
  EXPECT_EQ(live.error().where, publisher->endpoint());
  const auto replay = SimulatedPublisher::Create({.replay_endpoint = publisher->replay_endpoint()});
  ASSERT_FALSE(replay);
  EXPECT_EQ(replay.error().where, publisher->replay_endpoint());
  EXPECT_FALSE(SimulatedPublisher::Create({.endpoint = "nonsense"}));
}

TEST(SimulatedPublisher, EndsAtOnceWithReadersThatNeverRead) {
  auto publisher = Publisher({});
  Listener listener(*publisher);
  for (uint64_t i = 0; i < 2000; ++i) publisher->Publish(Removal(i));
  listener.Ask({"", SequenceBytes(0)});
  ASSERT_EQ(listener.NextReply().size(), 4u);  // it is answering
  const MonoTime before = MonoNow();
  publisher.reset();
  EXPECT_LT(MonoNow() - before, std::chrono::seconds(2));
}

TEST(SimulatedPublisher, SendsPayloadsAsTheyAreUnderSequencesOfTheCaller) {
  auto publisher = SimulatedPublisher::Create({.see_subscribers = true});
  ASSERT_TRUE(publisher.has_value());
  EXPECT_FALSE((*publisher)->WaitForSubscriber(Duration::zero()));
  Listener listener(**publisher);
  ASSERT_TRUE((*publisher)->WaitForSubscriber(std::chrono::seconds(10)));
  (*publisher)->Send("topic", 3, "a");
  (*publisher)->Send("", 7, "b");
  (*publisher)->Send("", 7, "b");
  EXPECT_EQ(listener.NextLive(), (Frames{"topic", SequenceBytes(3), "a"}));
  EXPECT_EQ(listener.NextLive(), (Frames{"", SequenceBytes(7), "b"}));
  EXPECT_EQ(listener.NextLive(), (Frames{"", SequenceBytes(7), "b"}));
  const auto replies = listener.Replay(0);
  ASSERT_EQ(replies.size(), 3U);
  EXPECT_EQ(replies[0], (Frames{"", "topic", SequenceBytes(3), "a"}));
  EXPECT_EQ(replies[1], (Frames{"", "", SequenceBytes(7), "b"}));
}

TEST(SimulatedPublisher, ANewLifeHasARingOfItsOwn) {
  auto publisher = SimulatedPublisher::Create({});
  ASSERT_TRUE(publisher.has_value());
  Listener listener(**publisher);
  (*publisher)->Send("", 5, "old");
  (*publisher)->NewLife();
  (*publisher)->Send("", 0, "new");
  const auto replies = listener.Replay(0);
  ASSERT_EQ(replies.size(), 2U);
  EXPECT_EQ(replies[0], (Frames{"", "", SequenceBytes(0), "new"}));
}

}  // namespace
}  // namespace conductor::trace
