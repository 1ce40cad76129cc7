#ifndef CONDUCTOR_DAEMON_SERVE_PUBLISHER_REQUESTS_H_
#define CONDUCTOR_DAEMON_SERVE_PUBLISHER_REQUESTS_H_

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "daemon/serve/registration.h"
#include "daemon/serve/request_body.h"
#include "daemon/serve/requests.h"
#include "lib/stream/intake.h"

namespace conductor::serve {

// The bodies that tell of publishers; docs/http-api.md has the fields. Unlike POST /register they
// refuse fields that say nothing. The registrations are not yet checked by Validate().

// POST /v1/publishers.
[[nodiscard]] Parsed<RegisterRequest> ParsePublisher(const std::string& body, BodyForm form);

// PUT /v1/publishers/{id}, of one rank. What `id` says may be left out, but not be contradicted.
[[nodiscard]] Parsed<Registration> ParsePublisherAt(const std::string& body, BodyForm form,
                                                    const std::string& id);

// POST /v1/ingest.
struct IngestRequest {
  Registration registration;  // with the incarnation that all of it is of
  std::vector<stream::Intake::Message> messages;
  // items[i]: how many of the body's frames (or events) the messages up to i stand for.
  std::vector<size_t> items;
  bool events = false;  // they are events; otherwise frames
  bool wait = false;    // for their effect
};
// `registered` is asked for the publisher that a body names by its id alone. Normalised events
// become the payloads that they would be on the wire; one that could not be used there is an error,
// where a frame's payload is not looked at.
[[nodiscard]] Parsed<IngestRequest> ParseIngest(
    const std::string& body, BodyForm form,
    const std::function<std::optional<Registration>(const std::string& id)>& registered);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_PUBLISHER_REQUESTS_H_
