#ifndef CONDUCTOR_DAEMON_TOOLKIT_FRAME_ORDER_H_
#define CONDUCTOR_DAEMON_TOOLKIT_FRAME_ORDER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/toolkit/replay_source.h"

namespace conductor::toolkit {

// A source's frames as each publisher published them: live messages (topic, sequence, payload), in
// their order. Whoever records asks for replays after subscribing, and again for what it missed, so
// live messages come before, in and after the answer that has what was published before them.
//
// While the end of an answer is still to come, a live message that does not follow what came before
// it waits, and all behind it: until the answer is past its number, the answer's end, or the
// recorder's. Messages of answers never wait. What an answer and the live messages both have is
// handed on once. In one answer, what does not go up is left out, for under its number it would
// look like a restart; a later answer may begin anywhere. Notes() counts what is left out.
class FrameOrder {
 public:
  using Out = std::function<void(const SourceFrame&)>;

  // Bytes of messages that wait, of all publishers. Beyond it those of a publisher are handed on
  // where they stand, and none of it waits any more.
  static constexpr size_t kMostWaiting = size_t{256} << 20;

  // `publishers`: by number; what there is of each has to be known.
  explicit FrameOrder(const std::vector<SourcePublisher>& publishers,
                      size_t most_waiting = kMostWaiting);

  // Hands on what is next, which may be nothing, the frame, or many: messages as live ones, and of
  // the rest connections and losses.
  void Push(SourceFrame frame, const Out& out);
  // There are no more: what waits is handed on.
  void Flush(const Out& out);

  // What was left out, and whether order could not be kept, a sentence each.
  [[nodiscard]] std::vector<std::string> Notes() const;

 private:
  static constexpr size_t kRemembered = 1 << 17;  // messages of a publisher, at least

  // A message that was handed on.
  struct Known {
    size_t digest = 0;
    bool answered = false;  // it was in an answer
  };
  struct Lane {
    std::string name;
    bool remembers = false;            // there are answers
    size_t ends = 0;                   // of answers, still to come
    std::optional<uint64_t> last;      // that was handed on
    std::optional<uint64_t> answered;  // last of the answer that is coming
    std::deque<SourceFrame> waiting;
    bool too_much = false;
    // What is known of sequences, the newer ones and those before them.
    std::unordered_map<uint64_t, Known> newer;
    std::unordered_map<uint64_t, Known> older;
    uint64_t twice = 0;  // left out
    uint64_t back = 0;   // left out

    [[nodiscard]] const Known* Find(uint64_t sequence) const;
  };

  void PushLive(Lane& lane, SourceFrame frame, const Out& out);
  void PushAnswer(Lane& lane, SourceFrame frame, const Out& out);
  // The live messages that belong before `sequence` of an answer.
  void ReleaseBefore(Lane& lane, uint64_t sequence, const Out& out);
  void ReleaseFirst(Lane& lane, const Out& out);
  void Release(Lane& lane, const Out& out);
  static void HandOn(Lane& lane, const SourceFrame& frame, bool answered, const Out& out);

  const size_t most_waiting_;
  size_t waiting_bytes_ = 0;
  std::vector<Lane> lanes_;  // by publisher
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_FRAME_ORDER_H_
