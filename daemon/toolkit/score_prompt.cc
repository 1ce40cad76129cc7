#include "daemon/toolkit/score_prompt.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "daemon/serve/nearest_name.h"
#include "daemon/toolkit/json_text.h"
#include "daemon/toolkit/terminal.h"
#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostShown = 40;

const std::set<std::string>& ForTokenizer() {
  static const std::set<std::string> names{"add_special_tokens",     "add_generation_prompt",
                                           "continue_final_message", "chat_template",
                                           "chat_template_kwargs",   "tools"};
  return names;
}

Error WrongValue(std::string_view name, const Json& value, std::string expected) {
  return {fmt::format("{} is {}", name, ShownJson(value)), {}, std::move(expected)};
}

tl::unexpected<Error> Wrong(std::string_view name, const Json& value, std::string expected) {
  return tl::unexpected(WrongValue(name, value, std::move(expected)));
}

const std::set<std::string>& Known() {
  static const std::set<std::string> names = [] {
    std::set<std::string> all{"token_ids",       "tokens",    "prompt",     "messages",  "id",
                              "model",           "tenant_id", "tenant",     "lora_name", "lora",
                              "cache_salt",      "salt",      "block_size", "instances", "load",
                              "additional_salt", "expect",    "live",       "min_tokens"};
    all.insert(ForTokenizer().begin(), ForTokenizer().end());
    return all;
  }();
  return names;
}

// A misspelt member must not change the question in silence.
Status AllKnown(const Json& object) {
  for (const auto& [name, value] : object.items()) {
    if (Known().contains(name)) continue;
    return Fail(fmt::format("'{}' is no member of a prompt", Cut(Printable(name), kMostShown)), {},
                fmt::format("perhaps {}", serve::NearestName(Known(), name)));
  }
  return {};
}

// Members of an object by name, the first thing that is wrong being kept.
class Members {
 public:
  explicit Members(const Json& object) : object_(object) {}

  // Nothing when it is absent or null.
  [[nodiscard]] const Json* Find(const std::string& name) const {
    const auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  // The first of two names that is there.
  [[nodiscard]] const Json* Find(const std::string& name, const std::string& other) {
    const Json* value = Find(name);
    const Json* second = Find(other);
    if (value != nullptr && second != nullptr) {
      Fail({fmt::format("{} and {} are both there", name, other), {}, "one of them"});
    }
    return value != nullptr ? value : second;
  }
  void Text(const std::string& name, std::string& to) { Text(name, Find(name), to); }
  void Text(const std::string& name, const std::string& other, std::string& to) {
    Text(name, Find(name, other), to);
  }
  template <typename T>
  void Number(const std::string& name, uint64_t min, uint64_t max, std::optional<T>& to) {
    const Json* value = Find(name);
    if (value == nullptr) return;
    if (!value->is_number_unsigned() || value->get<uint64_t>() < min ||
        value->get<uint64_t>() > max) {
      return Fail(WrongValue(name, *value, fmt::format("an integer from {} to {}", min, max)));
    }
    to = static_cast<T>(value->get<uint64_t>());
  }
  void Fail(Error error) {
    if (!error_) error_ = std::move(error);
  }
  [[nodiscard]] Status Finish() const {
    if (error_) return tl::unexpected(*error_);
    return {};
  }

 private:
  void Text(const std::string& name, const Json* value, std::string& to) {
    if (value == nullptr) return;
    if (!value->is_string()) return Fail(WrongValue(name, *value, "text"));
    to = value->get<std::string>();
  }

  const Json& object_;
  std::optional<Error> error_;
};

Result<std::map<std::string, client::InstanceLoad>> ReadLoad(const Json& value) {
  constexpr const char* kExpected = R"(an object: {"INSTANCE": {"waiting": 2, "kv_use": 0.5}})";
  if (!value.is_object()) return Wrong("load", value, kExpected);
  std::map<std::string, client::InstanceLoad> load;
  for (const auto& [instance, entry] : value.items()) {
    const std::string place = fmt::format("load.{}", Cut(Printable(instance), kMostShown));
    if (!entry.is_object()) return Wrong(place, entry, kExpected);
    client::InstanceLoad& of = load[instance];
    for (const auto& [name, number] : entry.items()) {
      const bool waiting = name == "waiting";
      if (!waiting && name != "kv_use") {
        return Fail(fmt::format("{} has '{}'", place, Cut(Printable(name), kMostShown)), {},
                    "waiting and kv_use");
      }
      if (number.is_null()) continue;
      const double real = number.is_number() ? number.get<double>() : -1;
      if (!(real >= 0) || (!waiting && real > 1)) {
        return Wrong(fmt::format("{}.{}", place, name), number,
                     waiting ? "a number from 0 on" : "a number from 0 to 1");
      }
      (waiting ? of.waiting : of.kv_use) = real;
    }
  }
  return load;
}

Json ChatOf(std::string_view text) {
  return Json{{"messages", Json::array({Json{{"role", "user"}, {"content", std::string(text)}}})}};
}

// The prompt itself: exactly one of the ways to say it.
Status ReadPrompt(Members& members, bool chat, ScorePrompt& prompt) {
  const Json* tokens = members.Find("token_ids", "tokens");
  const Json* text = members.Find("prompt");
  const Json* messages = members.Find("messages");
  Json for_tokenizer = Json::object();
  for (const std::string& name : ForTokenizer()) {
    if (const Json* value = members.Find(name)) for_tokenizer[name] = *value;
  }
  const int ways = (tokens != nullptr) + (text != nullptr) + (messages != nullptr);
  if (ways != 1) {
    return Fail(ways == 0 ? "there is no prompt" : "there is more than one prompt", {},
                "one of token_ids, prompt and messages");
  }
  if (text != nullptr && text->is_array()) std::swap(tokens, text);
  if (tokens != nullptr) {
    auto read = ReadTokenIds("token_ids", *tokens);
    if (!read) return tl::unexpected(std::move(read.error()));
    prompt.tokens = *std::move(read);
    return {};
  }
  Json request;
  if (messages != nullptr) {
    if (!messages->is_array() || messages->empty()) {
      return Wrong("messages", *messages, "an array of messages");
    }
    request["messages"] = *messages;
  } else if (!text->is_string()) {
    return Wrong("prompt", *text, "text, or an array of token ids");
  } else if (chat) {
    request = ChatOf(text->get<std::string>());
  } else {
    request["prompt"] = *text;
  }
  request.update(for_tokenizer);
  prompt.to_tokenize = DumpJson(request);
  return {};
}

Status ReadInstances(Members& members, std::vector<std::string>& to) {
  const Json* instances = members.Find("instances");
  if (instances == nullptr) return {};
  const bool texts = instances->is_array() &&
                     std::ranges::all_of(*instances, [](const Json& at) { return at.is_string(); });
  if (!texts) return Wrong("instances", *instances, "an array of texts");
  to = instances->get<std::vector<std::string>>();
  return {};
}

Status ReadMembers(const Json& object, bool chat, ScorePrompt& prompt) {
  if (auto known = AllKnown(object); !known) return known;
  Members members(object);
  if (auto read = ReadPrompt(members, chat, prompt); !read) return read;
  if (const Json* id = members.Find("id")) {
    if (!id->is_string() && !id->is_number()) return Wrong("id", *id, "text or a number");
    prompt.id = DumpJson(*id);
  }
  members.Text("model", prompt.model);
  members.Text("tenant_id", "tenant", prompt.tenant);
  members.Text("lora_name", "lora", prompt.lora);
  members.Text("cache_salt", "salt", prompt.salt);
  if (const Json* salt = members.Find("additional_salt")) {
    if (!salt->is_string()) return Wrong("additional_salt", *salt, "text");
    prompt.additional_salt = salt->get<std::string>();
  }
  members.Number("block_size", 1, 2147483647, prompt.block_size);
  if (auto read = ReadInstances(members, prompt.instances); !read) return read;
  if (const Json* load = members.Find("load")) {
    auto read = ReadLoad(*load);
    if (!read) return tl::unexpected(std::move(read.error()));
    prompt.load = *std::move(read);
  }
  members.Text("expect", prompt.expect.instance);
  members.Number("min_tokens", 0, UINT64_MAX, prompt.expect.min_tokens);
  if (const Json* live = members.Find("live")) {
    if (!live->is_boolean()) return Wrong("live", *live, "true or false");
    prompt.expect.live = live->get<bool>();
  }
  return members.Finish();
}

}  // namespace

client::ScoreSpec ScorePrompt::Spec() const {
  return {.query = {.model = model,
                    .token_ids = tokens,
                    .tenant_id = tenant,
                    .lora_name = lora,
                    .cache_salt = salt,
                    .additional_salt = additional_salt,
                    .block_size = block_size,
                    .instances = instances},
          .load = load};
}

std::string TokenizeText(std::string_view text, bool chat) {
  return DumpJson(chat ? ChatOf(text) : Json{{"prompt", std::string(text)}});
}

Result<ScorePrompt> ParsePromptLine(std::string_view line, const ScorePrompt& defaults, bool chat) {
  const auto parsed = ParseJson(line);
  if (!parsed) return tl::unexpected(parsed.error());
  const Json& json = *parsed;
  ScorePrompt prompt = defaults;
  if (json.is_array()) {
    auto tokens = ReadTokenIds("the array", json);
    if (!tokens) return tl::unexpected(std::move(tokens.error()));
    prompt.tokens = *std::move(tokens);
    return prompt;
  }
  if (!json.is_object()) return Wrong("it", json, "an array of token ids, or an object");
  if (auto read = ReadMembers(json, chat, prompt); !read) return tl::unexpected(read.error());
  return prompt;
}

Result<std::map<std::string, client::InstanceLoad>> ParseLoad(std::string_view text) {
  return ParseJson(text).and_then(ReadLoad);
}

std::vector<std::string> Unmet(const Expectation& expected, const client::ScoreAnswer& answer) {
  if (!expected.any()) return {};
  const auto& ranking = answer.ranking;
  const auto wanted = [&] {
    if (expected.instance.empty()) return ranking.begin();
    return std::ranges::find(ranking, expected.instance, &client::RankedInstance::instance_id);
  }();
  if (wanted == ranking.end()) {
    if (ranking.empty()) return {"expected an instance, and none serves the model"};
    return {
        fmt::format("expected {} to be the best, and it is not among those that serve the "
                    "model; the best is {}",
                    expected.instance, ranking.front().instance_id)};
  }
  std::vector<std::string> unmet;
  if (wanted->score < ranking.front().score) {
    unmet.push_back(fmt::format("expected {} to be the best, and {} is: {:.3f} against {:.3f}",
                                expected.instance, ranking.front().instance_id,
                                ranking.front().score, wanted->score));
  }
  if (expected.min_tokens && wanted->longest_matched < *expected.min_tokens) {
    unmet.push_back(fmt::format("expected {} to match at least {}, and it matches {}",
                                wanted->instance_id, Counted(*expected.min_tokens, "token"),
                                Grouped(wanted->longest_matched)));
  }
  if (expected.live && wanted->state != "live") {
    unmet.push_back(fmt::format("expected {} to be live, and it is {}{}{}", wanted->instance_id,
                                wanted->state, wanted->reason.empty() ? "" : ": ", wanted->reason));
  }
  return unmet;
}

}  // namespace conductor::toolkit
