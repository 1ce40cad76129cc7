#ifndef CONDUCTOR_DAEMON_SERVE_ENGINE_TABLE_H_
#define CONDUCTOR_DAEMON_SERVE_ENGINE_TABLE_H_

#include <absl/container/flat_hash_map.h>

#include <atomic>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
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
  uint32_t model = 0;       // the id of its model in its tenant; set by the table
  std::shared_ptr<const std::atomic<double>> lag_now = nullptr;  // seconds, of its last event
};

// The block sizes of one tenant's model, as its engines are registered or have been learnt to have.
struct ModelSizes {
  uint32_t id = std::numeric_limits<uint32_t>::max();  // one for each of a tenant; of no engine's
  bool known = false;                                  // some engine is registered for the model
  bool unknown = false;                                // one with a size that is not known yet
  std::set<uint32_t> sizes;
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
    absl::flat_hash_map<std::string_view, ModelSizes> models;
  };

  // `version` tells tables apart.
  EngineTable(std::vector<EngineView> engines, uint64_t version);
  EngineTable(const EngineTable&) = delete;
  EngineTable& operator=(const EngineTable&) = delete;

  // In order of their keys.
  [[nodiscard]] const std::vector<EngineView>& engines() const { return engines_; }
  [[nodiscard]] const ModelSizes& SizesOf(const std::string& tenant, std::string_view model) const;
  // nullptr when no engine is registered for it.
  [[nodiscard]] const Tenant* Find(const std::string& tenant) const;
  // nullptr when the tenant has no engine registered so.
  [[nodiscard]] const Instance* Find(const std::string& tenant, std::string_view instance_id) const;
  [[nodiscard]] uint64_t version() const { return version_; }

 private:
  std::vector<EngineView> engines_;
  std::map<std::string, Tenant> tenants_;
  uint64_t version_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_ENGINE_TABLE_H_
