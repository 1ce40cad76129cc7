#ifndef CONDUCTOR_LIB_STREAM_INTAKE_H_
#define CONDUCTOR_LIB_STREAM_INTAKE_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <variant>

#include "lib/base/clock.h"

namespace conductor::stream {

// Where the messages of a publisher are handed in that is not listened to (ListenMode::kIngest):
// recordings, or events that reach Conductor by another way than ZeroMQ. A queue, bounded in bytes,
// from any thread to the publisher's ingest thread: what does not fit is not taken, and whoever
// hands in goes on from there later. Nothing that was taken is ever dropped but by a new life.
//
// Thread-safe.
class Intake {
 public:
  // As the three frames of a live message have it.
  struct Message {
    std::string topic;
    uint64_t sequence = 0;
    std::string payload;
  };

  // `incarnation` names the publisher's present life; empty: it has no name yet. A single message
  // is taken whatever its size, where nothing else waits.
  Intake(size_t limit_bytes, std::string incarnation)
      : limit_bytes_(limit_bytes), incarnation_(std::move(incarnation)) {}
  Intake(const Intake&) = delete;
  Intake& operator=(const Intake&) = delete;

  // The life that had no name is called so.
  void Name(std::string incarnation);
  // The publisher lives anew: what waits is the old life's, and goes.
  void BeginLife(std::string incarnation);
  // Whether it is one of the last kFormerLives that are over.
  [[nodiscard]] bool IsFormer(std::string_view incarnation) const;

  struct Offered {
    // False: `incarnation` is not the present life, or the publisher is gone. Nothing was taken.
    bool present = true;
    size_t taken = 0;     // messages, from the first on; they are moved from
    uint64_t ticket = 0;  // for WaitFor: all that was taken so far
  };
  [[nodiscard]] Offered Offer(std::string_view incarnation, std::span<Message> messages);

  // Until all that the ticket speaks of has had its effect, or went with its life: true. False when
  // that takes longer than until `until`, when a stop is requested or when the publisher is gone.
  [[nodiscard]] bool WaitFor(uint64_t ticket, MonoTime until, const std::stop_token& stop);

  // The publisher's ingest thread:

  // What to do next; the caller says Done() when it has had its effect.
  struct NewLife {};
  using Item = std::variant<Message, NewLife>;
  [[nodiscard]] std::optional<Item> Next();
  void Done();
  [[nodiscard]] bool empty() const;
  // `wakeup` (an eventfd) is written to whenever there is something new, until Close().
  void Open(int wakeup);
  void Close();

  static constexpr size_t kFormerLives = 16;

 private:
  void Wake();
  [[nodiscard]] static size_t BytesOf(const Message& message);

  const size_t limit_bytes_;

  mutable std::mutex mutex_;  // guards everything below
  std::condition_variable_any done_changed_;
  std::string incarnation_;
  std::deque<std::string> former_;
  std::deque<Item> items_;
  size_t bytes_ = 0;      // of items_
  uint64_t offered_ = 0;  // items ever; tickets are such counts
  uint64_t done_ = 0;     // of them
  int wakeup_ = -1;
  bool closed_ = false;
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_INTAKE_H_
