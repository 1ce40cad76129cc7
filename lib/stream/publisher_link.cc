#include "lib/stream/publisher_link.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "lib/stream/bound_link.h"
#include "lib/stream/connecting_link.h"
#include "lib/stream/intake_link.h"

namespace conductor::stream {
namespace {

// Between two ticks of a consumer, whatever its deadline says.
constexpr Duration kLeastTick = std::chrono::milliseconds(10);

StreamOptions WithNames(StreamOptions options, const PublisherAddress& address) {
  if (options.endpoint.empty()) options.endpoint = address.endpoint;
  if (options.replay_endpoint.empty()) options.replay_endpoint = address.replay_endpoint;
  return options;
}

}  // namespace

PublisherLink::PublisherLink(void* context, Resolver& resolver, Watcher& watcher, uint64_t task,
                             const Transport::Options& options, PublisherAddress address,
                             StreamOptions stream_options, std::unique_ptr<Consumer> consumer)
    : context_(context),
      resolver_(resolver),
      watcher_(watcher),
      task_(task),
      options_(options),
      address_(std::move(address)),
      stream_options_(WithNames(std::move(stream_options), address_)),
      inbox_limit_(std::max<size_t>(stream_options_.max_pending_bytes, 1)),
      consumer_(fmt::format("publisher at {}", address_.endpoint), std::move(consumer)),
      replay_(context, resolver, watcher, task, options, address_.replay_endpoint,
              stream_options_.replay_timeout),
      stream_(stream_options_, consumer_, replay_) {}

std::string PublisherLink::BoundTo() const {
  return address_.mode == ListenMode::kBind ? address_.endpoint : std::string();
}

Status PublisherLink::Open(MonoTime now, BoundEndpoint* bound) {
  if (bound) {
    BoundRouter::Name name{
        .peer = CanonicalAddress(address_.peer).value_or(std::string()),
        .topic = address_.topic,
        .rank = address_.rank,
        .batch_rank = stream_options_.batch_rank,
    };
    live_ = std::make_unique<BoundLink>(*bound, std::move(name), task_, inbox_limit_,
                                        stream_options_.has_replay, stream_);
  } else if (address_.mode == ListenMode::kIngest) {
    live_ = std::make_unique<IntakeLink>(address_.intake, watcher_, task_, stream_);
  } else {
    live_ = std::make_unique<ConnectingLink>(context_, resolver_, watcher_, task_, options_,
                                             address_, inbox_limit_, stream_, replay_);
  }
  if (auto opened = live_->Open(); !opened) return opened;
  stream_.Start(now);
  live_->Begin();
  return {};
}

bool PublisherLink::Turn(bool monitor) {
  live_->Turn(monitor, MonoNow() + kTurn);
  replay_.Turn(stream_, MonoNow() + kTurn);
  const MonoTime now = MonoNow();
  if (const auto deadline = ConsumerDeadline(); deadline && now >= *deadline) {
    ticked_ = now;
    consumer_.Tick(now);
  }
  if (const auto deadline = stream_.NextDeadline(); deadline && now >= *deadline) {
    stream_.Tick(now);
  }
  return live_->HasMoreWork() || replay_.HasMoreWork();
}

std::optional<MonoTime> PublisherLink::ConsumerDeadline() const {
  const auto deadline = consumer_.NextDeadline();
  if (!deadline) return std::nullopt;
  return std::max(*deadline, ticked_ + kLeastTick);
}

std::optional<MonoTime> PublisherLink::Deadline() const {
  std::optional<MonoTime> next;
  for (const auto& time : {stream_.NextDeadline(), live_->Deadline(), ConsumerDeadline()}) {
    if (time && (!next || *time < *next)) next = time;
  }
  return next;
}

}  // namespace conductor::stream
