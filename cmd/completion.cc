#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "cmd/flag.h"
#include "cmd/help.h"
#include "cmd/subcommands.h"
#include "daemon/toolkit/completion.h"
#include "daemon/toolkit/console.h"

namespace conductor::cmd {
namespace {

using toolkit::Command;
using toolkit::CommandValue;

constexpr const char* kFooter =
    R"(Examples:
  source <(conductor completion bash)
  conductor completion bash > /etc/bash_completion.d/conductor
  conductor completion zsh > "${fpath[1]}/_conductor"
  conductor completion fish > ~/.config/fish/completions/conductor.fish

Exit codes: 0 done, 1 failed, 2 usage. See conductor-completion(1).)";

// Words that are no flags' values: endpoints or files, as a rule, and files can be offered.
CommandValue WordsOf(const CLI::Option& positional) {
  CommandValue words = CommandValue::OfShape(positional.get_type_name());
  if (words.kind != CommandValue::Kind::kOneOf) {
    words = {.kind = CommandValue::Kind::kFile, .shape = positional.get_name(), .choices = {}};
  }
  return words;
}

// A command that has commands of its own, as one that takes their names, files, and the flags of
// any of them.
void Flatten(Command& command) {
  command.words = {.kind = CommandValue::Kind::kFile, .shape = "FILE", .choices = {}};
  for (Command& sub : command.commands) {
    command.words.choices.push_back(sub.name);
    for (toolkit::CommandFlag& flag : sub.flags) {
      const bool known = std::ranges::any_of(
          command.flags, [&flag](const auto& other) { return other.names == flag.names; });
      if (!known) command.flags.push_back(std::move(flag));
    }
  }
  command.commands.clear();
}

// What the parser itself knows, flags that the short help leaves out among it.
Command Described(const CLI::App& app) {
  Command command{.name = app.get_name(), .help = app.get_description()};
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) {
      command.words = WordsOf(*option);
      continue;
    }
    toolkit::CommandFlag flag{.help = option->get_description()};
    for (const std::string& name : option->get_snames()) flag.names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) flag.names.push_back("--" + name);
    // A flag without a value expects none.
    if (option->get_items_expected_max() > 0) {
      flag.value = CommandValue::OfShape(option->get_type_name());
    }
    flag.repeats = option->get_items_expected_max() > 1 ||
                   option->get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll;
    command.flags.push_back(std::move(flag));
  }
  for (const CLI::App* sub : app.get_subcommands({})) command.commands.push_back(Described(*sub));
  if (app.get_parent() != nullptr && !command.commands.empty()) Flatten(command);
  return command;
}

// The program with `help`, which is no subcommand to the parser.
Command Program(const CLI::App& app) {
  Command program = Described(app);
  Command help{.name = "help", .help = "Print the help of a command"};
  help.words = {.kind = CommandValue::Kind::kOneOf, .shape = "COMMAND", .choices = {}};
  for (const Command& command : program.commands) help.words.choices.push_back(command.name);
  program.commands.push_back(std::move(help));
  return program;
}

int Print(const std::string& text) {
  toolkit::Output output;
  output.Print(text);
  return output.End(toolkit::kExitDone);
}

}  // namespace

void AddCompletion(CLI::App& app, Run& run) {
  const auto shell = std::make_shared<toolkit::Shell>();
  CLI::App& completion = *app.add_subcommand("completion", "Print a script that completes flags");
  completion.footer(kFooter);
  completion.formatter(std::make_shared<HelpFormatter>());
  AddFlag(completion, "SHELL", *shell, toolkit::ParseShell, "bash|zsh|fish",
          "the shell that reads the script")
      ->required();
  completion.final_callback([&app, shell, &run] {
    run = [&app, shell] { return Print(toolkit::CompletionScript(Program(app), *shell)); };
  });
}

}  // namespace conductor::cmd
