#ifndef CONDUCTOR_DAEMON_TOOLKIT_RECORDED_NAME_H_
#define CONDUCTOR_DAEMON_TOOLKIT_RECORDED_NAME_H_

#include <string>

#include "lib/trace/recording_format.h"

namespace conductor::toolkit {

// What the publishers of a recording are called, in all commands.

// For people: its endpoint, or that of its replays where there is no other; of publishers behind
// one bound endpoint also what tells them apart: "tcp://*:5557 from 10.0.0.7 kv-events rank 1".
[[nodiscard]] std::string RecordedName(const trace::RecordedPublisher& publisher);

// The instance that it is where the recording does not name one: InstanceAt() of its endpoint,
// "10.0.0.7:5557", and behind a bound endpoint its own address and topic, "10.0.0.7 kv-events". So
// ranks that were recorded at one endpoint each, without facts, are an instance each.
[[nodiscard]] std::string RecordedInstance(const trace::RecordedPublisher& publisher);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_RECORDED_NAME_H_
