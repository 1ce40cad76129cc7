#include "lib/wire/tensorrt_llm_keys.h"

#include <fmt/format.h>

#include <array>
#include <limits>

#include "lib/base/bytes.h"
#include "lib/wire/skips.h"

namespace conductor::wire {
namespace {

constexpr std::string_view kExpected =
    "a map with hash or uuid as text and start_offset, an integer from 0 to 2147483647";

// One item of a block's entry as an extra key, or nothing when it is no mm_key.
std::optional<std::string> KeyOf(FieldReader& reader, MsgpackValue item) {
  if (!item.is_map()) return std::nullopt;
  MsgpackValue hash;
  MsgpackValue uuid;
  MsgpackValue offset;
  for (const auto& [key, value] : item.entries()) {
    const std::string_view name = key.is_text() ? key.bytes() : std::string_view();
    if (name == "hash") {
      hash = value;
    } else if (name == "uuid") {
      uuid = value;
    } else if (name == "start_offset") {
      offset = value;
    } else if (name != "type") {
      reader.UnknownKey(key);
    }
  }
  const MsgpackValue identifier = uuid.is_nil() ? hash : uuid;
  std::string text;
  if (identifier.is_text()) text = identifier.bytes();
  if (identifier.is_bytes()) text = ToHex(identifier.bytes());
  const auto before = offset.is_nil() ? 0 : offset.AsUint64();
  if (text.empty() || !before || *before > std::numeric_limits<int32_t>::max()) {
    return std::nullopt;
  }
  return hash::ItemKey(text, -static_cast<int64_t>(*before));
}

}  // namespace

void ReadMmKeys(FieldReader& reader, MsgpackValue value, BlockStored& out) {
  if (value.is_nil()) return;
  const auto wrong = [&](std::string where, std::string what, std::string_view expected) {
    reader.Wrong({std::move(what), std::move(where), std::string(expected)});
  };
  if (!value.is_array()) {
    return wrong("mm_keys", fmt::format("is {}", value.KindName()),
                 "nil or an array with an entry for each block");
  }
  bool says_nothing = true;
  for (const MsgpackValue entry : value.items()) {
    says_nothing &= entry.is_nil() || (entry.is_array() && entry.size() == 0);
  }
  if (says_nothing) return;
  if (value.size() != out.hashes.size()) {
    return wrong("mm_keys",
                 fmt::format("has {} entries for {} blocks", value.size(), out.hashes.size()),
                 "an entry for each block");
  }
  out.extra_keys.resize(out.hashes.size());
  size_t block = 0;
  for (const MsgpackValue entry : value.items()) {
    hash::ExtraKeys& keys = out.extra_keys[block];
    const std::string where = fmt::format("mm_keys[{}]", block++);
    if (entry.is_nil()) continue;
    if (!entry.is_array()) {
      return wrong(where, fmt::format("is {}", entry.KindName()), "nil or an array");
    }
    for (const MsgpackValue item : entry.items()) {
      auto key = KeyOf(reader, item);
      if (!key) return wrong(where, fmt::format("holds {}", Shown(item)), kExpected);
      keys.push_back(std::move(*key));
    }
  }
}

}  // namespace conductor::wire
