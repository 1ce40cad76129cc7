#include "daemon/toolkit/tap_facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "daemon/serve/registration_json.h"
#include "daemon/toolkit/json_text.h"

namespace conductor::toolkit {
namespace {

using Json = nlohmann::ordered_json;

// A publisher's own name stands for `instance_id`, which need not be known; nor need anything else.
std::vector<serve::FieldProblem> ProblemsOf(const Json& facts, serve::RegistrationFields& fields) {
  fields = serve::ReadRegistration(facts, "publisher");
  std::vector<serve::FieldProblem> problems = std::move(fields.problems);
  std::erase_if(problems, [](const auto& problem) { return problem.reason == "missing"; });
  return problems;
}

}  // namespace

Result<Json> ReadFacts(const std::vector<std::string>& facts, std::optional<wire::Dialect> type) {
  Json object = Json::object();
  if (type) object["type"] = wire::DialectName(*type);
  std::map<std::string, std::string> texts;  // of those that are read as something else
  for (const std::string& fact : facts) {
    const size_t equals = fact.find('=');
    if (equals == std::string::npos || equals == 0) {
      return Fail(fmt::format("'{}' is no fact", fact), "--fact", "NAME=VALUE");
    }
    const std::string name = fact.substr(0, equals);
    const std::string text = fact.substr(equals + 1);
    auto value = ParseJson(text);
    if (value) texts[name] = text;
    object[name] = value ? *std::move(value) : Json(text);
  }
  serve::RegistrationFields fields;
  for (const auto& problem : ProblemsOf(object, fields)) {
    const auto text = texts.find(problem.field.name);
    if (text == texts.end() || !problem.field.object.empty()) continue;
    const Json read = std::exchange(object[text->first], Json(text->second));
    const auto still = ProblemsOf(object, fields);
    const bool better = std::ranges::none_of(
        still, [&](const auto& other) { return other.field == problem.field; });
    if (!better) object[text->first] = read;
  }
  const auto problems = ProblemsOf(object, fields);
  if (!problems.empty()) {
    const serve::FieldProblem& first = problems.front();
    return Fail(first.what, "--fact " + first.field.Dotted(), first.expected);
  }
  if (!fields.unknown.empty()) {
    return Fail(fmt::format("'{}' is no field of a registration", fields.unknown.front().Dotted()),
                "--fact", "one as POST /v1/publishers takes it: model, block_size, tenant_id, ...");
  }
  return object;
}

}  // namespace conductor::toolkit
