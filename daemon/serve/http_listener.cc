#include "daemon/serve/http_listener.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "daemon/serve/file_descriptor.h"
#include "daemon/serve/http_framing.h"
#include "daemon/serve/http_workers.h"
#include "lib/base/log.h"

namespace conductor::serve {
namespace {

constexpr int kListenBacklog = 1024;
constexpr size_t kMaxLingering = 64;  // of those beyond max_connections

// Raises the soft limit of file descriptors by what the connections need beside the rest of the
// process.
void AddDescriptors(uint32_t connections) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max - std::min<rlim_t>(limit.rlim_cur, limit.rlim_max) > connections
                       ? limit.rlim_cur + connections
                       : limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) ::getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur < connections) {
    log::Warn(
        "http: {} connections are not possible with {} file descriptors: raise the hard limit",
        connections, limit.rlim_cur);
  }
}

// Connections beyond the limit, half closed: the answer is sent, the client has not left yet.
class Lingering {
 public:
  void Add(FileDescriptor socket, std::string_view answer) {
    if (::send(socket.get(), answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return;
    ::shutdown(socket.get(), SHUT_WR);
    if (sockets_.size() == kMaxLingering) sockets_.pop_front();
    sockets_.push_back({std::move(socket), MonoNow() + kHttpLingerTime});
  }

  void AppendTo(std::vector<pollfd>& polled) const {
    for (const Entry& entry : sockets_) polled.push_back({entry.socket.get(), POLLIN, 0});
  }

  // For poll(): -1 when there are none.
  [[nodiscard]] int Milliseconds() const {
    return sockets_.empty() ? -1 : MillisecondsUntil(sockets_.front().until);
  }

  // Reads and forgets what has come; drops those that left or whose time is over.
  void Drain() {
    const MonoTime now = MonoNow();
    std::erase_if(sockets_, [now](const Entry& entry) {
      char bytes[4096];
      const ssize_t got = ::recv(entry.socket.get(), bytes, sizeof bytes, 0);
      const bool left = got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
      return left || now >= entry.until;
    });
  }

 private:
  struct Entry {
    FileDescriptor socket;
    MonoTime until;
  };
  std::deque<Entry> sockets_;  // oldest first
};

}  // namespace

struct HttpListener::Impl {
  explicit Impl(const Options& given) : options(given), shared(given.limits) {}

  Options options;
  HttpConnection::Shared shared;
  FileDescriptor listening;
  std::thread acceptor;
  HttpWorkers workers{shared};

  mutable std::mutex tls_mutex;
  std::shared_ptr<const TlsContext> tls;  // guarded by tls_mutex; nothing: plain

  // Counters for connections(); each stands for itself.
  std::atomic<uint64_t> accepted = 0;
  std::atomic<uint64_t> rejected = 0;

  std::shared_ptr<const TlsContext> Tls() const {
    const std::lock_guard lock(tls_mutex);
    return tls;
  }
  std::unique_ptr<HttpTransport> MakeTransport(FileDescriptor socket) const;
  Result<FileDescriptor> Bind() const;
  void AcceptLoop();
  // Ends what was started.
  void End();
};

Result<FileDescriptor> HttpListener::Impl::Bind() const {
  std::string host = options.host;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  const bool is_ipv6 = host.find(':') != std::string::npos;
  const std::string where = is_ipv6 ? fmt::format("[{}]:{}", host, options.port)
                                    : fmt::format("{}:{}", host, options.port);
  const auto fail = [&where](std::string_view why) {
    return Fail(fmt::format("cannot listen: {}", why), where);
  };
  if (host.empty()) return fail("the host is empty");

  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (const int error =
          ::getaddrinfo(host.c_str(), std::to_string(options.port).c_str(), &hints, &found);
      error != 0) {
    return fail(::gai_strerror(error));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(found, ::freeaddrinfo);
  int last_error = 0;
  for (const addrinfo* address = addresses.get(); address != nullptr; address = address->ai_next) {
    FileDescriptor socket(::socket(address->ai_family,
                                   address->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
                                   address->ai_protocol));
    const int yes = 1;
    const int no = 0;
    if (socket.get() >= 0) {
      // Only this: SO_REUSEPORT would let a second daemon share the port without a word.
      ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
      if (address->ai_family == AF_INET6) {
        ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
      }
      if (::bind(socket.get(), address->ai_addr, address->ai_addrlen) == 0 &&
          ::listen(socket.get(), kListenBacklog) == 0) {
        return socket;
      }
    }
    last_error = errno;
  }
  return fail(std::strerror(last_error));
}

std::unique_ptr<HttpTransport> HttpListener::Impl::MakeTransport(FileDescriptor socket) const {
  if (auto context = Tls()) {
    return std::make_unique<TlsTransport>(std::move(socket), std::move(context));
  }
  return std::make_unique<HttpTransport>(std::move(socket));
}

void HttpListener::Impl::AcceptLoop() {
  const std::string too_many = RefusalBytes(
      shared.router.Written(
          {503, "too_many_connections",
           fmt::format("{} connections are open, which is the limit (--http-max-connections)",
                       options.max_connections)},
          HttpHead()),
      false);
  Lingering lingering;
  std::vector<pollfd> polled;
  bool out_of_descriptors = false;
  for (;;) {
    polled.assign({{shared.stop_event.get(), POLLIN, 0},
                   {out_of_descriptors ? -1 : listening.get(), POLLIN, 0}});
    lingering.AppendTo(polled);
    const int timeout = lingering.Milliseconds();
    ::poll(polled.data(), polled.size(), out_of_descriptors ? 20 : timeout);
    if (polled[0].revents != 0) return;
    lingering.Drain();

    for (;;) {
      FileDescriptor socket(
          ::accept4(listening.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (socket.get() < 0) {
        // Whatever accept() says, the server goes on; what cannot pass at once is tried again.
        const int error = errno;
        if (error == EINTR || error == ECONNABORTED) continue;
        const bool waits = error != EAGAIN && error != EWOULDBLOCK;
        if (waits && !out_of_descriptors) {
          log::Warn("http: cannot accept connections: {}", std::strerror(error));
        }
        out_of_descriptors = waits;
        break;
      }
      const int yes = 1;
      ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
      ::setsockopt(socket.get(), SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
      if (workers.connections() < options.max_connections) {
        if (workers.Add(
                std::make_unique<HttpConnection>(shared, MakeTransport(std::move(socket))))) {
          accepted.fetch_add(1, std::memory_order_relaxed);
        } else {
          rejected.fetch_add(1, std::memory_order_relaxed);
          log::Warn("http: a connection was closed: the kernel does not wait for it");
        }
      } else {
        rejected.fetch_add(1, std::memory_order_relaxed);
        shared.Observe({"other", 503, "too_many_connections", -1});
        // A client that speaks TLS could not read it.
        if (!Tls()) lingering.Add(std::move(socket), too_many);
      }
      if (shared.stopping) return;
    }
  }
}

HttpListener::HttpListener(const Options& options) : impl_(std::make_unique<Impl>(options)) {}

HttpListener::~HttpListener() { Stop(); }

void HttpListener::Route(const std::string& method, const std::string& path, HttpHandler handler,
                         Access access) {
  impl_->shared.router.Add(method, path, std::move(handler), access);
}

void HttpListener::WriteRefusals(HttpRouter::RefusalWriter writer) {
  impl_->shared.router.WriteRefusals(std::move(writer));
}

const std::vector<std::pair<std::string, std::string>>& HttpListener::routes() const {
  return impl_->shared.router.routes();
}

Access HttpListener::access(size_t route) const { return impl_->shared.router.access(route); }

HttpResponse HttpListener::Respond(const HttpHead& head, std::string body) const {
  return impl_->shared.router.Respond(head, std::move(body));
}

void HttpListener::Secure(std::shared_ptr<const TlsContext> tls) {
  const std::lock_guard lock(impl_->tls_mutex);
  impl_->tls.swap(tls);
}

void HttpListener::Require(AuthTokens tokens) { impl_->shared.gate.Require(std::move(tokens)); }

void HttpListener::OnExchange(std::function<void(const HttpExchange&)> observer) {
  impl_->shared.observer = std::move(observer);
}

Result<uint16_t> HttpListener::Start() {
  AddDescriptors(impl_->options.max_connections);
  auto bound = impl_->Bind();
  if (!bound) return tl::unexpected(bound.error());
  impl_->listening = std::move(*bound);
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  ::getsockname(impl_->listening.get(), reinterpret_cast<sockaddr*>(&address), &size);
  const uint16_t port = ntohs(address.ss_family == AF_INET6
                                  ? reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port
                                  : reinterpret_cast<const sockaddr_in*>(&address)->sin_port);

  impl_->shared.stop_event = FileDescriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (impl_->shared.stop_event.get() < 0) {
    impl_->listening.Close();
    return Fail(fmt::format("cannot create an event descriptor: {}", std::strerror(errno)));
  }
  if (auto started = impl_->workers.Start(); !started) {
    impl_->End();
    return tl::unexpected(started.error());
  }
  try {
    impl_->acceptor = std::thread([this] { impl_->AcceptLoop(); });
  } catch (const std::system_error& error) {
    impl_->End();
    return Fail(fmt::format("no thread can be started for connections: {}", error.what()));
  }
  return port;
}

void HttpListener::Stop() {
  if (impl_->acceptor.joinable()) impl_->End();
}

void HttpListener::Impl::End() {
  shared.stopping = true;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(shared.stop_event.get(), &one, sizeof one);
  if (acceptor.joinable()) acceptor.join();
  listening.Close();
  workers.Stop();
}

HttpConnections HttpListener::connections() const {
  return {impl_->workers.connections(),
          impl_->accepted.load(std::memory_order_relaxed),
          impl_->rejected.load(std::memory_order_relaxed),
          impl_->shared.unopened.load(std::memory_order_relaxed),
          impl_->shared.bodies.taken(),
          impl_->workers.threads()};
}

}  // namespace conductor::serve
