#include "daemon/serve/query_routes.h"

#include <fmt/format.h>

#include <atomic>
#include <optional>
#include <utility>
#include <vector>

#include "daemon/serve/answers.h"
#include "daemon/serve/explain_routes.h"
#include "daemon/serve/requests.h"
#include "lib/index/score.h"

namespace conductor::serve {

BodyAnswer Refused(int status, const RequestError& error, BodyForm form) {
  return {status, ErrorDocument(error, form)};
}

QueryBounds BoundsOf(const RouteContext& context) {
  return {context.stopping, MonoNow() + context.options.query_timeout,
          context.options.max_query_blocks};
}

Shortfall WhyCutShort(const RouteContext& context, uint64_t too_many_blocks,
                      std::string_view field) {
  if (too_many_blocks > 0) {
    return {400,
            {fmt::format("the prompt has {} blocks (expected at most {}: --max-query-blocks)",
                         too_many_blocks, context.options.max_query_blocks),
             "too_many",
             std::string(field),
             {}}};
  }
  if (context.stopping.stop_requested()) return {503, Stopping()};
  return {503, {"the answer took longer than --query-timeout allows", "query_timeout", "", {}}};
}

BodyAnswer CutShort(const RouteContext& context, uint64_t too_many_blocks, BodyForm form) {
  const auto [status, error] = WhyCutShort(context, too_many_blocks);
  return Refused(status, error, form);
}

namespace {

index::FigureTrust TrustOf(const stream::Trust& trust) {
  switch (trust.state) {
    case stream::TrustState::kStale:
    case stream::TrustState::kConnecting:
      return index::FigureTrust::kStale;
    case stream::TrustState::kDegraded:
      // Figures that can only be too low are sound.
      return trust.reason == "incomplete" ? index::FigureTrust::kSound
                                          : index::FigureTrust::kDoubtful;
    case stream::TrustState::kReplaying:
    case stream::TrustState::kLive:
      return index::FigureTrust::kSound;
  }
  return index::FigureTrust::kSound;
}

// Ranks the instances that serve the model.
Ranking RankOf(Answer answer, const Query& query, const QueryRequest& request) {
  // Who is asked in turns sends equal ones equally often.
  static std::atomic<uint64_t> rotation = 0;
  std::erase_if(answer.instances,
                [](const InstanceAnswer& instance) { return !instance.serves_model; });
  Ranking ranking{.answer = std::move(answer), .prompt_tokens = query.tokens.size()};
  std::vector<index::ScoreInput> inputs;
  for (const InstanceAnswer& instance : ranking.answer.instances) {
    index::ScoreInput input{.gpu = instance.best.gpu,
                            .cpu = instance.best.cpu,
                            .disk = instance.best.disk,
                            .trust = TrustOf(*instance.trust)};
    if (const auto load = request.load.find(instance.instance_id); load != request.load.end()) {
      input.waiting = load->second.waiting;
      input.kv_use = load->second.kv_use;
    }
    inputs.push_back(input);
    if (!query.prefixes.empty()) {
      ranking.prompt_tokens = query.prefixes.size() * instance.block_size;
    }
  }
  ranking.scores = index::Rank(inputs, ranking.prompt_tokens, request.weights,
                               rotation.fetch_add(1, std::memory_order_relaxed));
  return ranking;
}

}  // namespace

BodyAnswer AnswerQueryBody(const RouteContext& context, const BodyBytes& body, BodyForm form,
                           BodyForm answer_form) {
  const auto request = ParseQueries(body, form, context.options.max_prompts);
  if (!request) return Refused(400, request.error(), answer_form);
  const QueryBounds bounds = BoundsOf(context);
  std::vector<Answer> answers;
  answers.reserve(request->prompts.size());
  for (const Query& query : request->prompts) {
    answers.push_back(AnswerQuery(context.registry, query, bounds, request->top));
    if (answers.back().cut_short)
      return CutShort(context, answers.back().too_many_blocks, answer_form);
  }
  return {200, AnswerDocument(*request, answers, answer_form)};
}

BodyAnswer AnswerScoreBody(const RouteContext& context, const BodyBytes& body, BodyForm form,
                           BodyForm answer_form) {
  const auto request =
      ParseScore(body, form, context.options.max_prompts, context.options.score_weights);
  if (!request) return Refused(400, request.error(), answer_form);
  const QueryBounds bounds = BoundsOf(context);
  std::vector<Ranking> rankings;
  rankings.reserve(request->prompts.size());
  for (const Query& query : request->prompts) {
    Answer answer = AnswerQuery(context.registry, query, bounds);
    for (const auto& [instance, load] : request->load) {
      if (answer.table->Find(query.tenant, instance) != nullptr) continue;
      if (!query.instances.contains(instance)) answer.unknown_instances.push_back(instance);
    }
    if (answer.cut_short) return CutShort(context, answer.too_many_blocks, answer_form);
    rankings.push_back(RankOf(std::move(answer), query, *request));
  }
  return {200, RankingDocument(*request, rankings, answer_form)};
}

std::span<const BodyRoute> BodyRoutes() {
  static constexpr BodyRoute kRoutes[] = {
      {"/v1/query", AnswerQueryBody},
      {"/v1/score", AnswerScoreBody},
  };
  return kRoutes;
}

void AddQueryRoutes(HttpListener& listener, const RouteContext& context) {
  const auto add = [&](const BodyRoute& route) {
    listener.Route("POST", std::string(route.path), [context, route](const HttpRequest& request) {
      const BodyForm form = AnswerForm(request);
      BodyAnswer answer = route.answer(context, request.body, FormOf(request), form);
      HttpResponse response{.status = answer.status,
                            .body = std::move(answer.body),
                            .content_type = std::string(MediaType(form))};
      if (answer.status == 503 && !context.stopping.stop_requested()) {
        response.headers.emplace_back("Retry-After", "1");
      }
      return response;
    });
  };
  for (const BodyRoute& route : BodyRoutes()) add(route);
  // For people: not over ZeroMQ.
  add({"/v1/explain", AnswerExplainBody});
}

}  // namespace conductor::serve
