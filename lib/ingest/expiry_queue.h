#ifndef CONDUCTOR_LIB_INGEST_EXPIRY_QUEUE_H_
#define CONDUCTOR_LIB_INGEST_EXPIRY_QUEUE_H_

#include <absl/container/flat_hash_map.h>

#include <map>
#include <optional>
#include <utility>

#include "lib/base/clock.h"

namespace conductor::ingest {

// When things end that are announced and never taken back: each at the end of its time to live,
// counted from when it was announced last. One entry a thing, however often it is announced: an
// entry that comes due too early goes back to its true place, so announcing costs a look-up and
// every deadline is moved at most once for each time to live. Not thread-safe.
template <typename Key>
class ExpiryQueue {
 public:
  // `key` was announced and ends at `deadline`, not earlier than it would have.
  void Announce(const Key& key, MonoTime deadline) {
    const auto [known, fresh] = ends_.insert_or_assign(key, deadline);
    (void)known;
    if (fresh) due_.emplace(deadline, key);
  }

  void Forget(const Key& key) { ends_.erase(key); }

  // When it ends; nothing: it was never announced, or has ended.
  [[nodiscard]] std::optional<MonoTime> EndOf(const Key& key) const {
    const auto end = ends_.find(key);
    if (end == ends_.end()) return std::nullopt;
    return end->second;
  }
  // visit(key, deadline) for each, in no order.
  template <typename Visit>
  void ForEach(Visit visit) const {
    for (const auto& [key, deadline] : ends_) visit(key, deadline);
  }

  // When TakeDue may have something; never later.
  [[nodiscard]] std::optional<MonoTime> NextDeadline() const {
    if (due_.empty()) return std::nullopt;
    return due_.begin()->first;
  }

  // One that has ended by `now`, until there is none.
  [[nodiscard]] std::optional<Key> TakeDue(MonoTime now) {
    while (!due_.empty() && due_.begin()->first <= now) {
      const MonoTime was = due_.begin()->first;
      auto node = due_.extract(due_.begin());
      const auto end = ends_.find(node.mapped());
      if (end == ends_.end()) continue;
      if (end->second > was && end->second > now) {
        due_.emplace(end->second, std::move(node.mapped()));
        continue;
      }
      ends_.erase(end);
      return std::move(node.mapped());
    }
    return std::nullopt;
  }

  void Clear() {
    ends_.clear();
    due_.clear();
  }

 private:
  absl::flat_hash_map<Key, MonoTime> ends_;
  std::multimap<MonoTime, Key> due_;  // may hold what was forgotten, and deadlines that moved
};

}  // namespace conductor::ingest

#endif  // CONDUCTOR_LIB_INGEST_EXPIRY_QUEUE_H_
