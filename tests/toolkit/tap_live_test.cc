#include "daemon/toolkit/tap_live.h"

#include <gtest/gtest.h>
#include <unistd.h>
#include <zmq.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/trace/recording_reader.h"

namespace conductor::toolkit {
namespace {

// A publisher at an ipc endpoint, and a `tap --record` of it.
class TapLiveTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "tap-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    endpoint_ = "ipc://" + folder_ + "/socket";
    options_.sources = {endpoint_};
    options_.record = folder_ + "/kv.rec";
    options_.quiet = true;
    socket_ = zmq_socket(context_, ZMQ_XPUB);
    for (const int option : {ZMQ_SNDHWM, ZMQ_LINGER}) {
      const int none = 0;
      zmq_setsockopt(socket_, option, &none, sizeof none);
    }
  }
  void TearDown() override {
    live_.reset();
    zmq_close(socket_);
    zmq_ctx_term(context_);
    std::fclose(file_);
    std::filesystem::remove_all(folder_);
  }

  void Begin() {
    view_.emplace(options_, output_, Terminal());
    ASSERT_TRUE(recorder_.Open(options_, {}));
    live_.emplace(options_, *view_, recorder_);
    if (options_.bind) {
      ASSERT_TRUE(live_->Open());
    }
    ASSERT_EQ(options_.bind ? zmq_connect(socket_, endpoint_.c_str())
                            : zmq_bind(socket_, endpoint_.c_str()),
              0);
    if (!options_.bind) {
      ASSERT_TRUE(live_->Open());
    }
    // The subscription, without which nothing is sent. Who is connected to sends it in its turn.
    char subscribed = 0;
    while (zmq_recv(socket_, &subscribed, 1, ZMQ_DONTWAIT) < 0) {
      live_->Turn(MonoNow());
      zmq_pollitem_t item = {socket_, 0, ZMQ_POLLIN, 0};
      zmq_poll(&item, 1, 10);
    }
    ASSERT_EQ(subscribed, 1);
  }

  void Publish(uint64_t sequence, const std::string& topic) {
    const auto number = StoreBigEndian64(sequence);
    zmq_send(socket_, topic.data(), topic.size(), ZMQ_SNDMORE);
    zmq_send(socket_, number.data(), number.size(), ZMQ_SNDMORE);
    zmq_send(socket_, "payload", 7, 0);
  }

  // However slow this machine is.
  void Drain() { live_->Drain(std::chrono::seconds(2), std::chrono::minutes(1)); }

  // What is recorded at the end: messages, and the publisher of each.
  std::vector<std::string> Recorded() {
    recorder_.Close();
    EXPECT_FALSE(recorder_.problem()) << recorder_.problem()->Message();
    auto reader = trace::RecordingReader::Open({options_.record});
    EXPECT_TRUE(reader);
    std::vector<std::string> facts;
    while (const auto item = reader->Next()) {
      const auto* frame = std::get_if<trace::RecordedFrame>(&*item);
      if (frame != nullptr) facts.push_back(reader->publishers().at(frame->publisher).facts);
    }
    publishers_ = reader->publishers().size();
    return facts;
  }

  std::string folder_;
  std::string endpoint_;
  TapOptions options_;
  std::FILE* file_ = std::tmpfile();
  LineOutput output_{fileno(file_), -1, false};
  std::optional<TapView> view_;
  TapRecorder recorder_;
  std::optional<TapLive> live_;
  size_t publishers_ = 0;
  void* context_ = zmq_ctx_new();
  void* socket_ = nullptr;
};

TEST_F(TapLiveTest, WhatHasComeIsTakenBeforeTheEnd) {
  Begin();
  constexpr uint64_t kMessages = 3000;  // more than are taken in one turn
  for (uint64_t sequence = 0; sequence < kMessages; ++sequence) Publish(sequence, "");
  Drain();
  EXPECT_EQ(Recorded().size(), kMessages);
}

TEST_F(TapLiveTest, WhatWaitsForAReplayIsTakenBeforeTheEndToo) {
  options_.replay_endpoint = "ipc://" + folder_ + "/nobody";
  options_.from = 0;
  Begin();
  for (uint64_t sequence = 5; sequence < 8; ++sequence) Publish(sequence, "");
  // They are taken and wait: the replay is not answered, nor is it given up before 5 s. What has
  // come is not taken by anybody but the turn.
  std::vector<zmq_pollitem_t> items;
  live_->Poll(items);
  zmq_poll(&items[1], 1, -1);
  live_->Turn(MonoNow());
  EXPECT_FALSE(view_->last(0));
  Drain();
  EXPECT_EQ(Recorded().size(), 3u);
}

TEST_F(TapLiveTest, APeerThatMakesUpTopicsTakesNobodysName) {
  options_.bind = true;
  Begin();
  constexpr size_t kTopics = TapLive::kMostPeers + 10;
  for (size_t topic = 0; topic < kTopics; ++topic) Publish(0, "topic-" + std::to_string(topic));
  testing::internal::CaptureStderr();
  Drain();
  const std::string said = testing::internal::GetCapturedStderr();
  const auto facts = Recorded();
  ASSERT_EQ(facts.size(), kTopics);
  EXPECT_EQ(publishers_, TapLive::kMostPeers + 1);
  for (size_t topic = 0; topic < kTopics; ++topic) {
    const std::string known = R"("peer_topic":"topic-)" + std::to_string(topic) + "\"";
    const std::string expected = topic < TapLive::kMostPeers ? known : R"("peer":"others")";
    EXPECT_NE(facts[topic].find(expected), std::string::npos) << topic << ": " << facts[topic];
  }
  EXPECT_NE(said.find("2048 publishers are told apart"), std::string::npos) << said;
}

}  // namespace
}  // namespace conductor::toolkit
