#ifndef CONDUCTOR_DAEMON_TOOLKIT_TAP_VIEW_H_
#define CONDUCTOR_DAEMON_TOOLKIT_TAP_VIEW_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/toolkit/line_output.h"
#include "daemon/toolkit/sequence_watch.h"
#include "daemon/toolkit/tap.h"
#include "daemon/toolkit/tap_event.h"
#include "daemon/toolkit/tap_message.h"
#include "daemon/toolkit/tap_stats.h"
#include "daemon/toolkit/terminal.h"
#include "lib/base/clock.h"
#include "lib/trace/recording_format.h"
#include "lib/wire/decoder.h"

namespace conductor::toolkit {

// Messages in, lines out: judges their numbers, decodes them, and prints what is asked for in the
// form that is asked for. The same for live messages and recorded ones.
class TapView {
 public:
  // Both outlive the view.
  TapView(const TapOptions& options, LineOutput& output, const Terminal& terminal);

  // Publishers are numbered from 0. What its facts say decides how its payloads are read, unless
  // the options do.
  uint32_t Add(const trace::RecordedPublisher& publisher);
  [[nodiscard]] const std::string& name(uint32_t publisher) const {
    return publishers_[publisher].name;
  }

  void Message(int64_t time_ns, uint32_t publisher, bool replayed,
               std::span<const std::string_view> frames);
  void Mark(const trace::RecordedMark& mark);
  // A line that is made elsewhere: a daemon's event, a part of a recording that is damaged.
  void Event(const TapEvent& event);

  // Whether this message was given already, and what number is the last.
  [[nodiscard]] bool Knows(uint32_t publisher, uint64_t sequence, std::string_view payload) const;
  [[nodiscard]] std::optional<uint64_t> last(uint32_t publisher) const;

  // As many lines as were asked for are printed.
  [[nodiscard]] bool done() const { return options_.count > 0 && counted_ >= options_.count; }

  // The next view of the statistics; nothing without.
  [[nodiscard]] std::optional<MonoTime> Deadline() const;
  void Tick(MonoTime now, int64_t now_ns);
  // The last of them, and what was counted in all, in words.
  void Finish(int64_t now_ns);
  [[nodiscard]] std::string Summary() const;

 private:
  struct Publisher {
    std::string name;
    wire::Decoder decoder;
    SequenceWatch watch;
  };

  [[nodiscard]] wire::Dialect DialectOf(const trace::RecordedPublisher& publisher) const;
  // The lines of one message, and what its batch says of itself, where it is one and is used.
  [[nodiscard]] std::vector<TapEvent> Read(Publisher& publisher, const TapEvent& like,
                                           std::span<const std::string_view> frames,
                                           std::string& batch);
  void Raw(const TapEvent& like, std::span<const std::string_view> frames, const std::string& batch,
           const std::vector<TapEvent>& events);
  void Print(const TapEvent& event);
  void Draw(int64_t now_ns);

  const TapOptions& options_;
  LineOutput& output_;
  const Terminal terminal_;
  std::deque<Publisher> publishers_;
  std::optional<TapColumns> columns_;  // made anew after another publisher was added
  std::string title_;                  // of the columns that were used last
  size_t publisher_width_ = 0;
  TapStats stats_;
  uint64_t messages_ = 0;
  uint64_t counted_ = 0;
  int64_t first_ns_ = 0;
  int64_t last_ns_ = 0;
  Duration interval_{};
  std::optional<MonoTime> next_view_;
  size_t drawn_ = 0;  // lines of the last view
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_TAP_VIEW_H_
