#ifndef CONDUCTOR_CMD_HELP_H_
#define CONDUCTOR_CMD_HELP_H_

#include <CLI/CLI.hpp>
#include <string>
#include <utility>

namespace conductor::cmd {

// The group of flags that few ever touch: not in the short help.
inline constexpr const char* kHidden = "";
// Their heading in the long one.
inline constexpr const char* kMore = "Limits and times that are seldom changed";

// How all subcommands' help looks. The library leaves an empty line for a group that is hidden.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(28); }

  std::string make_help(const CLI::App* app, std::string name,
                        CLI::AppFormatMode mode) const override {
    std::string help = CLI::Formatter::make_help(app, std::move(name), mode);
    for (size_t twice; (twice = help.find("\n\n\n")) != std::string::npos;) help.erase(twice, 1);
    return help;
  }
};

}  // namespace conductor::cmd

#endif  // CONDUCTOR_CMD_HELP_H_
