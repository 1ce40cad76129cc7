#include "lib/wire/field_reader.h"

#include <fmt/format.h>

#include <limits>
#include <utility>

#include "lib/wire/extra_keys.h"
#include "lib/wire/numerals.h"
#include "lib/wire/skips.h"

namespace conductor::wire {
namespace {

std::optional<TokenId> IdOf(std::optional<uint64_t> number) {
  if (!number || *number > std::numeric_limits<TokenId>::max()) return std::nullopt;
  return static_cast<TokenId>(*number);
}

std::optional<TokenId> TokenOf(MsgpackValue value) {
  if (const auto id = value.AsUint64()) return IdOf(id);
  if (value.is_text()) return WholeNumber<TokenId>(value.bytes());
  if (!value.is_array() || value.size() != 2) return std::nullopt;
  auto item = value.items().begin();
  const auto first = IdOf((*item).AsUint64());
  return IdOf((*++item).AsUint64()) ? first : std::nullopt;
}

}  // namespace

void FieldReader::Gather(std::span<const std::string_view> names, size_t positional,
                         std::span<MsgpackValue> fields) {
  if (event_.is_array()) {
    size_t slot = 0;
    for (const MsgpackValue value : event_.items()) {
      if (slot >= 1 && slot <= positional) fields[slot - 1] = value;
      if (slot > positional) {
        AddSkip(batch_, SkipReason::kUnknownField, index_, [&] {
          return fmt::format("slot {} holds {}, and {} are known", slot, value.KindName(),
                             positional + 1);
        });
      }
      ++slot;
    }
    return;
  }
  // Senders write keys in declaration order: the field after the last one is tried first.
  size_t guess = 0;
  for (const auto& [key, value] : event_.entries()) {
    if (!key.is_text()) {
      UnknownKey(key);
      continue;
    }
    const std::string_view name = key.bytes();
    size_t tried = 0;
    while (tried < names.size() && names[guess] != name) {
      guess = guess + 1 == names.size() ? 0 : guess + 1;
      ++tried;
    }
    if (tried < names.size()) {
      fields[guess] = value;
      guess = guess + 1 == names.size() ? 0 : guess + 1;
    } else if (name != "type" && name != "event_type") {
      UnknownKey(key);
    }
  }
}

void FieldReader::UnknownKey(MsgpackValue key) {
  AddSkip(batch_, SkipReason::kUnknownField, index_,
          [&] { return fmt::format("the key {} is not known", Shown(key)); });
}

void FieldReader::Hashes(MsgpackValue value, std::string_view field, DigestEnd end,
                         std::vector<EngineHash>& out) {
  if (!value.is_array()) {
    return Wrong(
        {fmt::format("is {}", value.KindName()), std::string(field), "an array of hashes"});
  }
  out.reserve(value.size());
  for (const MsgpackValue item : value.items()) {
    if (item.is_integer()) {  // nearly always
      out.push_back(EngineHash{item.integer_bits()});
      continue;
    }
    const auto hash = HashOf(item, end);
    if (!hash) {
      return Wrong({fmt::format("is {}", Shown(item)), fmt::format("{}[{}]", field, out.size()),
                    std::string(kHashExpected)});
    }
    out.push_back(*hash);
  }
}

void FieldReader::Hash(MsgpackValue value, std::string_view field, DigestEnd end,
                       std::optional<EngineHash>& out) {
  if (value.is_nil()) return;
  out = HashOf(value, end);
  if (!out) {
    Wrong({fmt::format("is {}", Shown(value)), std::string(field),
           fmt::format("nil or {}", kHashExpected)});
  }
}

void FieldReader::Tokens(MsgpackValue value, std::string_view field, std::vector<TokenId>& out) {
  if (value.is_nil()) return;
  if (!value.is_array()) {
    return Wrong({fmt::format("is {}", value.KindName()), std::string(field), "nil or an array"});
  }
  if (value.CopyIntegers(out)) return;
  out.resize(value.size());
  size_t count = 0;
  for (const MsgpackValue item : value.items()) {
    const auto token = TokenOf(item);
    if (!token) {
      return Wrong({fmt::format("is {}", Shown(item)), fmt::format("{}[{}]", field, count),
                    "an integer from 0 to 4294967295, its decimal text, or a pair of integers"});
    }
    out[count++] = *token;
  }
}

void FieldReader::Uint32(MsgpackValue value, std::string_view field, std::optional<uint32_t>& out) {
  if (value.is_nil()) return;
  const auto number = value.AsUint64();
  if (!number || *number > std::numeric_limits<uint32_t>::max()) {
    return Wrong({fmt::format("is {}", Shown(value)), std::string(field),
                  "an integer from 0 to 4294967295"});
  }
  out = static_cast<uint32_t>(*number);
}

void FieldReader::Uint64(MsgpackValue value, std::string_view field, std::optional<uint64_t>& out) {
  if (value.is_nil()) return;
  out = value.AsUint64();
  if (!out) {
    Wrong({fmt::format("is {}", Shown(value)), std::string(field),
           "nil or an unsigned integer of 64 bits"});
  }
}

void FieldReader::Int(MsgpackValue value, std::string_view field, std::optional<int64_t>& out) {
  if (value.is_nil()) return;
  out = value.AsInt64();
  if (!out) {
    Wrong({fmt::format("is {}", Shown(value)), std::string(field),
           "nil or a signed integer of 64 bits"});
  }
}

void FieldReader::Text(MsgpackValue value, std::string_view field,
                       std::optional<std::string>& out) {
  if (value.is_nil()) return;
  if (!value.is_text()) {
    return Wrong({fmt::format("is {}", Shown(value)), std::string(field), "nil or text"});
  }
  out.emplace(value.bytes());
}

void FieldReader::Name(MsgpackValue value, std::string_view field,
                       std::optional<std::string>& out) {
  Text(value, field, out);
  if (out && out->empty()) out.reset();
}

void FieldReader::ExtraKeys(MsgpackValue value, std::string_view field, size_t blocks,
                            std::vector<hash::ExtraKeys>& out) {
  if (value.is_nil()) return;
  if (!value.is_array()) {
    return Wrong({fmt::format("is {}", value.KindName()), std::string(field),
                  "nil or an array with an entry for each block"});
  }
  bool says_nothing = true;
  for (const MsgpackValue entry : value.items()) says_nothing &= entry.is_nil();
  if (says_nothing && value.size() != blocks) return;
  if (value.size() != blocks) {
    return Wrong({fmt::format("has {} entries for {} blocks", value.size(), blocks),
                  std::string(field), "an entry for each block"});
  }
  out.resize(value.size());
  if (says_nothing) return;
  size_t block = 0;
  for (const MsgpackValue entry : value.items()) {
    auto keys = ReadExtraKeys(entry);
    if (!keys) {
      return Wrong(std::move(keys.error()).Within(fmt::format("{}[{}]", field, block)));
    }
    out[block++] = std::move(*keys);
  }
}

}  // namespace conductor::wire
