#ifndef CONDUCTOR_DAEMON_PROXY_RECOMPUTED_H_
#define CONDUCTOR_DAEMON_PROXY_RECOMPUTED_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "daemon/proxy/answer_change.h"
#include "daemon/proxy/json_members.h"

// What vllm-ascend's decoders answer, and what has to be done with it. A decoder that must give up
// the blocks of a request ends its answer with `"stop_reason": "recomputed"`, and expects that the
// rest is asked for again, from prefill on, with what it has said so far behind the prompt. And its
// `usage` knows nothing of what the prefiller had cached.
namespace conductor::proxy {

// What all decoders together have said of one answer.
struct SaidSoFar {
  std::string text;
  uint64_t tokens = 0;  // of it
};

// What engines read of a body: its `prompt`, or of a chat its `messages`, whatever stands beside.
enum class AskedBy : uint8_t { kPrompt, kMessages };
[[nodiscard]] AskedBy AskedByOf(std::string_view path);

// Whether an answer can be continued: one prompt that is text, or a chat whose messages are an
// array, and one choice of it.
[[nodiscard]] bool CanContinue(const JsonMembers& asked, AskedBy by);

// The client's body for what is still to come: `said` behind the prompt, or as the beginning of an
// assistant's message; max_tokens, max_completion_tokens and min_tokens less what was said. Only of
// what CanContinue().
[[nodiscard]] std::string ContinuedBody(const JsonMembers& asked, AskedBy by,
                                        const SaidSoFar& said);

// The JSON text of usage.prompt_tokens_details.cached_tokens in a prefiller's answer; empty: none.
[[nodiscard]] std::string CachedTokens(std::string_view answer);

// One decoder's answer. Pure.
//
// `said` is what decoders before it have said, and grows by what this one says. Where
// `can_continue`, the event or the answer that says `recomputed` is kept back, and all behind it.
// In `usage`, cached_tokens becomes `cached_tokens` where that is not empty, and what was said
// before counts as completion and not as prompt.
class AscendAnswer : public AnswerChange {
 public:
  AscendAnswer(SaidSoFar& said, std::string cached_tokens, bool can_continue)
      : said_(said),
        cached_tokens_(std::move(cached_tokens)),
        can_continue_(can_continue),
        tokens_before_(said.tokens),
        has_text_before_(!said.text.empty()) {}

 private:
  [[nodiscard]] std::optional<std::string> Changed(std::string_view document,
                                                   bool is_event) override;
  // Adds what `document` says to `said_`. Whether it is to be kept back.
  [[nodiscard]] bool Listen(std::string_view document);
  [[nodiscard]] std::string WithUsage(std::string_view document) const;

  SaidSoFar& said_;
  const std::string cached_tokens_;
  bool can_continue_;
  const uint64_t tokens_before_;
  const bool has_text_before_;
};

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_RECOMPUTED_H_
