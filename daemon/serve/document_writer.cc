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
using Json = nlohmann::ordered_json;

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
  at_ = PutMsgpackText(Reserve(5 + text.size()), text);
}

char* DocumentWriter::PutQuoted(std::string_view text) {
  constexpr size_t kAround = 4;  // a comma, quotation marks, a colon
  if (IsPlainJson(text)) return PutPlainJson(PutComma(Reserve(text.size() + kAround)), text);
  const std::string escaped = EscapedJson(text);
  return PutBytes(PutComma(Reserve(escaped.size() + kAround)), escaped);
}

void DocumentWriter::Int(int64_t number) {
  char* const at = Reserve(kMostNumber);
  if (json_) {
    Digits(at, number);
  } else {
    at_ = number < 0 ? PutNegative(at, number) : PutMsgpackUint(at, static_cast<uint64_t>(number));
  }
}

void DocumentWriter::Real(double number, int decimals) {
  if (!std::isfinite(number)) return Nil();
  char* at = Reserve(kMostNumber);
  if (!json_) {
    at_ = PutBigEndian(at, 0xcb, std::bit_cast<uint64_t>(number));
    return;
  }
  if (FitsJsonReal(number, decimals)) return Done(PutJsonReal(PutComma(at), number, decimals));
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
  at_ = PutMsgpackSize(Reserve(8), size, small, format16);
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
