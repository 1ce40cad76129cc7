#include "daemon/serve/mooncake_generation.h"

#include <fmt/format.h>

#include <array>

#include "daemon/serve/document.h"

namespace conductor::serve {
namespace {

constexpr std::array kAll = {Generation::kGo, Generation::kCppJson, Generation::kMsgpack,
                             Generation::kDynamo};

Result<Generation> Named(std::string_view text) {
  for (const Generation generation : kAll) {
    if (text == GenerationName(generation)) return generation;
  }
  return Fail(fmt::format("'{}' is no generation", text.substr(0, 64)), "X-Conductor-Compat",
              "go, cpp-json, msgpack or dynamo");
}

}  // namespace

std::string_view GenerationName(Generation generation) {
  switch (generation) {
    case Generation::kGo:
      return "go";
    case Generation::kCppJson:
      return "cpp-json";
    case Generation::kMsgpack:
      return "msgpack";
    case Generation::kDynamo:
      return "dynamo";
  }
  return "";
}

Result<Generation> ParseCompat(std::string_view text) {
  const auto generation = Named(text);
  if (generation && *generation != Generation::kDynamo) return generation;
  return Fail(fmt::format("'{}' is not a generation of the Mooncake Conductor", text), {},
              "go, cpp-json or msgpack");
}

Result<Generation> GenerationOf(const HttpRequest& request, Generation setting) {
  if (!request.compat.empty()) return Named(request.compat);
  if (const auto accepted = FormNamed(request.accept)) {
    if (*accepted == BodyForm::kMsgpack) return Generation::kMsgpack;
    return setting == Generation::kMsgpack ? Generation::kCppJson : setting;
  }
  // Only requests with a body have a Content-Type that says anything.
  if (FormNamed(request.content_type) == BodyForm::kMsgpack) return Generation::kMsgpack;
  return setting;
}

}  // namespace conductor::serve
