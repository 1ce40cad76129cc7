// Any text as the key of a pool's object.

#include <string_view>

#include "fuzz_target.h"
#include "lib/wire/object_key.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using conductor::fuzz::Require;
  namespace wire = conductor::wire;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto key = wire::ParseObjectKey(text);
  if (!key) {
    Require(!key.error().what.empty(), "an error says what is wrong");
    return 0;
  }
  Require(!wire::KeyFamilyName(key->family).empty(), "every family has a name");
  Require(key->model.size() + key->prefix.size() + key->variant.size() <= size + 64,
          "a key says no more than it has bytes");
  Require(*wire::ParseObjectKey(text) == *key, "a key is read alike each time");
  return 0;
}
