#include "daemon/proxy/conductor_advisor.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "daemon/proxy/parcel.h"

namespace conductor::proxy {
namespace {

// A prompt of a million tokens, as JSON.
constexpr size_t kMaxTokenized = 16 << 20;

using Answers = std::vector<Result<client::QueryAnswer>>;
using EnginesOfInstance = std::map<std::pair<std::string, std::string>, std::string>;

// One question for each namespace that engines are in: usually there is one.
struct Question {
  std::string tenant;
  std::string model;
  std::vector<std::string> instances;
};

std::vector<Question> QuestionsFor(const InstanceMap& map, const Namespace& prompts,
                                   const std::vector<std::string>& engines) {
  std::map<std::pair<std::string, std::string>, Question> questions;
  for (const std::string& engine : engines) {
    const auto found = map.engines.find(engine);
    if (found == map.engines.end()) continue;
    const KnownInstance& known = found->second;
    const std::string& model = prompts.model.empty() ? known.model : prompts.model;
    Question& question = questions[{known.tenant, model}];
    question.tenant = known.tenant;
    question.model = model;
    question.instances.push_back(known.instance_id);
  }
  std::vector<Question> all;
  for (auto& [key, question] : questions) all.push_back(std::move(question));
  return all;
}

std::vector<std::string> NamesOf(const Fleet& fleet, Role role) {
  std::vector<std::string> names;
  for (const auto& engine : fleet.Engines(role)) names.push_back(engine->name());
  return names;
}

// What the answers say of these engines.
std::map<std::string, Held> HeldBy(const std::vector<std::string>& engines, const InstanceMap& map,
                                   const Answers& answers, bool& is_any_distrusted) {
  std::map<std::string, Held> held;
  for (const std::string& engine : engines) {
    const auto known = map.engines.find(engine);
    if (known == map.engines.end()) continue;
    for (const auto& answer : answers) {
      if (!answer) continue;
      const auto figures = std::ranges::find(answer->instances, known->second.instance_id,
                                             &client::InstanceFigures::instance_id);
      if (figures == answer->instances.end() || !figures->serves_model) continue;
      if (const auto trusted = TrustedHeld(*figures)) {
        held[engine] = *trusted;
      } else {
        is_any_distrusted = true;
      }
    }
  }
  return held;
}

}  // namespace

std::optional<Held> TrustedHeld(const client::InstanceFigures& figures) {
  // Those that can only be too low are sound.
  const bool is_sound = figures.state == "live" || figures.state == "replaying" ||
                        (figures.state == "degraded" && figures.reason == "incomplete");
  if (!is_sound) return std::nullopt;
  Held held{figures.tiers.gpu, figures.tiers.cpu, figures.tiers.disk};
  if (figures.ranks.size() < 2) return held;
  const auto best = std::ranges::max_element(figures.ranks, {}, [](const auto& rank) {
    return std::tuple(rank.second.disk, rank.second.cpu, rank.second.gpu);
  });
  if (best->second.disk == 0) return held;
  return Held{best->second.gpu, best->second.cpu, best->second.disk, best->first,
              static_cast<uint32_t>(figures.ranks.size())};
}

std::shared_ptr<Engine> ConductorAdvisor::Tokenizer() {
  std::vector<std::shared_ptr<Engine>> able;
  for (const Role role : {Role::kPrefill, Role::kUnified}) {
    for (const Fleet::Standing& one : fleet_.Engines(MonoNow())) {
      if (one.engine->role() == role && one.breaker == Breaker::State::kClosed && !one.draining) {
        able.push_back(one.engine);
      }
    }
  }
  if (able.empty()) return nullptr;
  return able[turn_.fetch_add(1, std::memory_order_relaxed) % able.size()];
}

Awaitable<ConductorAdvisor::Tokenized> ConductorAdvisor::AskTokenizer(const Prompt& prompt,
                                                                      const std::string& body,
                                                                      Lane& lane,
                                                                      Departure& departure) {
  Tokenized result;
  const auto engine = Tokenizer();
  if (engine == nullptr) {
    result.fallback = "tokenize_failed";
    co_return result;
  }
  std::string head = fmt::format("POST /tokenize HTTP/1.1\r\nHost: {}\r\n", engine->name());
  Fields fields;
  fields.Add("Content-Type", "application/json");
  fields.Add("Accept-Encoding", "identity");
  fields.Add("X-Request-Id", prompt.request_id);
  const std::string_view authorization = prompt.fields.Get("Authorization");
  if (!options_.api_key.empty()) {
    fields.Add("Authorization", fmt::format("Bearer {}", options_.api_key));
  } else if (!authorization.empty()) {
    fields.Add("Authorization", authorization);
  }
  fields.AppendTo(head);
  head.append(fmt::format("Content-Length: {}\r\n\r\n", body.size()));

  Exchange exchange(lane.upstreams, departure);
  exchange.Within(options_.tokenize_timeout);
  auto asked = co_await exchange.Ask(*engine, head, body);
  if (asked && exchange.head().status == 200) {
    auto answer = co_await exchange.ReadAll(kMaxTokenized);
    auto tokens = answer ? ReadTokenized(*answer) : std::nullopt;
    if (tokens) result.tokens = std::make_shared<std::vector<uint32_t>>(*std::move(tokens));
  }
  if (result.tokens == nullptr) {
    result.fallback = exchange.is_late() ? "tokenize_timeout" : "tokenize_failed";
  }
  co_return result;
}

Awaitable<ConductorAdvisor::Tokenized> ConductorAdvisor::Tokenize(const Prompt& prompt, Lane& lane,
                                                                  Departure& departure) {
  Tokenized result;
  TokenSource source = TokenSourceOf(prompt.members);
  if (source.kind == TokenSource::Kind::kNone) {
    result.fallback = source.why;
    co_return result;
  }
  if (source.kind == TokenSource::Kind::kGiven) {
    result.tokens = std::make_shared<std::vector<uint32_t>>(std::move(source.tokens));
    co_return result;
  }
  const std::string key = TokenCache::KeyOf(prompt.path, prompt.body);
  result.tokens = cache_.Find(key);
  if (result.tokens != nullptr) co_return result;
  result = co_await AskTokenizer(prompt, source.body, lane, departure);
  if (result.tokens != nullptr) cache_.Put(key, result.tokens);
  co_return result;
}

Awaitable<Advice> ConductorAdvisor::Advise(const Prompt& prompt, Lane& lane, Departure& departure) {
  Advice advice;
  const auto map = link_.instances();
  const bool is_unified = options_.is_unified();
  const auto prefillers = NamesOf(fleet_, is_unified ? Role::kUnified : Role::kPrefill);
  std::vector<std::string> decoders;
  if (options_.skip_prefill_below > 0) decoders = NamesOf(fleet_, Role::kDecode);
  auto engines = prefillers;
  engines.insert(engines.end(), decoders.begin(), decoders.end());
  auto questions = QuestionsFor(*map, options_.prompts, engines);
  if (questions.empty()) {
    advice.fallback = "no_instances";
    co_return advice;
  }
  const Tokenized tokenized = co_await Tokenize(prompt, lane, departure);
  if (tokenized.tokens == nullptr) {
    advice.fallback = tokenized.fallback;
    co_return advice;
  }
  advice.prompt_tokens = tokenized.tokens->size();

  const auto parcel = std::make_shared<Parcel<Answers>>(lane.io);
  const std::string salt = prompt.members.FindString("cache_salt").value_or(std::string());
  const bool is_asked = link_.Ask(
      [parcel, questions, tokens = tokenized.tokens, salt,
       lora = options_.prompts.lora_name](client::Client& client) {
        Answers answers;
        for (const Question& question : questions) {
          client::QuerySpec spec;
          spec.model = question.model;
          spec.token_ids = *tokens;
          spec.tenant_id = question.tenant;
          spec.lora_name = lora;
          spec.cache_salt = salt;
          spec.instances = question.instances;
          answers.push_back(client.Query(spec));
        }
        parcel->Deliver(std::move(answers));
      },
      MonoNow() + options_.query_timeout);
  if (!is_asked) {
    advice.fallback = "conductor_away";
    co_return advice;
  }
  const auto answers = co_await parcel->Wait(departure, options_.query_timeout);
  if (departure.happened()) co_return advice;
  const bool is_well = answers && std::ranges::any_of(*answers, [](const auto& answer) {
                         return answer.has_value();
                       });
  link_.Answered(is_well);
  if (!is_well) {
    advice.fallback = answers ? "conductor_away" : "conductor_slow";
    co_return advice;
  }
  bool is_any_distrusted = false;
  advice.prefillers = HeldBy(prefillers, *map, *answers, is_any_distrusted);
  bool ignored = false;
  advice.decoders = HeldBy(decoders, *map, *answers, ignored);
  if (advice.prefillers.empty()) {
    advice.fallback = is_any_distrusted ? "not_trusted" : "unknown_model";
  }
  co_return advice;
}

}  // namespace conductor::proxy
