#ifndef CONDUCTOR_DAEMON_PROXY_PROMPT_TOKENS_H_
#define CONDUCTOR_DAEMON_PROXY_PROMPT_TOKENS_H_

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "daemon/proxy/json_members.h"

namespace conductor::proxy {

using PromptTokens = std::shared_ptr<const std::vector<uint32_t>>;

// The tokens of prompts that were asked for before, by the digest of what was asked: the same body
// at the same path. The least recently used are forgotten. Any thread.
class TokenCache {
 public:
  explicit TokenCache(uint64_t max_bytes) : max_bytes_(max_bytes) {}

  // What stands for a request's body at a path.
  [[nodiscard]] static std::string KeyOf(std::string_view path, std::string_view body);

  [[nodiscard]] PromptTokens Find(const std::string& key);
  void Put(const std::string& key, PromptTokens tokens);

 private:
  struct Entry {
    std::string key;
    PromptTokens tokens;
  };

  const uint64_t max_bytes_;
  std::mutex mutex_;  // guards the rest
  uint64_t bytes_ = 0;
  std::list<Entry> recent_;  // the youngest first
  std::unordered_map<std::string, std::list<Entry>::iterator> by_key_;
};

// An array of token ids, as JSON text; nothing when it is something else.
[[nodiscard]] std::optional<std::vector<uint32_t>> ReadTokenIds(std::string_view json);

// What has to be done to know a completion's tokens.
struct TokenSource {
  enum class Kind : uint8_t {
    kGiven,     // `tokens`: the prompt is tokens
    kTokenize,  // `body` is for an engine's POST /tokenize
    kNone,      // `why`: "batch", "no_prompt"
  };
  Kind kind = Kind::kNone;
  std::vector<uint32_t> tokens;
  std::string body;
  std::string why;
};
[[nodiscard]] TokenSource TokenSourceOf(const JsonMembers& members);

// The tokens in an engine's answer to POST /tokenize.
[[nodiscard]] std::optional<std::vector<uint32_t>> ReadTokenized(std::string_view answer);

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_PROMPT_TOKENS_H_
