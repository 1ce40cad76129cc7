#ifndef CONDUCTOR_CMD_SUBCOMMANDS_H_
#define CONDUCTOR_CMD_SUBCOMMANDS_H_

#include <CLI/CLI.hpp>
#include <functional>

namespace conductor::cmd {

// Runs a subcommand with the flags that were parsed; the process's exit code.
using Run = std::function<int()>;

// Each adds its subcommand to `app`; `run` becomes its work when the command line names it.
void AddCompletion(CLI::App& app, Run& run);
void AddProxy(CLI::App& app, Run& run);
void AddReplay(CLI::App& app, Run& run);
void AddScore(CLI::App& app, Run& run);
void AddServe(CLI::App& app, Run& run);
void AddSnapshot(CLI::App& app, Run& run);
void AddTap(CLI::App& app, Run& run);

}  // namespace conductor::cmd

#endif  // CONDUCTOR_CMD_SUBCOMMANDS_H_
