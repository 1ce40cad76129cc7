#include "answer.h"

#include <fmt/format.h>

namespace conductor::bench {
namespace {

constexpr size_t kDigits = 6;

}  // namespace

std::string_view PathOf(Form form) {
  return form == Form::kChat ? "/v1/chat/completions" : "/v1/completions";
}

std::string RequestOf(Form form, uint32_t user, uint32_t tokens, double interval_seconds,
                      size_t prompt_bytes) {
  std::string prompt;
  while (prompt.size() < prompt_bytes) prompt += "what is asked ";
  prompt.resize(prompt_bytes);
  const std::string asked =
      form == Form::kChat ? fmt::format(R"("messages":[{{"role":"user","content":"{}"}}])", prompt)
                          : fmt::format(R"("prompt":"{}")", prompt);
  const std::string body =
      fmt::format(R"({{"model":"bench","stream":true,"max_tokens":{},"interval_us":{:.0f},)"
                  R"("user":"{:08}",{}}})",
                  tokens, interval_seconds * 1e6, user, asked);
  return fmt::format(
      "POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
      "Content-Length: {}\r\n\r\n{}",
      PathOf(form), body.size(), body);
}

Events::Events(Form form, uint32_t user, uint32_t tokens) : tokens_(tokens) {
  const std::string head =
      form == Form::kChat
          ? fmt::format(R"(data: {{"id":"chatcmpl-{:08}","object":"chat.completion.chunk",)"
                        R"("created":1764000000,"model":"bench","choices":[{{"index":0,)"
                        R"("delta":{{"content":" )",
                        user)
          : fmt::format(R"(data: {{"id":"cmpl-{:08}","object":"text_completion",)"
                        R"("created":1764000000,"model":"bench","choices":[{{"index":0,"text":" )",
                        user);
  const std::string_view tail =
      form == Form::kChat ? R"("},"logprobs":null,"finish_reason":null}]})"
                          : R"(","logprobs":null,"finish_reason":null,"stop_reason":null}]})";
  number_at_ = head.size();
  event_ = fmt::format("{}{:0{}}{}\n\n", head, 0, kDigits, tail);
}

void Events::Advance() {
  uint32_t number = ++next_;
  for (size_t i = kDigits; i-- > 0; number /= 10) {
    event_[number_at_ + i] = static_cast<char>('0' + number % 10);
  }
}

}  // namespace conductor::bench
