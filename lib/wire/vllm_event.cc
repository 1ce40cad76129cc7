#include "lib/wire/vllm_event.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <span>
#include <utility>

#include "lib/base/bytes.h"
#include "lib/base/result.h"
#include "lib/wire/extra_keys.h"

namespace conductor::wire {
namespace {

// Field names in declaration order, which is that of the slots of a positional event (slot 0 is
// the tag, slot 1 the first of these) and of the keys of a map. The first `positional` of them
// have a slot; later ones were added when events were maps already.

enum StoredField : size_t {
  kBlockHashes,
  kParentBlockHash,
  kTokenIds,
  kBlockSize,
  kLoraId,
  kMedium,
  kLoraName,
  kExtraKeys,
  kGroupIdx,
  kSpecKind,
  kSlidingWindow,  // this and those below but cache_salt are known and not used
  kLocality,
  kOwnership,
  kSessionId,
  kCacheSalt,  // SGLang
  kStoredFieldCount,
};
constexpr std::array<std::string_view, kStoredFieldCount> kStoredNames = {
    "block_hashes",
    "parent_block_hash",
    "token_ids",
    "block_size",
    "lora_id",
    "medium",
    "lora_name",
    "extra_keys",
    "group_idx",
    "kv_cache_spec_kind",
    "kv_cache_spec_sliding_window",
    "locality",
    "ownership",
    "session_id",
    "cache_salt",
};
constexpr size_t kStoredPositional = kSlidingWindow + 1;

enum RemovedField : size_t {
  kRemovedHashes,
  kRemovedMedium,
  kRemovedGroupIdx,
  kRemovedLocality,
  kRemovedOwnership,
  kRemovedFieldCount,
};
constexpr std::array<std::string_view, kRemovedFieldCount> kRemovedNames = {
    "block_hashes", "medium", "group_idx", "locality", "ownership",
};
constexpr size_t kRemovedPositional = kRemovedGroupIdx + 1;

// An event while it is read: what it is, where it stands, and the first thing that was wrong.
class EventReader {
 public:
  EventReader(MsgpackValue event, size_t index, EventBatch& batch)
      : event_(event), index_(index), batch_(batch) {}

  void Read();

 private:
  [[nodiscard]] std::optional<std::string_view> Tag();
  void Gather(std::span<const std::string_view> names, size_t positional,
              std::span<MsgpackValue> fields);
  void UnknownKey(MsgpackValue key);

  void ReadStored();
  void ReadRemoved();

  // Each reads one field into `out`, or notes what is wrong with it. Nil leaves `out` as it is.
  void Hashes(MsgpackValue value, std::vector<EngineHash>& out);
  void OptionalHash(MsgpackValue value, std::string_view field, std::optional<EngineHash>& out);
  void Tokens(MsgpackValue value, std::vector<TokenId>& out);
  void Uint32(MsgpackValue value, std::string_view field, uint32_t& out);
  void Int(MsgpackValue value, std::string_view field, std::optional<int64_t>& out);
  void Text(MsgpackValue value, std::string_view field, std::optional<std::string>& out);
  void LoraName(MsgpackValue value, BlockStored& out);
  void Keys(MsgpackValue value, BlockStored& out);

  void Wrong(Error error) {
    if (!error_) error_ = std::move(error);
  }

  MsgpackValue event_;
  size_t index_;
  EventBatch& batch_;
  std::optional<Error> error_;
};

// A digest of n * 32, 16 or 8 bytes: the last 8, big-endian.
std::optional<EngineHash> HashOfDigest(std::string_view digest) {
  const size_t size = digest.size();
  if (size != 8 && size != 16 && (size == 0 || size % 32 != 0)) return std::nullopt;
  return EngineHash{LoadBigEndian64(digest.substr(size - 8))};
}

template <typename Integer>
std::optional<Integer> WholeNumber(std::string_view digits, int base) {
  Integer value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

// "0x" and up to 16 hex digits, a decimal integer of 64 bits and either sign, or a digest in hex.
std::optional<EngineHash> HashOfText(std::string_view text) {
  if (text.starts_with("0x") || text.starts_with("0X")) {
    const auto value = WholeNumber<uint64_t>(text.substr(2), 16);
    if (value) return EngineHash{*value};
    return std::nullopt;
  }
  if (const auto value = WholeNumber<uint64_t>(text, 10)) return EngineHash{*value};
  if (const auto value = WholeNumber<int64_t>(text, 10)) {
    return EngineHash{static_cast<uint64_t>(*value)};
  }
  // Only the last 16 digits name the block; the ones before them must be digits all the same.
  if (text.size() != 16 && text.size() != 32 && (text.empty() || text.size() % 64 != 0)) {
    return std::nullopt;
  }
  const bool hex = std::ranges::all_of(text, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  });
  if (!hex) return std::nullopt;
  return EngineHash{*WholeNumber<uint64_t>(text.substr(text.size() - 16), 16)};
}

std::optional<EngineHash> HashOf(MsgpackValue value) {
  if (value.is_integer()) return EngineHash{value.integer_bits()};
  if (value.is_bytes()) return HashOfDigest(value.bytes());
  if (value.is_text()) return HashOfText(value.bytes());
  return std::nullopt;
}

constexpr std::string_view kHashExpected =
    "an integer of 64 bits, a digest of 8, 16 or a multiple of 32 bytes, or its hex text";

// What a message says was read instead of what was expected.
std::string Shown(MsgpackValue value) {
  if (value.kind() == MsgpackValue::Kind::kNegative) return fmt::format("{}", *value.AsInt64());
  if (value.is_integer()) return fmt::format("{}", value.integer_bits());
  if (value.is_text()) return Quoted(value.bytes());
  if (value.is_bytes()) return fmt::format("{} bytes", value.bytes().size());
  return std::string(value.KindName());
}

// A token id, or the first of EAGLE's pair.
std::optional<TokenId> TokenOf(MsgpackValue value) {
  if (value.is_array() && value.size() == 2) {
    const auto second = (*++value.items().begin()).AsUint64();
    if (!second || *second > std::numeric_limits<TokenId>::max()) return std::nullopt;
    value = *value.items().begin();
  }
  const auto id = value.AsUint64();
  if (!id || *id > std::numeric_limits<TokenId>::max()) return std::nullopt;
  return static_cast<TokenId>(*id);
}

void EventReader::Read() {
  const auto tag = Tag();
  if (error_) {
    batch_.lost_removals = true;
    AddSkip(batch_, SkipReason::kMalformedEvent, index_, [&] { return error_->Message(); });
    return;
  }
  if (*tag == "BlockStored") {
    ReadStored();
  } else if (*tag == "BlockRemoved") {
    ReadRemoved();
  } else if (*tag == "AllBlocksCleared") {
    Gather({}, 0, {});
    batch_.events.emplace_back(std::in_place_type<AllBlocksCleared>);
  } else {
    AddSkip(batch_, SkipReason::kUnknownEventType, index_,
            [&] { return fmt::format("type: {} is not known", Quoted(*tag)); });
    return;
  }
  if (error_) {
    const bool stored = std::holds_alternative<BlockStored>(batch_.events.back());
    (stored ? batch_.lost_stores : batch_.lost_removals) = true;
    batch_.events.pop_back();
    AddSkip(batch_, SkipReason::kMalformedEvent, index_, [&] { return error_->Message(); });
  }
}

std::optional<std::string_view> EventReader::Tag() {
  MsgpackValue tag;
  if (event_.is_array()) {
    if (event_.size() > 0) tag = *event_.items().begin();
  } else if (event_.is_map()) {
    for (const auto& [key, value] : event_.entries()) {
      if (!key.is_text()) continue;
      if (key.bytes() == "type") {
        tag = value;
        break;
      }
      if (key.bytes() == "event_type") tag = value;
    }
  } else {
    Wrong({fmt::format("the event is {}", event_.KindName()), {}, "an array or a map"});
    return std::nullopt;
  }
  if (!tag.is_text()) {
    Wrong({fmt::format("the tag is {}", Shown(tag)), "type", "the event's name"});
    return std::nullopt;
  }
  return tag.bytes();
}

void EventReader::UnknownKey(MsgpackValue key) {
  AddSkip(batch_, SkipReason::kUnknownField, index_,
          [&] { return fmt::format("the key {} is not known", Shown(key)); });
}

void EventReader::Gather(std::span<const std::string_view> names, size_t positional,
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

void EventReader::ReadStored() {
  std::array<MsgpackValue, kStoredFieldCount> fields;
  Gather(kStoredNames, kStoredPositional, fields);
  BlockStored& out =
      std::get<BlockStored>(batch_.events.emplace_back(std::in_place_type<BlockStored>));
  Hashes(fields[kBlockHashes], out.hashes);
  OptionalHash(fields[kParentBlockHash], kStoredNames[kParentBlockHash], out.parent);
  Tokens(fields[kTokenIds], out.tokens);
  Uint32(fields[kBlockSize], kStoredNames[kBlockSize], out.block_size);
  Int(fields[kLoraId], kStoredNames[kLoraId], out.lora_id);
  Text(fields[kMedium], kStoredNames[kMedium], out.medium);
  LoraName(fields[kLoraName], out);
  Keys(fields[kExtraKeys], out);
  Int(fields[kGroupIdx], kStoredNames[kGroupIdx], out.group.index);
  Text(fields[kSpecKind], kStoredNames[kSpecKind], out.group.spec_kind);
  Text(fields[kCacheSalt], kStoredNames[kCacheSalt], out.cache_salt);
}

void EventReader::ReadRemoved() {
  std::array<MsgpackValue, kRemovedFieldCount> fields;
  Gather(kRemovedNames, kRemovedPositional, fields);
  BlockRemoved& out =
      std::get<BlockRemoved>(batch_.events.emplace_back(std::in_place_type<BlockRemoved>));
  Hashes(fields[kRemovedHashes], out.hashes);
  Text(fields[kRemovedMedium], kRemovedNames[kRemovedMedium], out.medium);
  Int(fields[kRemovedGroupIdx], kRemovedNames[kRemovedGroupIdx], out.group.index);
}

void EventReader::Hashes(MsgpackValue value, std::vector<EngineHash>& out) {
  if (!value.is_array()) {
    return Wrong({fmt::format("is {}", value.KindName()), "block_hashes", "an array of hashes"});
  }
  out.reserve(value.size());
  for (const MsgpackValue item : value.items()) {
    const auto hash = HashOf(item);
    if (!hash) {
      return Wrong({fmt::format("is {}", Shown(item)), fmt::format("block_hashes[{}]", out.size()),
                    std::string(kHashExpected)});
    }
    out.push_back(*hash);
  }
}

void EventReader::OptionalHash(MsgpackValue value, std::string_view field,
                               std::optional<EngineHash>& out) {
  if (value.is_nil()) return;
  out = HashOf(value);
  if (!out) {
    Wrong({fmt::format("is {}", Shown(value)), std::string(field),
           fmt::format("nil or {}", kHashExpected)});
  }
}

void EventReader::Tokens(MsgpackValue value, std::vector<TokenId>& out) {
  if (value.is_nil()) return;
  if (!value.is_array()) {
    return Wrong({fmt::format("is {}", value.KindName()), "token_ids", "nil or an array"});
  }
  out.resize(value.size());
  size_t count = 0;
  for (const MsgpackValue item : value.items()) {
    const auto token = TokenOf(item);
    if (!token) {
      return Wrong({fmt::format("is {}", Shown(item)), fmt::format("token_ids[{}]", count),
                    "an integer from 0 to 4294967295, or a pair of them"});
    }
    out[count++] = *token;
  }
}

void EventReader::Uint32(MsgpackValue value, std::string_view field, uint32_t& out) {
  if (value.is_nil()) return;
  const auto number = value.AsUint64();
  if (!number || *number > std::numeric_limits<uint32_t>::max()) {
    return Wrong({fmt::format("is {}", Shown(value)), std::string(field),
                  "an integer from 0 to 4294967295"});
  }
  out = static_cast<uint32_t>(*number);
}

void EventReader::Int(MsgpackValue value, std::string_view field, std::optional<int64_t>& out) {
  if (value.is_nil()) return;
  out = value.AsInt64();
  if (!out) {
    Wrong({fmt::format("is {}", Shown(value)), std::string(field),
           "nil or a signed integer of 64 bits"});
  }
}

void EventReader::Text(MsgpackValue value, std::string_view field,
                       std::optional<std::string>& out) {
  if (value.is_nil()) return;
  if (!value.is_text()) {
    return Wrong({fmt::format("is {}", Shown(value)), std::string(field), "nil or text"});
  }
  out.emplace(value.bytes());
}

// vLLM's lora_name stands where SGLang has a map of metadata.
void EventReader::LoraName(MsgpackValue value, BlockStored& out) {
  if (!value.is_map()) return Text(value, kStoredNames[kLoraName], out.lora_name);
  for (const auto& [key, entry] : value.entries()) {
    const std::string_view name = key.is_text() ? key.bytes() : std::string_view();
    if (name == kStoredNames[kCacheSalt]) {
      Text(entry, kStoredNames[kCacheSalt], out.cache_salt);
    } else if (name == kStoredNames[kLoraName]) {
      Text(entry, kStoredNames[kLoraName], out.lora_name);
    } else if (name != kStoredNames[kSessionId]) {
      UnknownKey(key);
    }
  }
}

void EventReader::Keys(MsgpackValue value, BlockStored& out) {
  if (value.is_nil()) return;
  if (!value.is_array()) {
    return Wrong({fmt::format("is {}", value.KindName()), "extra_keys",
                  "nil or an array with an entry for each block"});
  }
  // Entries that say nothing are allowed to be too many or too few.
  bool says_nothing = true;
  for (const MsgpackValue entry : value.items()) says_nothing &= entry.is_nil();
  if (says_nothing && value.size() != out.hashes.size()) return;
  if (value.size() != out.hashes.size()) {
    return Wrong({fmt::format("has {} entries for {} blocks", value.size(), out.hashes.size()),
                  "extra_keys", "an entry for each block"});
  }
  out.extra_keys.resize(value.size());
  if (says_nothing) return;
  size_t block = 0;
  for (const MsgpackValue entry : value.items()) {
    auto keys = ReadExtraKeys(entry);
    if (!keys) return Wrong(std::move(keys.error()).Within(fmt::format("extra_keys[{}]", block)));
    out.extra_keys[block++] = std::move(*keys);
  }
}

}  // namespace

std::string Quoted(std::string_view text) {
  constexpr size_t kShown = 64;
  std::string quoted = "'";
  for (const char c : text.substr(0, kShown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte > 0x7e) {
      quoted += fmt::format("\\x{:02x}", byte);
    } else {
      quoted.push_back(c);
    }
  }
  quoted += text.size() > kShown ? "...'" : "'";
  return quoted;
}

void ReadVllmEvent(MsgpackValue event, size_t index, EventBatch& batch) {
  EventReader(event, index, batch).Read();
}

}  // namespace conductor::wire
