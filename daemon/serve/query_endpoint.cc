#include "daemon/serve/query_endpoint.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <zmq.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include "daemon/serve/answer_document.h"
#include "daemon/serve/file_descriptor.h"
#include "daemon/serve/query_frames.h"
#include "daemon/serve/query_routes.h"
#include "lib/base/clock.h"
#include "lib/base/endpoint.h"
#include "lib/base/fair_mutex.h"
#include "lib/base/log.h"
#include "lib/stream/peer_socket.h"
#include "lib/stream/unfinished_messages.h"
#include "lib/stream/zmq_socket.h"

namespace conductor::serve {
namespace {

using stream::ZmqFrame;
using stream::ZmqMessage;
using stream::ZmqSocket;

constexpr std::string_view kOther = "other";  // paths that are not ours
constexpr std::string_view kExpected =
    "tcp://ADDRESS:PORT (an address of this machine, or * for all) or ipc://PATH";

// Messages that are taken from the socket before the lock is left to somebody else.
constexpr int kMostAtOnce = 128;
// So often in a row by whoever looks at the peers.
constexpr int kMostDrains = 64;
// A peer that takes longer for ZeroMQ's handshake is cut off.
constexpr auto kHandshakeTime = std::chrono::seconds(5);
// While all others answer, and take what has come whenever they are done with a request, the thread
// that is left looks so often for what has to be refused: waking it for each message would take
// time from them.
constexpr auto kNapTime = std::chrono::milliseconds(1);
// What is answered last has so long to get out.
constexpr auto kLingerTime = std::chrono::milliseconds(250);
// How often it is looked what peers have sent that is no whole message.
constexpr auto kLookTime = std::chrono::milliseconds(100);
// What of a message is neither its body nor more than a refusal needs to see of it.
constexpr uint64_t kBesideBody = 1 << 20;
// Silence after which TCP asks a peer whether it is still there, in seconds.
constexpr int kTcpKeepAliveIdle = 60;

int Milliseconds(Duration duration) {
  return static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}

// Whom an answer goes to: frames that libzmq made, so that none is copied.
struct ReturnAddress {
  ZmqFrame identity;
  ZmqFrame id;
  bool has_id = false;
  bool delimited = false;
  std::string_view path = kOther;
  MonoTime came;
};

struct Request {
  ReturnAddress from;
  const BodyRoute* route = nullptr;
  ZmqFrame body;
};

BodyAnswer Refused(int status, const RequestError& error) {
  return {status, ErrorDocument(error, BodyForm::kMsgpack)};
}

Error SystemError(const char* what) {
  return Error{fmt::format("{}: {}", what, std::strerror(errno)), {}, {}};
}

// "tcp://HOST:*" with a port in its place, for what reads addresses.
std::string WithPort(std::string_view address) {
  std::string text(address);
  if (text.ends_with(":*")) text.replace(text.size() - 1, 1, "1");
  return text;
}

}  // namespace

struct QueryEndpoint::Impl {
  Impl(const RouteContext& given_context, Options given, std::span<const BodyRoute> given_routes)
      : options(std::move(given)),
        most_answering(options.threads != 0 ? options.threads
                                            : std::max(1U, std::thread::hardware_concurrency())),
        routes(given_routes),
        context(given_context) {
    context.stopping = stopping.get_token();
  }

  [[nodiscard]] Status OpenSocket();
  [[nodiscard]] Status OpenEvents();
  void Stop();

  void Run();
  // What needs the lock. Whoever holds it calls Drain() after everything else that it does with the
  // socket, and leaves it only then, with `more_to_drain` set, or to come back soon: libzmq tells
  // through its descriptor only of what comes after its queue was found empty.
  void Drain();
  // Whether whoever takes the next request may leave that to who comes back first: another one
  // waits already, and the socket was looked at a moment ago. To find its queue empty takes two
  // system calls.
  [[nodiscard]] bool CanPutOffDraining() const;
  void Take(ZmqMessage& message);
  void Send(const ReturnAddress& to, BodyAnswer answer);
  [[nodiscard]] std::optional<Request> Next();
  // One idle thread, if there is one, looks again.
  void WakeOne() const;

  // What does not.
  void WatchPeers();
  // False at the end.
  [[nodiscard]] bool WaitForALook(bool anybody) const;
  [[nodiscard]] BodyAnswer AnswerTo(const Request& request) const;
  void WaitForWork() const;
  void Nap() const;

  const Options options;
  const uint32_t most_answering;
  const std::span<const BodyRoute> routes;
  std::stop_source stopping;
  RouteContext context;
  const std::string busy_body =
      Refused(503, {"too many requests wait; send it again", "busy", "", {}}).body;

  void* zmq = nullptr;
  std::string bound;
  FileDescriptor events;  // epoll: the socket's descriptor, `wake`, `stop`
  FileDescriptor wake;    // written for each thread that is to look again; never read
  FileDescriptor stop;    // readable once the endpoint ends
  std::vector<std::thread> threads;
  std::thread watching;  // the peers

  FairSharedMutex mutex;           // guards what follows
  stream::MonitoredSocket router;  // but its monitor, which is `watching`'s
  ZmqMessage message;              // the one that is being taken; kept for its memory
  std::deque<Request> queue;
  uint64_t queued_bytes = 0;
  uint32_t answering = 0;
  uint32_t idle = 0;  // threads in WaitForWork()
  bool more_to_drain = false;
  MonoTime drained{};       // when Drain() was called last
  std::vector<bool> spoke;  // by file descriptor: connections that messages came through
  QueryStats stats;
};

Status QueryEndpoint::Impl::OpenSocket() {
  zmq = zmq_ctx_new();
  auto created = stream::MonitoredSocket::Create(
      zmq, ZMQ_ROUTER, ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_DISCONNECTED,
      "query-peers");
  if (!created) return tl::unexpected(created.error());
  router = std::move(*created);
  ZmqSocket& socket = router.socket();
  // Full or gone: told, so that it can be counted.
  socket.Set(ZMQ_ROUTER_MANDATORY, 1);
  // A router that comes back under its name is not ignored until its old connection is found dead.
  socket.Set(ZMQ_ROUTER_HANDOVER, 1);
  socket.Set(ZMQ_SNDHWM, kMostUnread);
  // What one client sent and nobody has taken stays in TCP beyond this.
  socket.Set(ZMQ_RCVHWM, 64);
  socket.SetInt64(ZMQ_MAXMSGSIZE, static_cast<int64_t>(2 * options.max_body_bytes));
  socket.Set(ZMQ_HANDSHAKE_IVL, Milliseconds(kHandshakeTime));
  socket.Set(ZMQ_LINGER, Milliseconds(kLingerTime));
  // ZeroMQ's own heartbeats would cut off clients that speak its older versions.
  socket.Set(ZMQ_TCP_KEEPALIVE, 1);
  socket.Set(ZMQ_TCP_KEEPALIVE_IDLE, kTcpKeepAliveIdle);
  if (options.address.find('[') != std::string::npos) socket.Set(ZMQ_IPV6, 1);
  if (zmq_bind(socket.raw(), options.address.c_str()) != 0) {
    return Fail(fmt::format("cannot listen: {}", zmq_strerror(zmq_errno())), options.address,
                std::string(kExpected));
  }
  char last[256] = {};
  size_t size = sizeof last;
  zmq_getsockopt(socket.raw(), ZMQ_LAST_ENDPOINT, last, &size);
  bound = last;
  return {};
}

Status QueryEndpoint::Impl::OpenEvents() {
  events = FileDescriptor(::epoll_create1(EPOLL_CLOEXEC));
  wake = FileDescriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  stop = FileDescriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  // By edge, each event wakes one thread; the end wakes all.
  const auto watch = [this](int fd, uint32_t what) {
    epoll_event event{.events = what, .data = {}};
    return ::epoll_ctl(events.get(), EPOLL_CTL_ADD, fd, &event) == 0;
  };
  if (!watch(router.fd(), EPOLLIN | EPOLLET) || !watch(wake.get(), EPOLLIN | EPOLLET) ||
      !watch(stop.get(), EPOLLIN)) {
    return tl::unexpected(SystemError("no events for the query endpoint"));
  }
  return {};
}

void QueryEndpoint::Impl::Run() {
  std::unique_lock lock(mutex);
  for (;;) {
    const bool put_off = CanPutOffDraining();
    if (!put_off) Drain();
    if (stopping.stop_requested()) return;
    if (std::optional<Request> request = Next()) {
      ++answering;
      const bool for_another = !queue.empty() && answering < most_answering;
      if (idle > 0 && (more_to_drain || put_off || for_another)) WakeOne();
      lock.unlock();
      BodyAnswer answer = AnswerTo(*request);
      lock.lock();
      --answering;
      Send(request->from, std::move(answer));
      continue;
    }
    if (more_to_drain) {
      // Whoever waits for the lock has its turn now.
      lock.unlock();
      lock.lock();
      continue;
    }
    const bool nothing_to_do = answering < most_answering;
    idle += nothing_to_do ? 1 : 0;
    lock.unlock();
    nothing_to_do ? WaitForWork() : Nap();
    lock.lock();
    idle -= nothing_to_do ? 1 : 0;
  }
}

bool QueryEndpoint::Impl::CanPutOffDraining() const {
  return queue.size() > 1 && answering < most_answering && MonoNow() - drained < kNapTime;
}

void QueryEndpoint::Impl::Drain() {
  drained = MonoNow();
  for (int taken = 0; taken < kMostAtOnce; ++taken) {
    if (!router.socket().Receive(message)) {
      more_to_drain = false;
      return;
    }
    Take(message);
  }
  more_to_drain = true;
}

void QueryEndpoint::Impl::Take(ZmqMessage& taken) {
  Request request;
  request.from.came = MonoNow();
  std::vector<ZmqFrame>& frames = taken.frames;
  if (const int fd = frames.back().source_fd(); fd >= 0) {
    if (spoke.size() <= static_cast<size_t>(fd)) spoke.resize(static_cast<size_t>(fd) + 1);
    spoke[static_cast<size_t>(fd)] = true;
  }
  request.from.identity = std::move(frames[0]);
  std::array<std::string_view, ZmqMessage::kMostFrames> views;
  for (size_t i = 1; i < frames.size(); ++i) views[i - 1] = frames[i].view();
  const FramedQuery query = ReadQueryFrames(std::span(views).first(frames.size() - 1), routes);
  request.from.delimited = query.delimited;
  request.from.has_id = query.id.has_value();
  if (query.id) request.from.id = std::move(frames[*query.id + 1]);
  if (query.error) return Send(request.from, Refused(query.status, *query.error));
  request.from.path = query.route->path;
  request.route = query.route;
  request.body = std::move(frames[query.body + 1]);
  const uint64_t bytes = request.body.view().size();
  if (bytes > options.max_body_bytes) {
    return Send(
        request.from,
        Refused(413, {fmt::format("the body has {} bytes (expected at most {}: --http-max-body)",
                                  bytes, options.max_body_bytes),
                      "body_too_large",
                      "",
                      {}}));
  }
  if (stopping.stop_requested()) {
    return Send(request.from, Refused(503, Stopping()));
  }
  // A request that finds a thread free does not wait, whatever its size.
  const bool waits = queue.size() + answering >= most_answering;
  if (waits &&
      (queue.size() >= options.max_queued || queued_bytes + bytes > options.max_queued_bytes)) {
    return Send(request.from, BodyAnswer{503, busy_body});
  }
  queued_bytes += bytes;
  queue.push_back(std::move(request));
}

std::optional<Request> QueryEndpoint::Impl::Next() {
  if (queue.empty() || answering >= most_answering) return std::nullopt;
  std::optional<Request> request(std::move(queue.front()));
  queue.pop_front();
  queued_bytes -= request->body.view().size();
  return request;
}

BodyAnswer QueryEndpoint::Impl::AnswerTo(const Request& request) const {
  constexpr BodyForm kForm = BodyForm::kMsgpack;
  try {
    return request.route->answer(context, BodyBytes(request.body.view()), kForm, kForm);
  } catch (const std::exception& error) {
    log::Error("query endpoint: {} failed: {}", request.route->path, error.what());
  } catch (...) {
    log::Error("query endpoint: {} failed", request.route->path);
  }
  return Refused(500, {"internal error", "internal_error", "", {}});
}

void QueryEndpoint::Impl::Send(const ReturnAddress& to, BodyAnswer answer) {
  const fmt::format_int status(answer.status);
  std::array<std::string_view, 4> frames;
  size_t count = 0;
  frames[count++] = to.identity.view();
  if (to.delimited) frames[count++] = {};
  frames[count++] = to.has_id ? to.id.view() : std::string_view();
  frames[count++] = {status.data(), status.size()};
  if (!router.socket().Send(std::span(frames).first(count), std::move(answer.body))) {
    ++(zmq_errno() == EHOSTUNREACH ? stats.dropped_gone : stats.dropped_unread);
  }
  const std::chrono::duration<double> seconds = MonoNow() - to.came;
  stats.Count(to.path, answer.status, seconds.count());
}

void QueryEndpoint::Impl::WatchPeers() {
  const uint64_t each = 2 * options.max_body_bytes + kBesideBody;
  stream::UnfinishedMessages peers("query endpoint",
                                   {.each = each, .together = each + options.max_queued_bytes});
  std::vector<stream::SocketEvent> told;
  std::vector<bool> spoken;
  while (WaitForALook(!peers.empty())) {
    told.clear();
    router.TakeEvents(told);
    peers.Heed(told);
    peers.ReadSizes();
    spoken.clear();
    // Every peer has its turn in this, however much the others send; answers go out in between.
    bool more = true;
    for (int i = 0; i < kMostDrains && more; ++i) {
      const std::lock_guard lock(mutex);
      Drain();
      more = more_to_drain;
    }
    {
      const std::lock_guard lock(mutex);
      spoken.swap(spoke);
      if (idle > 0 && (more_to_drain || !queue.empty())) WakeOne();
    }
    const uint64_t cut = peers.CutOff(spoken);
    const std::lock_guard lock(mutex);
    stats.cut_off += cut;
  }
}

bool QueryEndpoint::Impl::WaitForALook(bool anybody) const {
  zmq_pollitem_t items[2] = {{router.monitor(), 0, ZMQ_POLLIN, 0},
                             {nullptr, stop.get(), ZMQ_POLLIN, 0}};
  if (!anybody) (void)zmq_poll(items, 2, -1);
  pollfd ended{stop.get(), POLLIN, 0};
  (void)::poll(&ended, 1, Milliseconds(kLookTime));
  return !stopping.stop_requested();
}

void QueryEndpoint::Impl::WakeOne() const { (void)::eventfd_write(wake.get(), 1); }

void QueryEndpoint::Impl::WaitForWork() const {
  epoll_event event{};
  (void)::epoll_wait(events.get(), &event, 1, -1);
}

void QueryEndpoint::Impl::Nap() const {
  pollfd ended{stop.get(), POLLIN, 0};
  (void)::poll(&ended, 1, Milliseconds(kNapTime));
}

void QueryEndpoint::Impl::Stop() {
  if (stopping.stop_requested()) return;
  stopping.request_stop();
  if (stop.get() >= 0) (void)::eventfd_write(stop.get(), 1);
  for (std::thread& thread : threads) thread.join();
  if (watching.joinable()) watching.join();
  const std::lock_guard lock(mutex);
  if (router) Drain();
  for (const Request& request : queue) {
    Send(request.from, Refused(503, Stopping()));
  }
  queue.clear();
  queued_bytes = 0;
  message.frames.clear();
  router = stream::MonitoredSocket();
  if (zmq != nullptr) zmq_ctx_term(std::exchange(zmq, nullptr));
}

QueryEndpoint::QueryEndpoint(const RouteContext& context, Options options)
    : QueryEndpoint(context, std::move(options), BodyRoutes()) {}

QueryEndpoint::QueryEndpoint(const RouteContext& context, Options options,
                             std::span<const BodyRoute> routes)
    : impl_(std::make_unique<Impl>(context, std::move(options), routes)) {}

QueryEndpoint::~QueryEndpoint() { Stop(); }

Result<std::string> QueryEndpoint::Start() {
  if (auto valid = CheckQueryAddress(impl_->options.address); !valid) {
    return tl::unexpected(std::move(valid.error()));
  }
  if (auto opened = impl_->OpenSocket(); !opened) return tl::unexpected(opened.error());
  if (auto opened = impl_->OpenEvents(); !opened) return tl::unexpected(opened.error());
  for (uint32_t i = 0; i <= impl_->most_answering; ++i) {
    impl_->threads.emplace_back([impl = impl_.get()] { impl->Run(); });
  }
  impl_->watching = std::thread([impl = impl_.get()] { impl->WatchPeers(); });
  return impl_->bound;
}

void QueryEndpoint::Stop() { impl_->Stop(); }

QueryStats QueryEndpoint::stats() const {
  const std::lock_guard lock(impl_->mutex);
  QueryStats stats = impl_->stats;
  stats.queued = impl_->queue.size();
  stats.queued_bytes = impl_->queued_bytes;
  stats.answering = impl_->answering;
  return stats;
}

Status CheckQueryAddress(std::string_view address) {
  const auto parsed = Endpoint::Parse(WithPort(address));
  if (parsed && parsed->scheme != "inproc") return {};
  return Fail(fmt::format("'{}' cannot be listened on", address), {}, std::string(kExpected));
}

bool IsLocalQueryAddress(std::string_view address) {
  const auto parsed = Endpoint::Parse(WithPort(address));
  if (!parsed) return false;
  return !parsed->is_tcp() || parsed->host == "::1" || parsed->host == "lo" ||
         parsed->host.starts_with("127.");
}

}  // namespace conductor::serve
