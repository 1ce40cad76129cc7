#ifndef CONDUCTOR_DAEMON_TOOLKIT_COMPLETION_H_
#define CONDUCTOR_DAEMON_TOOLKIT_COMPLETION_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"

namespace conductor::toolkit {

// A command line as completion sees it, taken from what parses it, so that the two cannot drift.

// What stands behind a flag, or by itself.
struct CommandValue {
  enum class Kind : uint8_t {
    kNone,   // a flag without a value; a command that takes no words
    kAny,    // nobody can guess it
    kFile,   //
    kOneOf,  // of `choices`
  };
  Kind kind = Kind::kNone;
  std::string shape;                 // "FILE"
  std::vector<std::string> choices;  // of kOneOf; of kFile: words that may be there too

  // Of its shape in the help: "FILE" is a file, "A|B" one of these, "" none.
  [[nodiscard]] static CommandValue OfShape(std::string_view shape);
};

struct CommandFlag {
  std::vector<std::string> names;  // "-h", "--help"
  std::string help;
  CommandValue value;
  bool repeats = false;  // may be given, or take values, several times
};

// A program, or a subcommand of it.
struct Command {
  std::string name;
  std::string help;
  std::vector<CommandFlag> flags;
  CommandValue words;             // that are no flags' values
  std::vector<Command> commands;  // of a program; one level deep
};

enum class Shell : uint8_t { kBash, kZsh, kFish };

[[nodiscard]] Result<Shell> ParseShell(std::string_view name);

// A script for that shell which completes the program's command line. Helps and names are quoted,
// whatever is in them.
[[nodiscard]] std::string CompletionScript(const Command& program, Shell shell);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_COMPLETION_H_
