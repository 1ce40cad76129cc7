#ifndef CONDUCTOR_DAEMON_TOOLKIT_REDIALECT_H_
#define CONDUCTOR_DAEMON_TOOLKIT_REDIALECT_H_

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/result.h"
#include "lib/base/tier.h"
#include "lib/hash/block_hash.h"
#include "lib/wire/decoder.h"
#include "lib/wire/mooncake_encoder.h"

namespace conductor::toolkit {

// Whose words payloads are published in.
enum class PublishDialect : uint8_t {
  kVllmArray,  // vLLM's positional events of v0.23, the last ones
  kVllmMap,    // from v0.24 on
  kSglang,     // maps, as since September 2026
  kMooncake,   // a Mooncake Store master's objects
};

// "vllm-array", "vllm-map", "sglang", "mooncake".
[[nodiscard]] Result<PublishDialect> ParsePublishDialect(std::string_view text);

// One publisher's payloads, in the words of another kind of publisher. What that has no form for is
// left out and counted.
//
// A master tells of objects and knows no device, so the blocks of an engine become objects that are
// named by the number of their hash, on the host where the engine has them on the device or on the
// host, else on disk; one is removed when the engine has it nowhere any more. Batches number their
// events on from 1.
class Redialect {
 public:
  // `from`: of the payloads that come.
  Redialect(wire::Dialect from, PublishDialect to) : decoder_(from), to_(to) {}

  // An error for what is no batch.
  [[nodiscard]] Result<std::string> Encode(std::string_view payload);
  // The publisher began a new life: it has no blocks.
  void NewLife();

  [[nodiscard]] uint64_t left_out() const { return left_out_; }  // events

 private:
  // What an engine has of one block.
  struct Held {
    std::array<uint32_t, kTierCount> copies{};  // on the device; 1 elsewhere
    std::optional<Tier> told;                   // as what the object was announced
  };

  [[nodiscard]] std::string EncodeObjects(const wire::EventBatch& batch);
  static void Tell(EngineHash hash, Held& held, std::vector<wire::MasterEvent>& events);
  void Change(EngineHash hash, Tier tier, bool stored, std::vector<wire::MasterEvent>& events);
  void Clear(std::vector<wire::MasterEvent>& events);

  wire::Decoder decoder_;
  const PublishDialect to_;
  uint64_t left_out_ = 0;
  uint64_t next_event_id_ = 1;
  std::map<EngineHash, Held> held_;  // what it has nowhere is not in it
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_REDIALECT_H_
