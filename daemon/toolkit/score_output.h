#ifndef CONDUCTOR_DAEMON_TOOLKIT_SCORE_OUTPUT_H_
#define CONDUCTOR_DAEMON_TOOLKIT_SCORE_OUTPUT_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/toolkit/score_prompt.h"
#include "daemon/toolkit/terminal.h"
#include "lib/base/result.h"
#include "lib/client/questions.h"

namespace conductor::toolkit {

// What POST /v1/explain says of one instance, the short of it.
struct ShortExplanation {
  std::string cause;  // "removed"
  std::string detail;
  std::string field;     // that would have to change; empty: none
  std::string field_of;  // "request", "registration" or "flags"
  std::string expected;  // what it should be, as JSON
  uint64_t matched_blocks = 0;
  uint64_t prompt_blocks = 0;

  // Of an answer in JSON.
  [[nodiscard]] static Result<ShortExplanation> Read(std::string_view json);
};

// All that there is to say of one prompt.
struct ScoreResult {
  uint64_t number = 0;
  std::string source;
  std::string id;  // as JSON; empty: none
  std::string model;
  std::string tenant;
  std::optional<client::ScoreAnswer> answer;
  // By instance, of those that are shown.
  std::map<std::string, Result<ShortExplanation>> explained;
  std::string error;               // why there is no score, or none that means anything
  std::vector<std::string> unmet;  // see Unmet()

  [[nodiscard]] bool is_good() const { return error.empty() && unmet.empty(); }
};

// Why the instances of an answer cannot be told apart by it: nobody serves the model, and so on,
// with the flag to change; empty where they can.
[[nodiscard]] std::string WhyNoScore(const client::ScoreAnswer& answer);

// How many of the ranking are shown.
[[nodiscard]] size_t Shown(const client::ScoreAnswer& answer, std::optional<uint32_t> top);

// One JSON object and a line break; docs/score.md has its members.
[[nodiscard]] std::string ScoreJson(const ScoreResult& result, std::optional<uint32_t> top);

// A line about the prompt, and a table; nothing where there is no answer. Columns of parts that are
// zero everywhere are left out.
[[nodiscard]] std::string ScoreTable(const ScoreResult& result, std::optional<uint32_t> top,
                                     const Terminal& terminal);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_SCORE_OUTPUT_H_
