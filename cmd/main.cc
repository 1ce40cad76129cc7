#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <span>
#include <string>
#include <string_view>

#include "cmd/subcommands.h"

namespace {

constexpr int kUsage = 2;

constexpr const char* kDescription =
    "The map of every KV cache block in an LLM serving fleet: who holds how much of a prompt.";

constexpr const char* kFooter =
    R"(Examples:
  conductor serve --demo     the daemon and a simulated fleet beside it
  conductor help serve       flags, environment, more examples
  conductor replay FILE      what a recording or a workload trace comes to
  conductor tap tcp://10.0.0.1:5557
                             what an engine says of its cache, as it comes
  conductor score --model m --tokens prompt.json
                             who would be the best for a prompt, and why
  conductor snapshot info state.db
                             what a daemon has saved, without one

Exit codes: 0 done, 1 failed, 2 usage. See conductor(1).)";

// The help of the subcommand that was named, or of the whole.
std::string HelpCommand(const CLI::App& app) {
  std::string command = "conductor ";
  for (auto named = app.get_subcommands(); !named.empty();
       named = named.front()->get_subcommands()) {
    command += named.front()->get_name() + " ";
  }
  return command + "--help";
}

// "serve, tap, replay".
std::string Names(const CLI::App& app) {
  std::string names;
  for (const CLI::App* known : app.get_subcommands({})) {
    names += (names.empty() ? "" : ", ") + known->get_name();
  }
  return names;
}

std::string NoSubcommand(const CLI::App& app, const std::string& word) {
  return "'" + word + "' is no subcommand (expected " + Names(app) + ")";
}

// CLI11 does not say which word it took for no subcommand.
std::string Message(const CLI::App& app, const CLI::Error& error) {
  const auto words = app.remaining();
  if (!app.get_subcommands().empty() || words.empty()) return error.what();
  if (words.front().starts_with('-')) {
    return "'" + words.front() + "' is no flag of conductor itself";
  }
  return NoSubcommand(app, words.front());
}

int Usage(const std::string& message, const std::string& help) {
  std::cerr << "conductor: " << message << "\nRun '" << help << "' for what there is.\n";
  return kUsage;
}

// `conductor help COMMAND` is `conductor COMMAND --help`.
int Help(const CLI::App& app, std::span<char* const> words) {
  const CLI::App* asked = &app;
  std::string name = "conductor";
  for (const std::string word : words) {
    if (word.starts_with('-')) break;
    const auto known = asked->get_subcommands({});
    const auto found = std::ranges::find(known, word, &CLI::App::get_name);
    if (found == known.end()) return Usage(NoSubcommand(*asked, word), name + " --help");
    asked = *found;
    name += " " + word;
  }
  std::cout << asked->help(asked == &app ? "" : name.substr(0, name.rfind(' ')));
  return 0;
}

// Where the caller closed one of the standard streams, the first file or socket that is opened
// would take its number, and be written to or read in its place. The kernel gives the lowest number
// that is free.
void OpenMissingStreams() {
  int opened = 0;
  do {
    opened = ::open("/dev/null", O_RDWR);
  } while (opened >= 0 && opened <= STDERR_FILENO);
  if (opened >= 0) ::close(opened);
}

}  // namespace

int main(int argc, char** argv) {
  OpenMissingStreams();
  CLI::App app(kDescription, "conductor");
  app.footer(kFooter);
  app.set_version_flag("--version", "conductor " CONDUCTOR_VERSION, "print the version");
  app.set_help_flag("-h,--help", "print this help");
  app.get_formatter()->column_width(28);
  app.require_subcommand(1);
  conductor::cmd::Run run;
  conductor::cmd::AddServe(app, run);
  conductor::cmd::AddProxy(app, run);
  conductor::cmd::AddReplay(app, run);
  conductor::cmd::AddTap(app, run);
  conductor::cmd::AddScore(app, run);
  conductor::cmd::AddSnapshot(app, run);
  conductor::cmd::AddCompletion(app, run);
  if (argc > 1 && std::string_view(argv[1]) == "help") {
    return Help(app, std::span(argv + 2, static_cast<size_t>(argc - 2)));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    return app.exit(asked);
  } catch (const CLI::Error& error) {
    return Usage(Message(app, error), HelpCommand(app));
  }
  return run();
}
