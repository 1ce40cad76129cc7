#ifndef CONDUCTOR_LIB_WIRE_MSGPACK_WRITER_H_
#define CONDUCTOR_LIB_WIRE_MSGPACK_WRITER_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <msgpack.hpp>
#include <string>
#include <string_view>

#include "lib/base/bytes.h"

namespace conductor::wire {

// A std::string that msgpack-c's packer writes to, and the packer: every integer and size in its
// shortest form. For .cc files: it brings all of msgpack-c along.
class MsgpackWriter {
 public:
  using Packer = msgpack::packer<MsgpackWriter>;

  // What the packer calls.
  void write(const char* data, size_t size) { bytes_.append(data, size); }

  void Text(std::string_view text) {
    Packer packer(*this);
    packer.pack_str(static_cast<uint32_t>(text.size()));
    packer.pack_str_body(text.data(), static_cast<uint32_t>(text.size()));
  }
  void Bytes(std::string_view bytes) {
    Packer packer(*this);
    packer.pack_bin(static_cast<uint32_t>(bytes.size()));
    packer.pack_bin_body(bytes.data(), static_cast<uint32_t>(bytes.size()));
  }
  void Uint(uint64_t value) { Packer(*this).pack_uint64(value); }
  void Int(int64_t value) { Packer(*this).pack_int64(value); }
  void Nil() { Packer(*this).pack_nil(); }
  void Bool(bool value) { value ? Packer(*this).pack_true() : Packer(*this).pack_false(); }
  void Array(size_t items) { Packer(*this).pack_array(static_cast<uint32_t>(items)); }
  void Map(size_t pairs) { Packer(*this).pack_map(static_cast<uint32_t>(pairs)); }
  // Always eight bytes: the packer's own pack_double writes whole numbers as integers.
  void Float(double value) {
    bytes_.push_back('\xcb');
    const auto bits = StoreBigEndian64(std::bit_cast<uint64_t>(value));
    bytes_.append(bits.data(), bits.size());
  }
  // One value that is encoded already.
  void Raw(std::string_view encoded) { bytes_.append(encoded); }

  [[nodiscard]] std::string Take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_MSGPACK_WRITER_H_
