#include "daemon/serve/explain_verdicts.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <utility>

namespace conductor::serve {
namespace {

using index::Removal;
using index::RemovalCause;

// Compared blocks from which a rate is told, and the rate below which something is wrong.
constexpr uint64_t kEnoughCompared = 16;
constexpr double kLowMatchRate = 0.95;

ExplainCause CauseOf(RemovalCause cause) {
  switch (cause) {
    case RemovalCause::kRemoved:
      return ExplainCause::kRemoved;
    case RemovalCause::kExpired:
      return ExplainCause::kExpired;
    case RemovalCause::kRenamed:
      return ExplainCause::kRenamed;
    case RemovalCause::kTrimmed:
      return ExplainCause::kTrimmed;
    case RemovalCause::kCleared:
      return ExplainCause::kCleared;
    case RemovalCause::kNewLife:
      return ExplainCause::kNewLife;
    case RemovalCause::kReplaced:
      return ExplainCause::kReplaced;
    case RemovalCause::kUnregistered:
      return ExplainCause::kUnregistered;
  }
  return ExplainCause::kRemoved;
}

// " at 2026-11-25T23:06:12Z, by publisher a|default|0 with its batch 41", as far as it is known.
std::string When(const Removal& removal) {
  std::string text;
  if (removal.occasion.unix_time > 0) {
    text += fmt::format(" at {:%Y-%m-%dT%H:%M:%SZ}",
                        fmt::gmtime(static_cast<std::time_t>(removal.occasion.unix_time)));
  }
  if (!removal.publisher.empty()) text += fmt::format(", by publisher {}", removal.publisher);
  if (removal.occasion.sequence)
    text += fmt::format(" with its batch {}", *removal.occasion.sequence);
  return text;
}

std::string WhatHappened(const Removal& removal) {
  const std::string_view tier = TierName(removal.tier);
  switch (removal.cause) {
    case RemovalCause::kRemoved:
      return fmt::format("was removed from {}{}: evicted by the engine", tier, When(removal));
    case RemovalCause::kExpired:
      return fmt::format("reached the end of its registered time to live on {}{}", tier,
                         When(removal));
    case RemovalCause::kRenamed:
      return fmt::format("lost its name on {}{}: the engine announced other tokens under it", tier,
                         When(removal));
    case RemovalCause::kTrimmed:
      return fmt::format("was given up for the index's memory limit on {}{}", tier, When(removal));
    case RemovalCause::kCleared:
      return fmt::format("went with all {} blocks on {} when they were cleared{}", removal.blocks,
                         tier, When(removal));
    case RemovalCause::kNewLife:
      return fmt::format(
          "went with all {} blocks on {} when the publisher began a new life, was cleared by "
          "request "
          "or was in doubt for too long{}",
          removal.blocks, tier, When(removal));
    case RemovalCause::kReplaced:
      return fmt::format(
          "went with all {} blocks on {} when a replay from the first sequence found something "
          "else{}",
          removal.blocks, tier, When(removal));
    case RemovalCause::kUnregistered:
      return fmt::format("went with all {} blocks on {} when their publisher was unregistered{}",
                         removal.blocks, tier, When(removal));
  }
  return "";
}

Verdict Make(ExplainCause cause, std::string detail) {
  Verdict verdict;
  verdict.cause = cause;
  verdict.detail = std::move(detail);
  return verdict;
}

Verdict Of(const Removal& removal, std::string subject) {
  Verdict verdict =
      Make(CauseOf(removal.cause), fmt::format("{} {}", subject, WhatHappened(removal)));
  verdict.removal = removal;
  if (removal.cause == RemovalCause::kTrimmed) {
    return std::move(verdict).WithField(FieldOf::kFlags, "memory-limit");
  }
  if (removal.cause == RemovalCause::kExpired) {
    return std::move(verdict).WithField(FieldOf::kRegistration, "ttl");
  }
  return verdict;
}

Verdict AtTheEnd(const BreakEvidence& at) {
  if (at.prompt_blocks > 0) {
    return Make(ExplainCause::kEndOfPrompt,
                fmt::format("all {} whole blocks of the prompt are matched", at.prompt_blocks));
  }
  return Make(ExplainCause::kEndOfPrompt,
              fmt::format("the prompt has no whole block of {} tokens", at.name_space.block_size));
}

Verdict InOtherNamespace(const BreakEvidence& at) {
  const Elsewhere& other = *at.elsewhere;
  const std::string& field = other.differs.front();
  std::string detail =
      fmt::format("{} matches {} tokens of this prompt with {}, and {} as it is asked for",
                  at.instance_id, at.elsewhere_tokens, Describe(other.differs, other.name_space),
                  at.block * at.name_space.block_size);
  return Make(ExplainCause::kOtherNamespace, std::move(detail))
      .WithField(FieldOf::kRequest, field, ValueOf(field, other.name_space));
}

std::optional<Verdict> FromHistory(const BreakEvidence& at) {
  const bool whole_is_newer =
      at.whole &&
      (!at.exact || (at.whole->number > at.exact->number && at.whole->tier == at.exact->tier));
  if (at.exact && !whole_is_newer) return Of(*at.exact, fmt::format("block {}", at.block));
  if (at.exact) return Of(*at.whole, fmt::format("block {}", at.block));
  return std::nullopt;
}

// What left with everything else, or before a later block of its chain did.
std::optional<Verdict> LikelyFromHistory(const BreakEvidence& at) {
  if (at.later) {
    return Of(*at.later, fmt::format("block {} is not held, and block {} behind it", at.block,
                                     at.later_block));
  }
  // Behind blocks that were stored since, one that nobody knows was likely never there.
  if (at.whole && (at.block == 0 || at.known)) {
    return Of(*at.whole, fmt::format("block {}, if it was held,", at.block));
  }
  return std::nullopt;
}

std::optional<Verdict> JudgeEvents(const PublisherStatus& publisher) {
  const ingest::IngestCounters& ingest = publisher.ingest;
  const Registration& registration = publisher.registration;
  if (ingest.refused_block_size > 0) {
    return Make(ExplainCause::kRefusedBlockSize,
                fmt::format("{} stored events were refused: their blocks of {} tokens do not fit "
                            "the registered {}",
                            ingest.refused_block_size, ingest.last_refused_block_size,
                            publisher.effective_block_size))
        .WithField(FieldOf::kRegistration, "block_size", uint64_t{ingest.last_refused_block_size});
  }
  if (ingest.trimmed_blocks > 0) {
    return Make(ExplainCause::kTrimmed,
                fmt::format("{} blocks of {} were given up for the index's memory limit",
                            ingest.trimmed_blocks, registration.Key()))
        .WithField(FieldOf::kFlags, "memory-limit");
  }
  return std::nullopt;
}

std::optional<Verdict> JudgeUnused(const PublisherStatus& publisher) {
  const ingest::IngestCounters& ingest = publisher.ingest;
  if (ingest.stored_blocks > 0) return std::nullopt;
  if (ingest.ignored_group > 0) {
    return Make(ExplainCause::kHybridGroup,
                fmt::format("{} stored events were passed over, and none was used: they are of "
                            "KV-cache groups other than full, MLA or sink attention, which make "
                            "no prefix",
                            ingest.ignored_group));
  }
  const bool unread = std::ranges::any_of(publisher.decode_skips, [](const auto& skip) {
    return skip.first != "unknown_field" && skip.second > 0;
  });
  if (unread) {
    return Make(ExplainCause::kUnreadable,
                fmt::format("nothing that {} sent could be used: {}", publisher.registration.Key(),
                            publisher.last_decode_error))
        .WithField(FieldOf::kRegistration, "type");
  }
  return std::nullopt;
}

// Who else holds the block, for a sentence.
std::string Others(const std::vector<RankBreak::Holder>& held_by) {
  if (held_by.empty()) return "nobody else holds it";
  std::vector<std::string> names;
  for (const RankBreak::Holder& holder : held_by) {
    names.push_back(fmt::format("{} (rank {})", holder.instance_id, holder.dp_rank));
  }
  return fmt::format("it is held by {}", fmt::join(names, ", "));
}

Verdict NeverStored(const BreakEvidence& at) {
  const Registration& registration = at.publisher.registration;
  const ingest::IngestCounters& ingest = at.publisher.ingest;
  const std::string never = fmt::format("nothing tells that rank {} of {} ever stored block {}; {}",
                                        at.dp_rank, at.instance_id, at.block, Others(at.held_by));
  if (at.block == 0 && !at.namespace_known && !registration.lora_name.empty() &&
      registration.lora_name != at.query.lora_name) {
    return Make(ExplainCause::kOtherNamespace,
                fmt::format("{} is registered with lora_name '{}', and nothing was ever announced "
                            "for '{}'",
                            registration.Key(), registration.lora_name, at.query.lora_name))
        .WithField(FieldOf::kRequest, "lora_name", registration.lora_name);
  }
  // Which salts there are is nobody's business: they keep users apart.
  if (at.block == 0 && at.query.cache_salt.empty() && at.query.prefixes.empty() &&
      ingest.salted_prompts > 0) {
    return Make(ExplainCause::kNeverStored,
                fmt::format("{}. {} events of {} began a prompt under a cache salt, and the query "
                            "names none: it must be that of the request to the engine",
                            never, ingest.salted_prompts, registration.Key()))
        .WithField(FieldOf::kRequest, "cache_salt");
  }
  return Make(ExplainCause::kNeverStored, never);
}

}  // namespace

std::string_view ExplainCauseName(ExplainCause cause) {
  switch (cause) {
    case ExplainCause::kEndOfPrompt:
      return "end_of_prompt";
    case ExplainCause::kNeverStored:
      return "never_stored";
    case ExplainCause::kRemoved:
      return "removed";
    case ExplainCause::kExpired:
      return "expired";
    case ExplainCause::kRenamed:
      return "renamed";
    case ExplainCause::kTrimmed:
      return "trimmed";
    case ExplainCause::kCleared:
      return "cleared";
    case ExplainCause::kNewLife:
      return "new_life";
    case ExplainCause::kReplaced:
      return "replaced";
    case ExplainCause::kUnregistered:
      return "unregistered";
    case ExplainCause::kNotReached:
      return "not_reached";
    case ExplainCause::kGap:
      return "gap";
    case ExplainCause::kReplaying:
      return "replaying";
    case ExplainCause::kSharedEndpoint:
      return "shared_endpoint";
    case ExplainCause::kPublisherDead:
      return "publisher_dead";
    case ExplainCause::kNeverHeard:
      return "never_heard";
    case ExplainCause::kUnreadable:
      return "unreadable";
    case ExplainCause::kRefusedBlockSize:
      return "refused_block_size";
    case ExplainCause::kHybridGroup:
      return "hybrid_group";
    case ExplainCause::kHashProfile:
      return "hash_profile";
    case ExplainCause::kPoolIncomplete:
      return "pool_incomplete";
    case ExplainCause::kOtherNamespace:
      return "other_namespace";
    case ExplainCause::kUnknownInstance:
      return "unknown_instance";
  }
  return "";
}

std::string_view FieldOfName(FieldOf of) {
  switch (of) {
    case FieldOf::kNothing:
      return "";
    case FieldOf::kRequest:
      return "request";
    case FieldOf::kRegistration:
      return "registration";
    case FieldOf::kFlags:
      return "flags";
  }
  return "";
}

Verdict Verdict::WithField(FieldOf of, std::string name, decltype(expected) value) && {
  field_of = of;
  field = std::move(name);
  expected = std::move(value);
  return std::move(*this);
}

std::optional<Verdict> JudgeConnecting(const PublisherStatus& publisher) {
  const stream::Trust& trust = publisher.trust;
  if (trust.state != stream::TrustState::kConnecting) return std::nullopt;
  if (trust.reason == "unreachable" || trust.reason == "not_zmtp") {
    return Make(ExplainCause::kPublisherDead, trust.detail)
        .WithField(FieldOf::kRegistration, "endpoint");
  }
  Verdict verdict = Make(ExplainCause::kNeverHeard, trust.detail);
  if (trust.reason != "no_events_yet") return verdict;
  // It is asked as soon as it is connected: one that has only not answered yet is no fault.
  if (IsPool(publisher.registration.type)) {
    const bool asked = !publisher.registration.pool.admin_endpoint.empty();
    if (asked && publisher.stream.listings_failed == 0) return verdict;
    return std::move(verdict).WithField(FieldOf::kRegistration, "admin_endpoint");
  }
  const bool asked = !publisher.registration.replay_endpoint.empty();
  if (asked && publisher.stream.replays_failed == 0) return verdict;
  return std::move(verdict).WithField(FieldOf::kRegistration, "replay_endpoint");
}

std::optional<Verdict> JudgeStale(const PublisherStatus& publisher) {
  const stream::Trust& trust = publisher.trust;
  if (trust.state != stream::TrustState::kStale) return std::nullopt;
  Verdict verdict = Make(ExplainCause::kPublisherDead,
                         fmt::format("what it stored since is not known: {}", trust.detail));
  if (trust.reason == "no_answer") {
    return std::move(verdict).WithField(FieldOf::kRegistration, "replay_endpoint");
  }
  if (trust.reason == "unreachable" || trust.reason == "not_zmtp") {
    return std::move(verdict).WithField(FieldOf::kRegistration, "endpoint");
  }
  return verdict;
}

std::optional<Verdict> JudgeDegraded(const PublisherStatus& publisher) {
  const stream::Trust& trust = publisher.trust;
  if (trust.state == stream::TrustState::kReplaying) {
    return Make(ExplainCause::kReplaying, trust.detail);
  }
  if (trust.state != stream::TrustState::kDegraded) return std::nullopt;
  if (trust.reason == "shared_endpoint") {
    return Make(ExplainCause::kSharedEndpoint, trust.detail)
        .WithField(FieldOf::kRegistration, "peer");
  }
  Verdict verdict = Make(ExplainCause::kGap, trust.detail);
  const Registration& registration = publisher.registration;
  if (IsPool(registration.type)) {
    if (!registration.pool.admin_endpoint.empty()) return verdict;
    return std::move(verdict).WithField(FieldOf::kRegistration, "admin_endpoint");
  }
  if (!registration.replay_endpoint.empty()) return verdict;
  return std::move(verdict).WithField(FieldOf::kRegistration, "replay_endpoint");
}

Verdict JudgeBreak(const BreakEvidence& at) {
  if (at.block >= at.prompt_blocks) return AtTheEnd(at);
  if (auto connecting = JudgeConnecting(at.publisher)) return std::move(*connecting);
  if (at.on_device && at.last && at.tier != Tier::kGpu) {
    return Make(ExplainCause::kNotReached,
                fmt::format("block {} is on the device, behind blocks that are not: an engine "
                            "takes its device prefix first and does not climb back",
                            at.block));
  }
  if (auto removed = FromHistory(at)) return std::move(*removed);
  if (!at.last) {
    if (auto removed = LikelyFromHistory(at)) return std::move(*removed);
    return Make(ExplainCause::kNeverStored,
                fmt::format("block {} is held on a lower tier, and nothing tells that it was ever "
                            "stored on {}",
                            at.block, TierName(at.tier)));
  }
  if (at.elsewhere != nullptr) return InOtherNamespace(at);
  if (auto removed = LikelyFromHistory(at)) return std::move(*removed);
  for (const auto judge : {JudgeStale, JudgeEvents, JudgeDegraded, JudgeUnused}) {
    if (auto verdict = judge(at.publisher)) return std::move(*verdict);
  }
  return NeverStored(at);
}

std::vector<std::string> NotesOn(const PublisherStatus& publisher) {
  const ingest::IngestCounters& ingest = publisher.ingest;
  std::vector<std::string> notes;
  const auto count = [&notes](uint64_t counted, const char* what) {
    if (counted > 0) notes.push_back(fmt::format("{} {}", counted, what));
  };
  count(ingest.ignored_group, "stored events of KV-cache groups that make no prefix");
  count(ingest.ignored_medium, "events of media that are no tier");
  count(ingest.refused_shape, "stored events whose hashes, tokens and block size do not fit");
  count(ingest.refused_names, "stored events beyond the ranks, adapters or groups it may have");
  count(ingest.waiting_events, "stored events that wait for a block that was never announced");
  count(ingest.waiting_dropped, "such events that were dropped for want of room");
  count(ingest.rank_mismatches, "batches of another rank than the registered one");
  const auto matched = static_cast<double>(ingest.hash_matched);
  const auto checked = static_cast<double>(ingest.hash_checked);
  if (ingest.hash_checked >= kEnoughCompared && matched < kLowMatchRate * checked) {
    notes.push_back(fmt::format("{} of {} announced hashes are those of its hash_profile: {}",
                                ingest.hash_matched, ingest.hash_checked, ingest.hash_hint));
  }
  if (!publisher.last_decode_error.empty()) {
    notes.push_back(fmt::format("not everything could be read: {}", publisher.last_decode_error));
  }
  return notes;
}

std::vector<std::string> Differences(const Query& query, const index::NamespaceKey& name_space) {
  std::vector<std::string> fields;
  if (name_space.tenant != query.tenant) fields.emplace_back("tenant_id");
  if (name_space.model != query.model) fields.emplace_back("model");
  if (name_space.lora_name != query.lora_name) fields.emplace_back("lora_name");
  if (query.block_size && name_space.block_size != 0 &&
      name_space.block_size != *query.block_size) {
    fields.emplace_back("block_size");
  }
  if (query.additional_salt && name_space.additional_salt != *query.additional_salt) {
    fields.emplace_back("additional_salt");
  }
  return fields;
}

decltype(Verdict::expected) ValueOf(const std::string& field,
                                    const index::NamespaceKey& name_space) {
  if (field == "tenant_id") return name_space.tenant;
  if (field == "model") return name_space.model;
  if (field == "lora_name") return name_space.lora_name;
  if (field == "block_size") return uint64_t{name_space.block_size};
  if (field == "additional_salt") return name_space.additional_salt;
  return std::string();  // cache_salt: none
}

std::string Describe(const std::vector<std::string>& fields,
                     const index::NamespaceKey& name_space) {
  std::vector<std::string> said;
  for (const std::string& field : fields) {
    const auto value = ValueOf(field, name_space);
    if (const auto* number = std::get_if<uint64_t>(&value)) {
      said.push_back(fmt::format("{} {}", field, *number));
    } else {
      said.push_back(fmt::format("{} '{}'", field, std::get<std::string>(value)));
    }
  }
  return fmt::format("{}", fmt::join(said, ", "));
}

}  // namespace conductor::serve
