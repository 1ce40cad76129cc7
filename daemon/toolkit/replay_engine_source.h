#ifndef CONDUCTOR_DAEMON_TOOLKIT_REPLAY_ENGINE_SOURCE_H_
#define CONDUCTOR_DAEMON_TOOLKIT_REPLAY_ENGINE_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/toolkit/replay_source.h"
#include "lib/base/clock.h"
#include "lib/stream/zmq_socket.h"

namespace conductor::toolkit {

// What one answer to a replay request was like, judged message by message. No sockets.
class AnswerCheck {
 public:
  // `endpoint` is what notes call it; `from` the first sequence that was asked for.
  AnswerCheck(std::string endpoint, uint64_t from) : endpoint_(std::move(endpoint)), from_(from) {}

  void Take(const SourceFrame& frame);
  // The answer is over without an end marker: why.
  void CutOff(std::string why) { cut_off_ = std::move(why); }

  [[nodiscard]] bool ended() const { return ended_; }
  // By anything at all.
  [[nodiscard]] bool answered() const { return ended_ || batches_ > 0 || malformed_ > 0; }
  // How it went: the reply form and range; then what is wrong with it.
  [[nodiscard]] std::vector<std::string> Notes() const;
  // Nothing is wrong with it: it begins where it was asked to, has no hole, and its end.
  [[nodiscard]] bool sound() const;

 private:
  struct Hole {
    uint64_t missing = 0;  // the first that is
    uint64_t next = 0;     // that came
  };

  const std::string endpoint_;
  const uint64_t from_;
  uint64_t batches_ = 0;
  std::optional<uint64_t> first_;
  std::optional<uint64_t> last_;
  uint64_t holes_ = 0;
  uint64_t missing_ = 0;  // batches in them
  std::optional<Hole> first_hole_;
  uint64_t out_of_order_ = 0;
  uint64_t before_ = 0;     // the first that was asked for
  uint64_t malformed_ = 0;  // of other than 3 or 4 frames, or without a sequence
  uint64_t plain_ = 0;      // [sequence, payload]
  uint64_t with_topic_ = 0;
  bool ended_ = false;
  std::string cut_off_;
};

// An engine's replay endpoint, asked once: all that its ring has, and no more.
class EngineSource : public ReplaySource {
 public:
  static constexpr int kMostTimeouts = 12;

  struct Options {
    std::string endpoint;  // "tcp://10.0.0.1:5558"
    uint64_t from = 0;
    // Until the answer begins, and between messages; the whole takes kMostTimeouts of them at most.
    Duration timeout = std::chrono::seconds(5);
    uint64_t max_bytes = uint64_t{1} << 30;  // of the answer
    ReadAs as;
    std::function<bool()> stopped;  // asked now and then; nothing: never
  };

  // Sends the request; only an address that can never work is an error.
  [[nodiscard]] static Result<std::unique_ptr<EngineSource>> Open(const Options& options);
  ~EngineSource() override;
  EngineSource(const EngineSource&) = delete;
  EngineSource& operator=(const EngineSource&) = delete;

  [[nodiscard]] const std::vector<SourcePublisher>& publishers() const override {
    return publishers_;
  }
  // Waits. No answer at all is an error; one that stops without its end ends the source.
  [[nodiscard]] Result<bool> Next(SourceFrame& frame) override;
  [[nodiscard]] std::vector<std::string> Notes() const override { return check_.Notes(); }

 private:
  explicit EngineSource(const Options& options);

  // False when the time was over.
  [[nodiscard]] bool Receive(stream::ZmqMessage& message);

  const Options options_;
  const MonoTime give_up_;
  std::vector<SourcePublisher> publishers_;
  void* context_ = nullptr;
  stream::ZmqSocket socket_;
  AnswerCheck check_;
  uint64_t bytes_ = 0;
  bool over_ = false;
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_REPLAY_ENGINE_SOURCE_H_
