#include "daemon/proxy/recomputed.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "daemon/proxy/choreographies.h"

namespace conductor::proxy {
namespace {

using Json = nlohmann::json;

std::optional<uint64_t> Unsigned(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// Nothing of what is too deep to be written again: that goes by recursion.
Json Read(std::string_view text) {
  return JsonMembers::Parse(text) ? Json::parse(text, nullptr, false) : Json();
}

// The one choice of an answer, or of a piece of a stream; none: a null.
const Json& ChoiceOf(const Json& document) {
  static const Json kNone;
  if (!document.is_object()) return kNone;
  const auto choices = document.find("choices");
  if (choices == document.end() || !choices->is_array() || choices->size() != 1) return kNone;
  return choices->front().is_object() ? choices->front() : kNone;
}

// What stands in a choice under `name`; none: a null.
const Json& In(const Json& object, const char* name) {
  static const Json kNone;
  if (!object.is_object()) return kNone;
  const auto found = object.find(name);
  return found == object.end() ? kNone : *found;
}

// A chat's message, or what a piece adds to it; or null.
const Json& MessageOf(const Json& choice) {
  const Json& delta = In(choice, "delta");
  return delta.is_null() ? In(choice, "message") : delta;
}

std::string TextOf(const Json& choice) {
  const Json& message = MessageOf(choice);
  const Json& text = message.is_null() ? In(choice, "text") : In(message, "content");
  return text.is_string() ? text.get<std::string>() : std::string();
}

// What is no text cannot be put behind a prompt.
bool SaysOtherThanText(const Json& choice) {
  const Json& message = MessageOf(choice);
  return std::ranges::any_of(
      std::array{"tool_calls", "function_call", "reasoning_content", "reasoning", "refusal"},
      [&](const char* name) {
        const Json& other = In(message, name);
        return !other.is_null() && !other.empty() && other != "";
      });
}

std::string Lowered(uint64_t number, uint64_t by, uint64_t least) {
  return std::to_string(std::max(number - std::min(number, by), least));
}

// The object in `text` with one member set; one of that alone where it is no object.
std::string WithMember(std::string_view text, std::string_view name, std::string_view value) {
  const auto members = JsonMembers::Parse(text);
  if (!members) return "{" + JsonString(name) + ": " + std::string(value) + "}";
  const std::array<JsonMembers::Change, 1> changes = {{{name, value}}};
  return members->With(changes);
}

}  // namespace

AskedBy AskedByOf(std::string_view path) {
  return path == "/v1/chat/completions" ? AskedBy::kMessages : AskedBy::kPrompt;
}

bool CanContinue(const JsonMembers& asked, AskedBy by) {
  if (HasSeveralChoices(asked)) return false;
  if (asked.IsTrue("echo") || asked.Find("suffix")) return false;
  if (by == AskedBy::kPrompt) return asked.FindString("prompt").has_value();
  return asked.Find("messages").value_or("").starts_with('[');
}

std::string ContinuedBody(const JsonMembers& asked, AskedBy by, const SaidSoFar& said) {
  std::vector<std::pair<std::string, std::string>> values;
  if (by == AskedBy::kMessages) {
    std::string all(asked.Find("messages").value_or("[]"));
    // In front of the bracket at the end.
    all.resize(all.find_last_of(']'));
    const bool is_empty = all.find_last_not_of(" \t\r\n[") == all.npos;
    all.append(is_empty ? "" : ", ");
    all.append(R"({"role": "assistant", "content": )").append(JsonString(said.text)).append("}]");
    values.emplace_back("messages", std::move(all));
    values.emplace_back("continue_final_message", "true");
    values.emplace_back("add_generation_prompt", "false");
  } else {
    values.emplace_back("prompt", JsonString(asked.FindString("prompt").value_or("") + said.text));
  }
  for (const auto& [name, least] : {std::pair<const char*, uint64_t>{"max_tokens", 1},
                                    {"max_completion_tokens", 1},
                                    {"min_tokens", 0}}) {
    const auto text = asked.Find(name);
    const auto number = text ? Unsigned(*text) : std::nullopt;
    if (number) values.emplace_back(name, Lowered(*number, said.tokens, least));
  }
  std::vector<JsonMembers::Change> changes;
  for (const auto& [name, value] : values) changes.push_back({name, value});
  return asked.With(changes);
}

std::string CachedTokens(std::string_view answer) {
  const auto members = JsonMembers::Parse(answer);
  const auto usage_text = members ? members->Find("usage") : std::nullopt;
  if (!usage_text) return {};
  const auto usage = JsonMembers::Parse(*usage_text);
  const auto details_text = usage ? usage->Find("prompt_tokens_details") : std::nullopt;
  if (!details_text) return {};
  const auto details = JsonMembers::Parse(*details_text);
  const auto cached = details ? details->Find("cached_tokens") : std::nullopt;
  return cached && Unsigned(*cached) ? std::string(*cached) : std::string();
}

std::optional<std::string> AscendAnswer::Changed(std::string_view document, bool is_event) {
  if (Listen(document)) return std::nullopt;
  std::string text = WithUsage(document);
  if (is_event || !has_text_before_) return text;
  // What all of them said, as if it was one.
  Json whole = Read(text);
  if (ChoiceOf(whole).is_null()) return text;
  Json& choice = whole["choices"].front();
  const auto message = choice.find("message");
  if (message == choice.end()) {
    choice["text"] = said_.text;
  } else if (message->is_object()) {
    (*message)["content"] = said_.text;
  } else {
    return text;
  }
  return whole.dump(-1, ' ', false, Json::error_handler_t::replace);
}

bool AscendAnswer::Listen(std::string_view document) {
  const Json read = Read(document);
  const Json& choice = ChoiceOf(read);
  if (choice.is_null()) return false;
  if (SaysOtherThanText(choice)) can_continue_ = false;
  const std::string text = TextOf(choice);
  said_.text += text;
  const Json& tokens = In(In(read, "usage"), "completion_tokens");
  if (tokens.is_number_unsigned()) {
    said_.tokens = tokens_before_ + tokens.get<uint64_t>();
  } else if (!text.empty()) {
    // A piece of a stream is one token, unless its engine says otherwise.
    ++said_.tokens;
  }
  return can_continue_ && In(choice, "stop_reason") == "recomputed";
}

std::string AscendAnswer::WithUsage(std::string_view document) const {
  if (cached_tokens_.empty() && tokens_before_ == 0) return std::string(document);
  const auto members = JsonMembers::Parse(document);
  const auto usage_text = members ? members->Find("usage") : std::nullopt;
  if (!usage_text || !usage_text->starts_with('{')) return std::string(document);
  std::string usage(*usage_text);
  if (!cached_tokens_.empty()) {
    const auto there = JsonMembers::Parse(usage);
    const std::string_view details =
        there ? there->Find("prompt_tokens_details").value_or("null") : "null";
    usage = WithMember(usage, "prompt_tokens_details",
                       WithMember(details, "cached_tokens", cached_tokens_));
  }
  if (tokens_before_ > 0) {
    const auto there = JsonMembers::Parse(usage);
    const auto prompt = there ? Unsigned(there->Find("prompt_tokens").value_or("")) : std::nullopt;
    const auto completion =
        there ? Unsigned(there->Find("completion_tokens").value_or("")) : std::nullopt;
    if (prompt && completion) {
      usage = WithMember(usage, "prompt_tokens", Lowered(*prompt, tokens_before_, 0));
      usage = WithMember(usage, "completion_tokens", std::to_string(*completion + tokens_before_));
    }
  }
  return WithMember(document, "usage", usage);
}

}  // namespace conductor::proxy
