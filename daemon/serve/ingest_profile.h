#ifndef CONDUCTOR_DAEMON_SERVE_INGEST_PROFILE_H_
#define CONDUCTOR_DAEMON_SERVE_INGEST_PROFILE_H_

#include "daemon/serve/registration.h"
#include "lib/ingest/pool_ingest.h"
#include "lib/ingest/publisher_ingest.h"

namespace conductor::serve {

// What a registration says to the way of its events into the index: of an engine, of a pool.
[[nodiscard]] ingest::PublisherProfile EngineProfile(const Registration& registration);
[[nodiscard]] ingest::PoolProfile PoolProfile(const Registration& registration);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_INGEST_PROFILE_H_
