#ifndef CONDUCTOR_DAEMON_TOOLKIT_SCORE_H_
#define CONDUCTOR_DAEMON_TOOLKIT_SCORE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/toolkit/offline_recording.h"
#include "daemon/toolkit/score_input.h"
#include "daemon/toolkit/score_prompt.h"
#include "daemon/toolkit/score_source.h"
#include "daemon/toolkit/tokenizer.h"

namespace conductor::toolkit {

// `conductor score`; conductor-score(1) describes each flag.
struct ScoreOptions {
  ScoreInputOptions input;
  std::optional<TokenizerUrl> tokenizer;

  // Who is asked: daemons, or a conductor in this process that has read recordings, ...
  ConductorSourceOptions conductors;
  std::vector<std::string> recordings;
  std::string snapshot;                      // or what a snapshot has; empty: none is asked
  std::optional<serve::PublisherType> type;  // of their publishers, where they do not say

  ScorePrompt defaults;             // what prompts do not say themselves
  std::optional<std::string> load;  // a file, or JSON
  std::optional<uint32_t> top;
  bool json = false;
  bool explain = false;
  uint32_t in_flight = 8;
};

// Scores all prompts, prints what comes of them, and gives the process's exit code: 0 when every
// prompt was scored and all is as expected, 1 when not, 2 when the flags do not fit one another.
[[nodiscard]] int RunScore(ScoreOptions options);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_SCORE_H_
