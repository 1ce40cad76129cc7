#ifndef CONDUCTOR_DAEMON_TOOLKIT_TOKENIZER_H_
#define CONDUCTOR_DAEMON_TOOLKIT_TOKENIZER_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/client/conductor_url.h"
#include "lib/client/transport.h"
#include "lib/hash/block_hash.h"

namespace conductor::toolkit {

// Where an engine's tokenizer is asked: "http://HOST[:PORT][PATH]" or https. Without a path it is
// /tokenize, which vLLM and SGLang have; without a port it is 80 or 443.
struct TokenizerUrl {
  client::ConductorUrl address;
  std::string path;
  std::string text;  // the whole, for messages

  [[nodiscard]] static Result<TokenizerUrl> Parse(std::string_view text);
};

// Asks an engine for the token ids of a text or a conversation, as it would make them of a request:
//
//   {"model": ..., "prompt": "text"}       or  {"model": ..., "messages": [...]}
//   {"tokens": [1, 2, 300], "count": 3, ...}
//
// Keeps its connection. One thread at a time.
class Tokenizer {
 public:
  struct Options {
    Duration time_limit = std::chrono::seconds(10);  // for one answer
    std::string ca_file;                             // https: PEM; empty: the system's
  };

  Tokenizer(TokenizerUrl url, const Options& options);
  // By any other way; tests.
  Tokenizer(TokenizerUrl url, std::unique_ptr<client::Transport> transport, Duration time_limit);

  // `request` is a JSON object, which is sent with `model` in it. Errors name the URL and say what
  // to do.
  [[nodiscard]] Result<std::vector<TokenId>> Tokenize(std::string_view request,
                                                      std::string_view model);

 private:
  TokenizerUrl url_;
  std::unique_ptr<client::Transport> transport_;
  Duration time_limit_;
};

// The tokens of an answer. Errors say what is wrong with it.
[[nodiscard]] Result<std::vector<TokenId>> ReadTokenizerAnswer(std::string_view json);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_TOKENIZER_H_
