#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <msgpack.hpp>
#include <random>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "lib/wire/msgpack_tape.h"

// The tape's parser beside msgpack-c's: on the same bytes both see the same value, or neither sees
// one.
namespace conductor::wire {
namespace {

using Kind = MsgpackValue::Kind;

std::string Quoted(std::string_view bytes) { return fmt::format("<{}:{}>", bytes.size(), bytes); }

std::string Text(const MsgpackValue& value) {
  switch (value.kind()) {
    case Kind::kNil:
      return "nil";
    case Kind::kBool:
      return value.boolean() ? "true" : "false";
    case Kind::kUint:
    case Kind::kWideUint:
      return fmt::format("{}", *value.AsUint64());
    case Kind::kNegative:
      return fmt::format("{}", *value.AsInt64());
    case Kind::kFloat:
      return fmt::format("f{:016x}", std::bit_cast<uint64_t>(value.real()));
    case Kind::kText:
      return "s" + Quoted(value.bytes());
    case Kind::kBytes:
      return "b" + Quoted(value.bytes());
    case Kind::kExtension:
      return "x" + Quoted(value.bytes());
    case Kind::kArray: {
      std::string text = "[";
      for (const MsgpackValue item : value.items()) text += Text(item) + ",";
      return text + "]";
    }
    case Kind::kMap: {
      std::string text = "{";
      for (const auto& [key, item] : value.entries()) text += Text(key) + ":" + Text(item) + ",";
      return text + "}";
    }
  }
  return "?";
}

std::string Text(const msgpack::object& object) {
  switch (object.type) {
    case msgpack::type::NIL:
      return "nil";
    case msgpack::type::BOOLEAN:
      return object.via.boolean ? "true" : "false";
    case msgpack::type::POSITIVE_INTEGER:
      return fmt::format("{}", object.via.u64);
    case msgpack::type::NEGATIVE_INTEGER:
      return fmt::format("{}", object.via.i64);
    case msgpack::type::FLOAT32:
    case msgpack::type::FLOAT64:
      return fmt::format("f{:016x}", std::bit_cast<uint64_t>(object.via.f64));
    case msgpack::type::STR:
      return "s" + Quoted({object.via.str.ptr, object.via.str.size});
    case msgpack::type::BIN:
      return "b" + Quoted({object.via.bin.ptr, object.via.bin.size});
    case msgpack::type::EXT:
      return "x" + Quoted({object.via.ext.ptr, size_t{object.via.ext.size} + 1});
    case msgpack::type::ARRAY: {
      std::string text = "[";
      for (uint32_t i = 0; i < object.via.array.size; ++i) {
        text += Text(object.via.array.ptr[i]) + ",";
      }
      return text + "]";
    }
    case msgpack::type::MAP: {
      std::string text = "{";
      for (uint32_t i = 0; i < object.via.map.size; ++i) {
        const auto& entry = object.via.map.ptr[i];
        text += Text(entry.key) + ":" + Text(entry.val) + ",";
      }
      return text + "}";
    }
  }
  return "?";
}

// What msgpack-c sees, with the tape's limit of depth; empty: no value, or bytes behind it.
std::string Reference(const std::string& payload) {
  try {
    size_t offset = 0;
    // Claimed sizes beyond what can be there are refused before anything is allocated for them.
    const msgpack::unpack_limit limit(payload.size(), payload.size(), payload.size(),
                                      payload.size(), payload.size(), MsgpackTape::kMaxDepth);
    const auto handle =
        msgpack::unpack(payload.data(), payload.size(), offset, nullptr, nullptr, limit);
    return offset == payload.size() ? Text(handle.get()) : std::string();
  } catch (const msgpack::unpack_error&) {
    return {};
  }
}

void Same(MsgpackTape& tape, const std::string& payload) {
  const auto value = tape.Parse(payload);
  std::string hex;
  for (const char byte : payload) hex += fmt::format("{:02x} ", static_cast<uint8_t>(byte));
  ASSERT_EQ(value ? Text(*value) : std::string(), Reference(payload)) << hex;
}

class RandomValue {
 public:
  explicit RandomValue(uint64_t seed) : random_(seed) {}

  uint64_t Below(uint64_t bound) { return random_() % bound; }

  // In any of its forms, the shortest or not.
  void Add(std::string& out, int depth) {
    const uint64_t format = depth > 3 ? 0xc0 + Below(0x1c) : Below(256);
    out += static_cast<char>(format);
    const auto random_bytes = [&](uint64_t count) {
      while (count-- > 0) out += static_cast<char>(random_());
    };
    const auto size = [&](int bytes) {
      const uint64_t value = Below(6);
      for (int i = bytes; i-- > 0;) out += static_cast<char>(value >> (8 * i));
      return value;
    };
    const auto items = [&](uint64_t count) {
      while (count-- > 0) Add(out, depth + 1);
    };
    if (format < 0x80 || format >= 0xe0) return;
    if (format < 0x90) return items(2 * (format & 15));
    if (format < 0xa0) return items(format & 15);
    if (format < 0xc0) return random_bytes(format & 31);
    switch (format) {
      case 0xc4:
      case 0xd9:
        return random_bytes(size(1));
      case 0xc5:
      case 0xda:
        return random_bytes(size(2));
      case 0xc6:
      case 0xdb:
        return random_bytes(size(4));
      case 0xc7:
        return random_bytes(size(1) + 1);
      case 0xc8:
        return random_bytes(size(2) + 1);
      case 0xc9:
        return random_bytes(size(4) + 1);
      case 0xca:
      case 0xce:
      case 0xd2:
        return random_bytes(4);
      case 0xcb:
      case 0xcf:
      case 0xd3:
        return random_bytes(8);
      case 0xcc:
      case 0xd0:
        return random_bytes(1);
      case 0xcd:
      case 0xd1:
        return random_bytes(2);
      case 0xdc:
        return items(size(2));
      case 0xdd:
        return items(size(4));
      case 0xde:
        return items(2 * size(2));
      case 0xdf:
        return items(2 * size(4));
      default:
        if (format >= 0xd4 && format <= 0xd8) random_bytes((uint64_t{1} << (format - 0xd4)) + 1);
    }
  }

 private:
  std::mt19937_64 random_;
};

TEST(MsgpackParity, ValuesOfEveryFormReadAlike) {
  MsgpackTape tape;
  RandomValue random(1);
  for (int i = 0; i < 20000; ++i) {
    std::string payload;
    random.Add(payload, 0);
    Same(tape, payload);
  }
}

TEST(MsgpackParity, ValuesThatWereCutOrChangedAreRefusedAlike) {
  MsgpackTape tape;
  RandomValue random(2);
  for (int i = 0; i < 20000; ++i) {
    std::string payload;
    random.Add(payload, 1);
    Same(tape, payload.substr(0, random.Below(payload.size() + 1)));
    payload[random.Below(payload.size())] = static_cast<char>(random.Below(256));
    Same(tape, payload);
  }
}

TEST(MsgpackParity, PromptsReadAlike) {
  MsgpackTape tape;
  RandomValue random(4);
  for (int i = 0; i < 300; ++i) {
    // Token ids alone, but for an odd one in some.
    msgpack::sbuffer buffer;
    msgpack::packer<msgpack::sbuffer> packer(buffer);
    const auto count = static_cast<uint32_t>(random.Below(2000));
    const uint64_t odd = random.Below(2 * count + 1);
    packer.pack_map(2);
    packer.pack(std::string("token_ids"));
    packer.pack_array(count);
    for (uint32_t k = 0; k < count; ++k) {
      if (k == odd) {
        std::string value;
        random.Add(value, 3);
        buffer.write(value.data(), value.size());
      } else {
        packer.pack_uint32(static_cast<uint32_t>(random.Below(uint64_t{1} << random.Below(33))));
      }
    }
    packer.pack(std::string("model"));
    packer.pack(std::string("m"));
    const std::string payload(buffer.data(), buffer.size());
    Same(tape, payload);
    Same(tape, payload.substr(0, random.Below(payload.size())));
    if (i % 30 > 0 || count > 300) continue;
    for (size_t size = 0; size < payload.size(); ++size) Same(tape, payload.substr(0, size));
  }
}

TEST(MsgpackParity, LongArraysOfTokensReadAlike) {
  MsgpackTape tape;
  RandomValue random(3);
  for (int i = 0; i < 300; ++i) {
    msgpack::sbuffer buffer;
    msgpack::packer<msgpack::sbuffer> packer(buffer);
    const auto count = static_cast<uint32_t>(random.Below(3000));
    packer.pack_array(count);
    for (uint32_t k = 0; k < count; ++k) {
      const uint64_t bits = random.Below(66);
      if (bits == 65) {
        packer.pack_nil();
      } else {
        packer.pack_uint64(bits == 0 ? 0 : random.Below(~uint64_t{0}) >> (64 - bits));
      }
    }
    const std::string payload(buffer.data(), buffer.size());
    Same(tape, payload);
    Same(tape, payload.substr(0, random.Below(payload.size())));
  }
}

}  // namespace
}  // namespace conductor::wire
