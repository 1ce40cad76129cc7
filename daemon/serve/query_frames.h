#ifndef CONDUCTOR_DAEMON_SERVE_QUERY_FRAMES_H_
#define CONDUCTOR_DAEMON_SERVE_QUERY_FRAMES_H_

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

#include "daemon/serve/query_routes.h"
#include "daemon/serve/request_body.h"

namespace conductor::serve {

// A request of the ZeroMQ endpoint, and why it cannot be answered where it cannot. The frames, byte
// by byte: docs/zeromq-api.md.
struct FramedQuery {
  static constexpr size_t kMostIdBytes = 64;

  bool delimited = false;             // an empty frame came first, and comes first in the answer
  std::optional<size_t> id;           // the index of its frame; none: it could not be told
  const BodyRoute* route = nullptr;   // one of those that were given
  size_t body = 0;                    // the index of its frame; where there is a route
  int status = 200;                   // HTTP's, when it is refused
  std::optional<RequestError> error;  // why it is
};

// Reads the frames of one message, without the identity that a ROUTER puts before them: an empty
// one or none, then id, path and body. The path is one of `routes`. Looks at no body.
//
// Whoever may speak to the endpoint may ask everything that it answers: it has no frame for a
// bearer token. One would be the fourth, and be held against the daemon's tokens here.
[[nodiscard]] FramedQuery ReadQueryFrames(std::span<const std::string_view> frames,
                                          std::span<const BodyRoute> routes);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_QUERY_FRAMES_H_
