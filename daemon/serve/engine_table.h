#ifndef CONDUCTOR_DAEMON_SERVE_ENGINE_TABLE_H_
#define CONDUCTOR_DAEMON_SERVE_ENGINE_TABLE_H_

#include <absl/container/flat_hash_map.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/serve/registration.h"
#include "lib/stream/trust.h"

namespace conductor::serve {

// What answers need of one engine publisher.
struct EngineView {
  std::shared_ptr<const Registration> registration;
  stream::Trust trust;
  uint32_t block_size = 0;  // registered or learnt; 0: not known yet
  // As PublisherStatus::last_event_lag_seconds, when the view was taken, and now.
  double lag_seconds = -1;
  std::shared_ptr<const std::atomic<double>> lag_now = nullptr;
};

// The engine publishers at one moment, in the order that answers need: made when one of them
// changes, and then shared by all answers until the next change.
class EngineTable {
 public:
  struct Instance {
    std::string instance_id;
    std::vector<uint32_t> engines;   // in engines()
    std::vector<uint32_t> dp_ranks;  // registered ones, in order
    size_t first_rank = 0;           // of these, counted through the tenant

    // Where the rank stands among the tenant's; nothing when it is not registered.
    [[nodiscard]] std::optional<size_t> RankPlace(uint32_t dp_rank) const;
  };
  struct Tenant {
    std::vector<Instance> instances;  // in the order of their ids
    size_t ranks = 0;
    absl::flat_hash_map<std::string_view, uint32_t> by_id;  // in `instances`
  };

  // `version` tells tables apart.
  EngineTable(std::vector<EngineView> engines, uint64_t version);
  EngineTable(const EngineTable&) = delete;
  EngineTable& operator=(const EngineTable&) = delete;

  // In order of their keys.
  [[nodiscard]] const std::vector<EngineView>& engines() const { return engines_; }
  // nullptr when no engine is registered for it.
  [[nodiscard]] const Tenant* Find(const std::string& tenant) const;
  [[nodiscard]] uint64_t version() const { return version_; }

 private:
  std::vector<EngineView> engines_;
  std::map<std::string, Tenant> tenants_;
  uint64_t version_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_ENGINE_TABLE_H_
