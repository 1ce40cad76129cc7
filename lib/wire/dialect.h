#ifndef CONDUCTOR_LIB_WIRE_DIALECT_H_
#define CONDUCTOR_LIB_WIRE_DIALECT_H_

#include <cstdint>
#include <string_view>

namespace conductor::wire {

// Whose words a publisher's payloads are in; docs/wire-formats.md describes each.
enum class Dialect : uint8_t {
  kVllm,         // every generation
  kVllmAscend,   // vLLM's, with the events of AscendStore among them
  kSglang,       // signed first-8-bytes hashes, salt metadata, EAGLE's pairs of tokens
  kLmcache,      // chunks of LMCache, which may be signed and begin a prompt on any tier
  kTensorRtLlm,  // maps, tokens as integers or text, mm_keys
  kRfc1527,      // the standard envelope of RFC 1527, from an engine
  kMooncake,     // objects of a Mooncake Store master
};

// "vLLM", "vLLM-Ascend", "SGLang", "LMCache", "TensorRT-LLM", "RFC1527", "Mooncake".
[[nodiscard]] std::string_view DialectName(Dialect dialect);

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_DIALECT_H_
