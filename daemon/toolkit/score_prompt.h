#ifndef CONDUCTOR_DAEMON_TOOLKIT_SCORE_PROMPT_H_
#define CONDUCTOR_DAEMON_TOOLKIT_SCORE_PROMPT_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/client/questions.h"
#include "lib/hash/block_hash.h"

namespace conductor::toolkit {

// What an answer has to be for `conductor score` to succeed.
struct Expectation {
  std::string instance;                // nobody may score better; empty: whoever is best
  std::optional<uint64_t> min_tokens;  // that it matches at least
  bool live = false;                   // its state

  [[nodiscard]] bool any() const { return !instance.empty() || min_tokens || live; }
};

// One line for people for each thing that is not as expected of `answer`: what was expected and
// what came. Empty: all is.
[[nodiscard]] std::vector<std::string> Unmet(const Expectation& expected,
                                             const client::ScoreAnswer& answer);

// One prompt with all that is asked beside it; the words are those of POST /v1/score.
struct ScorePrompt {
  // Its token ids, or what a tokenizer is sent to get them: a JSON object without "model".
  std::vector<TokenId> tokens;
  std::string to_tokenize;  // empty: `tokens` are there

  std::string id;  // of its line, as JSON; empty: none
  std::string model;
  std::string tenant;
  std::string lora;
  std::string salt;
  std::optional<std::string> additional_salt;
  std::optional<uint32_t> block_size;
  std::vector<std::string> instances;
  std::map<std::string, client::InstanceLoad> load;
  Expectation expect;

  // As a client asks it; views this.
  [[nodiscard]] client::ScoreSpec Spec() const;
};

// What a tokenizer is sent for a text, in the form for completions, or with `chat` as what a user
// says in a conversation.
[[nodiscard]] std::string TokenizeText(std::string_view text, bool chat);

// One prompt of a batch: an array of token ids, or an object. `defaults` has what a line may leave
// out; `chat` is for texts. Members, of which one of the first three must be there:
//   token_ids, tokens                  token ids
//   prompt                             text, or token ids
//   messages                           a conversation
//   add_special_tokens, add_generation_prompt, continue_final_message, chat_template,
//   chat_template_kwargs, tools        for the tokenizer, which is sent them as they are
//   id                                 any text or number, told with the answer
//   model, tenant_id, lora_name, cache_salt, additional_salt, block_size, instances, load
//   expect, min_tokens, live           see Expectation
// `tenant`, `lora` and `salt` are other names, and null stands for what is absent. Errors name the
// member.
[[nodiscard]] Result<ScorePrompt> ParsePromptLine(std::string_view line,
                                                  const ScorePrompt& defaults, bool chat);

// {"INSTANCE": {"waiting": 2, "kv_use": 0.5}, ...}, either of the two.
[[nodiscard]] Result<std::map<std::string, client::InstanceLoad>> ParseLoad(std::string_view json);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_SCORE_PROMPT_H_
