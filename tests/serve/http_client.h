#ifndef CONDUCTOR_TESTS_SERVE_HTTP_CLIENT_H_
#define CONDUCTOR_TESTS_SERVE_HTTP_CLIENT_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

namespace conductor::serve {

struct Reply {
  int status = 0;  // 0: the connection ended instead
  std::string head;
  std::string body;
};

// One connection to 127.0.0.1 over which a test sends any bytes at all. Reads end after half a
// minute at the latest, so that a server that hangs is a failed test, and one on a busy machine is
// not.
class HttpClient {
 public:
  explicit HttpClient(uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  virtual ~HttpClient() { Close(); }
  HttpClient(HttpClient&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)),
        connected_(other.connected_),
        unread_(std::move(other.unread_)) {}
  HttpClient& operator=(HttpClient&&) = delete;

  [[nodiscard]] bool connected() const { return connected_; }

  void Close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

  // False when the server has closed.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = Transmit(bytes);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }

  // As much as the kernel takes at once.
  void SendSome(std::string_view bytes) {
    [[maybe_unused]] const ssize_t sent =
        ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  // At most `size` bytes of what is there; none when there are none.
  size_t ReadSome(char* to, size_t size) {
    return static_cast<size_t>(std::max<ssize_t>(::recv(fd_, to, size, MSG_DONTWAIT), 0));
  }

  // True when something can be read, or the connection has ended, within `time`.
  [[nodiscard]] bool Readable(std::chrono::milliseconds time) const {
    pollfd waited{fd_, POLLIN, 0};
    return !unread_.empty() || ::poll(&waited, 1, static_cast<int>(time.count())) > 0;
  }

  Reply Read(bool head_only = false) {
    Reply reply;
    size_t end = 0;
    while ((end = unread_.find("\r\n\r\n")) == std::string::npos) {
      if (!Fill()) return reply;
    }
    reply.head = unread_.substr(0, end + 4);
    unread_.erase(0, end + 4);
    reply.status = std::atoi(reply.head.c_str() + std::string_view("HTTP/1.1 ").size());
    const size_t length = head_only ? 0 : ContentLength(reply.head);
    while (unread_.size() < length) {
      if (!Fill()) return reply;
    }
    reply.body = unread_.substr(0, length);
    unread_.erase(0, length);
    return reply;
  }

  // Up to the first `end` and with it, of an answer without a length; empty when the connection
  // ends or half a minute passes before.
  std::string ReadUntil(std::string_view end) {
    size_t at = 0;
    while ((at = unread_.find(end)) == std::string::npos) {
      if (!Fill()) return {};
    }
    std::string read = unread_.substr(0, at + end.size());
    unread_.erase(0, read.size());
    return read;
  }

  // True when the server ends the connection without another byte.
  bool AtEnd() { return unread_.empty() && !Fill() && ended_; }

  Reply Get(std::string_view path) {
    Send(std::string("GET ") + std::string(path) + " HTTP/1.1\r\nHost: x\r\n\r\n");
    return Read();
  }

  Reply Post(std::string_view path, std::string_view body) { return Request("POST", path, body); }

  // `headers` are whole lines.
  Reply Request(std::string_view method, std::string_view path, std::string_view body,
                std::string_view headers = {}) {
    Send(std::string(method) + " " + std::string(path) + " HTTP/1.1\r\nHost: x\r\n" +
         std::string(headers) + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n");
    Send(body);
    return Read();
  }

 protected:
  static constexpr std::chrono::seconds kPatience{30};

  [[nodiscard]] int fd() const { return fd_; }
  // Waits for something and reads it; 0 when the connection has ended, below 0 when nothing came
  // for kPatience.
  virtual ssize_t Receive(char* to, size_t size) {
    pollfd waited{fd_, POLLIN, 0};
    if (::poll(&waited, 1, static_cast<int>(std::chrono::milliseconds(kPatience).count())) <= 0) {
      return -1;
    }
    return std::max<ssize_t>(::recv(fd_, to, size, 0), 0);
  }
  virtual ssize_t Transmit(std::string_view bytes) {
    return ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }

 private:
  static size_t ContentLength(std::string head) {
    std::ranges::transform(head, head.begin(),
                           [](char c) { return static_cast<char>(std::tolower(c)); });
    const size_t at = head.find("content-length:");
    return at == std::string::npos
               ? 0
               : static_cast<size_t>(std::atoll(head.c_str() + at + sizeof("content-length:") - 1));
  }

  bool Fill() {
    char bytes[65536];
    const ssize_t got = Receive(bytes, sizeof bytes);
    ended_ = got == 0;
    if (got > 0) unread_.append(bytes, static_cast<size_t>(got));
    return got > 0;
  }

  int fd_;
  bool connected_ = false;
  bool ended_ = false;
  std::string unread_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_TESTS_SERVE_HTTP_CLIENT_H_
