#ifndef CONDUCTOR_LIB_HASH_EXTRA_KEY_H_
#define CONDUCTOR_LIB_HASH_EXTRA_KEY_H_

#include <cstdint>
#include <string_view>

#include "lib/base/result.h"

namespace conductor::hash {

// One of hash::ExtraKeys, read back from MessagePack: what an engine hashes beside the tokens.
struct ExtraKey {
  enum class Kind : uint8_t {
    kText,     // LoRA name, cache salt, bare multimodal identifier: text
    kBytes,    // prompt-embeds digest: text
    kInteger,  // LoRA id, before vLLM hashed its name: number
    kItem,     // multimodal item: text is its identifier, number its offset
  };

  Kind kind = Kind::kText;
  std::string_view text;  // views the key that was read
  int64_t number = 0;
};

// Reads `key`, one MessagePack value. An error for the forms that no engine hashes: nil, booleans,
// floats, maps, extensions, integers above 2^63 - 1, arrays other than [text, integer].
[[nodiscard]] Result<ExtraKey> ReadExtraKey(std::string_view key);

}  // namespace conductor::hash

#endif  // CONDUCTOR_LIB_HASH_EXTRA_KEY_H_
