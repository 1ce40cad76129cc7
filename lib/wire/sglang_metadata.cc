#include "lib/wire/sglang_metadata.h"

namespace conductor::wire {

void ReadSglangMetadata(FieldReader& reader, MsgpackValue value, BlockStored& out) {
  for (const auto& [key, entry] : value.entries()) {
    const std::string_view name = key.is_text() ? key.bytes() : std::string_view();
    if (name == "cache_salt") {
      reader.Text(entry, name, out.cache_salt);
    } else if (name == "lora_name") {
      reader.Text(entry, name, out.lora_name);
    } else if (name != "session_id") {
      reader.UnknownKey(key);
    }
  }
}

}  // namespace conductor::wire
