#include "daemon/toolkit/json_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "daemon/toolkit/terminal.h"

namespace conductor::toolkit {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostShown = 40;

// How deep brackets outside of texts are.
size_t DepthOf(std::string_view text) {
  size_t depth = 0;
  size_t deepest = 0;
  bool in_text = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_text) {
      if (c == '\\') ++i;
      if (c == '"') in_text = false;
    } else if (c == '"') {
      in_text = true;
    } else if (c == '[' || c == '{') {
      deepest = std::max(deepest, ++depth);
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  return deepest;
}

}  // namespace

Result<Json> ParseJson(std::string_view text) {
  if (DepthOf(text) > kMostNested) {
    return Fail(fmt::format("is nested deeper than {} levels", kMostNested));
  }
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    return Fail(
        fmt::format("is no JSON: something is wrong at byte {} of {}", error.byte, text.size()));
  } catch (const Json::exception&) {  // a number that is out of range
    return Fail("is no JSON");
  }
}

std::string DumpJson(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string ShownJson(const Json& json) { return Cut(Printable(DumpJson(json)), kMostShown); }

Result<std::vector<TokenId>> ReadTokenIds(std::string_view name, const Json& value) {
  if (!value.is_array()) {
    return Fail(fmt::format("{} is {}", name, ShownJson(value)), {},
                "an array of integers from 0 to 4294967295");
  }
  std::vector<TokenId> tokens;
  tokens.reserve(value.size());
  for (const Json& item : value) {
    if (!item.is_number_unsigned() || item.get<uint64_t>() > std::numeric_limits<TokenId>::max()) {
      return Fail(fmt::format("{}[{}] is {}", name, tokens.size(), ShownJson(item)), {},
                  "an integer from 0 to 4294967295");
    }
    tokens.push_back(item.get<TokenId>());
  }
  return tokens;
}

}  // namespace conductor::toolkit
