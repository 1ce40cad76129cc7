#include "lib/wire/timestamp.h"

#include <cmath>
#include <msgpack.hpp>
#include <utility>

namespace conductor::wire {
namespace {

constexpr double kMillisecondsFrom = 1e11;

double SecondsOfInteger(double value) { return value >= kMillisecondsFrom ? value / 1000 : value; }

// Stops the parser as soon as the timestamp was read, or cannot come any more.
class TimestampFinder : public msgpack::null_visitor {
 public:
  [[nodiscard]] std::optional<double> seconds() const { return seconds_; }

  bool visit_nil() { return Other(); }
  bool visit_boolean(bool) { return Other(); }
  bool visit_positive_integer(uint64_t value) {
    return Number(SecondsOfInteger(static_cast<double>(value)));
  }
  bool visit_negative_integer(int64_t value) {
    return Number(SecondsOfInteger(static_cast<double>(value)));
  }
  bool visit_float32(float value) { return Number(static_cast<double>(value)); }
  bool visit_float64(double value) { return Number(value); }
  bool visit_str(const char* data, uint32_t size) {
    if (!in_key_ || depth_ != 1) return Other();
    named_ = std::string_view(data, size) == "ts";
    return true;
  }
  bool visit_bin(const char*, uint32_t) { return Other(); }
  bool visit_ext(const char*, uint32_t) { return Other(); }
  bool start_array(uint32_t items) {
    if (depth_ == 0) {
      wanted_ = true;
      ++depth_;
      return items >= 2;
    }
    return Enter();
  }
  bool end_array() { return Leave(); }
  bool start_map(uint32_t) { return depth_ == 0 ? ++depth_ > 0 : Enter(); }
  bool end_map() { return Leave(); }
  bool start_map_key() {
    if (depth_ == 1) in_key_ = true;
    return true;
  }
  bool end_map_key() {
    if (depth_ == 1) in_key_ = false;
    return true;
  }
  bool start_map_value() {
    if (depth_ == 1) wanted_ = std::exchange(named_, false);
    return true;
  }

 private:
  bool Number(double seconds) {
    if (!wanted_) return Other();
    if (std::isfinite(seconds)) seconds_ = seconds;
    return false;
  }
  bool Other() const { return depth_ > 0 && !wanted_; }
  bool Enter() { return !wanted_ && ++depth_ <= MsgpackTape::kMaxDepth; }
  bool Leave() {
    --depth_;
    return true;
  }

  size_t depth_ = 0;
  bool in_key_ = false;  // of the batch's own map
  bool named_ = false;   // the key was "ts"
  bool wanted_ = false;  // the next value is the timestamp
  std::optional<double> seconds_;
};

}  // namespace

std::optional<double> SecondsOf(MsgpackValue value) {
  if (value.kind() == MsgpackValue::Kind::kFloat) {
    if (!std::isfinite(value.real())) return std::nullopt;
    return value.real();
  }
  if (value.kind() == MsgpackValue::Kind::kNegative) {
    return static_cast<double>(*value.AsInt64());
  }
  if (!value.is_integer()) return std::nullopt;
  return SecondsOfInteger(static_cast<double>(value.integer_bits()));
}

std::optional<double> PeekTimestamp(std::string_view payload) {
  TimestampFinder finder;
  msgpack::parse(payload.data(), payload.size(), finder);
  return finder.seconds();
}

}  // namespace conductor::wire
