#include "daemon/serve/publisher_json.h"

#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "daemon/serve/document_writer.h"
#include "lib/hash/hash_profile.h"

namespace conductor::serve {
namespace {

using Json = nlohmann::ordered_json;

// Null when there are none.
Json Seconds(double seconds) {
  return seconds >= 0 && std::isfinite(seconds) ? Json(seconds) : Json(nullptr);
}

Json Counters(const PublisherStatus& status) {
  const stream::StreamCounters& stream = status.stream;
  const ingest::IngestCounters& ingest = status.ingest;
  return Json{{"frames", stream.frames},
              {"malformed_frames", stream.malformed_frames},
              {"applied_live", stream.applied_live},
              {"applied_replay", stream.applied_replay},
              {"duplicates", stream.duplicates},
              {"late", stream.late},
              {"gaps", stream.gaps},
              {"gaps_healed", stream.gaps_healed},
              {"gaps_partial", stream.gaps_partial},
              {"gaps_lost", stream.gaps_lost},
              {"lives", stream.lives},
              {"replays", stream.replays},
              {"replays_failed", stream.replays_failed},
              {"probes", stream.probes},
              {"listings", stream.listings},
              {"listings_failed", stream.listings_failed},
              {"connects", stream.connects},
              {"disconnects", stream.disconnects},
              {"pending_dropped", stream.pending_dropped},
              {"unrouted", stream.unrouted},
              {"lossy_batches", stream.lossy_batches},
              {"batches", ingest.batches},
              {"stored_events", ingest.stored_events},
              {"removed_events", ingest.removed_events},
              {"cleared_events", ingest.cleared_events},
              {"stored_blocks", ingest.stored_blocks},
              {"removed_blocks", ingest.removed_blocks},
              {"removed_unknown", ingest.removed_unknown},
              {"expired_blocks", ingest.expired_blocks},
              {"trimmed_blocks", ingest.trimmed_blocks},
              {"orphaned", ingest.orphaned},
              {"detached", ingest.detached},
              {"joined", ingest.joined},
              {"waiting_dropped", ingest.waiting_dropped},
              {"refused_block_size", ingest.refused_block_size},
              {"refused_shape", ingest.refused_shape},
              {"refused_names", ingest.refused_names},
              {"ignored_group", ingest.ignored_group},
              {"ignored_medium", ingest.ignored_medium},
              {"rank_mismatches", ingest.rank_mismatches},
              {"waiting_events", ingest.waiting_events},
              {"waiting_bytes", ingest.waiting_bytes},
              {"last_refused_block_size", ingest.last_refused_block_size}};
}

Json Sequence(const std::optional<uint64_t>& sequence) {
  return sequence ? Json(*sequence) : Json(nullptr);
}

// What is 0 stands for what was left open.
Json TimesToLive(const Registration& registration) {
  Json ttl = Json::object();
  for (const Tier tier : kTiers) {
    const Duration time = registration.ttl[static_cast<size_t>(tier)];
    if (time > Duration::zero()) ttl[std::string(TierName(tier))] = FormatDuration(time);
  }
  return ttl;
}

// As it was registered, so that it can be sent again.
Json HashProfileJson(const std::optional<hash::HashProfile>& profile) {
  if (!profile) return nullptr;
  Json json{{"strategy", "vllm_v1"},
            {"algorithm", hash::HashAlgorithmName(profile->algorithm)},
            {"python_hash_seed", profile->seed},
            {"index_projection", "low64_be"}};
  if (profile->hash_block_size != 0) json["hash_block_size"] = profile->hash_block_size;
  return json;
}

// Null when none was checked.
Json MatchRate(const ingest::IngestCounters& ingest) {
  if (ingest.hash_checked == 0) return nullptr;
  return static_cast<double>(ingest.hash_matched) / static_cast<double>(ingest.hash_checked);
}

Json HashCheckJson(const ingest::IngestCounters& ingest) {
  return Json{{"checked", ingest.hash_checked},
              {"matched", ingest.hash_matched},
              {"match_rate", MatchRate(ingest)},
              {"hint", ingest.hash_hint}};
}

Json Number(const std::optional<uint32_t>& number) {
  return number ? Json(*number) : Json(nullptr);
}

// What only pools have.
Json Pool(const PoolRegistration& pool, const ingest::IngestCounters& ingest) {
  return Json{
      {"pool_lookup", pool.lookup == index::PoolLookup::kContinue ? "continue" : "from_start"},
      {"tp_size", Number(pool.tp_size)},
      {"kv_heads", Number(pool.kv_heads)},
      {"pp_size", Number(pool.pp_size)},
      {"layers", Number(pool.layers)},
      {"admin_endpoint", pool.admin_endpoint},
      {"key_models", Json(pool.key_models)},
      {"objects", ingest.objects},
      {"pool_blocks", ingest.pool_blocks},
      {"partial_blocks", ingest.partial_blocks},
      {"detached_blocks", ingest.detached_blocks},
      {"objects_stored", ingest.objects_stored},
      {"objects_removed", ingest.objects_removed},
      {"objects_unread", ingest.objects_unread},
      {"objects_foreign", ingest.objects_foreign},

      {"last_event_id", ingest.last_event_id}};
}

Json Publisher(const PublisherStatus& status) {
  const Registration& registration = status.registration;
  Json json{
      {"id", registration.Key()},
      {"type", PublisherTypeName(registration.type)},
      {"instance_id", registration.instance_id},
      {"tenant_id", registration.tenant},
      {"model", registration.model},
      {"lora_name", registration.lora_name},
      {"dp_rank", registration.dp_rank},
      {"endpoint", registration.endpoint},
      {"replay_endpoint", registration.replay_endpoint},
      {"mode", ListenModeName(registration.mode)},
      {"peer", registration.peer},
      {"topic", registration.topic},
      {"additional_salt", registration.additional_salt},
      {"copies", registration.copies == index::CopyMode::kSet ? "set" : "count"},
      {"ttl", TimesToLive(registration)},
      {"hash_profile", HashProfileJson(registration.hash_profile)},
      {"bytes_per_block",
       registration.bytes_per_block == 0 ? Json(nullptr) : Json(registration.bytes_per_block)},
      {"block_size", status.effective_block_size},
      {"state", stream::TrustStateName(status.trust.state)},
      {"reason", status.trust.reason},
      {"detail", status.trust.detail},
      {"incarnation", registration.incarnation},
      {"cursor", Sequence(status.stream.cursor)},
      {"highest_seen", Sequence(status.stream.highest_seen)},
      {"last_event_age_seconds", Seconds(status.last_event_age_seconds)},
      {"last_event_lag_seconds", Seconds(status.last_event_lag_seconds)},
      {"counters", Counters(status)},
      {"hash_check", HashCheckJson(status.ingest)},
      {"decode", Json(status.decode_skips)},
      {"last_decode_error", status.last_decode_error}};
  if (IsPool(registration.type)) json["pool"] = Pool(registration.pool, status.ingest);
  return json;
}

}  // namespace

std::string PublishersDocument(const std::vector<PublisherStatus>& publishers, BodyForm form) {
  Json list = Json::array();
  for (const PublisherStatus& status : publishers) list.push_back(Publisher(status));
  return Render(Json{{"count", publishers.size()}, {"publishers", std::move(list)}}, form);
}

std::string PublisherDocument(const PublisherStatus& publisher, BodyForm form) {
  return Render(Publisher(publisher), form);
}

std::string ServicesJson(const std::vector<PublisherStatus>& publishers) {
  Json services = Json::array();
  for (const PublisherStatus& status : publishers) {
    const Registration& registration = status.registration;
    services.push_back(Json{{"Endpoint", registration.endpoint},
                            {"ReplayEndpoint", registration.replay_endpoint},
                            {"Type", PublisherTypeName(registration.type)},
                            {"ModelName", registration.model},
                            {"LoraName", registration.lora_name},
                            {"TenantID", registration.tenant},
                            {"InstanceID", registration.instance_id},
                            {"BlockSize", status.effective_block_size},
                            {"DPRank", registration.dp_rank},
                            {"AdditionalSalt", registration.additional_salt},
                            {"HashProfile", HashProfileJson(registration.hash_profile)},
                            {"State", stream::TrustStateName(status.trust.state)},
                            {"Reason", status.trust.reason},
                            {"Detail", status.trust.detail},
                            {"Incarnation", registration.incarnation},
                            {"Lives", status.stream.lives},
                            {"Cursor", Sequence(status.stream.cursor)},
                            {"HighestSeen", Sequence(status.stream.highest_seen)},
                            {"LastEventAgeSeconds", Seconds(status.last_event_age_seconds)},
                            {"HashMatchRate", MatchRate(status.ingest)}});
  }
  return Render(Json{{"count", publishers.size()}, {"services", std::move(services)}},
                BodyForm::kJson);
}

}  // namespace conductor::serve
