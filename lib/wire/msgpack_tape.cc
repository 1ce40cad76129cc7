#include "lib/wire/msgpack_tape.h"

#include <fmt/format.h>

#include <array>
#include <msgpack.hpp>

namespace conductor::wire {
namespace {

using Kind = MsgpackValue::Kind;

// A tape that was long once gives its memory back instead of holding it for ever.
constexpr size_t kWordsKept = size_t{1} << 20;

enum class Stop : uint8_t { kNone, kTooDeep, kTooLong };

// Writes the tape while msgpack-c parses: its visitor concept, one call a value.
class TapeWriter : public msgpack::null_visitor {
 public:
  explicit TapeWriter(std::vector<uint64_t>& words) : words_(words) {}

  bool visit_nil() { return One(Kind::kNil, 0); }
  bool visit_boolean(bool value) { return One(Kind::kBool, value ? 1 : 0); }
  bool visit_positive_integer(uint64_t value) {
    if (value < kInlineLimit) return One(Kind::kUint, value);
    return Two(Kind::kWideUint, 0, value);
  }
  // Called for every signed form, whatever its value.
  bool visit_negative_integer(int64_t value) {
    if (value >= 0) return visit_positive_integer(static_cast<uint64_t>(value));
    return Two(Kind::kNegative, 0, static_cast<uint64_t>(value));
  }
  bool visit_float32(float value) { return visit_float64(static_cast<double>(value)); }
  bool visit_float64(double value) { return Two(Kind::kFloat, 0, std::bit_cast<uint64_t>(value)); }
  bool visit_str(const char* data, uint32_t size) { return View(Kind::kText, data, size); }
  bool visit_bin(const char* data, uint32_t size) { return View(Kind::kBytes, data, size); }
  bool visit_ext(const char* data, uint32_t size) { return View(Kind::kExtension, data, size); }
  bool start_array(uint32_t items) { return Open(Kind::kArray, items); }
  bool end_array() { return Close(); }
  bool start_map(uint32_t pairs) { return Open(Kind::kMap, pairs); }
  bool end_map() { return Close(); }

  [[nodiscard]] Stop stop() const { return stop_; }

 private:
  static constexpr uint64_t kInlineLimit = uint64_t{1} << 60;

  static uint64_t Head(Kind kind, uint64_t payload) {
    return payload << 4 | static_cast<uint64_t>(kind);
  }

  bool One(Kind kind, uint64_t payload) {
    if (words_.size() >= MsgpackTape::kMaxWords) return Fails(Stop::kTooLong);
    words_.push_back(Head(kind, payload));
    return true;
  }
  bool Two(Kind kind, uint64_t payload, uint64_t second) {
    if (words_.size() + 2 > MsgpackTape::kMaxWords) return Fails(Stop::kTooLong);
    words_.push_back(Head(kind, payload));
    words_.push_back(second);
    return true;
  }
  bool View(Kind kind, const char* data, uint32_t size) {
    return Two(kind, size, reinterpret_cast<uintptr_t>(data));
  }
  bool Open(Kind kind, uint32_t size) {
    if (depth_ == open_.size()) return Fails(Stop::kTooDeep);
    open_[depth_++] = words_.size();
    return Two(kind, size, 0);
  }
  bool Close() {
    const size_t start = open_[--depth_];
    words_[start + 1] = words_.size() - start;
    return true;
  }
  bool Fails(Stop stop) {
    stop_ = stop;
    return false;
  }

  std::vector<uint64_t>& words_;
  std::array<size_t, MsgpackTape::kMaxDepth> open_;
  size_t depth_ = 0;
  Stop stop_ = Stop::kNone;
};

// msgpack::parse does not tell where a visitor stopped it; the parser below it does.
class Parser : public msgpack::detail::context<Parser> {
 public:
  explicit Parser(TapeWriter& writer) : writer_(writer) {}
  TapeWriter& visitor() { return writer_; }

 private:
  TapeWriter& writer_;
};

}  // namespace

std::string_view MsgpackValue::KindName() const {
  switch (kind()) {
    case Kind::kNil:
      return "nil";
    case Kind::kBool:
      return "a boolean";
    case Kind::kUint:
    case Kind::kWideUint:
    case Kind::kNegative:
      return "an integer";
    case Kind::kFloat:
      return "a float";
    case Kind::kText:
      return "text";
    case Kind::kBytes:
      return "bytes";
    case Kind::kExtension:
      return "an extension";
    case Kind::kArray:
      return "an array";
    case Kind::kMap:
      return "a map";
  }
  return "nothing";
}

Result<MsgpackValue> MsgpackTape::Parse(std::string_view payload) {
  if (words_.capacity() > kWordsKept) words_ = {};
  words_.clear();
  if (payload.empty()) return Fail("the payload is empty", "byte 0", "one MessagePack value");

  TapeWriter writer(words_);
  Parser parser(writer);
  size_t offset = 0;
  const auto outcome = parser.execute(payload.data(), payload.size(), offset);
  if (outcome == msgpack::PARSE_SUCCESS && offset == payload.size()) {
    return MsgpackValue(words_.data());
  }
  const std::string where = fmt::format("byte {}", offset);
  switch (outcome) {
    case msgpack::PARSE_SUCCESS:
      return Fail(fmt::format("{} bytes follow the value", payload.size() - offset), where,
                  "one MessagePack value");
    case msgpack::PARSE_CONTINUE:
      return Fail(fmt::format("the payload ends inside a value, after {} bytes", payload.size()),
                  where, "one whole MessagePack value");
    default:
      break;
  }
  switch (writer.stop()) {
    case Stop::kTooDeep:
      return Fail("arrays and maps are nested too deep", where,
                  fmt::format("at most {} levels", kMaxDepth));
    case Stop::kTooLong:
      return Fail("the payload holds too many values", where,
                  fmt::format("at most {} integers", kMaxWords));
    case Stop::kNone:
      break;
  }
  return Fail("no MessagePack value begins with this byte", where, "MessagePack");
}

}  // namespace conductor::wire
