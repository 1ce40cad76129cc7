#include "daemon/proxy/embedded.h"

#include <utility>

#include "daemon/serve/config.h"
#include "daemon/serve/publisher_json.h"
#include "daemon/serve/query_routes.h"
#include "daemon/serve/requests.h"
#include "daemon/serve/routes.h"
#include "lib/base/log.h"

namespace conductor::proxy {
namespace {

using client::Form;

client::Reply Refused(int status, const serve::RequestError& error) {
  return {status, Form::kJson, serve::ErrorDocument(error, serve::BodyForm::kJson)};
}

client::Reply Register(serve::Registry& registry, std::string_view body) {
  const auto asked = serve::ParseRegister(std::string(body));
  if (!asked) return Refused(400, asked.error());
  const auto ranks = serve::ExpandRanks(asked->registration, asked->dp_size);
  if (!ranks) return Refused(400, {ranks.error().Message(), "invalid_value", {}, {}});
  const auto added = registry.AddAll(*ranks);
  if (!added) return Refused(400, {added.error().Message(), "invalid_registration", {}, {}});
  return {200, Form::kJson, "{}"};
}

class InProcess final : public client::Transport {
 public:
  InProcess(serve::Registry& registry, const serve::HttpApi::Options& options,
            std::stop_token stopping)
      : registry_(registry), context_{registry, options, std::move(stopping)} {}

  [[nodiscard]] bool Carries(const client::Request&) const override { return true; }

  [[nodiscard]] tl::expected<client::Reply, client::Failure> Exchange(
      const client::Request& request, const client::Deadlines&) override {
    if (request.path == "/v1/publishers") {
      return client::Reply{
          200, Form::kJson,
          serve::PublishersDocument(registry_.Publishers(), serve::BodyForm::kJson)};
    }
    if (request.path == "/register") return Register(registry_, request.body);
    if (request.path != "/v1/query" || request.form != Form::kMsgpack) {
      return Refused(404, {"there is no such path in an embedded index", "unknown", {}, {}});
    }
    auto answer = serve::AnswerQueryBody(context_, serve::BodyBytes(request.body),
                                         serve::BodyForm::kMsgpack, serve::BodyForm::kMsgpack);
    return client::Reply{answer.status, Form::kMsgpack, std::move(answer.body)};
  }

 private:
  serve::Registry& registry_;
  const serve::RouteContext context_;
};

}  // namespace

Embedded::Embedded() : registry_(serve::Registry::Options()) {}

Embedded::~Embedded() { stopping_.request_stop(); }

Status Embedded::Load(const std::string& path) {
  const auto config = serve::LoadConfig(path);
  if (!config) return tl::unexpected(config.error());
  for (const Error& problem : config->problems) log::Error("{}", problem.Message());
  for (const serve::Registration& registration : config->publishers) {
    if (const auto added = registry_.Add(registration); !added) {
      log::Error("{}: {}", registration.Key(), added.error().Message());
    }
  }
  return {};
}

std::unique_ptr<client::Transport> Embedded::MakeTransport() {
  return std::make_unique<InProcess>(registry_, options_, stopping_.get_token());
}

}  // namespace conductor::proxy
