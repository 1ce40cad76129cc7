#include "cmd/choices.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace conductor::cmd {

std::vector<std::string> WordsOf(std::string_view expected) {
  constexpr std::string_view kBetween = ", ";
  constexpr std::string_view kLast = " or ";
  std::vector<std::string> words;
  while (!expected.empty()) {
    const size_t comma = expected.find(kBetween);
    const size_t either = comma == expected.npos ? expected.find(kLast) : comma;
    const size_t skipped = comma == expected.npos ? kLast.size() : kBetween.size();
    words.emplace_back(expected.substr(0, either));
    expected.remove_prefix(either == expected.npos ? expected.size() : either + skipped);
  }
  const bool is_list = words.size() > 1 && std::ranges::all_of(words, [](const auto& word) {
                         return !word.empty() && word.find_first_of(" |:") == word.npos;
                       });
  return is_list ? words : std::vector<std::string>();
}

CLI::Option* Offer(CLI::Option* flag, const std::vector<std::string>& words) {
  if (words.size() < 2) return flag;
  flag->option_text(flag->get_type_name());
  // As CommandValue::OfShape() reads it.
  return flag->type_name(fmt::format("{}", fmt::join(words, "|")));
}

}  // namespace conductor::cmd
