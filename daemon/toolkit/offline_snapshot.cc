#include "daemon/toolkit/offline_snapshot.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <utility>

#include "lib/store/snapshot_reader.h"

namespace conductor::toolkit {

std::vector<std::string> OfflineSnapshot::Notes() const {
  std::vector<std::string> notes;
  notes.push_back(fmt::format("{}: as it was at {}; every state is stale, as nobody is asked",
                              info.path, UtcText(info.saved_at)));
  for (const Error& left : restored.left_out) {
    notes.push_back(fmt::format("publisher {} is left out: {}", left.where, left.what));
  }
  return notes;
}

Result<OfflineSnapshot> OpenOfflineSnapshot(const std::string& path) {
  auto reader = store::SnapshotReader::Open(path);
  if (!reader) return tl::unexpected(std::move(reader.error()));
  OfflineSnapshot snapshot;
  snapshot.info = reader->info();
  OfflineConductor::Options options;
  options.registry.index.hash_seed = snapshot.info.hash_seed;
  snapshot.conductor = std::make_unique<OfflineConductor>(options);
  auto restored =
      snapshot.conductor->registry().Restore(*reader, {.configured = {}, .followed = false});
  if (!restored) return tl::unexpected(std::move(restored.error()));
  snapshot.restored = *std::move(restored);
  return snapshot;
}

std::string UtcText(double unix_seconds) {
  // Up to the year 9999; what is in a file may be any number.
  const double kept =
      std::isfinite(unix_seconds) ? std::clamp(unix_seconds, 0.0, 253402300799.0) : 0.0;
  return fmt::format("{:%Y-%m-%d %H:%M:%S} UTC", fmt::gmtime(static_cast<std::time_t>(kept)));
}

}  // namespace conductor::toolkit
