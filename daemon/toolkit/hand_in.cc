#include "daemon/toolkit/hand_in.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

constexpr const char* kPath = "/v1/ingest";
constexpr int kOk = 200;
constexpr int kFull = 429;
constexpr Duration kWait = std::chrono::milliseconds(200);  // for a full queue
constexpr Duration kConnect = std::chrono::seconds(5);

Result<client::Reply> Ask(client::Transport& transport, const std::string& body,
                          const HandInOptions& options) {
  const MonoTime now = MonoNow();
  auto reply = transport.Exchange(
      {.method = "POST", .path = kPath, .body = body, .form = client::Form::kMsgpack},
      {.connect = now + std::min(kConnect, options.limit), .whole = now + options.limit});
  if (reply) return *std::move(reply);
  return tl::unexpected(std::move(reply.error().error).Within(options.url));
}

}  // namespace

Status HandIn(client::Transport& transport, size_t count,
              const std::function<std::string(size_t)>& body, const HandInOptions& options,
              HandedIn& handed) {
  const std::string path = options.url + kPath;
  Duration waited{};
  for (size_t from = 0; from < count;) {
    auto reply = Ask(transport, body(from), options);
    if (!reply) return tl::unexpected(std::move(reply.error()));
    const IngestAnswer& answer = handed.answer = ReadIngestAnswer(*reply);
    if (!answer.readable || (reply->status != kOk && reply->status != kFull)) {
      const std::string_view what =
          answer.readable ? std::string_view(answer.error) : "no answer that can be read";
      return Fail(fmt::format("status {}: {}", reply->status, what), path);
    }
    const size_t left = count - from;
    const size_t taken = std::min<size_t>(answer.accepted, left);
    from += taken;
    handed.taken += taken;
    if (reply->status == kOk) {
      if (taken == left) return {};
      return Fail(fmt::format("took {} of {} and does not say why", taken, Counted(left, "frame")),
                  path);
    }
    ++handed.waits;
    waited = taken > 0 ? Duration::zero() : waited + kWait;
    if (waited > options.patience) {
      return Fail(fmt::format("its queue stays full for {}", FormatDuration(options.patience)),
                  path);
    }
    if (options.stopped && options.stopped()) return Fail("stopped", path);
    options.pause ? options.pause(kWait) : std::this_thread::sleep_for(kWait);
  }
  return {};
}

}  // namespace conductor::toolkit
