#ifndef CONDUCTOR_DAEMON_SERVE_MOONCAKE_HASH_REQUESTS_H_
#define CONDUCTOR_DAEMON_SERVE_MOONCAKE_HASH_REQUESTS_H_

#include <cstdint>
#include <string>

#include "daemon/serve/answers.h"
#include "daemon/serve/document.h"
#include "daemon/serve/request_body.h"

// The bodies of queries that no generation of the Mooncake Conductor has itself, read as
// Conductor's own are (requests.h). docs/http-api.md has the fields.
namespace conductor::serve {

// POST /query_by_hash, by `seq_hashes` or `block_hash`, both prefix hashes. No generation had more
// of it than its name, so it is read as Conductor's own bodies are.
[[nodiscard]] Parsed<Query> ParseHashQuery(const std::string& body, BodyForm form,
                                           RequestBody::Others others);

// POST /query and /query_by_hash as clients of Dynamo's standalone KV indexer send them. Its
// `block_hashes` are hashes of single blocks; they are chained with `hash_seed`.
[[nodiscard]] Parsed<Query> ParseDynamoQuery(const std::string& body, BodyForm form);
[[nodiscard]] Parsed<Query> ParseDynamoHashQuery(const std::string& body, BodyForm form,
                                                 uint64_t hash_seed);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_MOONCAKE_HASH_REQUESTS_H_
