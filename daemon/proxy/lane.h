#ifndef CONDUCTOR_DAEMON_PROXY_LANE_H_
#define CONDUCTOR_DAEMON_PROXY_LANE_H_

#include "daemon/proxy/asio.h"
#include "daemon/proxy/departure.h"
#include "daemon/proxy/time_limits.h"
#include "daemon/proxy/upstream.h"

namespace conductor::proxy {

// One thread of the data path and all that only it touches. A client's connection stays on the
// lane that took it, with everything that is done for it, so nothing there needs a lock.
struct Lane {
  explicit Lane(const Upstreams::Options& options) : upstreams(io, limits, options) {}

  net::io_context io{1};  // run by one thread
  Departure ending;       // the process ends: all that waits here ends at once
  TimeLimits limits{io};
  Upstreams upstreams;
};

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_LANE_H_
