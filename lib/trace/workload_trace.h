#ifndef CONDUCTOR_LIB_TRACE_WORKLOAD_TRACE_H_
#define CONDUCTOR_LIB_TRACE_WORKLOAD_TRACE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/hash/block_hash.h"

namespace conductor::trace {

// Workload traces: what users asked of a fleet and when, without a word of it. One JSON object a
// line, in one of two published forms, which are told apart by their fields:
//
//   Mooncake (FAST'25 release), milliseconds, a hash id for 512 tokens:
//     {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, ...]}
//   Qwen-Bailian (anonymous usage traces), seconds, a hash id for 16 tokens:
//     {"chat_id": 159, "parent_chat_id": 55, "timestamp": 61.114, "input_length": 521,
//      "output_length": 132, "type": "text", "turn": 2, "hash_ids": [1089, 1090, ...]}
//
// Equal leading hash ids are a shared prefix. The last id may stand for less than a block. Other
// fields are passed over.

enum class TraceForm : uint8_t { kMooncake, kBailian };

// "mooncake", "qwen-bailian".
[[nodiscard]] std::string_view TraceFormName(TraceForm form);

// One line.
struct TraceRequest {
  uint64_t line = 0;      // in its file, from 1
  Duration arrival{};     // since the trace's zero, to the microsecond
  uint32_t input = 0;     // tokens of the prompt, 1 to kMaxTraceTokens
  uint32_t output = 0;    // tokens of the answer, 0 to kMaxTraceTokens
  uint32_t id_block = 0;  // tokens that a hash id stands for
  // One for each block of the prompt. That of a last block which is not whole may be missing.
  std::vector<uint64_t> hash_ids;
  // Qwen-Bailian only:
  std::optional<int64_t> chat_id;
  std::optional<int64_t> parent_chat_id;  // nothing: the first of its conversation
  std::optional<uint32_t> turn;           // from 1
  std::string type;                       // "text", "search", ...
};

inline constexpr uint32_t kMaxTraceTokens = 1 << 24;
inline constexpr uint32_t kMaxIdBlock = 1 << 16;

// What became of a trace's lines.
struct TraceCounters {
  static constexpr size_t kMaxErrors = 8;

  uint64_t lines = 0;         // that are not blank
  uint64_t requests = 0;      // of these: read
  uint64_t skipped = 0;       // of these: not
  uint64_t went_back = 0;     // requests whose time is before that of the request before them
  std::vector<Error> errors;  // of skipped lines, the first kMaxErrors
};

// Reads a trace as a stream, a line in memory at a time. A line that cannot be read is skipped,
// counted and told, and the rest stands, or the trace ends with it (Options::strict). The form is
// that of the first line that can be read.
//
// Times may go back in a file (two files one after the other do): Next() gives the file's order
// and counts them; strict refuses them. Where time matters see ReadTrace(). Not thread-safe.
class TraceReader {
 public:
  struct Options {
    bool strict = false;
    std::optional<uint32_t> id_block;  // tokens of a hash id, 1 to kMaxIdBlock; nothing: the form's
  };

  // Anything that can be read from front to end: a file, a pipe. The error names it.
  [[nodiscard]] static Result<TraceReader> Open(const std::string& path, const Options& options);
  // A trace that is in memory; `name` stands for the file in errors.
  [[nodiscard]] static TraceReader OfText(std::string name, std::string text,
                                          const Options& options);
  TraceReader(TraceReader&&) noexcept;
  TraceReader& operator=(TraceReader&&) noexcept;
  ~TraceReader();

  // The next request; nothing at the end. An error ends the trace: the file could not be read on,
  // or strict and a line that cannot be used ("traces/a.jsonl, line 7: input_length is -1 (expected
  // ...)").
  [[nodiscard]] Result<std::optional<TraceRequest>> Next();

  [[nodiscard]] const TraceCounters& counters() const;
  [[nodiscard]] const std::string& name() const;  // of the file
  // Nothing before the first request.
  [[nodiscard]] std::optional<TraceForm> form() const;
  // How much of it is read, from 0 to 1; nothing where its size is not known, as that of a pipe.
  [[nodiscard]] std::optional<double> progress() const;

 private:
  struct Impl;
  explicit TraceReader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// A whole trace in memory, in the order of arrival; those that arrive together keep their order in
// the file.
struct WorkloadTrace {
  std::vector<TraceRequest> requests;
  TraceCounters counters;
  std::optional<TraceForm> form;  // nothing: no request was read
};

// At most `limit` requests from the file's start; 0: all. A trace without any request that could be
// read is an error, which tells of the first line that could not.
[[nodiscard]] Result<WorkloadTrace> ReadTrace(TraceReader reader, uint64_t limit = 0);

// The first `input` token ids of a request: all of its prompt, made up from the hash ids, the same
// on every machine. Equal ids are equal blocks of tokens; different ids are different blocks, for
// certain from 4 tokens on. Tokens that no id stands for are of this request's line alone. All are
// below 65,536.
[[nodiscard]] std::vector<TokenId> TraceTokens(const TraceRequest& request);

// `count` token ids for the answer, of this request's line alone: a trace does not say which later
// prompt repeats an answer under which ids.
[[nodiscard]] std::vector<TokenId> TraceAnswer(const TraceRequest& request, uint32_t count);

}  // namespace conductor::trace

#endif  // CONDUCTOR_LIB_TRACE_WORKLOAD_TRACE_H_
