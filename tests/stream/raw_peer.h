#ifndef CONDUCTOR_TESTS_STREAM_RAW_PEER_H_
#define CONDUCTOR_TESTS_STREAM_RAW_PEER_H_

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace conductor::stream {

// A peer that speaks ZeroMQ's protocol by itself, and so can leave a message without an end.
class RawPeer {
 public:
  // Connects to a port of this machine. `type`: its socket's, "PUB" or "DEALER".
  RawPeer(int port, std::string_view type) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
    // Greeting (version 3.0, NULL), then READY.
    std::string hello("\xff\0\0\0\0\0\0\0\0\x7f\3\0NULL", 16);
    hello.resize(64);
    std::string ready("\5READY\xbSocket-Type\0\0\0", 21);
    ready.append(1, static_cast<char>(type.size())).append(type);
    EXPECT_TRUE(Send(hello + "\4" + static_cast<char>(ready.size()) + ready));
  }
  ~RawPeer() { ::close(fd_); }
  RawPeer(const RawPeer&) = delete;
  RawPeer& operator=(const RawPeer&) = delete;

  // False when it was cut off.
  [[nodiscard]] bool Send(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  // Until it has been cut off; false when that takes half a minute.
  [[nodiscard]] bool WaitForEnd() const {
    for (;;) {
      char bytes[256];
      pollfd waited{fd_, POLLIN, 0};
      if (::poll(&waited, 1, 30000) <= 0) return false;
      if (::recv(fd_, bytes, sizeof bytes, 0) <= 0) return true;
    }
  }

 private:
  const int fd_;
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_TESTS_STREAM_RAW_PEER_H_
