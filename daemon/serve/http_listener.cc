#include "daemon/serve/http_listener.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <httplib.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "daemon/serve/http_framing.h"
#include "lib/base/log.h"

namespace conductor::serve {
namespace {

constexpr int kListenBacklog = 1024;
constexpr size_t kThreadStackBytes = 512 << 10;
constexpr size_t kReadBytes = 64 << 10;
constexpr auto kStopGrace = std::chrono::milliseconds(250);
// How long a connection that was refused stays half open, so that the client reads the answer
// before the kernel resets it for the bytes it sent meanwhile.
constexpr auto kLingerTime = std::chrono::milliseconds(500);
constexpr size_t kMaxLingering = 64;  // of those beyond max_connections

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) : fd_(fd) {}
  ~FileDescriptor() { Close(); }
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    if (this != &other) {
      Close();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  [[nodiscard]] int get() const { return fd_; }
  void Close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_;
};

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

// For poll(): the whole milliseconds until `until`, rounded up; 0 when it has passed.
int MillisecondsUntil(MonoTime until) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - MonoNow()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 60'000));
}

const char* StatusText(int status) {
  switch (status) {
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 431:
      return "Request Header Fields Too Large";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Error";
  }
}

// A whole answer. The texts of refusals are ours and need no escapes.
std::string RefusalBytes(const HttpRefusal& refusal, bool keep_alive, std::string_view allow = {},
                         bool head_only = false) {
  const std::string body =
      fmt::format(R"({{"error":"{}","reason":"{}"}})", refusal.error, refusal.reason);
  std::string bytes =
      fmt::format("HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
                  refusal.status, StatusText(refusal.status), body.size());
  if (!allow.empty()) bytes += fmt::format("Allow: {}\r\n", allow);
  if (!keep_alive) bytes += "Connection: close\r\n";
  bytes += "\r\n";
  if (!head_only) bytes += body;
  return bytes;
}

// A complete request in memory as the library's idea of a connection, and the answer's bytes.
class MemoryStream : public httplib::Stream {
 public:
  MemoryStream(std::string head, std::string_view body) : head_(std::move(head)), body_(body) {}

  [[nodiscard]] bool is_readable() const override { return true; }
  [[nodiscard]] bool is_writable() const override { return true; }

  ssize_t read(char* to, size_t size) override {
    std::string_view& from = unread_head_.empty() ? body_ : unread_head_;
    const size_t take = std::min(size, from.size());
    std::memcpy(to, from.data(), take);
    from.remove_prefix(take);
    return static_cast<ssize_t>(take);
  }

  ssize_t write(const char* from, size_t size) override {
    answer_.append(from, size);
    return static_cast<ssize_t>(size);
  }

  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  // The library only compares it with FD_SETSIZE, for a select() that never comes.
  [[nodiscard]] socket_t socket() const override { return 0; }

  [[nodiscard]] const std::string& answer() const { return answer_; }

 private:
  const std::string head_;
  std::string_view unread_head_ = head_;
  std::string_view body_;
  std::string answer_;
};

}  // namespace

// The library's part: from a complete request to the bytes of its answer.
class HttpListener::Server : public httplib::Server {
 public:
  Server() {
    set_post_routing_handler([](const httplib::Request&, httplib::Response& response) {
      response.headers.erase("Keep-Alive");  // it would promise the library's limits
    });
  }

  void Route(const std::string& method, const std::string& path, HttpListener::Handler handler) {
    auto guarded = [handler = std::move(handler), path](HttpRequest request) {
      try {
        return handler(std::move(request));
      } catch (const std::exception& error) {
        log::Error("http: {} failed: {}", path, error.what());
      } catch (...) {
        log::Error("http: {} failed", path);
      }
      return HttpResponse{500, R"({"error":"internal error","reason":"internal_error"})"};
    };
    if (method == "GET") {
      Get(path, [guarded](const httplib::Request&, httplib::Response& response) {
        Fill(response, guarded(HttpRequest{}));
      });
    } else {
      Post(path, [guarded](const httplib::Request& request, httplib::Response& response,
                           const httplib::ContentReader& content) {
        HttpRequest ours{request.get_header_value("Content-Type"), {}};
        // The body has come already: what is reserved is there.
        ours.body.reserve(request.get_header_value<uint64_t>("Content-Length") +
                          HttpRequest::kBodyPadding);
        content([&ours](const char* data, size_t size) {
          ours.body.append(data, size);
          return true;
        });
        Fill(response, guarded(std::move(ours)));
      });
    }
  }

  void Handle(MemoryStream& stream, bool close) {
    bool closed = false;
    process_request(stream, close, closed, nullptr);
  }

 private:
  static void Fill(httplib::Response& to, HttpResponse from) {
    to.status = from.status;
    to.body = std::move(from.body);
    to.set_header("Content-Type", from.content_type);
  }
};

struct HttpListener::Impl {
  explicit Impl(const Options& given) : options(given) {}

  Options options;
  Server server;
  std::vector<std::pair<std::string, std::string>> routes;
  std::function<void(const HttpExchange&)> observer;

  FileDescriptor listening;
  FileDescriptor stop_event;  // readable from Stop() on; never read, so it wakes every poll()
  std::thread acceptor;
  std::atomic<bool> stopping = false;

  std::mutex mutex;  // of the pool:
  std::condition_variable work;
  std::deque<FileDescriptor> jobs;
  size_t idle_workers = 0;
  bool pool_stopping = false;
  std::vector<pthread_t> workers;

  // Counters for connections(); each stands for itself.
  std::atomic<uint64_t> open = 0;
  std::atomic<uint64_t> accepted = 0;
  std::atomic<uint64_t> rejected = 0;

  Result<FileDescriptor> Bind() const;
  void AcceptLoop();
  bool Dispatch(FileDescriptor socket);
  void WorkerLoop();
  void Observe(std::string_view route, int status, double seconds) const {
    if (observer) observer(HttpExchange{route, status, seconds});
  }
};

// One client's connection, for the time that a worker serves it.
class HttpListener::Connection {
 public:
  Connection(Impl& impl, FileDescriptor socket) : impl_(impl), socket_(std::move(socket)) {}

  // Until the client leaves, misbehaves or is idle for too long, or the server stops.
  void Serve() {
    while (!impl_.stopping) {
      if (input_.empty() && Fill(MonoNow() + impl_.options.idle_timeout) != Filled::kBytes) return;
      if (!ServeOne()) return;
    }
  }

 private:
  enum class Filled : uint8_t { kBytes, kClosed, kTimeout, kStopped };

  // Waits for `events` on the socket.
  [[nodiscard]] Filled Wait(int16_t events, MonoTime until, bool heed_stop) const {
    for (;;) {
      pollfd waited[2] = {{socket_.get(), events, 0}, {impl_.stop_event.get(), POLLIN, 0}};
      const int ready = ::poll(waited, heed_stop ? 2 : 1, MillisecondsUntil(until));
      if (ready < 0 && errno != EINTR) return Filled::kClosed;
      if (heed_stop && waited[1].revents != 0) return Filled::kStopped;
      if (ready > 0 && waited[0].revents != 0) return Filled::kBytes;
      if (MonoNow() >= until) return Filled::kTimeout;
    }
  }

  // Reads what is there into input_, waiting for it until `until`.
  [[nodiscard]] Filled Fill(MonoTime until) {
    char bytes[kReadBytes];
    for (;;) {
      if (impl_.stopping) return Filled::kStopped;
      const ssize_t got = ::recv(socket_.get(), bytes, sizeof bytes, 0);
      if (got > 0) {
        input_.append(bytes, static_cast<size_t>(got));
        return MonoNow() < until ? Filled::kBytes : Filled::kTimeout;
      }
      if (got == 0) return Filled::kClosed;
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) return Filled::kClosed;
      if (const Filled waited = Wait(POLLIN, until, true); waited != Filled::kBytes) return waited;
    }
  }

  // False when the client does not take it in time.
  bool Send(std::string_view bytes) const {
    MonoTime until = MonoNow() + impl_.options.request_timeout;
    bool stopping = false;
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent >= 0) {
        bytes.remove_prefix(static_cast<size_t>(sent));
        continue;
      }
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) return false;
      const Filled waited = Wait(POLLOUT, until, !stopping);
      if (waited == Filled::kStopped) {
        stopping = true;
        until = std::min(until, MonoNow() + kStopGrace);
      } else if (waited != Filled::kBytes || MonoNow() >= until) {
        return false;
      }
    }
    return true;
  }

  // Says that nothing more comes and reads what the client still sends, for a moment.
  void Linger() {
    ::shutdown(socket_.get(), SHUT_WR);
    const MonoTime until = MonoNow() + kLingerTime;
    do {
      input_.clear();
    } while (Fill(until) == Filled::kBytes);
  }

  // Answers without a handler. True when the connection can go on.
  bool Refuse(const HttpRefusal& refusal, std::string_view route, bool keep_alive,
              std::string_view allow = {}, bool head_only = false) {
    const bool sent = Send(RefusalBytes(refusal, keep_alive, allow, head_only));
    impl_.Observe(route, refusal.status, -1);
    if (sent && !keep_alive) Linger();
    return sent && keep_alive;
  }

  static HttpRefusal TooSlow() {
    return {408, "request_timeout", "the request did not come in time"};
  }

  // The size of the head that input_ begins with then; 0 when the client left before it was whole.
  HttpResult<size_t> ReadHead(MonoTime until) {
    const size_t limit = impl_.options.max_head_bytes;
    size_t scanned = 0;
    for (;;) {
      // Some clients end a body with a line break of their own.
      while (scanned < 2 && input_.starts_with("\r\n")) {
        input_.erase(0, 2);
        scanned = 0;
      }
      auto size = FindHeadEnd(input_, scanned);
      if (!size) return size;
      if (*size > limit || (*size == 0 && input_.size() > limit)) {
        return tl::unexpected(HttpRefusal{431, "head_too_large",
                                          fmt::format("the head is larger than {} bytes", limit)});
      }
      if (*size > 0) return size;
      const Filled filled = Fill(until);
      if (filled == Filled::kTimeout && !input_.empty()) return tl::unexpected(TooSlow());
      if (filled != Filled::kBytes) return 0;
    }
  }

  // From the first byte in input_ to the answer. True when the connection can go on.
  bool ServeOne() {
    const MonoTime until = MonoNow() + impl_.options.request_timeout;
    const auto head_size = ReadHead(until);
    if (!head_size) return Refuse(head_size.error(), "other", false);
    if (*head_size == 0) return false;
    const auto head = ParseHead(std::string_view(input_).substr(0, *head_size));
    if (!head) return Refuse(head.error(), "other", false);
    input_.erase(0, *head_size);
    return ServeParsed(*head, until);
  }

  bool ServeParsed(const HttpHead& head, MonoTime until) {
    std::string_view route;
    std::string_view allow;
    for (const auto& [method, path] : impl_.routes) {
      if (path != head.path) continue;
      route = path;
      allow = method == "GET" ? "GET, HEAD" : "POST";
      if (head.method == method || (head.method == "HEAD" && method == "GET")) {
        allow = {};
        break;
      }
    }
    const bool reusable = head.keep_alive && !head.has_body();
    const bool head_only = head.method == "HEAD";
    if (route.empty()) {
      return Refuse({404, "unknown_path", "there is nothing at this path"}, "other", reusable, {},
                    head_only);
    }
    if (!allow.empty()) {
      return Refuse({405, "method_not_allowed", fmt::format("{} takes {}", route, allow)}, route,
                    reusable, allow, head_only);
    }
    std::string body;
    if (head.has_body()) {
      const auto whole = ReadBody(head, route, until, body);
      if (!whole) return Refuse(whole.error(), route, false);
      if (!*whole) return false;
    }
    return Answer(head, route, body);
  }

  // False when the client left before `body` was whole.
  HttpResult<bool> ReadBody(const HttpHead& head, std::string_view route, MonoTime until,
                            std::string& body) {
    const uint64_t limit = impl_.options.max_body_bytes;
    if (head.content_length > limit) {
      return tl::unexpected(
          HttpRefusal{413, "body_too_large",
                      fmt::format("the body of {} is larger than {} bytes", route, limit)});
    }
    if (head.expects_continue && input_.empty() && !Send("HTTP/1.1 100 Continue\r\n\r\n")) {
      return false;
    }
    ChunkedDecoder chunks(limit);
    for (;;) {
      if (head.chunked) {
        std::string_view bytes = input_;
        const auto done = chunks.Decode(bytes, body);
        input_.erase(0, input_.size() - bytes.size());
        if (!done) return tl::unexpected(done.error());
        if (*done) return true;
      } else {
        const size_t take =
            std::min<size_t>(input_.size(), static_cast<size_t>(head.content_length) - body.size());
        body.append(input_, 0, take);
        input_.erase(0, take);
        if (body.size() == head.content_length) return true;
      }
      // A client with Nagle's algorithm that sends head and body apart keeps the body back until
      // the head is acknowledged, which the kernel would put off for 40 ms.
      const int yes = 1;
      ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_QUICKACK, &yes, sizeof yes);
      const Filled filled = Fill(until);
      if (filled == Filled::kTimeout) return tl::unexpected(TooSlow());
      if (filled != Filled::kBytes) return false;
    }
  }

  bool Answer(const HttpHead& head, std::string_view route, std::string_view body) {
    const MonoTime begin = MonoNow();
    std::string canonical =
        fmt::format("{} {} HTTP/1.1\r\nContent-Length: {}\r\n", head.method, route, body.size());
    if (!head.content_type.empty()) {
      canonical += fmt::format("Content-Type: {}\r\n", head.content_type);
    }
    canonical += "\r\n";
    const bool keep_alive = head.keep_alive && !impl_.stopping;

    MemoryStream stream(std::move(canonical), body);
    impl_.server.Handle(stream, !keep_alive);
    const std::string& answer = stream.answer();
    const bool sent = Send(answer);
    constexpr size_t kStatusAt = sizeof("HTTP/1.1 ") - 1;
    const int status = answer.size() < kStatusAt + 3 ? 0 : std::atoi(answer.c_str() + kStatusAt);
    impl_.Observe(route, status, std::chrono::duration<double>(MonoNow() - begin).count());

    if (input_.empty() && input_.capacity() > kReadBytes) input_ = std::string();
    return sent && keep_alive;
  }

  Impl& impl_;
  FileDescriptor socket_;
  std::string input_;  // received and not consumed yet: the rest of this request, or the next one
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

// Gives the connection to a worker, a new one when all are busy. False when there can be none.
bool HttpListener::Impl::Dispatch(FileDescriptor socket) {
  const std::lock_guard lock(mutex);
  if (jobs.size() >= idle_workers) {
    pthread_attr_t attributes;
    ::pthread_attr_init(&attributes);
    ::pthread_attr_setstacksize(&attributes, kThreadStackBytes);
    pthread_t thread{};
    const int error = ::pthread_create(
        &thread, &attributes,
        [](void* impl) -> void* {
          static_cast<Impl*>(impl)->WorkerLoop();
          return nullptr;
        },
        this);
    ::pthread_attr_destroy(&attributes);
    if (error != 0) return false;
    workers.push_back(thread);
  }
  jobs.push_back(std::move(socket));
  open.fetch_add(1, std::memory_order_relaxed);
  work.notify_one();
  return true;
}

void HttpListener::Impl::WorkerLoop() {
  std::unique_lock lock(mutex);
  for (;;) {
    ++idle_workers;
    work.wait(lock, [this] { return pool_stopping || !jobs.empty(); });
    --idle_workers;
    if (pool_stopping) return;
    FileDescriptor socket = std::move(jobs.front());
    jobs.pop_front();
    lock.unlock();
    {
      Connection connection(*this, std::move(socket));
      connection.Serve();
    }
    open.fetch_sub(1, std::memory_order_relaxed);
    lock.lock();
  }
}

namespace {

// Connections beyond the limit, half closed: the answer is sent, the client has not left yet.
class Lingering {
 public:
  void Add(FileDescriptor socket, std::string_view answer) {
    if (::send(socket.get(), answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return;
    ::shutdown(socket.get(), SHUT_WR);
    if (sockets_.size() == kMaxLingering) sockets_.pop_front();
    sockets_.push_back({std::move(socket), MonoNow() + kLingerTime});
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

void HttpListener::Impl::AcceptLoop() {
  const std::string too_many = RefusalBytes(
      {503, "too_many_connections",
       fmt::format("{} connections are open, which is the limit", options.max_connections)},
      false);
  Lingering lingering;
  std::vector<pollfd> polled;
  bool out_of_descriptors = false;
  for (;;) {
    polled.assign(
        {{stop_event.get(), POLLIN, 0}, {out_of_descriptors ? -1 : listening.get(), POLLIN, 0}});
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
      if (open.load(std::memory_order_relaxed) < options.max_connections) {
        // Dispatch() takes the socket even when it fails: then it is closed, unanswered.
        if (Dispatch(std::move(socket))) {
          accepted.fetch_add(1, std::memory_order_relaxed);
        } else {
          rejected.fetch_add(1, std::memory_order_relaxed);
          log::Warn("http: a connection was closed: no thread can be started for it");
        }
      } else {
        rejected.fetch_add(1, std::memory_order_relaxed);
        Observe("other", 503, -1);
        lingering.Add(std::move(socket), too_many);
      }
      if (stopping) return;
    }
  }
}

HttpListener::HttpListener(const Options& options) : impl_(std::make_unique<Impl>(options)) {}

HttpListener::~HttpListener() { Stop(); }

void HttpListener::Route(const std::string& method, const std::string& path, Handler handler) {
  impl_->routes.emplace_back(method, path);
  impl_->server.Route(method, path, std::move(handler));
}

const std::vector<std::pair<std::string, std::string>>& HttpListener::routes() const {
  return impl_->routes;
}

void HttpListener::OnExchange(std::function<void(const HttpExchange&)> observer) {
  impl_->observer = std::move(observer);
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

  impl_->stop_event = FileDescriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (impl_->stop_event.get() < 0) {
    impl_->listening.Close();
    return Fail(fmt::format("cannot create an event descriptor: {}", std::strerror(errno)));
  }
  impl_->acceptor = std::thread([this] { impl_->AcceptLoop(); });
  return port;
}

void HttpListener::Stop() {
  if (!impl_->acceptor.joinable()) return;
  impl_->stopping = true;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(impl_->stop_event.get(), &one, sizeof one);
  impl_->acceptor.join();
  impl_->listening.Close();
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->pool_stopping = true;
  }
  impl_->work.notify_all();
  for (const pthread_t worker : impl_->workers) ::pthread_join(worker, nullptr);
  impl_->workers.clear();
  impl_->jobs.clear();
}

HttpConnections HttpListener::connections() const {
  return {impl_->open.load(std::memory_order_relaxed),
          impl_->accepted.load(std::memory_order_relaxed),
          impl_->rejected.load(std::memory_order_relaxed)};
}

}  // namespace conductor::serve
