#include "daemon/serve/mooncake_hash_requests.h"

#include <fmt/format.h>

#include <initializer_list>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/hash/block_hash.h"

namespace conductor::serve {
namespace {

// `names`: of the hashes' field; one must be there.
std::vector<uint64_t> ReadHashes(RequestBody& body, std::initializer_list<const char*> names) {
  const char* given = nullptr;
  for (const char* name : names) {
    if (!body.Get(name)) continue;
    if (given != nullptr) {
      body.Fail("duplicate_field", name,
                fmt::format("{} is another name of {}: give one", name, given));
    }
    given = name;
  }
  return body.Hashes(given != nullptr ? given : *names.begin(), RequestBody::Packed::kAllowed);
}

// Hashes hold their salt already: another one beside them would be passed over in silence.
void RefuseSalt(RequestBody& body) {
  if (!body.Get("cache_salt")) return;
  body.Fail("unsupported", "cache_salt",
            "cache_salt has no meaning beside hashes, which must have been made with it");
}

void ReadTenant(RequestBody& body, std::string_view name, Query& query) {
  if (std::string tenant = body.Text(name); !tenant.empty()) query.tenant = std::move(tenant);
}

std::optional<uint32_t> ReadBlockSize(RequestBody& body) {
  const uint32_t block_size = body.Number("block_size");
  return block_size > 0 ? std::optional(block_size) : std::nullopt;
}

void TakePrefixes(const std::vector<uint64_t>& hashes, Query& query) {
  for (const uint64_t hash : hashes) query.prefixes.push_back(PrefixHash{hash});
}

std::string ReadDynamoModel(RequestBody& body) {
  return body.RequiredText(body.Get("model") && !body.Get("model_name") ? "model" : "model_name");
}

Query ReadDynamoScope(RequestBody& body) {
  Query query;
  query.model = ReadDynamoModel(body);
  ReadTenant(body, "tenant_id", query);
  ReadTenant(body, "routing_group", query);
  query.lora_name = body.Text("lora_name");
  query.block_size = ReadBlockSize(body);
  return query;
}

}  // namespace

Parsed<Query> ParseHashQuery(const std::string& bytes, BodyForm form, RequestBody::Others others) {
  RequestBody body(bytes, form,
                   {"model", "block_size", "tenant_id", "lora_name", "additional_salt",
                    "instance_id", "instances", "seq_hashes", "block_hash", "cache_salt"},
                   others);
  Query query;
  query.model = body.RequiredText("model");
  ReadTenant(body, "tenant_id", query);
  query.lora_name = body.Text("lora_name");
  query.block_size = ReadBlockSize(body);
  if (body.Get("additional_salt")) query.additional_salt = body.Text("additional_salt");
  if (body.Get("instances")) query.instances = body.Texts("instances");
  if (std::string instance = body.Text("instance_id"); !instance.empty()) {
    query.instances.insert(std::move(instance));
  }
  RefuseSalt(body);
  TakePrefixes(ReadHashes(body, {"seq_hashes", "block_hash"}), query);
  return body.Finish(std::move(query));
}

Parsed<Query> ParseDynamoQuery(const std::string& bytes, BodyForm form) {
  RequestBody body(bytes, form,
                   {"model_name", "model", "tenant_id", "routing_group", "lora_name", "cache_salt",
                    "block_size", "token_ids"},
                   RequestBody::Others::kIgnore);
  Query query = ReadDynamoScope(body);
  query.cache_salt = body.Text("cache_salt");
  query.tokens = body.Tokens("token_ids");
  return body.Finish(std::move(query));
}

Parsed<Query> ParseDynamoHashQuery(const std::string& bytes, BodyForm form, uint64_t hash_seed) {
  RequestBody body(bytes, form,
                   {"model_name", "model", "tenant_id", "routing_group", "lora_name", "cache_salt",
                    "block_size", "block_hashes", "seq_hashes", "block_hash"},
                   RequestBody::Others::kIgnore);
  Query query = ReadDynamoScope(body);
  RefuseSalt(body);
  if (body.Get("block_hashes")) {
    for (const uint64_t hash : ReadHashes(body, {"block_hashes"})) {
      const LocalHash local{hash};
      query.prefixes.push_back(query.prefixes.empty()
                                   ? hash::FirstPrefix(local)
                                   : hash::NextPrefix(query.prefixes.back(), local, hash_seed));
    }
  } else {
    TakePrefixes(ReadHashes(body, {"block_hashes", "seq_hashes", "block_hash"}), query);
  }
  return body.Finish(std::move(query));
}

}  // namespace conductor::serve
