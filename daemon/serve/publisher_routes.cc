#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/serve/publisher_json.h"
#include "daemon/serve/publisher_requests.h"
#include "daemon/serve/routes.h"

namespace conductor::serve {
namespace {

HttpResponse NoPublisher(const std::string& id, BodyForm form) {
  return Failed(404,
                {fmt::format("no publisher has the id '{}' (expected one that "
                             "GET /v1/publishers lists, percent-encoded)",
                             id),
                 "unknown_publisher",
                 "",
                 {}},
                form);
}

HttpResponse OnePublisher(const Registry& registry, const std::string& id, BodyForm form) {
  const auto status = registry.Publisher(id);
  return status ? Ok(PublisherDocument(*status, form), form) : NoPublisher(id, form);
}

// Where the publisher of this id is.
std::string PathOf(std::string_view id) {
  std::string path = "/v1/publishers/";
  for (const char c : id) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-._~").find(c) != std::string_view::npos;
    path += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return path;
}

HttpResponse Created(const Registry& registry, const std::string& id, BodyForm form) {
  HttpResponse response = OnePublisher(registry, id, form);
  if (response.status != 200) return response;  // removed again meanwhile
  response.status = 201;
  response.headers.emplace_back("Location", PathOf(id));
  return response;
}

// One publisher, or one for each rank.
HttpResponse Post(const RouteContext& context, const HttpRequest& request) {
  const BodyForm form = AnswerForm(request);
  Registry& registry = context.registry;
  const auto parsed = ParsePublisher(request.body, FormOf(request));
  if (!parsed) return Failed(400, parsed.error(), form);
  const auto ranks = ExpandRanks(parsed->registration, parsed->dp_size);
  if (!ranks) {
    return NotRegistered(Refusal(Refusal::Kind::kInvalid, ranks.error()), "", form);
  }
  const auto added = registry.AddAll(*ranks);
  if (!added) return NotRegistered(added.error(), "", form);
  const bool created = std::ranges::find(*added, Registry::Added::kNew) != added->end();
  if (ranks->size() == 1) {
    const std::string key = ranks->front().Key();
    return created ? Created(registry, key, form) : OnePublisher(registry, key, form);
  }
  std::vector<PublisherStatus> statuses;
  for (const Registration& rank : *ranks) {
    if (auto status = registry.Publisher(rank.Key())) statuses.push_back(*std::move(status));
  }
  HttpResponse response = Ok(PublishersDocument(statuses, form), form);
  if (created) response.status = 201;
  return response;
}

HttpResponse Put(const RouteContext& context, const HttpRequest& request) {
  const BodyForm form = AnswerForm(request);
  const std::string& id = request.parameter;
  const auto registration = ParsePublisherAt(request.body, FormOf(request), id);
  if (!registration) return Failed(400, registration.error(), form);
  const auto put = context.registry.Replace(*registration);
  if (!put) return NotRegistered(put.error(), "", form);
  return *put == Registry::Put::kNew ? Created(context.registry, id, form)
                                     : OnePublisher(context.registry, id, form);
}

HttpResponse Delete(const RouteContext& context, const HttpRequest& request) {
  if (context.registry.Remove(request.parameter) != Registry::Removed::kRemoved) {
    return NoPublisher(request.parameter, AnswerForm(request));
  }
  return HttpResponse{.status = 204, .body = {}};
}

HttpResponse Get(const RouteContext& context, const HttpRequest& request) {
  return OnePublisher(context.registry, request.parameter, AnswerForm(request));
}

HttpResponse GetAll(const RouteContext& context, const HttpRequest& request) {
  const BodyForm form = AnswerForm(request);
  return Ok(PublishersDocument(context.registry.Publishers(), form), form);
}

HttpResponse Resync(const RouteContext& context, const HttpRequest& request) {
  (void)context.registry.Resync(request.parameter);
  return Get(context, request);
}

HttpResponse Clear(const RouteContext& context, const HttpRequest& request) {
  (void)context.registry.Clear(request.parameter);
  return Get(context, request);
}

}  // namespace

void AddPublisherRoutes(HttpListener& listener, const RouteContext& context) {
  using Answerer = HttpResponse (*)(const RouteContext&, const HttpRequest&);
  const auto route = [&](const char* method, const char* path, Answerer answer) {
    listener.Route(
        method, path,
        [context, answer](const HttpRequest& request) { return answer(context, request); },
        std::string_view(method) == "GET" ? Access::kRead : Access::kAdmin);
  };
  route("GET", "/v1/publishers", GetAll);
  route("POST", "/v1/publishers", Post);
  route("GET", "/v1/publishers/{id}", Get);
  route("PUT", "/v1/publishers/{id}", Put);
  route("DELETE", "/v1/publishers/{id}", Delete);
  route("POST", "/v1/publishers/{id}/resync", Resync);
  route("POST", "/v1/publishers/{id}/clear", Clear);
}

}  // namespace conductor::serve
