#include <fmt/format.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "daemon/serve/event_stream.h"
#include "daemon/serve/query_string.h"
#include "daemon/serve/routes.h"

namespace conductor::serve {
namespace {

// What is sent at once: events of a busy fleet come many to a wake-up.
constexpr size_t kPieceBytes = 64 << 10;

class FollowedEvents : public HttpStream {
 public:
  explicit FollowedEvents(std::unique_ptr<EventStream::Reader> reader)
      : reader_(std::move(reader)) {}

  [[nodiscard]] int ready() const override { return reader_->ready(); }
  [[nodiscard]] std::string Take() override {
    // Tells the client at once that it is heard, and from when on events come.
    if (!std::exchange(began_, true)) return ": events from here on\n\n";
    return reader_->Take(kPieceBytes);
  }
  [[nodiscard]] std::string Heartbeat() const override { return ": still here\n\n"; }

 private:
  std::unique_ptr<EventStream::Reader> reader_;
  bool began_ = false;
};

template <typename T>
std::optional<RequestError> AddNamed(std::vector<T>& values, std::optional<T> value,
                                     const std::string& name, const std::string& text,
                                     const char* expected) {
  if (value) {
    values.push_back(*value);
    return std::nullopt;
  }
  return RequestError{fmt::format("{}: '{}' is not known (expected {})", name, text, expected),
                      "invalid_value",
                      name,
                      {}};
}

std::optional<Tier> TierNamed(std::string_view name) {
  for (const Tier tier : kTiers) {
    if (TierName(tier) == name) return tier;
  }
  return std::nullopt;
}

std::optional<RequestError> ReadParameter(std::string name, std::string value,
                                          EventFilter& filter) {
  if (name == "publisher") {
    filter.publishers.push_back(std::move(value));
  } else if (name == "instance") {
    filter.instances.push_back(std::move(value));
  } else if (name == "model") {
    filter.models.push_back(std::move(value));
  } else if (name == "type") {
    return AddNamed(filter.types, EventTypeNamed(value), name, value,
                    "stored, removed, cleared, life, rebuild or trust");
  } else if (name == "tier") {
    return AddNamed(filter.tiers, TierNamed(value), name, value, "gpu, cpu or disk");
  } else {
    return RequestError{
        "a parameter that is not known (expected publisher, instance, model, type "
        "or tier)",
        "unknown_field",
        std::move(name),
        {}};
  }
  return std::nullopt;
}

HttpResponse Follow(EventStream& events, const HttpRequest& request) {
  EventFilter filter;
  for (auto& [name, value] : QueryParameters(request.query)) {
    const auto error = ReadParameter(std::move(name), std::move(value), filter);
    if (error) return Failed(400, *error);
  }
  auto reader = events.Open(std::move(filter));
  if (!reader) {
    return Failed(
        503, {fmt::format("events are followed by {} readers, which is the limit (--event-readers)",
                          events.options().max_readers),
              "too_many_readers",
              "",
              {}});
  }
  return HttpResponse{.content_type = "text/event-stream",
                      .headers = {{"Cache-Control", "no-store"}, {"X-Accel-Buffering", "no"}},
                      .stream = std::make_shared<FollowedEvents>(std::move(reader))};
}

}  // namespace

void AddEventRoutes(HttpListener& listener, const RouteContext& context) {
  listener.Route("GET", "/v1/events",
                 [&events = context.registry.events()](const HttpRequest& request) {
                   return Follow(events, request);
                 });
}

}  // namespace conductor::serve
