// Any bytes parsed as MessagePack, and everything that the tape then says walked through.

#include "lib/wire/msgpack_tape.h"

#include <cstdint>
#include <vector>

#include "fuzz_target.h"
#include "lib/wire/extra_keys.h"

namespace conductor::wire {
namespace {

using fuzz::Require;

// The number of values in `value`, itself included.
size_t Walk(MsgpackValue value, std::string_view payload, size_t depth) {
  Require(depth <= MsgpackTape::kMaxDepth, "nothing is deeper than kMaxDepth");
  Require(!value.KindName().empty(), "every kind has a name");
  size_t values = 1;
  switch (value.kind()) {
    case MsgpackValue::Kind::kText:
    case MsgpackValue::Kind::kBytes:
    case MsgpackValue::Kind::kExtension:
      Require(value.bytes().empty() ||
                  (value.bytes().data() >= payload.data() &&
                   value.bytes().data() + value.bytes().size() <= payload.data() + payload.size()),
              "text and bytes lie in the payload");
      break;
    case MsgpackValue::Kind::kArray: {
      std::vector<uint32_t> ids;
      bool all = true;
      for (const MsgpackValue item : value.items()) {
        values += Walk(item, payload, depth + 1);
        const auto number = item.AsUint64();
        all &= number && *number <= UINT32_MAX;
        ids.push_back(static_cast<uint32_t>(number.value_or(0)));
      }
      std::vector<uint32_t> copied;
      Require(value.CopyIntegers(copied) == all, "token ids are copied, and nothing else");
      Require(!all || copied == ids, "copied token ids are the items");
      break;
    }
    case MsgpackValue::Kind::kMap:
      for (const auto& [key, entry] : value.entries()) {
        values += Walk(key, payload, depth + 1) + Walk(entry, payload, depth + 1);
      }
      break;
    default:
      Require(!value.is_integer() || value.AsUint64() || value.AsInt64(),
              "an integer fits one of two types");
  }
  return values;
}

}  // namespace
}  // namespace conductor::wire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using conductor::fuzz::Require;
  const std::string_view payload(reinterpret_cast<const char*>(data), size);
  conductor::wire::MsgpackTape tape;
  const auto value = tape.Parse(payload);
  if (!value) {
    Require(!value.error().what.empty(), "an error says what is wrong");
    return 0;
  }
  Require(conductor::wire::Walk(*value, payload, 0) <= size, "a value takes at least one byte");
  if (const auto keys = conductor::wire::ReadExtraKeys(*value)) {
    for (const std::string& key : *keys) {
      Require(tape.Parse(key).has_value(), "an extra key is one MessagePack value");
    }
  }
  return 0;
}
