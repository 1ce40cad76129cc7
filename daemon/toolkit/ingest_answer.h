#ifndef CONDUCTOR_DAEMON_TOOLKIT_INGEST_ANSWER_H_
#define CONDUCTOR_DAEMON_TOOLKIT_INGEST_ANSWER_H_

#include <cstdint>
#include <string>

#include "lib/client/transport.h"

namespace conductor::toolkit {

// What a daemon answers to POST /v1/ingest (docs/http-api.md), whatever the status.
struct IngestAnswer {
  bool readable = false;  // it is an object at all; otherwise nothing below is set
  uint64_t accepted = 0;  // frames
  std::string state;
  std::string reason;
  std::string detail;
  std::string error;
};

// Whoever it is that answers, nothing is read that is nested deep. A field that is missing, or of
// another type, is as if it were empty.
[[nodiscard]] IngestAnswer ReadIngestAnswer(const client::Reply& reply);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_INGEST_ANSWER_H_
