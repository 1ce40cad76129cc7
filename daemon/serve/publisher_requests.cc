#include "daemon/serve/publisher_requests.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "daemon/serve/ingest_events.h"

namespace conductor::serve {
namespace {

using Body = RequestBody;
using Json = nlohmann::ordered_json;

// What is understood, and nothing else.
Parsed<RegisterRequest> StrictRegistration(const Json& object) {
  auto request = ReadRegister(object);
  if (request && !request->unused.empty()) {
    const std::string& field = request->unused.front();
    return tl::unexpected(RequestError{
        fmt::format("unsupported request field: {}", field), "unknown_field", field, {}});
  }
  return request;
}

// Fills the members that an id stands for, where they are absent; false when it is no id.
bool FillFromId(const std::string& id, Json& object) {
  const size_t last = id.rfind('|');
  const size_t first = id.find('|');
  if (first == std::string::npos || first == last) return false;
  uint32_t rank = 0;
  const char* end = id.data() + id.size();
  const auto [stop, error] = std::from_chars(id.data() + last + 1, end, rank);
  if (error != std::errc() || stop != end) return false;
  const auto fill = [&object](const char* name, Json value) {
    Json& member = object[name];
    const bool is_empty = value.is_string() && member == "";
    if (member.is_null() || is_empty) member = std::move(value);
  };
  fill("instance_id", id.substr(0, first));
  fill("tenant_id", id.substr(first + 1, last - first - 1));
  fill("dp_rank", rank);
  return true;
}

// The `publisher` of a body to be ingested: an id, or its registration.
std::optional<Registration> ReadPublisher(
    Body& body, const std::function<std::optional<Registration>(const std::string&)>& registered) {
  const auto value = body.Get("publisher");
  if (!value) {
    body.Fail("missing", "publisher", "publisher is required");
    return std::nullopt;
  }
  if (const auto id = value->AsText()) {
    auto found = registered(std::string(*id));
    if (!found) {
      body.Fail("unknown_publisher", "publisher",
                fmt::format("no publisher has the id '{}' (expected one that GET /v1/publishers "
                            "lists, or a registration)",
                            Shown(*id)));
    }
    return found;
  }
  if (value->kind() != Value::Kind::kMap) {
    body.Fail(
        "invalid_type", "publisher",
        fmt::format("publisher is {} (expected a registration, or an id)", value->KindName()));
    return std::nullopt;
  }
  Body map(*value, "publisher.", {}, Body::Others::kIgnore);
  Json object = map.Members();
  if (map.failed()) {
    body.Fail(*map.error());
    return std::nullopt;
  }
  if (object.value("mode", Json()).is_null()) object["mode"] = "ingest";
  auto request = StrictRegistration(object);
  if (!request) {
    request.error().field = "publisher." + request.error().field;
    body.Fail(std::move(request.error()));
    return std::nullopt;
  }
  if (request->dp_size > 1) {
    body.Fail("invalid_value", "publisher.dp_size",
              "publisher.dp_size: what is ingested is of one rank (expected 1)");
  }
  if (request->registration.mode != stream::ListenMode::kIngest) {
    body.Fail("invalid_value", "publisher.mode",
              fmt::format("publisher.mode is {} (expected ingest, or none)",
                          ListenModeName(request->registration.mode)));
  }
  return std::move(request->registration);
}

// The recorded messages, as they are.
void ReadFrames(Body& body, Value frames, IngestRequest& request) {
  size_t index = 0;
  frames.ForEachItem([&](Value item) {
    const std::string where = fmt::format("frames[{}].", index);
    if (item.kind() != Value::Kind::kMap) {
      body.Fail("invalid_type", "frames",
                fmt::format("frames[{}] is {} (expected a map)", index, item.KindName()), index);
      return false;
    }
    Body frame(item, where, {"topic", "sequence", "payload", "received_at"}, Body::Others::kRefuse);
    stream::Intake::Message message;
    message.topic = frame.Text("topic");
    const auto sequence = frame.Integer("sequence", 0, std::numeric_limits<int64_t>::max());
    if (!frame.Get("sequence")) frame.Fail("missing", "sequence", where + "sequence is required");
    message.sequence = static_cast<uint64_t>(sequence.value_or(0));
    message.payload = frame.Bytes("payload");
    // Recordings have it; the time of a frame is that of its coming here.
    (void)frame.Real("received_at", 0, std::numeric_limits<double>::max());
    if (frame.failed()) {
      body.Fail(*frame.error());
      return false;
    }
    request.messages.push_back(std::move(message));
    request.items.push_back(++index);
    return true;
  });
}

}  // namespace

Parsed<RegisterRequest> ParsePublisher(const std::string& bytes, BodyForm form) {
  Body body(bytes, form, {}, Body::Others::kIgnore);
  const Json object = body.Members();
  if (body.failed()) return body.Finish(RegisterRequest());
  return StrictRegistration(object);
}

Parsed<Registration> ParsePublisherAt(const std::string& bytes, BodyForm form,
                                      const std::string& id) {
  Body body(bytes, form, {}, Body::Others::kIgnore);
  Json object = body.Members();
  if (!body.failed() && !FillFromId(id, object)) {
    body.Fail("invalid_value", "",
              fmt::format("'{}' is no id of a publisher (expected INSTANCE|TENANT|RANK, "
                          "percent-encoded)",
                          Shown(id)));
  }
  if (body.failed()) return body.Finish(Registration());
  auto request = StrictRegistration(object);
  if (!request) return tl::unexpected(std::move(request.error()));
  if (request->dp_size > 1) {
    body.Fail("invalid_value", "dp_size", "dp_size: an id is of one rank (expected 1)");
  }
  if (const std::string key = request->registration.Key(); key != id) {
    body.Fail("invalid_value", "instance_id",
              fmt::format("the body is of '{}' and the path of '{}' (expected one publisher)",
                          Shown(key), Shown(id)));
  }
  return body.Finish(std::move(request->registration));
}

Parsed<IngestRequest> ParseIngest(
    const std::string& bytes, BodyForm form,
    const std::function<std::optional<Registration>(const std::string& id)>& registered) {
  Body body(bytes, form, {"publisher", "incarnation", "frames", "events", "wait"},
            Body::Others::kRefuse);
  IngestRequest request;
  if (auto registration = body.failed() ? std::nullopt : ReadPublisher(body, registered)) {
    request.registration = std::move(*registration);
  }
  // The registration's own may only say the same.
  const std::string incarnation = body.RequiredText("incarnation");
  const std::string& named = request.registration.incarnation;
  if (body.Get("publisher") && body.Get("publisher")->kind() == Value::Kind::kMap &&
      !named.empty() && named != incarnation) {
    body.Fail("invalid_value", "publisher.incarnation",
              fmt::format("publisher.incarnation '{}' and incarnation '{}' differ", Shown(named),
                          Shown(incarnation)));
  }
  request.registration.incarnation = incarnation;
  if (const std::string wait = body.Text("wait"); !wait.empty()) {
    request.wait = wait == "applied";
    if (!request.wait) {
      body.Fail("invalid_value", "wait",
                fmt::format("wait is '{}' (expected applied, or none)", Shown(wait)));
    }
  }
  const bool has_events = body.Get("events").has_value();
  if (has_events && body.Get("frames")) {
    body.Fail("invalid_value", "events", "events stands beside frames (expected one of the two)");
  }
  const char* const name = has_events ? "events" : "frames";
  if (const auto list = body.Array(name, has_events ? "events" : "frames");
      list && !body.failed()) {
    request.events = has_events;
    if (has_events) {
      ReadIngestEvents(body, *list, request.registration.type, request.messages, request.items);
    } else {
      ReadFrames(body, *list, request);
    }
  }
  return body.Finish(std::move(request));
}

}  // namespace conductor::serve
