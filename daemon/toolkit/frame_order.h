#ifndef CONDUCTOR_DAEMON_TOOLKIT_FRAME_ORDER_H_
#define CONDUCTOR_DAEMON_TOOLKIT_FRAME_ORDER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "daemon/toolkit/replay_source.h"

namespace conductor::toolkit {

// A source's frames as each publisher published them: live messages (topic, sequence, payload), in
// their order. Whoever records asks for a replay after subscribing, so live messages come before,
// in and after the answer to it that has what was published before them. Here the answer comes
// first: live messages of a publisher that has a whole answer wait for the answer's end, and those
// that were in it are left out, and so are answers after it. An answer without an end is read like
// live messages, where it stands. In an answer, what does not come in order is left out.
class FrameOrder {
 public:
  using Out = std::function<void(const SourceFrame&)>;

  explicit FrameOrder(const std::vector<SourcePublisher>& publishers);

  // Hands on what is next, which may be nothing, the frame, or many.
  void Push(SourceFrame frame, const Out& out);
  // There are no more: what waits is handed on.
  void Flush(const Out& out);

 private:
  struct Lane {
    bool waits = false;                   // for the end of the answer
    bool over = false;                    // it came
    std::map<uint64_t, size_t> answered;  // sequences of the answer, and hashes of their payloads
    std::optional<uint64_t> last;         // of the answer that is coming
    std::vector<SourceFrame> held;
  };

  static void Release(Lane& lane, const Out& out);

  std::vector<Lane> lanes_;  // by publisher
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_FRAME_ORDER_H_
