#ifndef CONDUCTOR_LIB_WIRE_OBJECT_KEY_H_
#define CONDUCTOR_LIB_WIRE_OBJECT_KEY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/hash/block_hash.h"

namespace conductor::wire {

// Who wrote a pool object, by the form of its key.
enum class KeyFamily : uint8_t {
  kVllmStore,  // [prefix@]model@tp_rank:N@pcpN@dcpN@pp_rank:N[@group:N]@<hex>
  kAscend,     // model@pcpN@dcpN@head_or_tp_rank:N@pp_rank:N@<hex>, its later and its layer forms
  kAscendGva,  // model@<hex>@rank, model@group@<hex>@rank
  kSglang,     // [ns_/tag_]<64 hex>_{tp}[_{pp}]_k, ..._v
  kLmcache,    // [fmt@]model@world@worker@<hex>@dtype[@layer][@tag%val...]
  kNumeric,    // a decimal or 0x number: the hash itself
  kDescribed,  // the event says all that the key would (the profile of Mooncake's conductor)
};
// "vLLM", "vLLM-Ascend", "vLLM-Ascend GVA", "SGLang", "LMCache", "numeric", "described".
[[nodiscard]] std::string_view KeyFamilyName(KeyFamily family);

// One component of a block as a pool stores it: what the key of the object says.
struct ObjectKey {
  enum class Part : uint8_t { kWhole, kK, kV };

  KeyFamily family = KeyFamily::kNumeric;
  // A deployment's own name space in the pool (vLLM's cache_prefix, SGLang's tag); empty: none.
  std::string prefix;
  // What else keeps objects of one hash apart that are not parts of one block (LMCache's format,
  // dtype and tags; Ascend's cache role and family), '@' between; empty: nothing.
  std::string variant;
  std::string model;  // as the producer names it: often the last path component; empty: not named
  // What events call the block: the last 8 bytes of the digest big-endian, for SGLang and LMCache
  // the first 8. Of up to 16 hex digits the number itself.
  EngineHash hash{};
  uint32_t group = 0;  // KV-cache group
  // Where the component stands; nothing where the key does not say.
  // head_or_tp_rank; LMCache's worker; the rank of a GVA; the one number of an SGLang key, which
  // for an MLA model is the pipeline stage: enough to tell components apart.
  std::optional<uint32_t> tp_rank;
  std::optional<uint32_t> pp_rank;
  std::optional<uint32_t> pcp_rank;
  std::optional<uint32_t> dcp_rank;
  std::optional<uint32_t> layer;
  Part part = Part::kWhole;
  std::optional<uint32_t> tp_size;  // where the key says it (LMCache's world)

  friend bool operator==(const ObjectKey&, const ObjectKey&) = default;
};

// Reads the key of a pool object, from the right: a model's name may hold the separators. An error
// for what belongs to no family, SGLang's warm-up objects and those of its side pools (draft,
// indexer, sliding window) among them. docs/wire-formats.md has every form.
[[nodiscard]] Result<ObjectKey> ParseObjectKey(std::string_view key);

}  // namespace conductor::wire

#endif  // CONDUCTOR_LIB_WIRE_OBJECT_KEY_H_
