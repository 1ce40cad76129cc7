#include "daemon/toolkit/snapshot_daemon.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "daemon/toolkit/json_text.h"
#include "lib/client/client.h"

namespace conductor::toolkit {
namespace {

Error Unreadable(const DaemonSave& saved, std::string_view why) {
  return {fmt::format("the daemon has saved it on its own machine, as {}, which {} from here",
                      saved.path, why),
          saved.conductor, "to be run there, or the file copied from there"};
}

}  // namespace

Result<DaemonSave> AskToSave(const ConductorSourceOptions& options) {
  auto source = AskConductors(options);
  if (!source) return tl::unexpected(std::move(source.error()));
  auto client = (*source)->Connect();
  if (!client) return tl::unexpected(std::move(client.error()));
  auto reply = client->Post("/v1/snapshot", "{}");
  if (!reply) {
    Error error = std::move(reply.error());
    if (const std::string advice = (*source)->Advice(error); !advice.empty()) {
      error.what += "; " + advice;
    }
    return tl::unexpected(std::move(error));
  }
  const std::string& url = options.urls.front();
  const auto answer = ParseJson(reply->body);
  if (!answer) return tl::unexpected(Error(answer.error()).Within(url));
  DaemonSave saved{.conductor = url};
  try {
    saved.path = answer->at("path").get<std::string>();
    saved.bytes = answer->at("bytes").get<uint64_t>();
    saved.blocks = answer->at("blocks").get<uint64_t>();
    saved.holdings = answer->at("holdings").get<uint64_t>();
    saved.publishers = answer->at("publishers").size();
    saved.saved_at = answer->at("saved_at").get<double>();
    saved.digest = answer->at("digest").get<std::string>();
    saved.seconds = answer->at("seconds").get<double>();
  } catch (const nlohmann::json::exception& error) {
    return Fail(fmt::format("its answer cannot be read: {}", error.what()), url,
                "that of POST /v1/snapshot");
  }
  return saved;
}

tl::expected<store::SnapshotReader, NotSaved> OpenSaved(const DaemonSave& saved,
                                                        const std::string& path) {
  auto reader = store::SnapshotReader::Open(path);
  if (!reader) {
    return tl::unexpected(NotSaved{
        Unreadable(saved, fmt::format("cannot be read ({})", reader.error().Message())), false});
  }
  if (reader->info().saved_at == saved.saved_at &&
      fmt::format("{:016x}", reader->digest()) == saved.digest) {
    return *std::move(reader);
  }
  return tl::unexpected(NotSaved{Unreadable(saved, "is another file, or one that was saved since"),
                                 reader->info().saved_at > saved.saved_at});
}

Result<store::SnapshotReader> SaveAndOpen(const ConductorSourceOptions& options) {
  for (int attempt = 1;; ++attempt) {
    const auto saved = AskToSave(options);
    if (!saved) return tl::unexpected(saved.error());
    auto reader = OpenSaved(*saved, saved->path);
    if (reader) return *std::move(reader);
    if (!reader.error().since || attempt == kSaveAttempts) {
      return tl::unexpected<Error>(std::move(reader.error()));
    }
  }
}

}  // namespace conductor::toolkit
