#ifndef CONDUCTOR_DAEMON_SERVE_MOONCAKE_REQUESTS_H_
#define CONDUCTOR_DAEMON_SERVE_MOONCAKE_REQUESTS_H_

#include <string>

#include "daemon/serve/answers.h"
#include "daemon/serve/document.h"
#include "daemon/serve/request_body.h"
#include "daemon/serve/requests.h"

// The bodies that clients of the C++ generations of the Mooncake Conductor send, read as strictly
// as those generations do and refused in their words: clients look at `reason` and `field`, and
// some at the text. A null is a value of the wrong type, and bytes behind the first MessagePack
// value are passed over. Which rules hold follows from the body's form: the MessagePack
// generation's, or those of the JSON one before it. docs/http-api.md has the fields.
namespace conductor::serve {

struct StrictQuery {
  Query query;  // always with a block size
  // False: lora_name or cache_salt is no UTF-8, which no engine can hash; nothing is answered.
  bool hashable = true;
};

// POST /query. A field given twice counts as it is given last; MessagePack's are checked in the
// order in which they were sent.
[[nodiscard]] Parsed<StrictQuery> ParseStrictQuery(const std::string& body, BodyForm form);

// POST /register: that generation's fields but for a hash_profile that may be left out, and
// Conductor's own. Of a field given twice the first counts. Not yet checked by Validate(). A body
// that is no JSON is an error without a `reason`.
[[nodiscard]] Parsed<RegisterRequest> ParseStrictRegister(const std::string& body, BodyForm form);

// POST /unregister: the key of the publisher to remove. Errors as in ParseStrictRegister.
[[nodiscard]] Parsed<std::string> ParseStrictUnregister(const std::string& body, BodyForm form);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_MOONCAKE_REQUESTS_H_
