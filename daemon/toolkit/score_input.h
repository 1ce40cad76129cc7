#ifndef CONDUCTOR_DAEMON_TOOLKIT_SCORE_INPUT_H_
#define CONDUCTOR_DAEMON_TOOLKIT_SCORE_INPUT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/serve/file_descriptor.h"
#include "daemon/toolkit/score_prompt.h"
#include "lib/base/result.h"

namespace conductor::toolkit {

// A prompt to be scored, or why there is none.
struct ScoreItem {
  uint64_t number = 0;  // from 1 on, of all
  std::string source;   // "prompts.jsonl:3", "stdin:3", "tokens.bin", "--prompt"
  Result<ScorePrompt> prompt;
};

// Where prompts come from, each list in the order of the command line.
struct ScoreInputOptions {
  std::vector<std::string> token_files;
  std::vector<std::string> texts;       // prompts themselves
  std::vector<std::string> text_files;  // each one prompt, as it stands
  std::vector<std::string> line_files;  // JSON, a prompt a line; "-": standard input
  bool chat = false;                    // texts are what a user says in a conversation

  [[nodiscard]] bool empty() const { return only_lines() && line_files.empty(); }
  // Each prompt can say itself which model it is for.
  [[nodiscard]] bool only_lines() const {
    return token_files.empty() && texts.empty() && text_files.empty();
  }
};

// Prompts one after the other, read when they are asked for: a batch may be longer than memory, and
// standard input may be another program that waits for answers. What cannot be read is an item
// with an error, and the rest follows.
class ScoreInput {
 public:
  // `defaults` is what a prompt does not say itself.
  ScoreInput(ScoreInputOptions options, ScorePrompt defaults);

  // The next one; nothing at the end.
  [[nodiscard]] std::optional<ScoreItem> Next();

  // A longer line is an error.
  static constexpr size_t kMostLineBytes = 64 << 20;

 private:
  [[nodiscard]] ScoreItem Item(std::string source, Result<ScorePrompt> prompt);
  [[nodiscard]] Result<ScorePrompt> OfTokens(const std::string& path) const;
  [[nodiscard]] Result<ScorePrompt> OfText(Result<std::string> text) const;
  // The next line of the file that is open that is not blank, or the error that ends it.
  [[nodiscard]] std::optional<ScoreItem> NextLine();
  // One line without its end; false at the end of the file.
  [[nodiscard]] Result<bool> ReadLine(std::string& line, bool& too_long);

  const ScoreInputOptions options_;
  const ScorePrompt defaults_;
  size_t next_ = 0;  // of all that the options list
  uint64_t items_ = 0;

  // The file of lines that is open, if one is.
  bool open_ = false;
  serve::FileDescriptor file_;  // none: standard input
  std::string name_;
  uint64_t line_ = 0;
  std::string buffer_;  // read, and not yet given
  size_t at_ = 0;       // where that begins
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_SCORE_INPUT_H_
