#include "lib/stream/transport.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <zmq.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "lib/base/endpoint.h"
#include "lib/stream/ingest_loop.h"
#include "lib/stream/publisher_link.h"

namespace conductor::stream {
namespace {

// A publisher's ZeroMQ sockets: SUB, both ends of its monitor, a DEALER while it is asked. Each is
// a descriptor, the SUB and the DEALER have a connection besides, or while their host's name is
// looked up its lookup.
constexpr uint64_t kSocketsEach = 4;
constexpr uint64_t kFilesEach = 6;
// For closing sockets that are not gone yet, and for the rest of the process: HTTP connections
// above all.
constexpr uint64_t kSpareSockets = 256;
constexpr uint64_t kSpareFiles = 2048;

std::string RaiseFileLimit(uint64_t publishers) {
  const uint64_t needed = publishers * kFilesEach + kSpareFiles;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= needed) return {};
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = limit.rlim_max == RLIM_INFINITY ? needed : std::min(limit.rlim_max, needed);
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = before;
  if (limit.rlim_cur >= needed) return {};
  const uint64_t possible =
      limit.rlim_cur > kSpareFiles ? (limit.rlim_cur - kSpareFiles) / kFilesEach : 0;
  return fmt::format(
      "{} publishers need {} open files but the limit is {}, enough for about {}: "
      "raise the hard limit (ulimit -Hn, LimitNOFILE= in a systemd unit)",
      publishers, needed, limit.rlim_cur, possible);
}

std::string RaiseSocketLimit(void* context, uint64_t publishers) {
  const uint64_t needed = publishers * kSocketsEach + kSpareSockets;
  const auto most = static_cast<uint64_t>(std::max(zmq_ctx_get(context, ZMQ_SOCKET_LIMIT), 0));
  const int set = static_cast<int>(std::min(needed, most));
  if (zmq_ctx_set(context, ZMQ_MAX_SOCKETS, set) == 0 && needed <= most) return {};
  return fmt::format("{} publishers need {} ZeroMQ sockets but one process can have {}", publishers,
                     needed, most);
}

}  // namespace

struct Transport::Impl {
  struct Publisher {
    IngestLoop* loop = nullptr;
    std::shared_ptr<CounterBoard> board;
    std::string bound_to;  // key of the endpoint that is bound for it; empty: none
  };

  explicit Impl(const Options& with) : options(with), resolver(with.resolve) {}
  ~Impl() {
    loops.clear();  // the sockets go with their threads, before the context
    if (context) zmq_ctx_term(context);
  }

  // That of the bound endpoint, where somebody is there already; otherwise the one with the fewest
  // publishers. With the mutex held.
  IngestLoop* LoopFor(const std::string& bound_to) {
    for (const auto& [id, publisher] : publishers) {
      if (!bound_to.empty() && publisher.bound_to == bound_to) return publisher.loop;
    }
    std::vector<size_t> load(loops.size(), 0);
    for (const auto& [id, publisher] : publishers) {
      for (size_t i = 0; i < loops.size(); ++i) {
        if (loops[i].get() == publisher.loop) ++load[i];
      }
    }
    const auto least = std::min_element(load.begin(), load.end());
    return loops[static_cast<size_t>(least - load.begin())].get();
  }

  std::optional<Publisher> Find(PublisherId id) const {
    const std::lock_guard lock(mutex);
    const auto found = publishers.find(id);
    if (found == publishers.end()) return std::nullopt;
    return found->second;
  }

  const Options options;
  Resolver resolver;
  void* context = nullptr;
  std::string limit_warning;
  std::vector<std::unique_ptr<IngestLoop>> loops;  // fixed after construction

  mutable std::mutex mutex;
  PublisherId next_id = 1;                      // guarded by mutex
  std::map<PublisherId, Publisher> publishers;  // guarded by mutex
};

Transport::Transport(const Options& options) : impl_(std::make_unique<Impl>(options)) {
  std::string files = RaiseFileLimit(options.max_publishers);
  impl_->context = zmq_ctx_new();
  if (!impl_->context) {
    impl_->limit_warning = fmt::format("ZeroMQ cannot start: {}", zmq_strerror(zmq_errno()));
    return;
  }
  zmq_ctx_set(impl_->context, ZMQ_IO_THREADS, static_cast<int>(options.io_threads));
  const std::string sockets = RaiseSocketLimit(impl_->context, options.max_publishers);
  for (uint32_t i = 0; i < std::max<uint32_t>(options.threads, 1); ++i) {
    auto loop = IngestLoop::Start(fmt::format("ingest-{}", i), impl_->context, impl_->options);
    if (!loop) {
      files = loop.error().Message();
      break;
    }
    impl_->loops.push_back(std::move(*loop));
  }
  impl_->limit_warning = files;
  if (!files.empty() && !sockets.empty()) impl_->limit_warning += "; ";
  impl_->limit_warning += sockets;
}

Transport::~Transport() = default;

const std::string& Transport::limit_warning() const { return impl_->limit_warning; }

Result<Transport::PublisherId> Transport::Add(const PublisherAddress& address,
                                              const StreamOptions& options,
                                              std::unique_ptr<Consumer> consumer,
                                              std::optional<PublisherId> replaces) {
  if (impl_->loops.empty()) return Fail("nothing can be listened to", {}, impl_->limit_warning);
  if (address.mode == ListenMode::kIngest) {
    if (!address.intake) return Fail("nothing is handed in", {}, "an intake");
  } else if (auto endpoint = Endpoint::Parse(address.endpoint); !endpoint) {
    return tl::unexpected(endpoint.error());
  }
  std::string bound_to;
  if (address.mode == ListenMode::kBind) {
    if (auto good = BoundEndpoint::Check(address.endpoint); !good) {
      return tl::unexpected(good.error());
    }
    if (!address.peer.empty() && !CanonicalAddress(address.peer)) {
      return Fail(fmt::format("'{}' is no address", address.peer), "peer",
                  "the numeric IPv4 or IPv6 address that the publisher connects from");
    }
    bound_to = BoundEndpoint::KeyOf(address.endpoint);
  }
  if (options.has_replay) {
    if (auto endpoint = Endpoint::Parse(address.replay_endpoint); !endpoint) {
      return tl::unexpected(std::move(endpoint.error()).Within("replay"));
    }
  }
  PublisherId id = 0;
  Impl::Publisher publisher;
  {
    const std::lock_guard lock(impl_->mutex);
    const size_t going = replaces && impl_->publishers.contains(*replaces) ? 1 : 0;
    if (impl_->publishers.size() - going >= impl_->options.max_publishers) {
      return Fail(
          fmt::format("{} publishers are registered, which is the limit", impl_->publishers.size()),
          {}, "a greater limit of publishers, or one that is unregistered first");
    }
    id = impl_->next_id++;
    publisher = {impl_->LoopFor(bound_to), std::make_shared<CounterBoard>(), bound_to};
    impl_->publishers.emplace(id, publisher);
  }
  Status added;
  publisher.loop->Call([&] {
    added = publisher.loop->Add(
        id,
        std::make_unique<PublisherLink>(impl_->context, impl_->resolver, publisher.loop->watcher(),
                                        id, impl_->options, address, options, std::move(consumer)),
        publisher.board);
  });
  if (added) return id;
  const std::lock_guard lock(impl_->mutex);
  impl_->publishers.erase(id);
  return tl::unexpected(added.error());
}

void Transport::Remove(PublisherId id) {
  const auto publisher = impl_->Find(id);
  if (!publisher) return;
  publisher->loop->Call([&] { publisher->loop->Remove(id); });
  const std::lock_guard lock(impl_->mutex);
  impl_->publishers.erase(id);
}

bool Transport::Run(PublisherId id, const std::function<void(PublisherStream&, Consumer&)>& work) {
  const auto publisher = impl_->Find(id);
  if (!publisher) return false;
  const std::lock_guard alone(publisher->board->work);
  bool found = false;
  publisher->loop->Call([&] {
    PublisherLink* link = publisher->loop->Find(id);
    if (!link) return;
    found = true;
    work(link->stream(), link->consumer());
  });
  return found;
}

bool Transport::RunHeld(PublisherId id,
                        const std::function<bool(PublisherStream&, Consumer&)>& step) {
  constexpr Duration kOthersWait = std::chrono::milliseconds(2);
  const auto publisher = impl_->Find(id);
  if (!publisher) return false;
  const std::lock_guard alone(publisher->board->work);
  bool found = true;
  bool more = true;
  while (found && more) {
    publisher->loop->Call([&] {
      PublisherLink* link = publisher->loop->Find(id);
      found = link != nullptr;
      if (!found) return;
      publisher->loop->Hold(id);
      const MonoTime until = MonoNow() + kOthersWait;
      do {
        more = step(link->stream(), link->consumer());
      } while (more && MonoNow() < until);
      if (!more) publisher->loop->LetGo(id);
    });
  }
  return found;
}

StreamCounters Transport::Counters(PublisherId id) const {
  const auto publisher = impl_->Find(id);
  if (!publisher) return {};
  const std::lock_guard lock(publisher->board->mutex);
  StreamCounters counters = publisher->board->counters;
  if (publisher->board->unrouted) counters.unrouted = publisher->board->unrouted->load();
  return counters;
}

}  // namespace conductor::stream
