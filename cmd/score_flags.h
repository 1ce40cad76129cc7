#ifndef CONDUCTOR_CMD_SCORE_FLAGS_H_
#define CONDUCTOR_CMD_SCORE_FLAGS_H_

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "daemon/toolkit/score.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace conductor::cmd {

// The flags of `conductor score` that other commands have too.

// A flag that takes one or more values and may be given several times.
CLI::Option* AddListFlag(CLI::App& app, const std::string& name, std::vector<std::string>& list,
                         const std::string& shape, const std::string& help);

// What is asked about: FILE, --tokens, --prompt, --prompt-file, --tokenizer, --chat.
void AddPromptFlags(CLI::App& app, toolkit::ScoreOptions& options);
// Who is meant: --model, --tenant, --lora, --salt, --block-size, --instance.
void AddQuestionFlags(CLI::App& app, toolkit::ScoreOptions& options);
// What only a score has: --load, --explain, what is expected of it, --in-flight.
void AddAnswerFlags(CLI::App& app, toolkit::ScoreOptions& options);
// --top and --json.
void AddShowFlags(CLI::App& app, toolkit::ScoreOptions& options);

// Values of flags.
[[nodiscard]] Result<Duration> ParseTimeout(const std::string& text);
[[nodiscard]] Result<std::string> ParseName(const std::string& text);

}  // namespace conductor::cmd

#endif  // CONDUCTOR_CMD_SCORE_FLAGS_H_
