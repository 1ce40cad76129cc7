#ifndef CONDUCTOR_DAEMON_SERVE_SAVE_AT_END_H_
#define CONDUCTOR_DAEMON_SERVE_SAVE_AT_END_H_

#include <functional>

#include "daemon/serve/snapshots.h"
#include "daemon/serve/stop_signals.h"
#include "lib/base/clock.h"

namespace conductor::serve {

// After a signal: ends what answers requests, and saves the snapshot for the last time. What
// requests brought is in it, where they ended within `patience` and no second signal came;
// otherwise it is saved while they are still there. So a request that hangs, or that waits for a
// save of its own, does not cost the last save.
//
// `end_answers` is called on a thread of its own, and has returned when this returns; StopSignals
// ends the process where that takes for ever. `signals` must have been told to Keep() the snapshot:
// it is told here that it is kept, and then ends the process where a second signal asked for that.
void SaveAtEnd(StopSignals& signals, Snapshots& snapshots, const std::function<void()>& end_answers,
               Duration patience);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_SAVE_AT_END_H_
