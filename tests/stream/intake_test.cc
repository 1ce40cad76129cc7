#include "lib/stream/intake.h"

#include <gtest/gtest.h>

#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "transport_fixture.h"

namespace conductor::stream {
namespace {

using Message = Intake::Message;

std::vector<Message> Numbered(uint64_t first, size_t count, const std::string& payload = "p") {
  std::vector<Message> messages;
  for (size_t i = 0; i < count; ++i) messages.push_back({"", first + i, payload});
  return messages;
}

// The sequence numbers that wait, taken out; a new life is -1.
std::vector<int> Drained(Intake& intake) {
  std::vector<int> sequences;
  while (const auto item = intake.Next()) {
    const auto* message = std::get_if<Message>(&*item);
    sequences.push_back(message ? static_cast<int>(message->sequence) : -1);
    intake.Done();
  }
  return sequences;
}

TEST(Intake, GivesOutWhatWasHandedInInOrder) {
  Intake intake(1 << 20, "one");
  auto messages = Numbered(0, 3);
  EXPECT_EQ(intake.Offer("one", messages).taken, 3u);
  EXPECT_EQ(Drained(intake), (std::vector<int>{0, 1, 2}));
  EXPECT_TRUE(intake.empty());
}

TEST(Intake, TakesFromTheFirstOnAsManyAsFit) {
  Intake intake(5000, "one");
  auto messages = Numbered(0, 10, std::string(1500, 'x'));
  EXPECT_EQ(intake.Offer("one", messages).taken, 3u);
  EXPECT_EQ(messages[3].payload.size(), 1500u) << "what was not taken is still there";
  EXPECT_EQ(intake.Offer("one", std::span(messages).subspan(3)).taken, 0u);
  (void)intake.Next();
  EXPECT_EQ(intake.Offer("one", std::span(messages).subspan(3)).taken, 1u);
  EXPECT_EQ(Drained(intake), (std::vector<int>{1, 2, 3}));
}

TEST(Intake, TakesOneThatIsAboveTheLimitWhereNothingWaits) {
  Intake intake(1, "one");
  auto messages = Numbered(0, 2, "longer than that");
  EXPECT_EQ(intake.Offer("one", messages).taken, 1u);
}

TEST(Intake, ANewLifeDropsWhatWaits) {
  Intake intake(1 << 20, "one");
  auto old = Numbered(0, 3);
  const auto offered = intake.Offer("one", old);
  intake.BeginLife("two");
  auto messages = Numbered(0, 1);
  EXPECT_FALSE(intake.Offer("one", messages).present);
  EXPECT_TRUE(intake.IsFormer("one"));
  EXPECT_FALSE(intake.IsFormer("two"));
  EXPECT_TRUE(intake.Offer("two", messages).present);
  EXPECT_TRUE(intake.WaitFor(offered.ticket, MonoNow(), {})) << "it will have no effect any more";
  EXPECT_EQ(Drained(intake), (std::vector<int>{-1, 0}));
}

TEST(Intake, ALifeThatGetsANameIsNoNewOne) {
  Intake intake(1 << 20, "");
  intake.Name("one");
  auto messages = Numbered(0, 1);
  EXPECT_TRUE(intake.Offer("one", messages).present);
  EXPECT_EQ(Drained(intake), (std::vector<int>{0}));
}

TEST(Intake, RemembersOnlySoManyFormerLives) {
  Intake intake(1 << 20, "0");
  for (size_t i = 1; i <= Intake::kFormerLives + 1; ++i) intake.BeginLife(std::to_string(i));
  EXPECT_FALSE(intake.IsFormer("0"));
  EXPECT_TRUE(intake.IsFormer("1"));
}

TEST(Intake, WaitsUntilTheEffectIsThereAndNoLongerThanItMay) {
  Intake intake(1 << 20, "one");
  auto messages = Numbered(0, 1);
  const auto offered = intake.Offer("one", messages);
  EXPECT_FALSE(intake.WaitFor(offered.ticket, MonoNow(), {}));
  (void)intake.Next();
  EXPECT_FALSE(intake.WaitFor(offered.ticket, MonoNow(), {})) << "taken, but not done";
  intake.Done();
  EXPECT_TRUE(intake.WaitFor(offered.ticket, MonoNow(), {}));
}

TEST(Intake, AWaitEndsWithAStopAndWithThePublisher) {
  Intake intake(1 << 20, "one");
  auto messages = Numbered(0, 1);
  const auto offered = intake.Offer("one", messages);
  std::stop_source stopped;
  stopped.request_stop();
  EXPECT_FALSE(intake.WaitFor(offered.ticket, MonoTime::max(), stopped.get_token()));
  intake.Close();
  EXPECT_FALSE(intake.WaitFor(offered.ticket, MonoTime::max(), {}));
  EXPECT_FALSE(intake.Offer("one", messages).present);
}

class IntakePublisher : public testing::Test {
 protected:
  // Adds the publisher whose messages go through `intake_`.
  Transport::PublisherId Add() {
    const PublisherAddress address{
        .endpoint = "here", .mode = ListenMode::kIngest, .intake = intake_};
    const auto id = transport_.Add(address, {}, std::make_unique<BoardConsumer>(board_));
    EXPECT_TRUE(id) << id.error().Message();
    return id.value_or(0);
  }

  void Offer(const std::string& incarnation, std::vector<Message> messages) {
    const auto offered = intake_->Offer(incarnation, messages);
    EXPECT_EQ(offered.taken, messages.size());
    EXPECT_TRUE(intake_->WaitFor(offered.ticket, MonoNow() + kSoon, {}));
  }

  std::shared_ptr<Intake> intake_ = std::make_shared<Intake>(1 << 20, "one");
  std::shared_ptr<Board> board_ = std::make_shared<Board>();
  Transport transport_{{}};
};

TEST_F(IntakePublisher, GoesThroughTheSameStateMachine) {
  const auto id = Add();
  Offer("one", {{"", 0, "a"}, {"", 1, "b"}, {"", 1, "b"}});
  EXPECT_TRUE(board_->WaitFor(TrustState::kLive, {"a", "b"}));
  Offer("one", {{"", 3, "d"}});
  EXPECT_TRUE(board_->WaitForReason("doubtful")) << "a hole that nothing can fill";
  intake_->BeginLife("two");
  Offer("two", {{"", 0, "z"}});
  EXPECT_TRUE(board_->WaitFor(TrustState::kLive, {"z"}));
  ASSERT_TRUE(transport_.Run(id, [](PublisherStream& stream, Consumer&) {
    EXPECT_EQ(stream.counters().duplicates, 1u);
    EXPECT_EQ(stream.counters().gaps_lost, 1u);
    EXPECT_EQ(stream.counters().lives, 2u);
  }));
}

TEST_F(IntakePublisher, WhatWasHandedInBeforeItIsFollowedIsNotLost) {
  auto messages = std::vector<Message>{{"", 0, "a"}};
  (void)intake_->Offer("one", messages);
  (void)Add();
  EXPECT_TRUE(board_->WaitFor(TrustState::kLive, {"a"}));
}

TEST_F(IntakePublisher, TakesNothingOnceItIsRemoved) {
  transport_.Remove(Add());
  auto messages = std::vector<Message>{{"", 0, "a"}};
  EXPECT_FALSE(intake_->Offer("one", messages).present);
}

}  // namespace
}  // namespace conductor::stream
