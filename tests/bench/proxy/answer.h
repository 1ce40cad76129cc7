#ifndef CONDUCTOR_TESTS_BENCH_PROXY_ANSWER_H_
#define CONDUCTOR_TESTS_BENCH_PROXY_ANSWER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace conductor::bench {

// What the engine answers to a request, so that who asked can tell each byte: an event for each
// token as vLLM streams it, then the one that ends the stream. A request names itself with "user"
// (a number of eight digits), says how many tokens it wants with "max_tokens", and with
// "interval_us" how many microseconds there are from one to the next.
enum class Form : uint8_t { kCompletions, kChat };

[[nodiscard]] std::string_view PathOf(Form form);
// The whole request, headers and body; `prompt_bytes` are of its prompt.
[[nodiscard]] std::string RequestOf(Form form, uint32_t user, uint32_t tokens,
                                    double interval_seconds, size_t prompt_bytes);

inline constexpr std::string_view kDone = "data: [DONE]\n\n";

// The text of one event after the other.
class Events {
 public:
  // `tokens` of them, and then kDone.
  Events(Form form, uint32_t user, uint32_t tokens);

  [[nodiscard]] bool ended() const { return next_ > tokens_; }
  [[nodiscard]] bool is_token() const { return next_ < tokens_; }
  [[nodiscard]] std::string_view text() const { return is_token() ? event_ : kDone; }
  void Advance();

 private:
  uint32_t tokens_;
  uint32_t next_ = 0;
  size_t number_at_;  // of the digits that differ from event to event
  std::string event_;
};

}  // namespace conductor::bench

#endif  // CONDUCTOR_TESTS_BENCH_PROXY_ANSWER_H_
