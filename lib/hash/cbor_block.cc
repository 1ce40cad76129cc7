#include "lib/hash/cbor_block.h"

#include <algorithm>
#include <cstdint>

#include "lib/base/bytes.h"
#include "lib/hash/extra_key.h"

namespace conductor::hash {
namespace {

enum class Major : uint8_t { kUnsigned = 0, kNegative = 1, kBytes = 2, kText = 3, kArray = 4 };

constexpr size_t kMaxHead = 9;

// Writes the head of a value at `out`, which has room for kMaxHead; returns the end.
char* PutHead(Major major, uint64_t value, char* out) {
  const auto lead = static_cast<unsigned>(major) << 5;
  if (value < 24) {
    *out = static_cast<char>(lead | value);
    return out + 1;
  }
  const unsigned width = value <= 0xff ? 0 : value <= 0xffff ? 1 : value <= 0xffffffff ? 2 : 3;
  *out++ = static_cast<char>(lead | (24 + width));
  for (unsigned shift = 8U << width; shift > 0;) {
    shift -= 8;
    *out++ = static_cast<char>(value >> shift & 0xff);
  }
  return out;
}

void Head(Major major, uint64_t value, std::string& out) {
  const size_t at = out.size();
  out.resize(at + kMaxHead);
  out.resize(static_cast<size_t>(PutHead(major, value, out.data() + at) - out.data()));
}

void Integer(int64_t value, std::string& out) {
  value >= 0 ? Head(Major::kUnsigned, static_cast<uint64_t>(value), out)
             : Head(Major::kNegative, static_cast<uint64_t>(~value), out);
}

void String(Major major, std::string_view bytes, std::string& out) {
  Head(major, bytes.size(), out);
  out.append(bytes);
}

void Tokens(std::span<const TokenId> tokens, std::string& out) {
  constexpr size_t kMaxToken = 5;
  Head(Major::kArray, tokens.size(), out);
  const size_t at = out.size();
  out.resize(at + tokens.size() * kMaxToken);
  char* end = out.data() + at;
  for (const TokenId token : tokens) end = PutHead(Major::kUnsigned, token, end);
  out.resize(static_cast<size_t>(end - out.data()));
}

Status Extras(const ExtraKeys& extras, std::string& out) {
  if (extras.empty()) {
    out.push_back('\xf6');
    return {};
  }
  Head(Major::kArray, extras.size(), out);
  for (size_t i = 0; i < extras.size(); ++i) {
    const auto key = ReadExtraKey(extras[i]);
    if (!key) return tl::unexpected(Error(key.error()).Within("extra key " + std::to_string(i)));
    switch (key->kind) {
      case ExtraKey::Kind::kText:
        String(Major::kText, key->text, out);
        break;
      case ExtraKey::Kind::kBytes:
        String(Major::kBytes, key->text, out);
        break;
      case ExtraKey::Kind::kInteger:
        Integer(key->number, out);
        break;
      case ExtraKey::Kind::kItem:
        Head(Major::kArray, 2, out);
        String(Major::kText, key->text, out);
        Integer(key->number, out);
        break;
    }
  }
  return {};
}

}  // namespace

Status CborBlock(std::string_view parent, std::span<const TokenId> tokens, const ExtraKeys& extras,
                 std::string& out) {
  Head(Major::kArray, 3, out);
  String(Major::kBytes, parent, out);
  Tokens(tokens, out);
  return Extras(extras, out);
}

void CborText(std::string_view text, std::string& out) { String(Major::kText, text, out); }

}  // namespace conductor::hash
