#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "daemon/serve/document_writer.h"
#include "daemon/serve/routes.h"

namespace conductor::serve {
namespace {

using Json = nlohmann::ordered_json;

std::string SnapshotDocument(const SaveReport& report, BodyForm form) {
  Json publishers = Json::array();
  for (const SaveReport::Publisher& publisher : report.publishers) {
    publishers.push_back(
        Json{{"id", publisher.key},
             {"cursor", publisher.cursor ? Json(*publisher.cursor) : Json(nullptr)},
             {"holdings", publisher.holdings}});
  }
  return Render(Json{{"path", report.info.path},
                     {"bytes", report.info.bytes},
                     {"blocks", report.info.blocks},
                     {"holdings", report.info.holdings},
                     {"saved_at", report.info.saved_at},
                     {"digest", fmt::format("{:016x}", report.digest)},
                     {"seconds", report.seconds},
                     {"publishers", std::move(publishers)}},
                form);
}

}  // namespace

void AddSnapshotRoutes(HttpListener& listener, std::function<Snapshots*()> snapshots) {
  listener.Route(
      "POST", "/v1/snapshot",
      [snapshots = std::move(snapshots)](const HttpRequest& request) {
        const BodyForm form = AnswerForm(request);
        Snapshots* const of_daemon = snapshots();
        if (of_daemon == nullptr) {
          return Failed(409,
                        {"this daemon keeps no snapshot (expected one that runs with --state FILE)",
                         "no_state_file",
                         "",
                         {}},
                        form);
        }
        const auto saved = of_daemon->Save();
        if (saved) return Ok(SnapshotDocument(*saved, form), form);
        return Failed(500, {saved.error().Message(), "snapshot_failed", "", {}}, form);
      },
      Access::kAdmin);
}

}  // namespace conductor::serve
