#include "daemon/proxy/prompt_tokens.h"

#include <array>
#include <charconv>
#include <utility>

#include "lib/hash/sha256.h"

namespace conductor::proxy {
namespace {

// Of an entry, beside its tokens.
constexpr uint64_t kEntryBytes = 256;

std::string_view Trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

// What is between the brackets of an array; nothing when it is none.
std::optional<std::string_view> Inside(std::string_view json) {
  if (json.size() < 2 || json.front() != '[' || json.back() != ']') return std::nullopt;
  return Trimmed(json.substr(1, json.size() - 2));
}

// Whether `json` is one string and nothing behind it.
bool IsOneString(std::string_view json) {
  if (json.size() < 2 || json.front() != '"') return false;
  for (size_t i = 1; i < json.size(); ++i) {
    if (json[i] == '\\') {
      ++i;
    } else if (json[i] == '"') {
      return i + 1 == json.size();
    }
  }
  return false;
}

}  // namespace

std::string TokenCache::KeyOf(std::string_view path, std::string_view body) {
  thread_local hash::Sha256 sha;
  return sha.Digest({path, "\n", body});
}

PromptTokens TokenCache::Find(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return nullptr;
  recent_.splice(recent_.begin(), recent_, found->second);
  return found->second->tokens;
}

void TokenCache::Put(const std::string& key, PromptTokens tokens) {
  const auto size = [](const PromptTokens& some) { return kEntryBytes + some->size() * 4; };
  const std::lock_guard lock(mutex_);
  if (size(tokens) > max_bytes_ || by_key_.contains(key)) return;
  bytes_ += size(tokens);
  recent_.push_front({key, std::move(tokens)});
  by_key_[key] = recent_.begin();
  while (bytes_ > max_bytes_) {
    bytes_ -= size(recent_.back().tokens);
    by_key_.erase(recent_.back().key);
    recent_.pop_back();
  }
}

std::optional<std::vector<uint32_t>> ReadTokenIds(std::string_view json) {
  auto inside = Inside(json);
  if (!inside) return std::nullopt;
  std::vector<uint32_t> tokens;
  tokens.reserve(inside->size() / 4);
  std::string_view rest = *inside;
  while (!rest.empty()) {
    uint32_t token = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), token);
    if (error != std::errc()) return std::nullopt;
    tokens.push_back(token);
    rest = Trimmed(rest.substr(static_cast<size_t>(end - rest.data())));
    if (rest.empty()) break;
    if (rest.front() != ',') return std::nullopt;
    rest = Trimmed(rest.substr(1));
    if (rest.empty()) return std::nullopt;
  }
  return tokens;
}

TokenSource TokenSourceOf(const JsonMembers& members) {
  TokenSource source;
  std::vector<JsonMembers::Change> changes = {{"stream", "false"}, {"max_tokens", "1"}};
  auto prompt = members.Find("prompt");
  // As SGLang's own POST /generate has it.
  const bool is_native = !prompt && !members.Find("messages");
  if (is_native) prompt = members.Find(members.Find("text") ? "text" : "input_ids");
  if (members.Find("messages")) {
    source.kind = TokenSource::Kind::kTokenize;
  } else if (!prompt) {
    source.why = "no_prompt";
  } else if (prompt->starts_with('"')) {
    source.kind = TokenSource::Kind::kTokenize;
    if (is_native) changes.push_back({"prompt", *prompt});
  } else {
    // Tokens; or a batch, which is no batch where it has one prompt.
    const auto inside = Inside(*prompt);
    auto tokens = ReadTokenIds(*prompt);
    if (!tokens && inside) tokens = ReadTokenIds(*inside);
    if (tokens && !tokens->empty()) {
      source.kind = TokenSource::Kind::kGiven;
      source.tokens = *std::move(tokens);
    } else if (inside && IsOneString(*inside)) {
      source.kind = TokenSource::Kind::kTokenize;
      changes.push_back({"prompt", *inside});
    } else {
      source.why = "batch";
    }
  }
  if (source.kind == TokenSource::Kind::kTokenize) source.body = members.With(changes);
  return source;
}

std::optional<std::vector<uint32_t>> ReadTokenized(std::string_view answer) {
  const auto members = JsonMembers::Parse(answer);
  if (!members) return std::nullopt;
  const auto tokens = members->Find("tokens");
  return tokens ? ReadTokenIds(*tokens) : std::nullopt;
}

}  // namespace conductor::proxy
