#include "daemon/toolkit/completion.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace conductor::toolkit {
namespace {

using Kind = CommandValue::Kind;

// Between single quotes, as sh and its family read it.
std::string Quoted(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

// The same for fish, where a backslash means something between them.
std::string FishQuoted(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "'";
}

// On one line, with a backslash before each of `special`.
std::string Escaped(std::string_view text, std::string_view special) {
  std::string escaped;
  for (const char c : text) {
    if (special.find(c) != std::string_view::npos) escaped += '\\';
    escaped += c == '\n' ? ' ' : c;
  }
  return escaped;
}

std::vector<std::string> NamesOfFlags(const Command& command, Kind kind) {
  std::vector<std::string> names;
  for (const CommandFlag& flag : command.flags) {
    if (flag.value.kind == kind) names.insert(names.end(), flag.names.begin(), flag.names.end());
  }
  return names;
}

// Bash: what is to be offered after each command.

std::string BashWords(const Command& command) {
  std::vector<std::string> words;
  for (const CommandFlag& flag : command.flags) {
    words.insert(words.end(), flag.names.begin(), flag.names.end());
  }
  for (const Command& sub : command.commands) words.push_back(sub.name);
  words.insert(words.end(), command.words.choices.begin(), command.words.choices.end());
  return Quoted(fmt::format("{}", fmt::join(words, " ")));
}

std::string BashCase(const Command& command, std::string_view name) {
  std::string text = fmt::format("    {})\n      case $previous in\n", name);
  const auto branch = [&text](const std::vector<std::string>& names, std::string_view what) {
    if (names.empty()) return;
    text += fmt::format("        {}) {} ;;\n", fmt::join(names, "|"), what);
  };
  branch(NamesOfFlags(command, Kind::kFile), "files=always");
  branch(NamesOfFlags(command, Kind::kAny), "return");
  for (const CommandFlag& flag : command.flags) {
    if (flag.value.kind != Kind::kOneOf) continue;
    branch(flag.names,
           fmt::format("words={}", Quoted(fmt::format("{}", fmt::join(flag.value.choices, " ")))));
  }
  std::string files;
  if (command.words.kind == Kind::kFile) {
    files =
        " files=words beside=" + Quoted(fmt::format("{}", fmt::join(command.words.choices, " ")));
  }
  text += fmt::format("        *) words={}{} ;;\n      esac ;;\n", BashWords(command), files);
  return text;
}

std::string Bash(const Command& program) {
  std::string cases = BashCase(program, "''");
  for (const Command& sub : program.commands) cases += BashCase(sub, sub.name);
  return fmt::format(R"(# bash completion of {0}, made by '{0} completion bash'
_{0}() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}}
  local command='' words='' files='' beside='' word
  COMPREPLY=()
  # --flag=value comes as three words.
  if [[ $current == = ]]; then
    current=''
  elif [[ $previous == = ]]; then
    previous=${{COMP_WORDS[COMP_CWORD-2]}}
  fi
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    if [[ $word != -* ]]; then
      command=$word
      break
    fi
  done
  case $command in
{1}  esac
  if [[ $files == always || ( $files == words && $current != -* ) ]]; then
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -W "$beside" -- "$current"; compgen -f -- "$current")
  else
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  fi
}}
complete -F _{0} {0}
)",
                     program.name, cases);
}

// Zsh: specifications for _arguments.

std::string ZshAction(const CommandValue& value) {
  switch (value.kind) {
    case Kind::kNone:
      return "";
    case Kind::kAny:
      return fmt::format(":{}: ", Escaped(value.shape, ":"));
    case Kind::kFile:
      if (value.choices.empty()) return fmt::format(":{}:_files", Escaped(value.shape, ":"));
      return fmt::format(":{}:{{_files; compadd -- {}}}", Escaped(value.shape, ":"),
                         fmt::join(value.choices, " "));
    case Kind::kOneOf:
      return fmt::format(":{}:({})", Escaped(value.shape, ":"), fmt::join(value.choices, " "));
  }
  return "";
}

std::string ZshFlags(const Command& command, std::string_view indent) {
  std::string text;
  for (const CommandFlag& flag : command.flags) {
    for (const std::string& name : flag.names) {
      const std::string spec = fmt::format("{}{}[{}]{}", flag.repeats ? "*" : "", name,
                                           Escaped(flag.help, "[]\\"), ZshAction(flag.value));
      text += fmt::format("{}{} \\\n", indent, Quoted(spec));
    }
  }
  return text;
}

std::string Zsh(const Command& program) {
  std::string list;
  std::string cases;
  for (const Command& sub : program.commands) {
    list += fmt::format("        {}\n",
                        Quoted(fmt::format("{}:{}", sub.name, Escaped(sub.help, "\\"))));
    const std::string words =
        sub.words.kind == Kind::kNone ? "" : Quoted("*" + ZshAction(sub.words));
    cases += fmt::format("        {})\n          _arguments \\\n{}            {}\n          ;;\n",
                         sub.name, ZshFlags(sub, "            "), words);
  }
  return fmt::format(R"(#compdef {0}
# zsh completion of {0}, made by '{0} completion zsh'
_{0}() {{
  local context state state_descr line
  typeset -A opt_args
  local -a commands
  _arguments -C \
{1}    '1: :->command' \
    '*:: :->rest'
  case $state in
    command)
      commands=(
{2}      )
      _describe -t commands command commands
      ;;
    rest)
      case $line[1] in
{3}      esac
      ;;
  esac
}}
if [ "$funcstack[1]" = _{0} ]; then
  _{0} "$@"
else
  compdef _{0} {0}
fi
)",
                     program.name, ZshFlags(program, "    "), list, cases);
}

// Fish: a command for each flag.

std::string FishValue(const CommandValue& value) {
  switch (value.kind) {
    case Kind::kNone:
      return "";
    case Kind::kAny:
      return " -x";
    case Kind::kFile:
      return " -r -F";
    case Kind::kOneOf:
      return fmt::format(" -x -a {}", FishQuoted(fmt::format("{}", fmt::join(value.choices, " "))));
  }
  return "";
}

std::string FishFlags(const Command& command, const std::string& begin) {
  std::string text;
  for (const CommandFlag& flag : command.flags) {
    text += begin;
    for (const std::string& name : flag.names) {
      text += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
    }
    text += fmt::format("{} -d {}\n", FishValue(flag.value), FishQuoted(Escaped(flag.help, "")));
  }
  return text;
}

std::string Fish(const Command& program) {
  std::string text =
      fmt::format("# fish completion of {0}, made by '{0} completion fish'\n", program.name);
  const std::string all = fmt::format("complete -c {}", program.name);
  text += all + " -f\n";
  const std::string first = all + " -n __fish_use_subcommand";
  text += FishFlags(program, first);
  for (const Command& sub : program.commands) {
    text += fmt::format("{} -a {} -d {}\n", first, sub.name, FishQuoted(Escaped(sub.help, "")));
  }
  for (const Command& sub : program.commands) {
    const std::string begin = fmt::format("{} -n '__fish_seen_subcommand_from {}'", all, sub.name);
    text += FishFlags(sub, begin);
    if (sub.words.kind == Kind::kFile) text += begin + " -F\n";
    if (!sub.words.choices.empty()) {
      text += fmt::format("{} -a {}\n", begin,
                          FishQuoted(fmt::format("{}", fmt::join(sub.words.choices, " "))));
    }
  }
  return text;
}

}  // namespace

CommandValue CommandValue::OfShape(std::string_view shape) {
  CommandValue value{.kind = Kind::kAny, .shape = std::string(shape), .choices = {}};
  if (shape.empty()) value.kind = Kind::kNone;
  if (shape == "FILE") value.kind = Kind::kFile;
  if (shape.find('|') == std::string_view::npos) return value;
  value.kind = Kind::kOneOf;
  for (size_t at = 0; at <= shape.size();) {
    const size_t end = std::min(shape.find('|', at), shape.size());
    value.choices.emplace_back(shape.substr(at, end - at));
    at = end + 1;
  }
  return value;
}

Result<Shell> ParseShell(std::string_view name) {
  if (name == "bash") return Shell::kBash;
  if (name == "zsh") return Shell::kZsh;
  if (name == "fish") return Shell::kFish;
  return Fail(fmt::format("'{}' is no shell that is known here", name), {}, "bash, zsh or fish");
}

std::string CompletionScript(const Command& program, Shell shell) {
  switch (shell) {
    case Shell::kBash:
      return Bash(program);
    case Shell::kZsh:
      return Zsh(program);
    case Shell::kFish:
      return Fish(program);
  }
  return {};
}

}  // namespace conductor::toolkit
