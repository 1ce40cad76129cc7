#ifndef CONDUCTOR_CMD_CHOICES_H_
#define CONDUCTOR_CMD_CHOICES_H_

#include <CLI/CLI.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace conductor::cmd {

// Flags whose value is one of a few words, which shells offer (`conductor completion`).

// The words of "a, b or c", as an error says what was expected; none where it is no such list.
[[nodiscard]] std::vector<std::string> WordsOf(std::string_view expected);

// Has shells offer these words for the flag's value. In the help it keeps its shape.
CLI::Option* Offer(CLI::Option* flag, const std::vector<std::string>& words);

// The same with the words that `parse` expects. Asked with a text that is none of them, so that
// what is offered is what is taken.
template <typename Parse>
CLI::Option* OfferExpected(CLI::Option* flag, Parse parse) {
  const auto none = parse(std::string());
  return none ? flag : Offer(flag, WordsOf(none.error().expected));
}

}  // namespace conductor::cmd

#endif  // CONDUCTOR_CMD_CHOICES_H_
