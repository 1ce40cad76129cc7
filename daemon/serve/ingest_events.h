#ifndef CONDUCTOR_DAEMON_SERVE_INGEST_EVENTS_H_
#define CONDUCTOR_DAEMON_SERVE_INGEST_EVENTS_H_

#include <cstddef>
#include <vector>

#include "daemon/serve/registration.h"
#include "daemon/serve/request_body.h"
#include "lib/stream/intake.h"

namespace conductor::serve {

// Makes messages of normalised events: maps of RFC 1527's form (docs/wire-formats.md), each with
// the `sequence` that it is of, and a `timestamp` if it has one. Those of one sequence that follow
// one another are one batch. A payload is made of nothing else, so the same events are the same
// bytes, and one that is handed in again is known as a duplicate.
//
// Each batch is read as it will be from the wire for a publisher of `type`; the first event that
// could not be used whole is an error of `body`. `items[i]` is how many events the messages up to i
// stand for.
void ReadIngestEvents(RequestBody& body, Value events, PublisherType type,
                      std::vector<stream::Intake::Message>& messages, std::vector<size_t>& items);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_INGEST_EVENTS_H_
