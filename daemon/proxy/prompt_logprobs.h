#ifndef CONDUCTOR_DAEMON_PROXY_PROMPT_LOGPROBS_H_
#define CONDUCTOR_DAEMON_PROXY_PROMPT_LOGPROBS_H_

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/proxy/answer_change.h"
#include "daemon/proxy/json_members.h"

// SGLang computes the log probabilities of a prompt where it prefills, and the answer is the
// decoder's. `meta_info.input_token_logprobs` of both belong one behind the other.
namespace conductor::proxy {

// Whether a client asks for them ("return_logprob").
[[nodiscard]] bool AsksPromptLogprobs(const JsonMembers& asked);

// The decoder's answer with the prefiller's before its own: an object, an array of them for a
// batch, or events, which say by `index` which prompt of a batch they are of. Pure.
class WithPromptLogprobs : public AnswerChange {
 public:
  // What the prefiller answered, whole or a stream, before the first Take(). Without it, or where
  // it has none, the decoder's answer passes as it is.
  void Prefilled(std::string_view answer);

 private:
  [[nodiscard]] std::optional<std::string> Changed(std::string_view document,
                                                   bool is_event) override;
  // Of the prompt with that number.
  void Note(std::string_view document, size_t number);
  [[nodiscard]] std::string ChangedObject(std::string_view document, size_t number) const;

  std::map<size_t, std::string> of_prompts_;  // elements of the array, by the prompt's number
};

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_PROMPT_LOGPROBS_H_
