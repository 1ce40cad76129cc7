#include "daemon/serve/pool_lister.h"

#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "lib/base/log.h"

namespace conductor::serve {
namespace {

// A lister that hangs in a name server's silence is left behind after so long.
constexpr auto kStopWait = std::chrono::milliseconds(1500);

}  // namespace

// Shared with the thread, which may outlive the lister when it hangs in a system call; it touches
// nothing else then.
struct PoolLister::State {
  State(std::unique_ptr<PoolAdmin> the_admin, std::shared_ptr<ListingRequests> the_requests,
        PoolConsumer& the_consumer, Run the_run, const Options& the_options)
      : admin(std::move(the_admin)),
        requests(std::move(the_requests)),
        consumer(the_consumer),
        run(std::move(the_run)),
        options(the_options) {}

  // False once stopped, or when the pool is gone.
  bool OnIngest(const std::function<void(stream::PublisherStream&)>& work) {
    const std::lock_guard lock(running);
    return !stopped && run(work);
  }

  // The listing that is wanted, within a probe interval; nothing otherwise.
  std::optional<uint64_t> NextRequest();
  [[nodiscard]] bool HasStopped() const {
    const std::lock_guard lock(requests->mutex);
    return requests->stopped;
  }

  void List(uint64_t request);
  void LearnTiers();
  void JudgeSilence();

  const std::unique_ptr<PoolAdmin> admin;
  const std::shared_ptr<ListingRequests> requests;
  PoolConsumer& consumer;  // on the ingest thread only
  const Run run;
  const Options options;

  std::mutex running;    // held while `run` is called
  bool stopped = false;  // guarded by running

  // Of the thread. Events that the last listing includes; their own frames may be lost.
  uint64_t listed_events = 0;
  // What was known of when the master was last found to have published more.
  std::optional<uint64_t> ahead;
  bool tiers_fail = false;  // as it was told last

  std::mutex end;
  std::condition_variable ended_changed;  // with end
  bool ended = false;                     // guarded by end
};

std::optional<uint64_t> PoolLister::State::NextRequest() {
  std::unique_lock lock(requests->mutex);
  requests->changed.wait_for(lock, options.probe_interval,
                             [this] { return requests->stopped || requests->wanted; });
  if (requests->stopped) return std::nullopt;
  return std::exchange(requests->wanted, std::nullopt);
}

void PoolLister::State::List(uint64_t request) {
  const auto published = admin->PublishedEvents();  // before the keys, so that they have all of it
  const auto listed = admin->AllKeys(options.max_listing_bytes);
  bool speaks_for_all = false;
  OnIngest([&](stream::PublisherStream& stream) {
    if (!consumer.Wants(request)) return;
    if (listed) {
      speaks_for_all = consumer.Listed(*listed);
      stream.ListingDone(MonoNow(), request);
    } else {
      stream.ListingFailed(MonoNow(), request, listed.error().Message());
    }
  });
  // Of objects that events touched meanwhile the list was not believed.
  if (speaks_for_all && published) listed_events = *published;
  ahead.reset();
}

void PoolLister::State::LearnTiers() {
  while (!HasStopped()) {
    {
      const std::lock_guard lock(requests->mutex);
      if (requests->wanted) return;  // a newer listing comes first
    }
    std::vector<std::string> keys;
    OnIngest(
        [&](stream::PublisherStream&) { keys = consumer.AskForTiers(PoolAdmin::kKeysAtOnce); });
    if (keys.empty()) return;
    const auto learnt = admin->Tiers(keys);
    if (!learnt) {
      if (!std::exchange(tiers_fail, true)) {
        log::Warn("pool: on which tiers objects are cannot be had, and is asked for again: {}",
                  learnt.error().Message());
      }
      return;
    }
    tiers_fail = false;
    OnIngest([&](stream::PublisherStream&) { consumer.TiersLearnt(*learnt); });
  }
}

void PoolLister::State::JudgeSilence() {
  uint64_t received = 0;
  if (!OnIngest([&](stream::PublisherStream&) { received = consumer.last_event_id(); })) return;
  received = std::max(received, listed_events);
  const auto published = admin->PublishedEvents();
  if (!published || *published <= received) {
    ahead.reset();
    return;
  }
  // Nothing came since it was found to be ahead, so what it had published then is lost.
  if (ahead == received) {
    log::Info("pool: its master has published {} events and sent {}: it is listed again",
              *published, received);
    OnIngest([&](stream::PublisherStream& stream) { stream.Resync(MonoNow()); });
    ahead.reset();
  } else {
    ahead = received;
  }
}

void PoolLister::Loop(const std::shared_ptr<State>& state) {
  pthread_setname_np(pthread_self(), "pool-lister");
  while (!state->HasStopped()) {
    if (const auto request = state->NextRequest()) {
      state->List(*request);
    } else if (!state->HasStopped()) {
      state->JudgeSilence();
    }
    state->LearnTiers();
  }
  const std::lock_guard lock(state->end);
  state->ended = true;
  state->ended_changed.notify_all();
}

PoolLister::PoolLister(std::unique_ptr<PoolAdmin> admin, std::shared_ptr<ListingRequests> requests,
                       PoolConsumer& consumer, Run run, const Options& options)
    : state_(std::make_shared<State>(std::move(admin), std::move(requests), consumer,
                                     std::move(run), options)) {
  std::thread([state = state_] { Loop(state); }).detach();
}

void PoolLister::Stop() {
  {
    const std::lock_guard lock(state_->requests->mutex);
    state_->requests->stopped = true;
    state_->requests->changed.notify_all();
  }
  state_->admin->Stop();
}

PoolLister::~PoolLister() {
  Stop();
  {
    const std::lock_guard lock(state_->running);
    state_->stopped = true;
  }
  std::unique_lock lock(state_->end);
  state_->ended_changed.wait_for(lock, kStopWait, [this] { return state_->ended; });
}

}  // namespace conductor::serve
