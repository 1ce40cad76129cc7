#include "lib/trace/workload.h"

#include <algorithm>

namespace conductor::trace {

Workload::Workload(const Options& options) : options_(options), random_(options.seed) {
  options_.conversations = std::max(options_.conversations, 1u);
  options_.turns = std::max(options_.turns, 1u);
  options_.vocabulary = std::max(options_.vocabulary, 1u);
  system_prompts_.resize(options_.system_prompts);
  for (std::vector<TokenId>& prompt : system_prompts_) {
    AppendTokens(prompt, options_.system_prompt_tokens);
  }
  for (uint32_t i = 0; i < options_.conversations; ++i) alive_.push_back(Begin());
}

Workload::Request Workload::Next() {
  Conversation& conversation = alive_[Below(static_cast<uint32_t>(alive_.size()))];
  // From half to one and a half times the average.
  const uint32_t shortest = options_.turn_tokens / 2;
  AppendTokens(conversation.tokens, shortest + Below(options_.turn_tokens + 1));
  Request request{conversation.id, conversation.turn, conversation.tokens};
  if (++conversation.turn == options_.turns) conversation = Begin();
  return request;
}

Workload::Conversation Workload::Begin() {
  Conversation conversation;
  conversation.id = next_id_++;
  if (!system_prompts_.empty()) {
    conversation.tokens = system_prompts_[Below(static_cast<uint32_t>(system_prompts_.size()))];
  }
  return conversation;
}

void Workload::AppendTokens(std::vector<TokenId>& tokens, uint32_t count) {
  tokens.reserve(tokens.size() + count);
  for (uint32_t i = 0; i < count; ++i) tokens.push_back(Below(options_.vocabulary));
}

// std::uniform_int_distribution gives other numbers on other machines; this does not.
uint32_t Workload::Below(uint32_t bound) { return static_cast<uint32_t>(random_() % bound); }

}  // namespace conductor::trace
