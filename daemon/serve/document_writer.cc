#include "daemon/serve/document_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <nlohmann/json.hpp>

namespace conductor::serve {
namespace {

using Json = nlohmann::ordered_json;

// Whether the text stands in JSON as it is.
bool IsPlain(std::string_view text) {
  // All are looked at, so that a compiler can take many at once.
  bool special = false;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    special |= byte < 0x20 || byte >= 0x7f || c == '"' || c == '\\';
  }
  return !special;
}

}  // namespace

void DocumentWriter::Grow(size_t bytes) {
  const auto used = static_cast<size_t>(at_ - out_.data());
  out_.resize(std::max(2 * out_.size(), used + bytes));
  at_ = out_.data() + used;
  end_ = out_.data() + out_.size();
}

void DocumentWriter::Key(std::string_view name) {
  if (!json_) return Text(name);
  char* at = PutQuoted(name);
  *at++ = ':';
  at_ = at;
  after_key_ = true;
}

void DocumentWriter::Text(std::string_view text) {
  if (json_) return Done(PutQuoted(text));
  char* at = Reserve(5 + text.size());
  if (text.size() < 32) {
    *at++ = static_cast<char>(0xa0 | text.size());
  } else if (text.size() <= UINT8_MAX) {
    at = PutBigEndian(at, 0xd9, static_cast<uint8_t>(text.size()));
  } else if (text.size() <= UINT16_MAX) {
    at = PutBigEndian(at, 0xda, static_cast<uint16_t>(text.size()));
  } else {
    at = PutBigEndian(at, 0xdb, static_cast<uint32_t>(text.size()));
  }
  at_ = PutBytes(at, text);
}

char* DocumentWriter::PutQuoted(std::string_view text) {
  constexpr size_t kAround = 4;  // a comma, quotation marks, a colon
  if (!IsPlain(text)) {
    const std::string quoted = Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
    char* const at = Reserve(quoted.size() + kAround);
    return PutBytes(PutComma(at), quoted);
  }
  char* at = PutComma(Reserve(text.size() + kAround));
  *at++ = '"';
  at = PutBytes(at, text);
  *at++ = '"';
  return at;
}

void DocumentWriter::Int(int64_t number) {
  char* const at = Reserve(kMostNumber);
  if (json_) {
    Digits(at, number);
  } else {
    at_ = number < 0 ? PutNegative(at, number) : PutUint(at, static_cast<uint64_t>(number));
  }
}

void DocumentWriter::Real(double number, int decimals) {
  if (!std::isfinite(number)) return Nil();
  char* at = Reserve(kMostNumber);
  if (!json_) {
    at_ = PutBigEndian(at, 0xcb, std::bit_cast<uint64_t>(number));
    return;
  }
  // Of numbers as answers have them: an integer's digits with a point among them.
  constexpr int kMostDecimals = 6;
  constexpr double kMostScaled = 1e15;
  static constexpr std::array<uint64_t, kMostDecimals + 1> kScale = {1,     10,     100,    1000,
                                                                     10000, 100000, 1000000};
  if (decimals > 0 && decimals <= kMostDecimals) {
    const uint64_t scale = kScale[static_cast<size_t>(decimals)];
    const double scaled = number * static_cast<double>(scale);
    if (std::abs(scaled) < kMostScaled) {
      const int64_t rounded = std::llround(scaled);
      const auto whole = static_cast<uint64_t>(std::abs(rounded));
      at = PutComma(at);
      if (rounded < 0) *at++ = '-';
      at = std::to_chars(at, at + kMostNumber, whole / scale).ptr;
      *at++ = '.';
      for (uint64_t place = scale / 10, rest = whole % scale; place > 0; place /= 10) {
        *at++ = static_cast<char>('0' + rest / place);
        rest %= place;
      }
      return Done(at);
    }
  }
  // The most digits that can stand before the point.
  const size_t room = 320 + static_cast<size_t>(std::max(decimals, 0));
  at = PutComma(Reserve(room));
  Done(std::to_chars(at, at_ + room, number, std::chars_format::fixed, decimals).ptr);
}

char* DocumentWriter::PutNegative(char* at, int64_t number) {
  if (number >= -32) {
    *at = static_cast<char>(number);
    return at + 1;
  }
  if (number >= INT8_MIN) return PutBigEndian(at, 0xd0, static_cast<uint8_t>(number));
  if (number >= INT16_MIN) return PutBigEndian(at, 0xd1, static_cast<uint16_t>(number));
  if (number >= INT32_MIN) return PutBigEndian(at, 0xd2, static_cast<uint32_t>(number));
  return PutBigEndian(at, 0xd3, static_cast<uint64_t>(number));
}

void DocumentWriter::Header(size_t size, uint8_t small, uint8_t format16) {
  char* const at = Reserve(8);
  if (size < 16) {
    *at = static_cast<char>(small | size);
    at_ = at + 1;
  } else if (size <= UINT16_MAX) {
    at_ = PutBigEndian(at, format16, static_cast<uint16_t>(size));
  } else {
    at_ = PutBigEndian(at, static_cast<uint8_t>(format16 + 1), static_cast<uint32_t>(size));
  }
}

void DocumentWriter::Open(char begin, char end, size_t values) {
  char* at = PutComma(Reserve(2));
  *at++ = begin;
  at_ = at;
  if (innermost_.end != 0) around_.push_back(innermost_);
  innermost_ = {end, values};
  first_ = true;
  if (values == 0) Close();
}

void DocumentWriter::Close() {
  char* at = Reserve(around_.size() + 1);
  while (innermost_.end != 0 && innermost_.left == 0) {
    *at++ = innermost_.end;
    first_ = false;
    innermost_ = around_.empty() ? Level() : around_.back();
    if (!around_.empty()) around_.pop_back();
    if (innermost_.end != 0) --innermost_.left;
  }
  at_ = at;
}

std::string Render(const Json& json, BodyForm form) {
  if (form == BodyForm::kJson) return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string bytes;
  Json::to_msgpack(json, bytes);
  return bytes;
}

}  // namespace conductor::serve
