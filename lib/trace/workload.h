#ifndef CONDUCTOR_LIB_TRACE_WORKLOAD_H_
#define CONDUCTOR_LIB_TRACE_WORKLOAD_H_

#include <cstdint>
#include <random>
#include <vector>

#include "lib/hash/block_hash.h"

namespace conductor::trace {

// A made-up chat workload: conversations that share a few system prompts and grow turn by turn, so
// that prompts share prefixes as chat traffic does. The same options give the same prompts on
// every machine.
class Workload {
 public:
  struct Options {
    uint64_t seed = 1;
    uint32_t system_prompts = 3;
    uint32_t system_prompt_tokens = 256;
    uint32_t conversations = 24;  // alive at once; a finished one is replaced
    uint32_t turns = 6;           // per conversation
    uint32_t turn_tokens = 96;    // on average
    uint32_t vocabulary = 32000;
  };

  struct Request {
    uint64_t conversation = 0;    // increasing with each new conversation
    uint32_t turn = 0;            // from 0
    std::vector<TokenId> tokens;  // the whole prompt: all earlier turns and this one
  };

  explicit Workload(const Options& options);

  // The next prompt, of some conversation that is alive.
  [[nodiscard]] Request Next();

 private:
  struct Conversation {
    uint64_t id = 0;
    uint32_t turn = 0;
    std::vector<TokenId> tokens;
  };

  [[nodiscard]] Conversation Begin();
  void AppendTokens(std::vector<TokenId>& tokens, uint32_t count);
  [[nodiscard]] uint32_t Below(uint32_t bound);

  Options options_;
  std::mt19937_64 random_;
  uint64_t next_id_ = 0;
  std::vector<std::vector<TokenId>> system_prompts_;
  std::vector<Conversation> alive_;
};

}  // namespace conductor::trace

#endif  // CONDUCTOR_LIB_TRACE_WORKLOAD_H_
