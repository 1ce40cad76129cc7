// A running daemon.

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>
#include <httplib.h>
#include <nlohmann/json.hpp>

#include "lib/trace/simulated_publisher.h"
#include "target.h"

namespace conductor::bench {
namespace {

using Json = nlohmann::json;
using namespace std::chrono_literals;

constexpr auto kPatience = 60s;

class DaemonTarget final : public Target {
 public:
  DaemonTarget(const FleetOptions& options, uint32_t clients, std::string url)
      : options_(options), url_(std::move(url)), control_(MakeClient()) {
    for (uint32_t i = 0; i < clients; ++i) asking_.push_back(MakeClient());
  }
  ~DaemonTarget() override {
    for (const std::string& id : registered_) {
      const Json body = {{"instance_id", id},
                         {"tenant_id", "default"},
                         {"dp_rank", 0},
                         {"modelname", "fleet-bench"}};
      (void)control_->Post("/unregister", body.dump(), "application/json");
    }
  }

  Status Prepare(const std::vector<Step>& steps) override {
    steps_ = &steps;
    for (const Step& step : steps) {
      const Json body = {{"model", "fleet-bench"}, {"token_ids", step.prompt}};
      bodies_.push_back(body.dump());
    }
    for (uint32_t i = 0; i < options_.engines; ++i) {
      if (const auto registered = Register(fmt::format("fleet-bench-{}", i)); !registered) {
        return registered;
      }
    }
    return WaitFor("every engine to be live",
                   [](const Json& publisher) { return publisher.value("state", "") == "live"; });
  }

  Result<Found> Ask(uint32_t client, size_t step) override {
    auto answer = Post(*asking_[client], "/v1/query", bodies_[step]);
    if (!answer) return tl::unexpected(answer.error());
    Found found;
    uint64_t longest = 0;
    for (const Json& instance : answer->value("instances", Json::array())) {
      const auto matched = instance.value("longest_matched", uint64_t{0});
      if (matched > 0) ++found.holders;
      longest = std::max(longest, matched);
    }
    found.longest = static_cast<uint32_t>(longest / options_.block_size);
    // An answer does not tell; this is what the index has to walk.
    found.walked = std::min(found.longest + 1, (*steps_)[step].prompt_blocks);
    return found;
  }

  Status Announce(size_t step) override {
    const Step& it = (*steps_)[step];
    if (it.events.empty()) return {};
    publishers_[it.engine]->Publish(it.events);
    for (const wire::KvEvent& event : it.events) {
      if (std::holds_alternative<wire::BlockStored>(event)) ++announced_stores_;
    }
    return {};
  }

  Status Drain() override {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
      auto publishers = Publishers();
      if (!publishers) return tl::unexpected(publishers.error());
      uint64_t applied = 0;
      for (const Json& publisher : *publishers) {
        applied += publisher["counters"].value("stored_events", uint64_t{0});
      }
      if (applied >= announced_stores_) return {};
      if (std::chrono::steady_clock::now() > until) {
        return Fail(fmt::format("{} of {} stored events were applied", applied, announced_stores_),
                    url_, "all of them within a minute");
      }
      std::this_thread::sleep_for(1ms);
    }
  }

  uint64_t ResidentBytes() override {
    const auto answer = control_->Get("/metrics");
    if (!answer) return 0;
    const std::string name = "\nprocess_resident_memory_bytes ";
    const size_t at = answer->body.find(name);
    if (at == std::string::npos) return 0;
    return static_cast<uint64_t>(std::stod(answer->body.substr(at + name.size(), 40)));
  }

 private:
  [[nodiscard]] std::unique_ptr<httplib::Client> MakeClient() const {
    auto client = std::make_unique<httplib::Client>(url_);
    client->set_keep_alive(true);
    client->set_tcp_nodelay(true);
    client->set_read_timeout(kPatience);
    return client;
  }
  // Starts an engine's publisher and tells the daemon of it.
  [[nodiscard]] Status Register(const std::string& id) {
    auto publisher = trace::SimulatedPublisher::Create({.ring_batches = 1'000'000});
    if (!publisher) return tl::unexpected(publisher.error());
    publishers_.push_back(std::move(*publisher));
    const Json body = {{"endpoint", publishers_.back()->endpoint()},
                       {"replay_endpoint", publishers_.back()->replay_endpoint()},
                       {"type", "vLLM"},
                       {"modelname", "fleet-bench"},
                       {"instance_id", id},
                       {"block_size", options_.block_size}};
    auto answer = Post(*control_, "/register", body.dump());
    if (!answer) return tl::unexpected(answer.error());
    registered_.push_back(id);
    return {};
  }
  [[nodiscard]] Result<Json> Read(const httplib::Result& answer, const std::string& path) const {
    if (!answer) return Fail("does not answer: " + httplib::to_string(answer.error()), url_ + path);
    if (answer->status != 200) {
      return Fail(fmt::format("status {}: {}", answer->status, answer->body), url_ + path);
    }
    Json json = Json::parse(answer->body, nullptr, /*allow_exceptions=*/false);
    if (json.is_discarded()) return Fail("the answer is no JSON", url_ + path);
    return json;
  }
  [[nodiscard]] Result<Json> Post(httplib::Client& client, const std::string& path,
                                  const std::string& body) const {
    return Read(client.Post(path, body, "application/json"), path);
  }
  // Those of this run.
  [[nodiscard]] Result<std::vector<Json>> Publishers() {
    auto answer = Read(control_->Get("/v1/publishers"), "/v1/publishers");
    if (!answer) return tl::unexpected(answer.error());
    std::vector<Json> ours;
    for (const Json& publisher : answer->value("publishers", Json::array())) {
      if (publisher.value("instance_id", "").starts_with("fleet-bench-")) ours.push_back(publisher);
    }
    return ours;
  }
  template <typename Is>
  [[nodiscard]] Status WaitFor(const std::string& what, Is is) {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
      auto publishers = Publishers();
      if (!publishers) return tl::unexpected(publishers.error());
      if (publishers->size() == options_.engines && std::ranges::all_of(*publishers, is)) return {};
      if (std::chrono::steady_clock::now() > until) {
        return Fail("waited a minute for " + what, url_ + "/v1/publishers");
      }
      std::this_thread::sleep_for(20ms);
    }
  }

  FleetOptions options_;
  std::string url_;
  std::unique_ptr<httplib::Client> control_;              // before and after the run
  std::vector<std::unique_ptr<httplib::Client>> asking_;  // one for each client
  const std::vector<Step>* steps_ = nullptr;
  std::vector<std::string> bodies_;
  std::vector<std::unique_ptr<trace::SimulatedPublisher>> publishers_;
  std::vector<std::string> registered_;
  uint64_t announced_stores_ = 0;
};

}  // namespace

Result<std::unique_ptr<Target>> MakeDaemonTarget(const FleetOptions& options, uint32_t clients,
                                                 const std::string& url) {
  if (!url.starts_with("http://")) {
    return Fail("'" + url + "' is no URL", "--daemon", "http://host:port");
  }
  return std::make_unique<DaemonTarget>(options, clients, url);
}

}  // namespace conductor::bench
