#include "lib/trace/workload_trace.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <istream>
#include <sstream>
#include <utility>

#include "lib/base/number.h"

namespace conductor::trace {
namespace {

using simdjson::dom::element;

// A prompt of 2^24 tokens in blocks of 16 is a million ids, of up to 20 digits and what parts them.
constexpr size_t kMaxLine = size_t{64} << 20;
constexpr uint32_t kMooncakeBlock = 512;
constexpr uint32_t kBailianBlock = 16;
// A year, in seconds: later than any trace, and far from what a Duration cannot hold.
constexpr double kMaxSeconds = 366.0 * 86400;

tl::unexpected<Error> Missing(std::string_view field, std::string expected) {
  return Fail(fmt::format("{} is missing", field), {}, std::move(expected));
}

tl::unexpected<Error> Wrong(std::string_view field, const element& value, std::string expected) {
  std::string text = simdjson::minify(value);
  if (text.size() > 40) text = text.substr(0, 37) + "...";
  return Fail(fmt::format("{} is {}", field, text), {}, std::move(expected));
}

Result<int64_t> Integer(const element& line, std::string_view field, int64_t min, int64_t max) {
  const std::string expected = fmt::format("an integer from {} to {}", min, max);
  element value;
  if (line[field].get(value) != simdjson::SUCCESS) return Missing(field, expected);
  int64_t number = 0;
  if (value.get(number) != simdjson::SUCCESS || number < min || number > max) {
    return Wrong(field, value, expected);
  }
  return number;
}

// Seconds or milliseconds, with or without a fraction.
Result<Duration> Timestamp(const element& line, TraceForm form) {
  const bool milliseconds = form == TraceForm::kMooncake;
  const std::string expected = fmt::format("{} since the trace's start, at most a year's",
                                           milliseconds ? "milliseconds" : "seconds");
  element value;
  if (line["timestamp"].get(value) != simdjson::SUCCESS) return Missing("timestamp", expected);
  double number = 0;
  if (value.get(number) != simdjson::SUCCESS) return Wrong("timestamp", value, expected);
  const double seconds = milliseconds ? number / 1000 : number;
  if (!(seconds >= 0 && seconds <= kMaxSeconds)) return Wrong("timestamp", value, expected);
  return std::chrono::microseconds(std::llround(seconds * 1e6));
}

Result<std::vector<uint64_t>> HashIds(const element& line) {
  constexpr std::string_view kExpected = "an array of integers from 0 to 18446744073709551615";
  element value;
  if (line["hash_ids"].get(value) != simdjson::SUCCESS) {
    return Missing("hash_ids", std::string(kExpected));
  }
  simdjson::dom::array array;
  if (value.get(array) != simdjson::SUCCESS) {
    return Wrong("hash_ids", value, std::string(kExpected));
  }
  std::vector<uint64_t> ids;
  ids.reserve(array.size());
  for (const element entry : array) {
    uint64_t id = 0;
    if (entry.get(id) != simdjson::SUCCESS) {
      return Wrong(fmt::format("hash_ids[{}]", ids.size()), entry,
                   "an integer from 0 to 18446744073709551615");
    }
    ids.push_back(id);
  }
  return ids;
}

// Their number has to fit the prompt, or the blocks are of another size.
Status CheckIds(const TraceRequest& request) {
  const uint64_t whole = request.input / request.id_block;
  const uint64_t all = (uint64_t{request.input} + request.id_block - 1) / request.id_block;
  const uint64_t count = request.hash_ids.size();
  if (count == whole || count == all) return {};
  return Fail(fmt::format("hash_ids has {} ids for an input_length of {}", count, request.input),
              {},
              whole == all ? fmt::format("{}, one per {} tokens", all, request.id_block)
                           : fmt::format("{}, one per {} tokens, or {} without that of the last "
                                         "block, which is not whole",
                                         all, request.id_block, whole));
}

bool Has(const element& line, std::string_view field) {
  return line[field].error() == simdjson::SUCCESS;
}

Status ReadChat(const element& line, TraceRequest& request) {
  const auto chat = Integer(line, "chat_id", 0, INT64_MAX);
  if (!chat) return tl::unexpected(chat.error());
  request.chat_id = *chat;
  if (Has(line, "parent_chat_id")) {
    const auto parent = Integer(line, "parent_chat_id", -1, INT64_MAX);
    if (!parent) return tl::unexpected(parent.error());
    if (*parent >= 0) request.parent_chat_id = *parent;
  }
  if (Has(line, "turn")) {
    const auto turn = Integer(line, "turn", 0, INT32_MAX);
    if (!turn) return tl::unexpected(turn.error());
    request.turn = static_cast<uint32_t>(*turn);
  }
  if (Has(line, "type")) {
    std::string_view type;
    if (line["type"].get(type) != simdjson::SUCCESS) {
      return Wrong("type", line["type"].value(), "a text");
    }
    request.type = type;
  }
  return {};
}

Result<TraceRequest> ReadRequest(const element& line, TraceForm form, uint32_t id_block) {
  TraceRequest request;
  request.id_block = id_block;
  auto arrival = Timestamp(line, form);
  if (!arrival) return tl::unexpected(std::move(arrival).error());
  request.arrival = *arrival;
  const auto input = Integer(line, "input_length", 1, kMaxTraceTokens);
  if (!input) return tl::unexpected(input.error());
  request.input = static_cast<uint32_t>(*input);
  const auto output = Integer(line, "output_length", 0, kMaxTraceTokens);
  if (!output) return tl::unexpected(output.error());
  request.output = static_cast<uint32_t>(*output);
  auto ids = HashIds(line);
  if (!ids) return tl::unexpected(std::move(ids).error());
  request.hash_ids = *std::move(ids);
  if (auto fits = CheckIds(request); !fits) return tl::unexpected(std::move(fits).error());
  if (form == TraceForm::kBailian) {
    if (auto chat = ReadChat(line, request); !chat) return tl::unexpected(std::move(chat).error());
  }
  return request;
}

bool IsBlank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

// SplitMix64: the finest of what is the same everywhere, and a few instructions.
uint64_t Mixed(uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

// The first four tokens spell the id, so that no two are alike; what follows is noise of it.
void AppendBlock(uint64_t id, uint32_t count, std::vector<TokenId>& tokens) {
  const uint32_t spelt = std::min(count, 4u);
  for (uint32_t i = 0; i < spelt; ++i) {
    tokens.push_back(static_cast<TokenId>((id >> (16 * i)) & 0xffff));
  }
  for (uint32_t i = spelt; i < count; i += 4) {
    uint64_t noise = Mixed(id * 0x10001 + i);
    for (uint32_t j = i; j < std::min(count, i + 4); ++j, noise >>= 16) {
      tokens.push_back(static_cast<TokenId>(noise & 0xffff));
    }
  }
}

// What begins the tokens of one line alone: an id that no trace counts up to, from the line and its
// hash ids, so that lines of the same number in two files differ.
uint64_t OwnId(const TraceRequest& request, uint64_t purpose) {
  uint64_t id = Mixed(request.line + purpose);
  for (const uint64_t hash_id : request.hash_ids) id = Mixed(id ^ hash_id);
  return id | (uint64_t{1} << 63);
}

}  // namespace

std::string_view TraceFormName(TraceForm form) {
  return form == TraceForm::kMooncake ? "mooncake" : "qwen-bailian";
}

struct TraceReader::Impl {
  std::string name;
  std::unique_ptr<std::istream> input;
  Options options;
  TraceCounters counters;
  std::optional<TraceForm> form;
  uint64_t line_number = 0;
  uint64_t read = 0;  // bytes
  uint64_t size = 0;  // of all; 0: not known
  Duration latest{};
  bool ended = false;
  std::string line;
  simdjson::dom::parser parser;

  // The next line, whatever is in it; false at the end.
  Result<bool> GetLine();
  Result<TraceRequest> Read();
  Error InLine(Error error) const {
    return std::move(error).Within(fmt::format("{}, line {}", name, line_number));
  }
};

Result<bool> TraceReader::Impl::GetLine() {
  if (ended) return false;
  line.clear();
  std::streambuf& bytes = *input->rdbuf();
  int byte = 0;
  try {
    while ((byte = bytes.sbumpc()) != std::char_traits<char>::eof() && byte != '\n') {
      ++read;
      // Of a line that is too long only so much is kept that it shows.
      if (line.size() <= kMaxLine) line.push_back(static_cast<char>(byte));
    }
  } catch (const std::ios_base::failure&) {  // what the library does where the system reports one
    ended = true;
    return Fail(fmt::format("cannot be read on: {}", std::strerror(errno)),
                fmt::format("{}, line {}", name, line_number + 1));
  }
  ended = byte != '\n';
  read += ended ? 0 : 1;
  if (ended && line.empty()) return false;
  ++line_number;
  return true;
}

Result<TraceRequest> TraceReader::Impl::Read() {
  if (line.size() > kMaxLine) {
    return Fail("longer than any request", {}, fmt::format("at most {}", FormatSize(kMaxLine)));
  }
  element parsed;
  // The library reads beyond the end of the text, within what a string has reserved.
  line.reserve(line.size() + simdjson::SIMDJSON_PADDING);
  const auto error = parser.parse(line.data(), line.size(), false).get(parsed);
  if (error != simdjson::SUCCESS) {
    return Fail(fmt::format("not JSON ({})", simdjson::error_message(error)), {},
                "one JSON object a line");
  }
  if (!parsed.is_object()) {
    return Fail("no JSON object", {},
                "an object with timestamp, input_length, output_length and hash_ids");
  }
  const TraceForm now =
      form.value_or(Has(parsed, "chat_id") ? TraceForm::kBailian : TraceForm::kMooncake);
  const uint32_t own = now == TraceForm::kMooncake ? kMooncakeBlock : kBailianBlock;
  auto request = ReadRequest(parsed, now, options.id_block.value_or(own));
  if (!request) return request;
  form = now;
  request->line = line_number;
  return request;
}

TraceReader::TraceReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TraceReader::TraceReader(TraceReader&&) noexcept = default;
TraceReader& TraceReader::operator=(TraceReader&&) noexcept = default;
TraceReader::~TraceReader() = default;

Result<TraceReader> TraceReader::Open(const std::string& path, const Options& options) {
  auto impl = std::make_unique<Impl>();
  impl->name = path;
  impl->options = options;
  auto file = std::make_unique<std::ifstream>(path, std::ios::binary);
  // A folder opens, and fails to be read.
  if (!*file || (file->peek(), file->bad())) {
    return Fail(fmt::format("cannot be read: {}", std::strerror(errno)), path, "a workload trace");
  }
  file->clear();
  std::error_code unknown;
  const uintmax_t size = std::filesystem::is_regular_file(path, unknown)
                             ? std::filesystem::file_size(path, unknown)
                             : 0;
  if (!unknown) impl->size = size;
  impl->input = std::move(file);
  return TraceReader(std::move(impl));
}

TraceReader TraceReader::OfText(std::string name, std::string text, const Options& options) {
  auto impl = std::make_unique<Impl>();
  impl->name = std::move(name);
  impl->options = options;
  impl->size = text.size();
  impl->input = std::make_unique<std::istringstream>(std::move(text));
  return TraceReader(std::move(impl));
}

Result<std::optional<TraceRequest>> TraceReader::Next() {
  TraceCounters& counters = impl_->counters;
  while (true) {
    auto more = impl_->GetLine();
    if (!more) return tl::unexpected(std::move(more).error());
    if (!*more) return std::nullopt;
    if (IsBlank(impl_->line)) continue;
    ++counters.lines;
    auto request = impl_->Read();
    if (request && request->arrival < impl_->latest) {
      ++counters.went_back;
      if (impl_->options.strict) {
        request = Fail("timestamp is before that of the request before it", {},
                       "times that do not go back");
      }
    }
    if (request) {
      impl_->latest = request->arrival;
      ++counters.requests;
      return *std::move(request);
    }
    ++counters.skipped;
    Error error = impl_->InLine(std::move(request).error());
    if (counters.errors.size() < TraceCounters::kMaxErrors) counters.errors.push_back(error);
    if (impl_->options.strict) {
      impl_->ended = true;
      return tl::unexpected(std::move(error));
    }
  }
}

const TraceCounters& TraceReader::counters() const { return impl_->counters; }
const std::string& TraceReader::name() const { return impl_->name; }
std::optional<double> TraceReader::progress() const {
  if (impl_->size == 0) return std::nullopt;
  return std::min(1.0, static_cast<double>(impl_->read) / static_cast<double>(impl_->size));
}
std::optional<TraceForm> TraceReader::form() const { return impl_->form; }

Result<WorkloadTrace> ReadTrace(TraceReader reader, uint64_t limit) {
  WorkloadTrace trace;
  while (limit == 0 || trace.requests.size() < limit) {
    auto next = reader.Next();
    if (!next) return tl::unexpected(std::move(next).error());
    if (!*next) break;
    trace.requests.push_back(**std::move(next));
  }
  trace.counters = reader.counters();
  trace.form = reader.form();
  if (trace.requests.empty()) {
    if (!trace.counters.errors.empty()) return tl::unexpected(trace.counters.errors.front());
    return Fail("no requests", reader.name(), "a workload trace, one JSON object a line");
  }
  std::ranges::stable_sort(trace.requests, {}, &TraceRequest::arrival);
  return trace;
}

std::vector<TokenId> TraceTokens(const TraceRequest& request) {
  std::vector<TokenId> tokens;
  tokens.reserve(request.input);
  for (const uint64_t id : request.hash_ids) {
    const auto left = static_cast<uint32_t>(request.input - tokens.size());
    AppendBlock(id, std::min(left, request.id_block), tokens);
  }
  const auto left = static_cast<uint32_t>(request.input - tokens.size());
  AppendBlock(OwnId(request, 0), left, tokens);
  return tokens;
}

std::vector<TokenId> TraceAnswer(const TraceRequest& request, uint32_t count) {
  std::vector<TokenId> tokens;
  tokens.reserve(count);
  AppendBlock(OwnId(request, uint64_t{1} << 62), count, tokens);
  return tokens;
}

}  // namespace conductor::trace
