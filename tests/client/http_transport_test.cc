#include "lib/client/http_transport.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <functional>
#include <future>
#include <string>
#include <thread>
#include <vector>

namespace conductor::client {
namespace {

using namespace std::chrono_literals;

// One accepted connection of a server that does whatever a test wants.
class Peer {
 public:
  Peer(int fd, const std::atomic<bool>& ends) : fd_(fd), ends_(ends) {}
  ~Peer() { ::close(fd_); }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  // The whole request, by its Content-Length; empty when the client has left.
  std::string Read() {
    std::string request;
    for (;;) {
      const size_t head = request.find("\r\n\r\n");
      if (head != std::string::npos && request.size() >= head + 4 + LengthIn(request)) {
        return request;
      }
      if (!Readable(10s)) return {};
      char bytes[4096];
      const ssize_t got = ::recv(fd_, bytes, sizeof bytes, 0);
      if (got <= 0) return {};
      request.append(bytes, static_cast<size_t>(got));
    }
  }
  // False when the client has left.
  bool Send(std::string_view bytes) {
    return ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
  }
  bool Answer(int status, std::string_view body, std::string_view type = "application/json") {
    return Send("HTTP/1.1 " + std::to_string(status) + " X\r\nContent-Type: " + std::string(type) +
                "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
                std::string(body));
  }
  // Until the client leaves or the test ends.
  void WaitForEnd() {
    char byte = 0;
    while (!ends_ && (!Readable(10ms) || ::recv(fd_, &byte, 1, 0) > 0)) continue;
  }
  [[nodiscard]] bool Readable(std::chrono::milliseconds time) const {
    pollfd waited{fd_, POLLIN, 0};
    return ::poll(&waited, 1, static_cast<int>(time.count())) > 0;
  }

 private:
  static size_t LengthIn(const std::string& request) {
    const size_t at = request.find("Content-Length: ");
    return at == std::string::npos ? 0 : std::stoul(request.substr(at + 16));
  }

  const int fd_;
  const std::atomic<bool>& ends_;
};

// Serves each connection in turn.
class FakeServer {
 public:
  explicit FakeServer(std::function<void(Peer&)> serve)
      : serve_(std::move(serve)), fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(fd_, reinterpret_cast<const sockaddr*>(&address), size), 0);
    EXPECT_EQ(::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    EXPECT_EQ(::listen(fd_, 16), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Run(); });
  }
  ~FakeServer() {
    ends_ = true;
    ::shutdown(fd_, SHUT_RDWR);
    thread_.join();
    ::close(fd_);
  }
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  // How many were served or are being served.
  [[nodiscard]] int connections() const { return connections_; }

 private:
  void Run() {
    for (;;) {
      const int fd = ::accept(fd_, nullptr, nullptr);
      if (fd < 0) return;
      ++connections_;
      Peer peer(fd, ends_);
      serve_(peer);
    }
  }

  const std::function<void(Peer&)> serve_;
  const int fd_;
  uint16_t port_ = 0;
  std::atomic<bool> ends_ = false;
  std::atomic<int> connections_ = 0;
  std::thread thread_;
};

std::unique_ptr<Transport> Connect(const std::string& url,
                                   const HttpTransportOptions& options = {}) {
  std::signal(SIGPIPE, SIG_IGN);
  return MakeHttpTransport(*ConductorUrl::Parse(url), options);
}

// Time that no test waits for.
Deadlines Plenty() { return {MonoNow() + 30s, MonoNow() + 30s}; }
// Time that a test waits for.
Deadlines Little() { return {MonoNow() + 30ms, MonoNow() + 30ms}; }

const Request kQuestion{
    .method = "POST", .path = "/v1/query", .body = "body", .form = Form::kMsgpack};

TEST(HttpTransport, AsksAndTellsStatusAndForm) {
  std::promise<std::string> read;
  FakeServer server([&](Peer& peer) {
    read.set_value(peer.Read());
    peer.Answer(418, "short and stout", "application/msgpack");
  });
  const auto transport = Connect(server.url(), {.token = "secret"});
  const auto reply = transport->Exchange(kQuestion, Plenty());
  ASSERT_TRUE(reply.has_value()) << reply.error().error.Message();
  EXPECT_EQ(reply->status, 418);
  EXPECT_EQ(reply->form, Form::kMsgpack);
  EXPECT_EQ(reply->body, "short and stout");
  const std::string seen = read.get_future().get();
  EXPECT_TRUE(seen.starts_with("POST /v1/query HTTP/1.1\r\n")) << seen;
  EXPECT_TRUE(seen.ends_with("\r\n\r\nbody")) << seen;
  for (const char* header : {"Accept: application/msgpack\r\n", "Authorization: Bearer secret\r\n",
                             "Content-Type: application/msgpack\r\n"}) {
    EXPECT_NE(seen.find(header), std::string::npos) << seen;
  }
}

TEST(HttpTransport, KeepsItsConnection) {
  FakeServer server([&](Peer& peer) {
    while (!peer.Read().empty()) peer.Answer(200, "{}");
  });
  const auto transport = Connect(server.url());
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(transport->Exchange(kQuestion, Plenty()).has_value());
    EXPECT_TRUE(transport->Exchange({.path = "/healthz"}, Plenty()).has_value());
  }
  EXPECT_EQ(server.connections(), 1);
}

TEST(HttpTransport, ConnectsAnewWhereTheServerClosesBetweenRequests) {
  FakeServer server([&](Peer& peer) {
    peer.Read();
    peer.Answer(200, "{}");
  });
  const auto transport = Connect(server.url());
  for (int i = 0; i < 3; ++i) {
    // The end of the connection may be noticed only by using it.
    const auto first = transport->Exchange(kQuestion, Plenty());
    if (!first) {
      EXPECT_TRUE(transport->Exchange(kQuestion, Plenty()).has_value());
    }
  }
}

TEST(HttpTransport, NobodyThereIsNotAsked) {
  std::string url;
  {
    FakeServer gone([](Peer&) {});
    url = gone.url();
  }
  const auto reply = Connect(url)->Exchange(kQuestion, Plenty());
  ASSERT_FALSE(reply.has_value());
  EXPECT_EQ(reply.error().error.what, "cannot connect");
  EXPECT_FALSE(reply.error().asked);
}

TEST(HttpTransport, GivesUpOnAServerThatSaysNothing) {
  FakeServer server([](Peer& peer) { peer.WaitForEnd(); });
  const auto transport = Connect(server.url());
  const auto reply = transport->Exchange(kQuestion, Little());
  ASSERT_FALSE(reply.has_value());
  EXPECT_EQ(reply.error().error.what, "no whole answer in time");
  EXPECT_TRUE(reply.error().asked);
}

TEST(HttpTransport, GivesUpOnAServerThatSendsAByteNowAndThen) {
  for (const std::string& answer :
       {std::string("HTTP/1.1 200 OK\r\n") + std::string(100000, 'X'),
        "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + std::string(100000, 'b')}) {
    FakeServer server([&](Peer& peer) {
      peer.Read();
      for (const char byte : answer) {
        if (!peer.Send({&byte, 1}) || peer.Readable(1ms)) return;
      }
    });
    const auto reply = Connect(server.url())->Exchange(kQuestion, Little());
    ASSERT_FALSE(reply.has_value());
    EXPECT_EQ(reply.error().error.what, "no whole answer in time");
  }
}

TEST(HttpTransport, AnAnswerThatIsCutOffOrNoHttpIsNone) {
  for (const std::string_view answer :
       {"", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{",
        "SSH-2.0-OpenSSH_9.2p1\r\n", "\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f"}) {
    FakeServer server([&](Peer& peer) {
      peer.Read();
      peer.Send(answer);
    });
    const auto reply = Connect(server.url())->Exchange(kQuestion, Plenty());
    ASSERT_FALSE(reply.has_value()) << answer;
    EXPECT_EQ(reply.error().error.what, "the connection ended before the answer was whole");
    EXPECT_TRUE(reply.error().asked);
  }
}

TEST(HttpTransport, IsOfUseAgainAfterAFailure) {
  std::atomic<int> served = 0;
  FakeServer server([&](Peer& peer) {
    if (served++ == 0) return peer.WaitForEnd();
    peer.Read();
    peer.Answer(200, "{}");
  });
  const auto transport = Connect(server.url());
  EXPECT_FALSE(transport->Exchange(kQuestion, Little()).has_value());
  EXPECT_TRUE(transport->Exchange(kQuestion, Plenty()).has_value());
}

TEST(HttpTransport, HttpsNeedsTlsThere) {
  FakeServer server([](Peer& peer) { peer.Send("HTTP/1.1 400 Bad Request\r\n\r\n"); });
  const std::string url = "https" + server.url().substr(4);
  const auto reply = Connect(url)->Exchange(kQuestion, Plenty());
  ASSERT_FALSE(reply.has_value());
  EXPECT_EQ(reply.error().error.what, "no TLS there");
  EXPECT_FALSE(reply.error().asked);
}

}  // namespace
}  // namespace conductor::client
