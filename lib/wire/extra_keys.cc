#include "lib/wire/extra_keys.h"

#include <fmt/format.h>

#include <string>

#include "lib/wire/msgpack_writer.h"

namespace conductor::wire {
namespace {

// The tape bounds how deep this goes. False for a value that no key may hold.
bool WriteCanonical(MsgpackValue value, MsgpackWriter& out) {
  switch (value.kind()) {
    case MsgpackValue::Kind::kNil:
      out.Nil();
      return true;
    case MsgpackValue::Kind::kBool:
      out.Bool(value.boolean());
      return true;
    case MsgpackValue::Kind::kUint:
    case MsgpackValue::Kind::kWideUint:
      out.Uint(value.integer_bits());
      return true;
    case MsgpackValue::Kind::kNegative:
      out.Int(static_cast<int64_t>(value.integer_bits()));
      return true;
    case MsgpackValue::Kind::kFloat:
      out.Float(value.real());
      return true;
    case MsgpackValue::Kind::kText:
      out.Text(value.bytes());
      return true;
    case MsgpackValue::Kind::kBytes:
      out.Bytes(value.bytes());
      return true;
    case MsgpackValue::Kind::kArray:
      out.Array(value.size());
      for (const MsgpackValue item : value.items()) {
        if (!WriteCanonical(item, out)) return false;
      }
      return true;
    case MsgpackValue::Kind::kExtension:
    case MsgpackValue::Kind::kMap:
      return false;
  }
  return false;
}

}  // namespace

Result<hash::ExtraKeys> ReadExtraKeys(MsgpackValue entry) {
  hash::ExtraKeys keys;
  if (entry.is_nil()) return keys;
  if (entry.is_text() || entry.is_bytes()) {
    keys.push_back(entry.is_text() ? hash::TextKey(entry.bytes()) : hash::BytesKey(entry.bytes()));
    return keys;
  }
  if (!entry.is_array()) {
    return Fail(fmt::format("the entry of a block is {}", entry.KindName()), {},
                "nil or an array of keys");
  }
  keys.reserve(entry.size());
  for (const MsgpackValue item : entry.items()) {
    MsgpackWriter encoded;
    if (!WriteCanonical(item, encoded)) {
      return Fail(fmt::format("a key is or holds a map or an extension, item {}", keys.size()), {},
                  "text, bytes, numbers and arrays of these");
    }
    keys.push_back(encoded.Take());
  }
  return keys;
}

}  // namespace conductor::wire
