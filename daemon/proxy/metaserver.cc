#include "daemon/proxy/metaserver.h"

#include <utility>

#include "daemon/proxy/json_members.h"
#include "lib/base/number.h"

namespace conductor::proxy {

std::optional<EngineRequestId> ParseEngineRequestId(std::string_view text) {
  constexpr std::string_view kChat = "chatcmpl-";
  constexpr std::string_view kCompletion = "cmpl-";
  if (text.starts_with(kChat)) return EngineRequestId{std::string(text.substr(kChat.size())), 0};
  if (!text.starts_with(kCompletion)) return std::nullopt;
  text.remove_prefix(kCompletion.size());
  const size_t dash = text.rfind('-');
  if (dash == text.npos) return std::nullopt;
  const auto prompt = ParseNumber(text.substr(dash + 1), "a number", 0, 1 << 20);
  if (!prompt) return std::nullopt;
  return EngineRequestId{std::string(text.substr(0, dash)), static_cast<size_t>(*prompt)};
}

Metaserver::Waiting::Waiting(Metaserver& server, std::string request_id, size_t prompts,
                             Called called)
    : server_(server), request_id_(std::move(request_id)) {
  const std::lock_guard lock(server_.mutex_);
  server_.waiting_[request_id_] = Entry{this, prompts, {}, std::move(called)};
}

Metaserver::Waiting::~Waiting() {
  const std::lock_guard lock(server_.mutex_);
  const auto found = server_.waiting_.find(request_id_);
  if (found != server_.waiting_.end() && found->second.owner == this) {
    server_.waiting_.erase(found);
  }
}

Status Metaserver::Call(std::string_view body, Done done) {
  const auto members = JsonMembers::Parse(body);
  if (!members) return tl::unexpected(members.error());
  const auto named = members->FindString("request_id");
  const auto id = named ? ParseEngineRequestId(*named) : std::nullopt;
  if (!id) {
    return Fail("names no request", "request_id", "\"cmpl-ID-N\" or \"chatcmpl-ID\"");
  }
  std::unique_lock lock(mutex_);
  const auto found = waiting_.find(id->id);
  if (found == waiting_.end()) {
    lock.unlock();
    done(404);
    return {};
  }
  Entry& entry = found->second;
  entry.params.emplace(id->prompt, body);
  const bool is_last = entry.params.size() == entry.prompts;
  const Called called = entry.called;
  std::string first = entry.params.begin()->second;
  lock.unlock();
  if (is_last) {
    called(std::move(first), std::move(done));
  } else {
    done(200);
  }
  return {};
}

}  // namespace conductor::proxy
