#ifndef CONDUCTOR_DAEMON_SERVE_POOL_ADMIN_H_
#define CONDUCTOR_DAEMON_SERVE_POOL_ADMIN_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/ingest/pool_ingest.h"

namespace conductor::serve {

// A Mooncake master's HTTP port (its metrics and admin server), as far as Conductor asks it:
// GET /get_all_keys, /batch_query_keys and /kv_events/status. Calls block, for `timeout` without
// progress at most; one at a time.
class PoolAdmin {
 public:
  // Keys of one request for their tiers: they stand in its URL.
  static constexpr size_t kKeysAtOnce = 64;

  // endpoint: "HOST:PORT", an IPv6 address in brackets, or the same after "http://". An error for
  // anything else.
  [[nodiscard]] static Result<std::unique_ptr<PoolAdmin>> Create(const std::string& endpoint,
                                                                 Duration timeout);
  ~PoolAdmin();
  PoolAdmin(const PoolAdmin&) = delete;
  PoolAdmin& operator=(const PoolAdmin&) = delete;

  // The default tenant's objects, without tiers. An error when they take more than `max_bytes`.
  [[nodiscard]] Result<std::vector<ingest::ListedObject>> AllKeys(size_t max_bytes);

  // Of at most kKeysAtOnce keys; those that the master does not have are on no tier.
  [[nodiscard]] Result<std::vector<ingest::ListedObject>> Tiers(std::span<const std::string> keys);

  // How many events the master has published since it was started.
  [[nodiscard]] Result<uint64_t> PublishedEvents();

  // From any thread: what is being asked fails soon, and so does everything after it.
  void Stop();

 private:
  struct Impl;
  explicit PoolAdmin(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_POOL_ADMIN_H_
