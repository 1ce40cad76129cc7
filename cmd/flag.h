#ifndef CONDUCTOR_CMD_FLAG_H_
#define CONDUCTOR_CMD_FLAG_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "lib/base/number.h"

namespace conductor::cmd {

// Flag values that are checked with a message that says what was given and what was expected.

// Adds the flag `name`, whose text `parse` turns into `target`'s type; its error ends the command
// line as a usage error. `shape` stands for the value in the help: "PORT".
template <typename T, typename Parse>
CLI::Option* AddFlag(CLI::App& app, const std::string& name, T& target, Parse parse,
                     const std::string& shape, const std::string& help) {
  return app
      .add_option_function<std::string>(
          name,
          [&target, parse, name](const std::string& text) {
            auto value = parse(text);
            if (!value) throw CLI::ValidationError(name, value.error().Message());
            target = *std::move(value);
          },
          help)
      ->type_name(shape);
}

// The same for an integer; `max` must fit T.
template <typename T>
CLI::Option* AddNumberFlag(CLI::App& app, const std::string& name, T& target, std::string_view what,
                           uint64_t min, uint64_t max, const std::string& help) {
  const auto parse = [what, min, max](std::string_view text) {
    return ParseNumber(text, what, min, max).map([](uint64_t number) {
      return static_cast<T>(number);
    });
  };
  return AddFlag(app, name, target, parse, "N", help);
}

}  // namespace conductor::cmd

#endif  // CONDUCTOR_CMD_FLAG_H_
