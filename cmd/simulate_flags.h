#ifndef CONDUCTOR_CMD_SIMULATE_FLAGS_H_
#define CONDUCTOR_CMD_SIMULATE_FLAGS_H_

#include <CLI/CLI.hpp>

#include "daemon/toolkit/simulate.h"

namespace conductor::cmd {

struct SimulateFlags {
  bool simulate = false;  // it was asked for
  toolkit::SimulateOptions options;
};

// Adds --simulate and what belongs to it to `app`, in a group that its help shows with --help-all
// or beside --simulate only. Of --block-size, --json, --seed and --strict those that the caller has
// added before are left to it, to set in `flags.options`. `flags` must live as long as `app`.
void AddSimulateFlags(CLI::App& app, SimulateFlags& flags);

// A usage error where one of them was given without --simulate, or --simulate with any other flag
// of `app`, which would mean nothing: for the caller's final callback.
void CheckSimulateFlags(const CLI::App& app, const SimulateFlags& flags);

// Shows the flags in the help: for the caller's --help-all.
void ShowSimulateFlags(CLI::App& app);

}  // namespace conductor::cmd

#endif  // CONDUCTOR_CMD_SIMULATE_FLAGS_H_
