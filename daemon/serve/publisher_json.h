#ifndef CONDUCTOR_DAEMON_SERVE_PUBLISHER_JSON_H_
#define CONDUCTOR_DAEMON_SERVE_PUBLISHER_JSON_H_

#include <string>
#include <vector>

#include "daemon/serve/document.h"
#include "daemon/serve/registry.h"

namespace conductor::serve {

// How publishers are and what they were registered as; docs/http-api.md has the fields.

// GET /v1/publishers.
[[nodiscard]] std::string PublishersDocument(const std::vector<PublisherStatus>& publishers,
                                             BodyForm form);

// GET /v1/publishers/{id}: one of them.
[[nodiscard]] std::string PublisherDocument(const PublisherStatus& publisher, BodyForm form);

// GET /services.
[[nodiscard]] std::string ServicesJson(const std::vector<PublisherStatus>& publishers);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_PUBLISHER_JSON_H_
