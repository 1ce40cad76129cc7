#include "daemon/serve/ingest_profile.h"

namespace conductor::serve {

ingest::PublisherProfile EngineProfile(const Registration& registration) {
  return ingest::PublisherProfile{
      .name = registration.Key(),
      .instance_id = registration.instance_id,
      .tenant = registration.tenant,
      .model = registration.model,
      .lora_name = registration.lora_name,
      .additional_salt = registration.additional_salt,
      .block_size = registration.block_size,
      .dp_rank = registration.dp_rank,
      .copies = registration.copies,
      .root_on_any_tier = registration.type == PublisherType::kSglang ||
                          registration.type == PublisherType::kLmcache,
      .ttl = registration.ttl,
      .hash_profile = registration.hash_profile,
  };
}

ingest::PoolProfile PoolProfile(const Registration& registration) {
  return ingest::PoolProfile{
      .name = registration.Key(),
      .tenant = registration.tenant,
      .model = registration.model,
      .additional_salt = registration.additional_salt,
      .key_models = registration.pool.key_models,
      .lookup = registration.pool.lookup,
      .tp_size = registration.pool.tp_size,
      .kv_heads = registration.pool.kv_heads,
      .pp_size = registration.pool.pp_size,
      .layers = registration.pool.layers,
      .ttl = registration.ttl,
      .hash_profile = registration.hash_profile,
  };
}

}  // namespace conductor::serve
