#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "daemon/serve/mooncake_answers.h"
#include "daemon/serve/mooncake_generation.h"
#include "daemon/serve/routes.h"

namespace conductor::serve {
namespace {

// Answered in JSON, or in a form of their own, whatever a request says.
constexpr std::array<std::string_view, 4> kOneForm = {"/cache", "/healthz", "/readyz", "/metrics"};

std::optional<HttpResponse> InFormOfClient(const HttpApi::Options& options,
                                           const HttpRefusal& refusal, std::string_view path,
                                           const HttpRequest& request) {
  RequestError error{refusal.error, refusal.reason, "", {}};
  if (std::ranges::find(kOneForm, path) != kOneForm.end()) return std::nullopt;
  if (path.starts_with("/v1/")) {
    if (AnswerForm(request) == BodyForm::kJson) return std::nullopt;
    return Failed(refusal.status, error, BodyForm::kMsgpack);
  }
  const auto generation = GenerationOf(request, options.compat);
  if (!generation || *generation == Generation::kGo) return std::nullopt;
  if (refusal.status == 405 && *generation != Generation::kDynamo) {
    error.error = "Method not allowed";
  }
  return Refused(*generation, refusal.status, error);
}

}  // namespace

void WriteRefusals(HttpListener& listener, const RouteContext& context) {
  listener.WriteRefusals([&options = context.options](const HttpRefusal& refusal,
                                                      std::string_view path,
                                                      const HttpRequest& request) {
    return InFormOfClient(options, refusal, path, request);
  });
}

}  // namespace conductor::serve
