#include "daemon/serve/settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "daemon/serve/min_state.h"
#include "lib/base/number.h"

namespace conductor::serve {
namespace {

using Kind = Setting::Kind;
using Slot = Setting::Slot;

constexpr uint64_t kMaxSize = std::numeric_limits<int64_t>::max();

constexpr std::array kSettings = {
    Setting{"compat", Kind::kCompat, "whose form the older paths have, unless a request says",
            [](Limits& l) -> Slot { return &l.http.compat; }, true},
    Setting{"legacy-min-state", Kind::kState, "least trust that /query and /cache give figures for",
            [](Limits& l) -> Slot { return &l.http.legacy_min_state; }, true},
    Setting{"auth-token-file", Kind::kFile, "the tokens that requests must show",
            [](Limits& l) -> Slot { return &l.http.auth_token_file; }, true},
    Setting{"tls-cert", Kind::kFile, "its certificate, in PEM: https instead of http",
            [](Limits& l) -> Slot { return &l.http.tls_cert; }, true},
    Setting{"tls-key", Kind::kFile, "the certificate's private key",
            [](Limits& l) -> Slot { return &l.http.tls_key; }, true},
    Setting{"state", Kind::kFile, "come back warm from this snapshot, and save it",
            [](Limits& l) -> Slot { return &l.snapshots.file; }, true},
    Setting{"snapshot-interval", Kind::kTime, "between saves; 0: at the end and on request",
            [](Limits& l) -> Slot { return &l.snapshots.interval; }, false, 0, UINT32_MAX, true},
    Setting{"max-publishers", Kind::kNumber, "most publishers at once",
            [](Limits& l) -> Slot { return &l.registry.transport.max_publishers; }, true, 1, 65536},
    Setting{"ingest-threads", Kind::kNumber, "threads that read events",
            [](Limits& l) -> Slot { return &l.registry.transport.threads; }, false, 1, 256},
    Setting{"probe-interval", Kind::kTime, "silence after which a publisher is asked",
            [](Limits& l) -> Slot { return &l.registry.stream.probe_interval; }, true},
    Setting{"first-probe", Kind::kTime, "the same once, after its first replay",
            [](Limits& l) -> Slot { return &l.registry.stream.first_probe; }},
    Setting{"replay-timeout", Kind::kTime, "silence that ends a replay",
            [](Limits& l) -> Slot { return &l.registry.stream.replay_timeout; }, true},
    Setting{"replay-stall", Kind::kTime, "silence in the middle of one that ends it",
            [](Limits& l) -> Slot { return &l.registry.stream.replay_stall; }},
    Setting{"replay-backoff-min", Kind::kTime, "first wait after a replay that failed",
            [](Limits& l) -> Slot { return &l.registry.stream.backoff_min; }},
    Setting{"replay-backoff-max", Kind::kTime, "longest such wait",
            [](Limits& l) -> Slot { return &l.registry.stream.backoff_max; }},
    Setting{"doubt-grace", Kind::kTime, "doubtful for so long: dropped, and incomplete",
            [](Limits& l) -> Slot { return &l.registry.stream.doubt_grace; }},
    Setting{"stale-grace", Kind::kTime, "restored and not proven for so long: dropped",
            [](Limits& l) -> Slot { return &l.registry.stream.stale_grace; }},
    Setting{"listing-timeout", Kind::kTime, "a pool's key list that takes longer is asked anew",
            [](Limits& l) -> Slot { return &l.registry.stream.listing_timeout; }},
    Setting{"digest-window", Kind::kNumber, "batches of a publisher that are recognised",
            [](Limits& l) -> Slot { return &l.registry.stream.digest_window; }, false, 1, 1 << 20},
    Setting{"heartbeat-interval", Kind::kTime, "ZeroMQ heartbeats",
            [](Limits& l) -> Slot { return &l.registry.transport.heartbeat_interval; }},
    Setting{"handshake-timeout", Kind::kTime, "a peer that is slower speaks no ZeroMQ",
            [](Limits& l) -> Slot { return &l.registry.transport.handshake_timeout; }},
    Setting{"gather", Kind::kTime, "what comes gathers so long for a busy ingest thread",
            [](Limits& l) -> Slot { return &l.registry.transport.gather; }},
    Setting{"zmq-io-threads", Kind::kNumber, "threads of ZeroMQ's own",
            [](Limits& l) -> Slot { return &l.registry.transport.io_threads; }, false, 1, 64},
    Setting{"reconnect-min", Kind::kTime, "first wait before connecting again",
            [](Limits& l) -> Slot { return &l.registry.transport.reconnect_min; }},
    Setting{"reconnect-max", Kind::kTime, "longest such wait",
            [](Limits& l) -> Slot { return &l.registry.transport.reconnect_max; }},
    Setting{"max-message-bytes", Kind::kSize, "largest frame; a peer that sends more is cut off",
            [](Limits& l) -> Slot { return &l.registry.transport.max_message_bytes; }},
    Setting{"max-replay-bytes", Kind::kSize, "a replay's answer that waits to be applied",
            [](Limits& l) -> Slot { return &l.registry.transport.max_replay_bytes; }},
    Setting{"max-pending-bytes", Kind::kSize, "a publisher's live frames that wait for a replay",
            [](Limits& l) -> Slot { return &l.registry.stream.max_pending_bytes; }},
    Setting{"max-waiting-bytes", Kind::kSize, "a publisher's events that wait for a block",
            [](Limits& l) -> Slot { return &l.registry.ingest.max_waiting_bytes; }},
    Setting{"max-pool-bytes", Kind::kSize, "a pool's objects",
            [](Limits& l) -> Slot { return &l.registry.ingest.max_pool_bytes; }},
    Setting{"memory-limit", Kind::kSize, "the index; beyond, leaves are given up; 0: no limit",
            [](Limits& l) -> Slot { return &l.registry.index.memory_limit; }, true, 0, UINT32_MAX,
            true},
    Setting{"history", Kind::kNumber, "what left the index, for /v1/explain; 0: none",
            [](Limits& l) -> Slot { return &l.registry.index.history; }, false, 0, 1 << 26},
    Setting{"hash-seed", Kind::kNumber, "seed of Conductor's own block hashes",
            [](Limits& l) -> Slot { return &l.registry.index.hash_seed; }, false, 0, UINT64_MAX},
    Setting{"hash-check", Kind::kNumber, "recompute one announced hash in so many; 0: none",
            [](Limits& l) -> Slot { return &l.registry.ingest.hash_check_every; }, false, 0,
            UINT32_MAX},
    Setting{"event-readers", Kind::kNumber, "most that follow /v1/events; beyond: 503",
            [](Limits& l) -> Slot { return &l.registry.events.max_readers; }, false, 0, 65536},
    Setting{"event-queue", Kind::kSize, "events that wait for a slow one; beyond: lost",
            [](Limits& l) -> Slot { return &l.registry.events.queue_bytes; }},
    Setting{"http-max-connections", Kind::kNumber, "most connections; beyond: 503",
            [](Limits& l) -> Slot { return &l.http.max_connections; }, true, 1, 65536},
    Setting{"http-max-body", Kind::kSize, "largest request; beyond: 413",
            [](Limits& l) -> Slot { return &l.http.max_body_bytes; }, true},
    Setting{"http-max-inflight", Kind::kSize, "all requests under way; beyond: 503",
            [](Limits& l) -> Slot { return &l.http.max_inflight_bytes; }, true},
    Setting{"http-request-timeout", Kind::kTime, "for a request to come, or an answer to be read",
            [](Limits& l) -> Slot { return &l.http.request_timeout; }},
    Setting{"http-idle-timeout", Kind::kTime, "an idle connection is closed after it",
            [](Limits& l) -> Slot { return &l.http.idle_timeout; }},
    Setting{"query-timeout", Kind::kTime, "a query's answer that takes longer is a 503",
            [](Limits& l) -> Slot { return &l.http.query_timeout; }},
    Setting{"max-prompts", Kind::kNumber, "most prompts of one query",
            [](Limits& l) -> Slot { return &l.http.max_prompts; }, false, 1, 65536},
    Setting{"max-query-blocks", Kind::kNumber, "most blocks of one prompt",
            [](Limits& l) -> Slot { return &l.http.max_query_blocks; }, false, 1, 1 << 28},
    Setting{"score-gpu", Kind::kReal, "worth of a token on the device (/v1/score)",
            [](Limits& l) -> Slot { return &l.http.score_weights.gpu; }},
    Setting{"score-cpu", Kind::kReal, "worth of a token on the host",
            [](Limits& l) -> Slot { return &l.http.score_weights.cpu; }},
    Setting{"score-disk", Kind::kReal, "worth of a token on disk",
            [](Limits& l) -> Slot { return &l.http.score_weights.disk; }},
    Setting{"score-waiting", Kind::kReal, "cost of a longer queue, of the prompt",
            [](Limits& l) -> Slot { return &l.http.score_weights.waiting; }},
    Setting{"score-kv", Kind::kReal, "cost of fuller KV memory, of the prompt",
            [](Limits& l) -> Slot { return &l.http.score_weights.kv; }},
    Setting{"score-doubtful", Kind::kReal, "trust in figures that may be too high",
            [](Limits& l) -> Slot { return &l.http.score_weights.doubtful; }},
    Setting{"score-stale", Kind::kReal, "trust in figures that nobody has confirmed",
            [](Limits& l) -> Slot { return &l.http.score_weights.stale; }},
    Setting{"query-threads", Kind::kNumber, "threads at --query-endpoint; 0: as processors",
            [](Limits& l) -> Slot { return &l.query.threads; }, false, 0, 1024},
    Setting{"query-max-body", Kind::kSize, "largest request there; beyond: 413",
            [](Limits& l) -> Slot { return &l.query.max_body_bytes; }},
    Setting{"query-max-queued", Kind::kNumber, "requests that wait there; beyond: 503",
            [](Limits& l) -> Slot { return &l.query.max_queued; }, false, 1, 1 << 20},
    Setting{"query-max-queued-bytes", Kind::kSize, "their bodies together; beyond: 503",
            [](Limits& l) -> Slot { return &l.query.max_queued_bytes; }},
};

Status CheckOrder(std::string_view least, Duration min, std::string_view most, Duration max) {
  if (min <= max) return {};
  return Fail(fmt::format("{} is longer than the {} of --{}", FormatDuration(min),
                          FormatDuration(max), most),
              fmt::format("--{}", least), fmt::format("at most --{}", most));
}

Status CheckTogether(const Limits& limits) {
  const Registry::Options& registry = limits.registry;
  const HttpApi::Options& http = limits.http;
  if (http.max_inflight_bytes < http.max_body_bytes) {
    return Fail(fmt::format("{} bytes are less than the {} of one request (--http-max-body)",
                            http.max_inflight_bytes, http.max_body_bytes),
                "--http-max-inflight", "room for at least one");
  }
  if (http.tls_cert.empty() != http.tls_key.empty()) {
    const bool no_key = http.tls_key.empty();
    return Fail(no_key ? "it is of no use without --tls-key" : "it is of no use without --tls-cert",
                no_key ? "--tls-cert" : "--tls-key", "both files, or neither");
  }
  if (auto order = CheckOrder("replay-backoff-min", registry.stream.backoff_min,
                              "replay-backoff-max", registry.stream.backoff_max);
      !order) {
    return order;
  }
  return CheckOrder("reconnect-min", registry.transport.reconnect_min, "reconnect-max",
                    registry.transport.reconnect_max);
}

// One value of several types from a text of one kind.
struct Store {
  std::string_view text;
  const Setting& setting;

  Status operator()(Duration* to) const {
    if (setting.zero && text == "0") {
      *to = Duration::zero();
      return {};
    }
    auto time = ParseDuration(text);
    if (!time) return tl::unexpected(std::move(time.error()));
    const bool none = setting.zero && *time == Duration::zero();
    if (*time <= Duration::zero() && !none) {
      return Fail(fmt::format("'{}' is too short", text), {}, "a time above zero: 500ms, 5s, 15m");
    }
    *to = *time;
    return {};
  }
  Status operator()(MinState* to) const {
    return ParseMinState(text).map([to](MinState state) { *to = state; });
  }
  Status operator()(Generation* to) const {
    return ParseCompat(text).map([to](Generation generation) { *to = generation; });
  }
  Status operator()(double* to) const {
    constexpr double kMost = 1000;
    double number = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc() || stop != end || !(number >= 0 && number <= kMost)) {
      return Fail(fmt::format("'{}' is no possible value", text), {}, "a number from 0 to 1000");
    }
    *to = number;
    return {};
  }
  Status operator()(std::string* to) const {
    if (text.empty()) return Fail("is empty", {}, "the path of a file");
    *to = text;
    return {};
  }
  template <typename T>
  Status operator()(T* to) const {
    if (setting.zero && text == "0") {
      *to = 0;
      return {};
    }
    auto number = setting.kind == Kind::kSize
                      ? ParseSize(text)
                      : ParseNumber(text, "a possible value", setting.min, setting.max);
    if (!number) return tl::unexpected(std::move(number.error()));
    if (setting.kind == Kind::kSize && *number > kMaxSize) {
      return Fail(fmt::format("'{}' is too large", text), {},
                  fmt::format("at most {} bytes", kMaxSize));
    }
    *to = static_cast<T>(*number);
    return {};
  }
};

struct ShowValue {
  Kind kind;

  std::string operator()(const Duration* value) const { return FormatDuration(*value); }
  std::string operator()(const MinState* value) const { return std::string(MinStateName(*value)); }
  std::string operator()(const Generation* value) const {
    return std::string(GenerationName(*value));
  }
  std::string operator()(const double* value) const { return fmt::format("{}", *value); }
  std::string operator()(const std::string* value) const { return *value; }
  template <typename T>
  std::string operator()(const T* value) const {
    const auto number = static_cast<uint64_t>(*value);
    return kind == Kind::kSize ? FormatSize(number) : fmt::format("{}", number);
  }
};

}  // namespace

std::string Setting::Key() const {
  std::string key(name);
  std::ranges::replace(key, '-', '_');
  return key;
}

std::string_view Setting::Shape() const {
  switch (kind) {
    case Kind::kNumber:
      return "N";
    case Kind::kSize:
      return "SIZE";
    case Kind::kTime:
      return "TIME";
    case Kind::kState:
      return "STATE";
    case Kind::kCompat:
      return "GENERATION";
    case Kind::kReal:
      return "X";
    case Kind::kFile:
      return "FILE";
  }
  return "";
}

std::string Setting::Show(Limits limits) const { return std::visit(ShowValue{kind}, slot(limits)); }

Status Setting::Set(std::string_view text, Limits& limits) const {
  return std::visit(Store{text, *this}, slot(limits));
}

std::span<const Setting> AllSettings() { return kSettings; }

const Setting* FindSetting(std::string_view key) {
  const auto found = std::ranges::find(kSettings, key, &Setting::Key);
  return found == kSettings.end() ? nullptr : &*found;
}

Result<Limits> LimitsFrom(const GivenSettings& file, const GivenSettings& flags) {
  Limits limits;
  for (const auto* given : {&file, &flags}) {
    for (const auto& [setting, text] : *given) {
      if (auto set = setting->Set(text, limits); !set) {
        return tl::unexpected(Error(set.error()).Within(fmt::format("--{}", setting->name)));
      }
    }
  }
  if (auto together = CheckTogether(limits); !together) return tl::unexpected(together.error());
  return limits;
}

}  // namespace conductor::serve
