#include "daemon/serve/save_at_end.h"

#include <chrono>
#include <future>
#include <thread>

#include "lib/base/log.h"

namespace conductor::serve {
namespace {

// For what is left when the snapshot is saved.
constexpr Duration kRestWithin = std::chrono::milliseconds(1500);

}  // namespace

void SaveAtEnd(StopSignals& signals, Snapshots& snapshots, const std::function<void()>& end_answers,
               Duration patience) {
  std::promise<void> ended;
  const std::future<void> end = ended.get_future();
  const std::jthread ending([&] {
    end_answers();
    ended.set_value();
  });
  const MonoTime until = MonoNow() + patience;
  while (end.wait_for(std::chrono::milliseconds(10)) != std::future_status::ready) {
    if (!signals.hurried() && MonoNow() < until) continue;
    log::Warn("there are requests still: the snapshot is saved all the same");
    break;
  }
  snapshots.Stop();
  signals.Ending("the requests", kRestWithin);
  signals.Kept();
}

}  // namespace conductor::serve
