#include "daemon/proxy/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "daemon/proxy/routes.h"
#include "lib/base/log.h"

namespace conductor::proxy {
namespace {

// When a connection cannot be taken: no file descriptor is free.
constexpr std::chrono::milliseconds kAcceptPause(100);
// How often kept connections to engines are looked at.
constexpr std::chrono::seconds kSweepEvery(1);

// Counts while it lives.
class Counted {
 public:
  explicit Counted(std::atomic<uint64_t>& count) : count_(count) {
    count_.fetch_add(1, std::memory_order_relaxed);
  }
  ~Counted() { count_.fetch_sub(1, std::memory_order_relaxed); }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

 private:
  std::atomic<uint64_t>& count_;
};

// One of `limit` places while it lives, if one was free. Exact, whatever other lanes do meanwhile.
class Place {
 public:
  Place(std::atomic<uint64_t>& taken, uint64_t limit) : taken_(taken) {
    uint64_t others = taken.load(std::memory_order_relaxed);
    do {
      is_free_ = others < limit;
    } while (is_free_ &&
             !taken.compare_exchange_weak(others, others + 1, std::memory_order_relaxed));
  }
  ~Place() {
    if (is_free_) taken_.fetch_sub(1, std::memory_order_relaxed);
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  [[nodiscard]] bool is_free() const { return is_free_; }

 private:
  std::atomic<uint64_t>& taken_;
  bool is_free_ = false;
};

// A request's departure is told of its client while this lives.
class Watched {
 public:
  Watched(ClientConnection& client, Departure& departure) : client_(client) {
    client_.Watch(departure);
  }
  ~Watched() { client_.Unwatch(); }
  Watched(const Watched&) = delete;
  Watched& operator=(const Watched&) = delete;

 private:
  ClientConnection& client_;
};

// What became of a request that nobody worked on.
constexpr const char* kRefused = "refused";
constexpr const char* kLeft = "client_left";

std::string_view OutcomeOf(const Request& request) {
  if (request.departure.happened()) return kLeft;
  return request.record.status == 0 ? "cut" : "done";
}

// Route(), and what a library throws on the way is this request's end and nobody else's.
Awaitable<void> RouteSafely(Request& request) {
  std::string what;
  try {
    co_return co_await Route(request);
  } catch (const std::exception& error) {
    what = error.what();
  }
  log::Error("{} {}: an error of the proxy itself: {}", request.path_label,
             request.record.request_id, what);
  request.shared.metrics.FailedInside();
  if (request.client.has_begun()) {
    request.record.outcome = "broke_off: an error of the proxy itself";
    co_return request.client.Abort();
  }
  request.record.outcome = "internal_error";
  co_await AnswerError(request, 500, "internal_error", "an error of the proxy itself");
}

Awaitable<void> Work(Request& request) {
  Shared& shared = request.shared;
  if (!IsWork(request.record.method, request.record.path)) {
    co_return co_await RouteSafely(request);
  }
  const Place place(shared.requests, shared.options.max_requests);
  if (place.is_free()) co_return co_await RouteSafely(request);
  request.record.outcome = kRefused;
  co_await AnswerError(request, 429, "rate_limit_exceeded",
                       "the proxy has as many requests in hand as it may", 1);
}

// One request, from its coming until its answer's end.
Awaitable<void> Handle(Shared& shared, Lane& lane, ClientConnection& client, ClientRequest& asked) {
  Departure departure;
  AccessRecord record;
  record.request_id = RequestIdOf(asked.head.fields);
  record.peer = client.peer();
  record.method = asked.head.method;
  record.path = asked.head.path();
  record.request_bytes = asked.body.size();
  Request request{shared,   lane, client, asked, departure, record, PathLabel(record.path),
                  MonoNow()};
  {
    const Watched watched(client, departure);
    co_await Work(request);
  }
  client.ReleaseBody(asked);
  record.took = MonoNow() - request.began;
  if (record.outcome.empty()) record.outcome = OutcomeOf(request);
  if (departure.happened()) shared.metrics.ClientLeft(request.path_label);
  if (record.status > 0) shared.metrics.Answered(request.path_label, record.status);
  shared.access_log.Write(record);
}

// What could not be read as a request, or did not come whole.
Awaitable<void> Refuse(Shared& shared, ClientConnection& client, const RefusedRequest& refused) {
  AccessRecord record;
  record.request_id = RequestIdOf(refused.head.fields);
  record.peer = client.peer();
  record.method = refused.head.method;
  record.path = refused.head.path();
  record.status = refused.status;
  record.request_bytes = refused.body_bytes;
  record.outcome = refused.status == 0 ? refused.what : kRefused;
  const std::string_view path_label = PathLabel(record.path);
  bool sent = false;
  if (refused.status == 0) {
    if (refused.what == kLeft) shared.metrics.ClientLeft(path_label);
  } else {
    Fields more;
    more.Add("X-Request-Id", record.request_id);
    if (refused.status == 503) more.Add("Retry-After", "1");
    const std::string body = ErrorBody(refused.status, "invalid_request_error", refused.what);
    record.bytes = body.size();
    shared.metrics.Answered(path_label, refused.status);
    sent = co_await client.Answer(refused.status, "application/json", body, more);
  }
  record.took = refused.took;
  shared.access_log.Write(record);
  if (sent) co_await client.Linger();
}

Awaitable<void> Serve(Shared& shared, Lane& lane, std::shared_ptr<ClientConnection> client) {
  const Counted connected(shared.connections);
  const Departure::Listener ends(lane.ending, [&client] { client->Cut(); });
  while (true) {
    auto next = co_await client->Next();
    if (!next) co_return;
    if (!*next) co_return co_await Refuse(shared, *client, next->error());
    co_await Handle(shared, lane, *client, **next);
  }
}

}  // namespace

Server::Server(const ProxyOptions& options, const std::string& host, uint16_t port)
    : options_(options), host_(host), port_(port) {
  for (uint32_t i = 0; i < options.threads; ++i) {
    strands_.push_back(std::make_unique<Strand>(options.upstreams));
  }
}

Server::~Server() { Stop(); }

Result<uint16_t> Server::Bind() {
  net::io_context& io = strands_.front()->lane.io;
  error_code error;
  tcp::resolver resolver(io);
  const std::string where = fmt::format("{}:{}", host_, port_);
  const auto found = resolver.resolve(host_, std::to_string(port_), tcp::resolver::passive, error);
  if (error || found.empty()) {
    return Fail(fmt::format("cannot listen: {}", error.message()), where,
                "an address of this machine");
  }
  const tcp::endpoint endpoint = found.begin()->endpoint();
  acceptor_ = std::make_unique<tcp::acceptor>(io);
  acceptor_->open(endpoint.protocol(), error);
  if (!error) acceptor_->set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor_->bind(endpoint, error);
  if (!error) acceptor_->listen(tcp::acceptor::max_listen_connections, error);
  if (error) return Fail(fmt::format("cannot listen: {}", error.message()), where);
  return acceptor_->local_endpoint().port();
}

void Server::Start(Shared& shared) {
  shared_ = &shared;
  pause_ = std::make_unique<net::steady_timer>(strands_.front()->lane.io);
  for (const auto& strand : strands_) {
    work_.push_back(std::make_unique<net::executor_work_guard<net::io_context::executor_type>>(
        strand->lane.io.get_executor()));
  }
  net::post(strands_.front()->lane.io, [this] { Accept(); });
  for (const auto& strand : strands_) {
    net::post(strand->lane.io, [this, &strand = *strand] { Sweep(strand); });
    strand->thread = std::thread([&io = strand->lane.io] { io.run(); });
  }
}

void Server::Accept() {
  Strand& strand = *strands_[next_++ % strands_.size()];
  acceptor_->async_accept(strand.lane.io, [this, &strand](error_code error, tcp::socket socket) {
    if (error == net::error::operation_aborted || !acceptor_->is_open()) return;
    if (error) {
      log::Warn("a connection cannot be taken: {}", error.message());
      pause_->expires_after(kAcceptPause);
      return pause_->async_wait([this](error_code cancelled) {
        if (!cancelled) Accept();
      });
    }
    if (shared_->connections.load(std::memory_order_relaxed) >= options_.max_connections) {
      socket.close(error);
    } else {
      Take(strand, std::move(socket));
    }
    Accept();
  });
}

void Server::Sweep(Strand& strand) {
  const auto engines = shared_->fleet.Engines(MonoNow());
  strand.lane.upstreams.Sweep([&](const std::string& name) {
    return std::ranges::any_of(engines, [&](const Fleet::Standing& one) {
      return !one.draining && one.engine->name() == name;
    });
  });
  if (strand.lane.ending.happened()) return;
  strand.sweep.expires_after(kSweepEvery);
  strand.sweep.async_wait([this, &strand](error_code cancelled) {
    if (!cancelled) Sweep(strand);
  });
}

void Server::Take(Strand& strand, tcp::socket socket) {
  net::post(strand.lane.io, [this, &strand, taken = std::move(socket)]() mutable {
    ClientConnection::Options clients = options_.clients;
    clients.is_work = IsWork;
    const auto client = std::make_shared<ClientConnection>(std::move(taken), strand.lane.limits,
                                                           shared_->bodies, clients);
    strand.clients.insert(client);
    // The strand may have drained its others meanwhile.
    if (shared_->drains.load(std::memory_order_relaxed)) client->Drain();
    net::co_spawn(
        strand.lane.io, [this, &strand, client] { return Serve(*shared_, strand.lane, client); },
        [&strand, client](const std::exception_ptr& error) {
          strand.clients.erase(client);
          if (error == nullptr) return;
          // For want of memory, for there is no request to answer.
          log::Error("{}: an error of the proxy itself ends a connection", client->peer());
          client->Cut();
        });
  });
}

void Server::Drain() {
  if (shared_ == nullptr) return;
  net::post(strands_.front()->lane.io, [this] {
    error_code ignored;
    acceptor_->close(ignored);
    pause_->cancel();
  });
  for (const auto& strand : strands_) {
    net::post(strand->lane.io, [&strand = *strand] {
      for (const auto& client : strand.clients) client->Drain();
    });
  }
}

void Server::Stop() {
  if (work_.empty()) return;
  Drain();
  for (const auto& strand : strands_) {
    net::post(strand->lane.io, [&strand = *strand] {
      strand.lane.ending.Happen();
      strand.lane.upstreams.Clear();
      strand.sweep.cancel();
    });
  }
  work_.clear();
  for (const auto& strand : strands_) strand->thread.join();
}

}  // namespace conductor::proxy
