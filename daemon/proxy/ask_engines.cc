#include "daemon/proxy/ask_engines.h"

#include <fmt/format.h>

#include <utility>

#include "daemon/proxy/legs.h"
#include "daemon/proxy/parcel.h"

namespace conductor::proxy {
namespace {

// Of a list of models.
constexpr size_t kMaxAnswer = 4 << 20;

// What the questions share; the last of them that ends tells. It outlives a request whose client
// has left.
struct Round {
  explicit Round(net::io_context& io) : all_in(std::make_shared<Parcel<bool>>(io)) {}

  std::vector<EngineAnswer> answers;
  size_t missing = 0;
  std::shared_ptr<Parcel<bool>> all_in;
  Departure departure;
};

Awaitable<void> AskOne(std::shared_ptr<Round> round, Lane& lane, size_t which, std::string head,
                       Duration time) {
  EngineAnswer& answer = round->answers[which];
  {
    Exchange exchange(lane.upstreams, round->departure);
    exchange.Within(time);
    auto asked = co_await exchange.Ask(*answer.engine, head, {});
    if (asked) {
      auto body = co_await exchange.ReadAll(kMaxAnswer);
      if (body) {
        answer.status = exchange.head().status;
        answer.body = *std::move(body);
      } else {
        answer.error = std::move(body.error().what);
      }
    } else {
      answer.error = std::move(asked.error().what);
    }
  }
  if (--round->missing == 0) round->all_in->Deliver(true);
}

Fields FieldsFor(Request& request, ClientFields client_fields) {
  RenameForEngines(request);
  Fields fields;
  if (client_fields == ClientFields::kPassedOn) {
    fields = EngineFields(request);
    fields.Remove("Content-Type");  // of a body that does not go there
  } else {
    fields.Add("X-Request-Id", request.record.engine_request_id);
    const std::string& key = request.shared.options.api_key;
    if (!key.empty()) fields.Add("Authorization", fmt::format("Bearer {}", key));
  }
  fields.Set("Accept", "application/json");
  fields.Set("Accept-Encoding", "identity");  // it is read here
  return fields;
}

}  // namespace

Awaitable<std::vector<EngineAnswer>> AskEngines(Request& request,
                                                const std::vector<std::shared_ptr<Engine>>& engines,
                                                const EngineQuestion& question) {
  const auto round = std::make_shared<Round>(request.lane.io);
  const Departure::Listener leaves(request.departure, [&round] { round->departure.Happen(); });
  const Departure::Listener ends(request.lane.ending, [&round] { round->departure.Happen(); });
  for (const auto& engine : engines) round->answers.push_back({engine, 0, {}, {}});
  round->missing = engines.size();
  if (engines.empty()) co_return std::vector<EngineAnswer>();
  Lane& lane = request.lane;
  const Fields fields = FieldsFor(request, question.client_fields);
  const Duration limit = question.limit;
  for (size_t i = 0; i < engines.size(); ++i) {
    std::string head = EngineHead(*engines[i], question.method, question.target, 0, fields, {});
    net::co_spawn(
        lane.io,
        [round, &lane, i, head = std::move(head), limit]() -> Awaitable<void> {
          co_await AskOne(round, lane, i, head, limit);
        },
        net::detached);
  }
  (void)co_await round->all_in->Wait(request.departure, limit * 2);
  co_return round->answers;
}

}  // namespace conductor::proxy
