#include "lib/hash/extra_key.h"

#include <limits>
#include <msgpack.hpp>

#include "lib/base/bytes.h"

namespace conductor::hash {
namespace {

// Fills an ExtraKey from the parser's calls; every call that returns false ends the parsing.
class KeyVisitor : public msgpack::null_visitor {
 public:
  explicit KeyVisitor(ExtraKey& key) : key_(key) {}

  bool visit_str(const char* data, uint32_t size) {
    if (in_item_ && place_ != 0) return false;
    if (!in_item_) key_.kind = ExtraKey::Kind::kText;
    key_.text = {data, size};
    return true;
  }
  bool visit_bin(const char* data, uint32_t size) {
    if (in_item_) return false;
    key_.kind = ExtraKey::Kind::kBytes;
    key_.text = {data, size};
    return true;
  }
  bool visit_positive_integer(uint64_t value) {
    return value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) &&
           visit_negative_integer(static_cast<int64_t>(value));
  }
  bool visit_negative_integer(int64_t value) {
    if (in_item_ && place_ != 1) return false;
    if (!in_item_) key_.kind = ExtraKey::Kind::kInteger;
    key_.number = value;
    return true;
  }
  bool start_array(uint32_t items) {
    if (in_item_ || items != 2) return false;
    in_item_ = true;
    key_.kind = ExtraKey::Kind::kItem;
    return true;
  }
  bool end_array_item() {
    ++place_;
    return true;
  }
  bool visit_nil() { return false; }
  bool visit_boolean(bool) { return false; }
  bool visit_float32(float) { return false; }
  bool visit_float64(double) { return false; }
  bool visit_ext(const char*, uint32_t) { return false; }
  bool start_map(uint32_t) { return false; }

 private:
  ExtraKey& key_;
  bool in_item_ = false;
  int place_ = 0;  // in the item
};

}  // namespace

Result<ExtraKey> ReadExtraKey(std::string_view key) {
  ExtraKey read;
  KeyVisitor visitor(read);
  size_t end = 0;
  if (!msgpack::parse(key.data(), key.size(), end, visitor) || end != key.size()) {
    return Fail("an extra key that no engine hashes: " + ToHex(key.substr(0, 32)), {},
                "one MessagePack value: text, bytes, an integer, or an array of text and integer");
  }
  return read;
}

}  // namespace conductor::hash
