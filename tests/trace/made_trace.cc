#include "made_trace.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <random>
#include <utility>

namespace conductor::trace {

std::vector<TraceRequest> MakeTrace(const MadeTraceOptions& options) {
  Workload workload(options.workload);
  std::mt19937_64 random(options.seed);
  // What an id stands for: a block's tokens, and the id before it.
  std::map<std::pair<uint64_t, std::vector<TokenId>>, uint64_t> ids;
  std::vector<TraceRequest> requests;
  const auto gap = static_cast<uint64_t>(2e6 / options.requests_per_second);
  Duration now{};
  for (uint32_t i = 0; i < options.requests; ++i) {
    const Workload::Request made = workload.Next();
    now += std::chrono::microseconds(random() % (gap + 1) / 1000 * 1000);
    TraceRequest& request = requests.emplace_back();
    request.line = i + 1;
    request.arrival = now;
    request.input = static_cast<uint32_t>(made.tokens.size());
    request.output = static_cast<uint32_t>(random() % (2 * options.output + 1));
    request.id_block = options.id_block;
    request.chat_id = i;
    request.turn = made.turn + 1;
    request.type = "text";
    uint64_t last = UINT64_MAX;
    for (size_t from = 0; from < made.tokens.size(); from += options.id_block) {
      const size_t to = std::min(from + options.id_block, made.tokens.size());
      std::vector<TokenId> block(made.tokens.begin() + static_cast<ptrdiff_t>(from),
                                 made.tokens.begin() + static_cast<ptrdiff_t>(to));
      last = ids.try_emplace({last, std::move(block)}, ids.size()).first->second;
      request.hash_ids.push_back(last);
    }
  }
  return requests;
}

std::string TraceLine(const TraceRequest& request, TraceForm form) {
  const std::string ids = fmt::format("[{}]", fmt::join(request.hash_ids, ", "));
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(request.arrival);
  if (form == TraceForm::kMooncake) {
    return fmt::format(
        R"({{"timestamp": {}, "input_length": {}, "output_length": {}, "hash_ids": {}}})",
        micros.count() / 1000, request.input, request.output, ids);
  }
  return fmt::format(
      R"({{"chat_id": {}, "parent_chat_id": {}, "timestamp": {:.3f}, "input_length": {}, )"
      R"("output_length": {}, "type": "{}", "turn": {}, "hash_ids": {}}})",
      request.chat_id.value_or(0), request.parent_chat_id.value_or(-1),
      static_cast<double>(micros.count()) / 1e6, request.input, request.output, request.type,
      request.turn.value_or(1), ids);
}

std::string TraceText(const std::vector<TraceRequest>& requests, TraceForm form) {
  std::string text;
  for (const TraceRequest& request : requests) text += TraceLine(request, form) + "\n";
  return text;
}

}  // namespace conductor::trace
