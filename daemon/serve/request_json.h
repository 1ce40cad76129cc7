#ifndef CONDUCTOR_DAEMON_SERVE_REQUEST_JSON_H_
#define CONDUCTOR_DAEMON_SERVE_REQUEST_JSON_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "daemon/serve/answers.h"
#include "daemon/serve/registration.h"

namespace conductor::serve {

// The JSON bodies of requests; docs/http-api.md has the fields. A body is read whole and strictly
// (UTF-8, one object, nothing after it) before any field of it is looked at, so an error anywhere
// in it is told. In all of them a null stands for an absent field, and a field given twice is an
// error. Bodies whose capacity leaves HttpRequest::kBodyPadding bytes behind the end are read in
// place, others are copied once.
//
// Designed for prompts of 128k tokens (about 800 KB): the parsers' buffers, up to fourteen times
// the body, are kept between requests, a few of them and only of ordinary size. As many bodies are
// read at once as there are processors, at least 4; further calls wait.

// Why a request cannot be answered, as its status 400 answer says it.
struct RequestError {
  std::string error;   // for people
  std::string reason;  // for programs: "invalid_json", "missing", "invalid_type", "invalid_value",
                       // "out_of_range", "not_array", "too_many", "unknown_field",
                       // "duplicate_field", "unsupported"
  std::string field;   // the field to blame; empty: none
  std::optional<uint64_t> index;  // of the element to blame, where the field is an array

  friend bool operator==(const RequestError&, const RequestError&) = default;
};

// {"error", "reason", "field"?, "index"?}
[[nodiscard]] std::string ToJson(const RequestError& error);

template <typename T>
using Parsed = tl::expected<T, RequestError>;

// POST /query. `instances` has the one instance_id when one is given; block_size 0 is none.
// Unknown fields are passed over, as that generation does.
[[nodiscard]] Parsed<Query> ParseMooncakeQuery(const std::string& body);

// POST /v1/query.
struct RankedQuery {
  Query query;
  std::optional<uint32_t> top;  // answer the best so many; 1 or more
};
[[nodiscard]] Parsed<RankedQuery> ParseQuery(const std::string& body);

// POST /register. The registration is not yet checked by Validate() and ExpandRanks().
struct RegisterRequest {
  Registration registration;
  uint32_t dp_size = 1;
  std::vector<std::string> unused;  // fields that say nothing here, for the answer to tell
};
[[nodiscard]] Parsed<RegisterRequest> ParseRegister(const std::string& body);

// POST /unregister: the key (see Registration::Key) of the publisher to remove.
[[nodiscard]] Parsed<std::string> ParseUnregister(const std::string& body);

// POST /cache. Errors have that generation's words.
[[nodiscard]] Parsed<CacheQuery> ParseCacheQuery(const std::string& body);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_REQUEST_JSON_H_
