#include "daemon/toolkit/score_source.h"

#include <algorithm>
#include <utility>

#include "daemon/toolkit/bearer_token.h"

namespace conductor::toolkit {
namespace {

class Conductors final : public ScoreSource {
 public:
  Conductors(std::vector<std::string> urls, client::ClientOptions options)
      : urls_(std::move(urls)), options_(std::move(options)) {}

  [[nodiscard]] Result<client::Client> Connect() override {
    return client::Client::Create(urls_, options_);
  }

  [[nodiscard]] std::string Advice(const Error& error) const override {
    const auto says = [&error](std::string_view text) {
      return error.what.find(text) != std::string::npos;
    };
    if (says("not trusted")) return "--ca-file names who may sign its certificate";
    if (says("(unauthorized)"))
      return "a token of the daemon's is needed: --token-file, or CONDUCTOR_TOKEN";
    if (!error.what.starts_with(client::kNobodyAnswered)) return {};
    if (says("in time")) return "--timeout gives it longer";
    return "is the daemon running? --conductor says where, 'conductor serve' starts one";
  }

 private:
  const std::vector<std::string> urls_;
  const client::ClientOptions options_;
};

}  // namespace

Result<std::unique_ptr<ScoreSource>> AskConductors(const ConductorSourceOptions& options) {
  client::ClientOptions client;
  client.time_limit = options.time_limit;
  // One that hangs leaves time for another; the only one has all of it.
  client.attempts = static_cast<uint32_t>(options.urls.size() + 1);
  client.attempt_limit = options.urls.size() > 1 ? options.time_limit / 2 : options.time_limit;
  client.connect_limit = std::min<Duration>(client.attempt_limit / 2, std::chrono::seconds(1));
  client.ca_file = options.ca_file;
  auto token = ReadBearerToken(options.token_file);
  if (!token) return tl::unexpected(std::move(token.error()).Within("--token-file"));
  client.token = *std::move(token);
  auto source = std::make_unique<Conductors>(options.urls, std::move(client));
  if (auto tried = source->Connect(); !tried) return tl::unexpected(std::move(tried.error()));
  return source;
}

}  // namespace conductor::toolkit
