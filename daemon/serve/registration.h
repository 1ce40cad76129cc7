#ifndef CONDUCTOR_DAEMON_SERVE_REGISTRATION_H_
#define CONDUCTOR_DAEMON_SERVE_REGISTRATION_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/index/prefix_index.h"

namespace conductor::serve {

// What emits a publisher's events. kMooncake is a shared pool's master, not a routable engine.
enum class PublisherType : uint8_t { kVllm, kMooncake };

// "vLLM", "Mooncake": as configuration files and answers spell them.
[[nodiscard]] std::string_view PublisherTypeName(PublisherType type);
// Case does not matter.
[[nodiscard]] Result<PublisherType> ParsePublisherType(std::string_view text);

// One publisher as a configuration file or a request names it, whatever generation's words were
// used (docs/http-api.md and conductor.json(5) list them).
struct Registration {
  std::string endpoint;         // "tcp://127.0.0.1:5557"
  std::string replay_endpoint;  // empty: none
  std::string topic;            // subscription prefix; empty: everything
  PublisherType type = PublisherType::kVllm;
  std::string model;
  std::string lora_name;
  std::string tenant = "default";
  std::string instance_id;
  uint32_t block_size = 0;  // tokens; 0: learnt from the first stored event with tokens
  uint32_t dp_rank = 0;
  std::string additional_salt;
  index::CopyMode copies = index::CopyMode::kCount;

  // "instance_id|tenant|dp_rank": what /unregister speaks of; unique among registered publishers.
  [[nodiscard]] std::string Key() const;

  friend bool operator==(const Registration&, const Registration&) = default;
};

// The names, as requests spell them, of the fields in which two registrations differ.
[[nodiscard]] std::vector<std::string_view> DifferingFields(const Registration& a,
                                                            const Registration& b);

// Checks what no publisher could ever have: empty endpoint, model or instance id, addresses that
// ZeroMQ cannot connect to, names above 4096 bytes, numbers above 2147483647, a '|' in instance_id
// or tenant (it separates the parts of a key). The error's `where` is the field's name as files
// and requests have it: "endpoint", "replay_endpoint", "modelname", "tenant_id", ...
[[nodiscard]] Status Validate(const Registration& registration);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_REGISTRATION_H_
