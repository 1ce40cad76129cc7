#include "daemon/serve/document_pieces.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

namespace conductor::serve {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t Eight(uint8_t byte) { return uint64_t{0x0101010101010101} * byte; }

// Whether there is a byte in these eight that JSON has in escapes, or that is not ASCII.
bool HasSpecial(const char* at) {
  uint64_t bytes = 0;
  std::memcpy(&bytes, at, sizeof bytes);
  const auto has_zero = [](uint64_t of) { return (of - Eight(1)) & ~of; };
  const uint64_t special = ((bytes - Eight(0x20)) & ~bytes) | bytes | (bytes + Eight(1)) |
                           has_zero(bytes ^ Eight('"')) | has_zero(bytes ^ Eight('\\'));
  return (special & Eight(0x80)) != 0;
}

}  // namespace

bool IsPlainJson(std::string_view text) {
  if (text.size() >= sizeof(uint64_t)) {
    // The last eight may overlap the ones before.
    const size_t last = text.size() - sizeof(uint64_t);
    bool special = HasSpecial(text.data() + last);
    for (size_t at = 0; at < last; at += sizeof(uint64_t)) special |= HasSpecial(text.data() + at);
    return !special;
  }
  return std::ranges::none_of(text, [](char c) {
    const auto byte = static_cast<uint8_t>(c);
    return byte < 0x20 || byte >= 0x7f || c == '"' || c == '\\';
  });
}

std::string EscapedJson(std::string_view text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace conductor::serve
