#include "daemon/toolkit/offline_conductor.h"

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>
#include <vector>

#include "lib/base/clock.h"

namespace conductor::toolkit {
namespace {

// Applying never stands still; this is what a defect costs.
constexpr Duration kLongestWait = std::chrono::hours(1);
// In one go: some have an end, so that a stop is noticed between them.
constexpr size_t kMessagesAtOnce = 4096;

Error NotApplied(const std::string& key, const std::stop_token& stop) {
  if (stop.stop_requested()) return {"stopped before all events were applied", key, {}};
  return {"its events are not applied in an hour", key, {}};
}

class InProcess final : public client::Transport {
 public:
  explicit InProcess(serve::HttpApi& api) : api_(api) {}

  [[nodiscard]] bool Carries(const client::Request& request) const override {
    return request.path.substr(0, request.path.find('?')) != "/v1/events";
  }

  [[nodiscard]] tl::expected<client::Reply, client::Failure> Exchange(
      const client::Request& request, const client::Deadlines&) override {
    const bool json = request.form == client::Form::kJson;
    serve::HttpResponse response =
        api_.Answer(request.method, request.path, std::string(request.body),
                    json ? serve::BodyForm::kJson : serve::BodyForm::kMsgpack);
    const bool packed = response.content_type == serve::MediaType(serve::BodyForm::kMsgpack);
    return client::Reply{.status = response.status,
                         .form = packed ? client::Form::kMsgpack : client::Form::kJson,
                         .body = std::move(response.body)};
  }

 private:
  serve::HttpApi& api_;
};

}  // namespace

OfflineConductor::OfflineConductor(const Options& options)
    : registry_(options.registry), api_(registry_, options.http) {
  api_.SetReady(true);
}

Status OfflineConductor::Feed(const serve::Registration& registration,
                              std::span<stream::Intake::Message> messages,
                              const std::stop_token& stop) {
  const std::string key = registration.Key();
  while (!messages.empty()) {
    const auto some = messages.first(std::min(messages.size(), kMessagesAtOnce));
    const auto ingested = registry_.Ingest(registration, some);
    if (!ingested) return tl::unexpected(Error(ingested.error()).Within(key));
    messages = messages.subspan(ingested->taken);
    const bool full = ingested->taken < some.size();
    if (stop.stop_requested() ||
        (full && !registry_.WaitApplied(key, *ingested, MonoNow() + kLongestWait, stop))) {
      return tl::unexpected(NotApplied(key, stop));
    }
    const std::lock_guard lock(mutex_);
    pending_[key] = *ingested;
  }
  return {};
}

Status OfflineConductor::Settle(const std::stop_token& stop) {
  const std::lock_guard lock(mutex_);
  for (const auto& [key, ingested] : pending_) {
    if (!registry_.WaitApplied(key, ingested, MonoNow() + kLongestWait, stop)) {
      return tl::unexpected(NotApplied(key, stop));
    }
  }
  pending_.clear();
  return {};
}

std::vector<std::string> OfflineConductor::Models() const {
  std::set<std::string> models;
  for (const auto& publisher : registry_.Publishers()) models.insert(publisher.registration.model);
  return {models.begin(), models.end()};
}

std::unique_ptr<client::Transport> OfflineConductor::MakeTransport() {
  return std::make_unique<InProcess>(api_);
}

std::unique_ptr<client::Client> OfflineConductor::MakeClient(const std::string& name) {
  std::vector<client::Client::Way> ways;
  ways.push_back({name, MakeTransport()});
  return std::make_unique<client::Client>(std::move(ways), client::ClientOptions{});
}

}  // namespace conductor::toolkit
