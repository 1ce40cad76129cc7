#ifndef CONDUCTOR_DAEMON_TOOLKIT_OFFLINE_RECORDING_H_
#define CONDUCTOR_DAEMON_TOOLKIT_OFFLINE_RECORDING_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "daemon/serve/registration.h"
#include "daemon/toolkit/offline_conductor.h"
#include "lib/base/result.h"
#include "lib/trace/recording_format.h"

namespace conductor::toolkit {

// What publishers of a recording are taken for that do not say it themselves, as one does not that
// was recorded at its endpoint alone.
struct TakenFor {
  std::optional<serve::PublisherType> type;  // nothing: what events show, else vLLM
  std::string model;                         // empty: the only one of the recording
  std::string tenant;                        // empty: "default"
  // By key the last sequence that is used; one that is not here is used whole.
  std::map<std::string, uint64_t> until = {};
};

// The registration of a recorded publisher, of mode kIngest: its facts, and what they leave out
// from `taken_for`. An instance that is not named is called as RecordedInstance() says; a block
// size that is not told is learnt from the events. Errors say what the recording has, and the flag
// that helps.
[[nodiscard]] Result<serve::Registration> RegistrationOf(const trace::RecordedPublisher& publisher,
                                                         const TakenFor& taken_for);

struct LoadedRecording {
  size_t publishers = 0;  // that something came of, and that are used
  uint64_t messages = 0;  // handed in
  // What is damaged, and what could not be used, a sentence each.
  std::vector<std::string> notes;
};

// Feeds a conductor all that recordings have, read one after the other as if they were one
// (RecordingFiles() of the paths), until it is applied, in the order of FrameOrder. What is damaged
// is left out, as a daemon would have missed it. An error: a file that cannot be opened or is no
// recording, or nothing in them that could be used.
[[nodiscard]] Result<LoadedRecording> LoadRecordings(OfflineConductor& conductor,
                                                     const std::vector<std::string>& paths,
                                                     const TakenFor& taken_for,
                                                     const std::stop_token& stop = {});

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_OFFLINE_RECORDING_H_
