#include "daemon/toolkit/json_text.h"

#include <fmt/format.h>

#include <algorithm>

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

}  // namespace conductor::toolkit
