#include "daemon/proxy/metaserver.h"

#include <utility>

#include "daemon/proxy/json_members.h"
#include "daemon/proxy/request_id.h"
#include "lib/base/number.h"

namespace conductor::proxy {

std::optional<EngineRequestId> ParseEngineRequestId(std::string_view text) {
  constexpr std::string_view kChat = "chatcmpl-";
  constexpr std::string_view kCompletion = "cmpl-";
  const bool is_chat = text.starts_with(kChat);
  if (!is_chat && !text.starts_with(kCompletion)) return std::nullopt;
  text.remove_prefix(is_chat ? kChat.size() : kCompletion.size());
  if (text.size() < kRequestIdBytes) return std::nullopt;
  EngineRequestId read{std::string(text.substr(0, kRequestIdBytes)), 0};
  text.remove_prefix(kRequestIdBytes);
  if (!text.empty() && !text.starts_with('-')) return std::nullopt;
  if (is_chat) return read;
  if (text.empty()) return std::nullopt;
  text.remove_prefix(1);
  const auto prompt = ParseNumber(text.substr(0, text.find('-')), "a number", 0, 1 << 20);
  if (!prompt) return std::nullopt;
  read.prompt = static_cast<size_t>(*prompt);
  return read;
}

Metaserver::Waiting::Waiting(Metaserver& server, std::string request_id, size_t prompts,
                             Called called)
    : server_(server), request_id_(std::move(request_id)) {
  const std::lock_guard lock(server_.mutex_);
  server_.waiting_[request_id_] = Entry{prompts, {}, false, std::move(called)};
}

Metaserver::Waiting::~Waiting() {
  const std::lock_guard lock(server_.mutex_);
  server_.waiting_.erase(request_id_);
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
  if (found == waiting_.end() || id->prompt >= found->second.prompts) {
    lock.unlock();
    done(404);
    return {};
  }
  Entry& entry = found->second;
  // One that comes again before all have come may say something new.
  if (!entry.has_called) entry.params.insert_or_assign(id->prompt, std::string(body));
  const bool is_last = entry.params.size() == entry.prompts && !entry.has_called;
  if (!is_last) {
    lock.unlock();
    done(200);
    return {};
  }
  entry.has_called = true;
  const Called called = std::move(entry.called);
  std::string first = std::move(entry.params.begin()->second);
  entry.params.clear();
  lock.unlock();
  called(std::move(first), std::move(done));
  return {};
}

}  // namespace conductor::proxy
