#include "daemon/proxy/prompt_logprobs.h"

#include <array>
#include <utility>

#include "lib/base/number.h"

namespace conductor::proxy {
namespace {

constexpr std::string_view kMeta = "meta_info";
constexpr std::string_view kLogprobs = "input_token_logprobs";
// Tokens of a prompt, and prompts of a batch.
constexpr size_t kMost = 1 << 22;

// What is between the brackets; empty for an empty array, and for what is none.
std::string_view Inside(std::optional<std::string_view> array) {
  const auto elements = JsonElements(array.value_or("[]"), kMost);
  if (!elements || elements->empty()) return {};
  const char* const end = elements->back().data() + elements->back().size();
  return {elements->front().data(), static_cast<size_t>(end - elements->front().data())};
}

std::optional<JsonMembers> MetaOf(const JsonMembers& document) {
  const auto text = document.Find(kMeta);
  auto meta = text ? JsonMembers::Parse(*text) : Fail("is missing", std::string(kMeta));
  if (!meta) return std::nullopt;
  return *std::move(meta);
}

// Which prompt of a batch an event is of.
size_t NumberOf(std::string_view document) {
  const auto members = JsonMembers::Parse(document);
  const auto index = members ? members->Find("index") : std::nullopt;
  const auto number = index ? ParseNumber(*index, "a number", 0, 1 << 20) : 0;
  return number ? static_cast<size_t>(*number) : 0;
}

}  // namespace

bool AsksPromptLogprobs(const JsonMembers& asked) {
  const auto value = asked.Find("return_logprob");
  // Of a batch it may be an array.
  return value && value->find("true") != value->npos;
}

void WithPromptLogprobs::Prefilled(std::string_view answer) {
  of_prompts_.clear();
  if (const auto elements = JsonElements(answer, kMost)) {
    for (size_t i = 0; i < elements->size(); ++i) Note((*elements)[i], i);
  } else if (JsonMembers::Parse(answer)) {
    Note(answer, 0);
  } else {
    for (size_t at = 0; at < answer.size();) {
      const size_t end = std::min(answer.find('\n', at), answer.size() - 1) + 1;
      const std::string_view event = EventDocument(answer.substr(at, end - at));
      if (!event.empty()) Note(event, NumberOf(event));
      at = end;
    }
  }
}

void WithPromptLogprobs::Note(std::string_view document, size_t number) {
  const auto members = JsonMembers::Parse(document);
  const auto meta = members ? MetaOf(*members) : std::nullopt;
  if (!meta) return;
  // Of several events the first one has them all.
  if (const std::string_view all = Inside(meta->Find(kLogprobs)); !all.empty()) {
    of_prompts_.emplace(number, all);
  }
}

std::optional<std::string> WithPromptLogprobs::Changed(std::string_view document, bool is_event) {
  if (of_prompts_.empty()) return std::string(document);
  if (is_event) return ChangedObject(document, NumberOf(document));
  const auto elements = JsonElements(document, kMost);
  if (!elements) return ChangedObject(document, 0);
  std::string batch = "[";
  for (size_t i = 0; i < elements->size(); ++i) {
    if (i > 0) batch += ", ";
    batch += ChangedObject((*elements)[i], i);
  }
  return batch += "]";
}

std::string WithPromptLogprobs::ChangedObject(std::string_view document, size_t number) const {
  const auto of_prompt = of_prompts_.find(number);
  const auto members = JsonMembers::Parse(document);
  const auto meta = members ? MetaOf(*members) : std::nullopt;
  if (of_prompt == of_prompts_.end() || !meta) return std::string(document);
  const std::string_view own = Inside(meta->Find(kLogprobs));
  std::string all = "[" + of_prompt->second;
  if (!own.empty()) all.append(", ").append(own);
  all += "]";
  const std::array<JsonMembers::Change, 1> of_meta = {{{kLogprobs, all}}};
  const std::string changed = meta->With(of_meta);
  const std::array<JsonMembers::Change, 1> changes = {{{kMeta, changed}}};
  return members->With(changes);
}

}  // namespace conductor::proxy
