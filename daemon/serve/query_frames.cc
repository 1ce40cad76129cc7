#include "daemon/serve/query_frames.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

namespace conductor::serve {
namespace {

void Refuse(FramedQuery& query, int status, std::string reason, std::string error) {
  query.status = status;
  query.error = RequestError{std::move(error), std::move(reason), {}, {}};
}

std::string KnownPaths(std::span<const BodyRoute> routes) {
  std::string paths;
  for (const BodyRoute& route : routes) {
    paths.append(paths.empty() ? "" : ", ").append(route.path);
  }
  return paths;
}

}  // namespace

FramedQuery ReadQueryFrames(std::span<const std::string_view> frames,
                            std::span<const BodyRoute> routes) {
  constexpr size_t kFrames = 3;
  FramedQuery query;
  query.delimited = !frames.empty() && frames.front().empty();
  const size_t first = query.delimited ? 1 : 0;
  const size_t count = frames.size() - first;
  if (count > 0 && (frames[first].empty() || frames[first].size() > FramedQuery::kMostIdBytes)) {
    Refuse(query, 400, "malformed_request",
           fmt::format("the id has {} bytes (expected 1 to {})", frames[first].size(),
                       FramedQuery::kMostIdBytes));
    return query;
  }
  if (count > 0) query.id = first;
  if (count != kFrames) {
    Refuse(query, 400, "malformed_request",
           fmt::format("the message has {} frames{} (expected id, path, body)", count,
                       query.delimited ? " behind the empty one" : ""));
    return query;
  }
  const std::string_view path = frames[first + 1];
  const auto route = std::ranges::find(routes, path, &BodyRoute::path);
  if (route == routes.end()) {
    Refuse(query, 404, "unknown_path",
           fmt::format("there is nothing at '{}' (expected one of: {})", Shown(path),
                       KnownPaths(routes)));
    return query;
  }
  query.route = &*route;
  query.body = first + 2;
  return query;
}

}  // namespace conductor::serve
