#include "daemon/serve/mooncake_answers.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "daemon/serve/answer_document.h"
#include "daemon/serve/document_writer.h"
#include "daemon/serve/engine_table.h"
#include "daemon/serve/routes.h"
#include "lib/base/bytes.h"
#include "lib/hash/hash_profile.h"

namespace conductor::serve {
namespace {

// An engine of the query's tenant.
bool Serves(const EngineView& engine, const Query& query) {
  const Registration& registration = *engine.registration;
  return registration.model == query.model &&
         (registration.lora_name.empty() || registration.lora_name == query.lora_name) &&
         (!query.block_size || engine.block_size == *query.block_size);
}

void WriteRanks(DocumentWriter& out, const InstanceAnswer& instance) {
  out.Key("dp");
  out.Map(instance.ranks.size());
  for (const auto& [rank, figures] : instance.ranks) out.Pair(std::to_string(rank), figures.gpu);
}

void WriteStrictInstance(DocumentWriter& out, const InstanceAnswer& instance) {
  out.Key(instance.instance_id);
  out.Map(6);
  out.Pair("longest_matched", instance.longest_matched());
  WriteRanks(out, instance);
  out.Key("rank_matches");
  out.Map(instance.ranks.size());
  for (const auto& [rank, figures] : instance.ranks) {
    out.Key(std::to_string(rank));
    out.Map(3);
    WriteTiers(out, figures);
  }
  WriteTiers(out, instance.best);
}

// Nil where none was declared: upstream demands one.
void WriteProfile(DocumentWriter& out, const std::optional<hash::HashProfile>& profile) {
  if (!profile) return out.Nil();
  out.Map(5);
  out.Pair("strategy", "vllm_v1");
  out.Pair("algorithm", hash::HashAlgorithmName(profile->algorithm));
  out.Pair("python_hash_seed", profile->seed);
  out.Pair("root_digest", ToHex(hash::VllmHasher(*profile).root()));
  out.Pair("index_projection", "low64_be");
}

void WriteService(DocumentWriter& out, const PublisherStatus& status) {
  const Registration& registration = status.registration;
  out.Map(11);
  out.Pair("Endpoint", registration.endpoint);
  out.Pair("ReplayEndpoint", registration.replay_endpoint);
  out.Pair("Type", PublisherTypeName(registration.type));
  out.Pair("ModelName", registration.model);
  out.Pair("LoraName", registration.lora_name);
  out.Pair("TenantID", registration.tenant);
  out.Pair("InstanceID", registration.instance_id);
  out.Pair("BlockSize", status.effective_block_size);
  out.Pair("DPRank", registration.dp_rank);
  out.Key("CacheGroup");
  out.Nil();  // nobody follows another than 0, so whether 0 was said is not kept
  out.Key("HashProfile");
  WriteProfile(out, registration.hash_profile);
}

// As these generations tell namespaces apart: tenant, model, LoRA name, block size.
using ContextKey = std::tuple<std::string, std::string, std::string, uint32_t>;

struct ContextView {
  uint64_t blocks = 0;
  std::optional<hash::HashProfile> profile;             // of the first publisher that declares one
  std::map<std::string, std::set<uint32_t>> instances;  // and their ranks
};

ContextKey ContextOf(const PublisherStatus& status) {
  const Registration& registration = status.registration;
  return {registration.tenant, registration.model, registration.lora_name,
          status.effective_block_size};
}

// Into every context that it serves.
void TakePublisher(const PublisherStatus& status, std::map<ContextKey, ContextView>& contexts) {
  const Registration& registration = status.registration;
  const ContextKey own = ContextOf(status);
  for (auto& [key, view] : contexts) {
    ContextKey served = own;
    // Without an adapter of its own it serves every one.
    if (registration.lora_name.empty()) std::get<2>(served) = std::get<2>(key);
    if (served != key) continue;
    view.instances[registration.instance_id].insert(registration.dp_rank);
    if (!view.profile) view.profile = registration.hash_profile;
  }
}

void WriteContext(DocumentWriter& out, const ContextKey& key, const ContextView& view) {
  const auto& [tenant, model, lora_name, block_size] = key;
  out.Map(7);
  out.Pair("model_name", model);
  out.Pair("lora_name", lora_name);
  out.Pair("block_size", block_size);
  out.Pair("tenant_id", tenant);
  out.Pair("prefix_count", view.blocks);
  out.Key("hash_profile");
  WriteProfile(out, view.profile);
  out.Key("instances");
  out.Map(view.instances.size());
  for (const auto& [instance_id, ranks] : view.instances) {
    out.Key(instance_id);
    out.Array(ranks.size());
    for (const uint32_t rank : ranks) out.Uint(rank);
  }
}

// How many ranks hold block 0, 1, ... on the device: as long as anyone does.
std::vector<uint64_t> Frequencies(const std::vector<const InstanceAnswer*>& holding) {
  std::vector<uint64_t> frequencies;
  for (const InstanceAnswer* instance : holding) {
    for (const auto& [rank, figures] : instance->ranks) {
      const size_t blocks = instance->block_size == 0 ? 0 : figures.gpu / instance->block_size;
      if (blocks == 0) continue;
      if (frequencies.size() < blocks) frequencies.resize(blocks);
      ++frequencies[blocks - 1];
    }
  }
  // What holds a block holds all before it.
  for (size_t i = frequencies.size(); i > 1; --i) frequencies[i - 2] += frequencies[i - 1];
  return frequencies;
}

void WriteScores(DocumentWriter& out, const std::vector<const InstanceAnswer*>& holding) {
  const auto on_device = [](const InstanceAnswer* instance) { return instance->best.gpu > 0; };
  out.Map(static_cast<size_t>(std::ranges::count_if(holding, on_device)));
  for (const InstanceAnswer* instance : holding) {
    if (!on_device(instance)) continue;
    std::map<uint32_t, uint64_t> ranks;
    for (const auto& [rank, figures] : instance->ranks) {
      if (figures.gpu > 0) ranks[rank] = figures.gpu;
    }
    out.Key(instance->instance_id);
    out.Map(ranks.size());
    for (const auto& [rank, tokens] : ranks) out.Pair(std::to_string(rank), tokens);
  }
}

// {"error": text}
std::string ErrorText(const RequestError& error, BodyForm form) {
  DocumentWriter out(form);
  out.Map(1);
  out.Pair("error", error.error);
  return out.Take();
}

}  // namespace

Answer AnswerInContext(const Registry& registry, const Query& query, const QueryBounds& bounds) {
  Answer answer = AnswerQuery(registry, query, bounds);
  const EngineTable& table = *answer.table;
  std::erase_if(answer.instances, [&](const InstanceAnswer& instance) {
    if (instance.longest_matched() > 0) return false;
    // It is in the table that the answer was made from.
    return std::ranges::none_of(
        table.Find(query.tenant, instance.instance_id)->engines,
        [&](uint32_t engine) { return Serves(table.engines()[engine], query); });
  });
  return answer;
}

std::string StrictAnswer(const Answer& answer, BodyForm form) {
  DocumentWriter out(form);
  out.Map(1);
  out.Key("instances");
  out.Map(answer.instances.size());
  for (const InstanceAnswer& instance : answer.instances) WriteStrictInstance(out, instance);
  return out.Take();
}

std::string StrictServices(const std::vector<PublisherStatus>& publishers, BodyForm form) {
  DocumentWriter out(form);
  out.Map(2);
  out.Pair("count", uint64_t{publishers.size()});
  out.Key("services");
  out.Array(publishers.size());
  for (const PublisherStatus& status : publishers) WriteService(out, status);
  return out.Take();
}

std::string StrictGlobalView(const std::vector<PublisherStatus>& publishers,
                             const std::vector<index::NamespaceStats>& namespaces, BodyForm form) {
  std::map<ContextKey, ContextView> contexts;
  for (const auto& [key, blocks] : namespaces) {
    contexts[{key.tenant, key.model, key.lora_name, key.block_size}].blocks += blocks;
  }
  for (const PublisherStatus& status : publishers) {
    if (!IsPool(status.registration.type)) contexts.try_emplace(ContextOf(status));
  }
  for (const PublisherStatus& status : publishers) {
    if (!IsPool(status.registration.type)) TakePublisher(status, contexts);
  }
  DocumentWriter out(form);
  out.Map(2);
  out.Pair("context_count", uint64_t{contexts.size()});
  out.Key("contexts");
  out.Array(contexts.size());
  for (const auto& [key, view] : contexts) WriteContext(out, key, view);
  return out.Take();
}

std::string DynamoAnswer(const Answer& answer) {
  std::vector<const InstanceAnswer*> holding;
  for (const InstanceAnswer& instance : answer.instances) {
    if (instance.longest_matched() > 0) holding.push_back(&instance);
  }
  DocumentWriter out(BodyForm::kJson);
  out.Map(3);
  out.Key("scores");
  WriteScores(out, holding);
  const std::vector<uint64_t> frequencies = Frequencies(holding);
  out.Key("frequencies");
  out.Array(frequencies.size());
  for (const uint64_t ranks : frequencies) out.Uint(ranks);
  out.Key("instances");
  out.Map(holding.size());
  for (const InstanceAnswer* instance : holding) {
    out.Key(instance->instance_id);
    out.Map(5);
    out.Pair("longest_matched", instance->longest_matched());
    out.Pair("gpu", instance->best.gpu);
    WriteRanks(out, *instance);
    out.Pair("cpu", instance->best.cpu);
    out.Pair("disk", instance->best.disk);
  }
  return out.Take();
}

HttpResponse Answered(Generation generation, std::string body) {
  if (generation == Generation::kMsgpack) return Ok(std::move(body), BodyForm::kMsgpack);
  if (generation == Generation::kCppJson) body += '\n';
  return Ok(std::move(body));
}

HttpResponse Refused(Generation generation, int status, const RequestError& error) {
  switch (generation) {
    case Generation::kGo:
      break;
    case Generation::kCppJson: {
      HttpResponse refused = Failed(status, error);
      if (status != 400 || error.reason.empty()) {
        refused.body = error.error;
        refused.content_type = "text/plain; charset=utf-8";
      }
      refused.body += '\n';
      return refused;
    }
    case Generation::kMsgpack: {
      HttpResponse refused = Failed(status, error, BodyForm::kMsgpack);
      if (status != 400) refused.body = ErrorText(error, BodyForm::kMsgpack);
      return refused;
    }
    case Generation::kDynamo: {
      HttpResponse refused = Failed(status, error);
      refused.body = ErrorText(error, BodyForm::kJson);
      return refused;
    }
  }
  return Failed(status, error);
}

}  // namespace conductor::serve
