#ifndef CONDUCTOR_TESTS_STREAM_FAKE_PUBLISHER_H_
#define CONDUCTOR_TESTS_STREAM_FAKE_PUBLISHER_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>
#include <zmq.hpp>

#include "lib/base/bytes.h"

namespace conductor::stream {

// A listening TCP socket on 127.0.0.1, on a port that was free.
class TcpListener {
 public:
  TcpListener() {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address);
    listen(fd_, 64);
    socklen_t size = sizeof address;
    getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
  }
  ~TcpListener() { close(fd_); }
  TcpListener(const TcpListener&) = delete;
  TcpListener& operator=(const TcpListener&) = delete;

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] int port() const { return port_; }

 private:
  int fd_ = -1;
  int port_ = 0;
};

inline int FreePort() { return TcpListener().port(); }

inline std::string LocalEndpoint(int port) { return "tcp://127.0.0.1:" + std::to_string(port); }

// Accepts connections and says `greeting` to each, once. Never reads.
class StrangeServer {
 public:
  explicit StrangeServer(std::string greeting) : greeting_(std::move(greeting)) {
    thread_ = std::thread([this] {
      std::vector<int> peers;
      for (;;) {
        const int peer = accept(listener_.fd(), nullptr, nullptr);
        if (peer < 0) break;
        accepted_.fetch_add(1);
        if (!greeting_.empty()) send(peer, greeting_.data(), greeting_.size(), MSG_NOSIGNAL);
        peers.push_back(peer);
      }
      for (const int peer : peers) close(peer);
    });
  }
  ~StrangeServer() {
    shutdown(listener_.fd(), SHUT_RDWR);
    thread_.join();
  }
  [[nodiscard]] int port() const { return listener_.port(); }
  [[nodiscard]] int accepted() const { return accepted_.load(); }

 private:
  TcpListener listener_;
  std::string greeting_;
  std::atomic<int> accepted_{0};
  std::thread thread_;
};

// A publisher as vLLM has it, with a replay socket that can be told to misbehave.
class FakePublisher {
 public:
  struct Options {
    int port = 0;         // 0: any
    int replay_port = 0;  // 0: any; -1: none
    bool topic_in_reply = true;
    bool hangs = false;   // reads replay requests and never answers
    std::string connect;  // to this endpoint, instead of being bound
    std::string topic = "topic";
    int send_high_water_mark = 0;  // messages that may wait for a subscriber; 0: any number
  };

  explicit FakePublisher(const Options& options) : options_(options) {
    pub_.set(zmq::sockopt::linger, 0);
    pub_.set(zmq::sockopt::sndhwm, options.send_high_water_mark);
    if (options.connect.empty()) {
      pub_.bind(Address(options.port));
    } else {
      pub_.set(zmq::sockopt::ipv6, options.connect.find('[') != std::string::npos);
      pub_.set(zmq::sockopt::reconnect_ivl, 20);
      pub_.connect(options.connect);
    }
    router_.set(zmq::sockopt::linger, 0);
    router_.set(zmq::sockopt::sndhwm, 0);
    if (options.replay_port < 0) return;
    router_.bind(Address(options.replay_port));
    server_ = std::thread([this] { Serve(); });
  }
  ~FakePublisher() {
    stop_.store(true);
    if (server_.joinable()) server_.join();
  }
  FakePublisher(const FakePublisher&) = delete;
  FakePublisher& operator=(const FakePublisher&) = delete;

  [[nodiscard]] std::string endpoint() { return pub_.get(zmq::sockopt::last_endpoint); }
  [[nodiscard]] std::string replay_endpoint() {
    return options_.replay_port < 0 ? "" : router_.get(zmq::sockopt::last_endpoint);
  }

  // With the next sequence.
  void Publish(const std::string& payload) {
    uint64_t sequence = 0;
    {
      const std::lock_guard lock(mutex_);
      sequence = ring_.size();
      ring_.push_back(payload);
    }
    const auto number = StoreBigEndian64(sequence);
    PublishRaw({options_.topic, {number.data(), number.size()}, payload});
  }
  void PublishRaw(const std::vector<std::string_view>& frames) {
    for (size_t i = 0; i < frames.size(); ++i) {
      pub_.send(zmq::const_buffer(frames[i].data(), frames[i].size()),
                i + 1 < frames.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
    }
  }
  // All that was published.
  [[nodiscard]] std::vector<std::string> ring() {
    const std::lock_guard lock(mutex_);
    return ring_;
  }
  // Into the ring only, as if all subscribers had lost it.
  void Lose(const std::string& payload) {
    const std::lock_guard lock(mutex_);
    ring_.push_back(payload);
  }

 private:
  static std::string Address(int port) {
    return port == 0 ? "tcp://127.0.0.1:*" : LocalEndpoint(port);
  }

  void Serve() {
    router_.set(zmq::sockopt::rcvtimeo, 20);
    while (!stop_.load()) {
      std::vector<zmq::message_t> request;
      bool more = true;
      while (more) {
        zmq::message_t frame;
        if (!router_.recv(frame)) break;
        more = frame.more();
        request.push_back(std::move(frame));
      }
      if (request.size() != 3 || request[2].size() != 8 || options_.hangs) continue;
      std::vector<std::string> ring;
      {
        const std::lock_guard lock(mutex_);
        ring = ring_;
      }
      const std::string peer = request[0].to_string();
      for (uint64_t i = LoadBigEndian64(request[2].to_string_view()); i < ring.size(); ++i) {
        Reply(peer, "topic", i, ring[i]);
      }
      Reply(peer, "", ~uint64_t{0}, "");
    }
  }

  void Reply(const std::string& peer, const std::string& topic, uint64_t sequence,
             const std::string& payload) {
    const auto number = StoreBigEndian64(sequence);
    router_.send(zmq::buffer(peer), zmq::send_flags::sndmore);
    router_.send(zmq::message_t(), zmq::send_flags::sndmore);
    if (options_.topic_in_reply) router_.send(zmq::buffer(topic), zmq::send_flags::sndmore);
    router_.send(zmq::buffer(number), zmq::send_flags::sndmore);
    router_.send(zmq::buffer(payload), zmq::send_flags::none);
  }

  Options options_;
  zmq::context_t context_;
  zmq::socket_t pub_{context_, zmq::socket_type::pub};
  zmq::socket_t router_{context_, zmq::socket_type::router};
  std::mutex mutex_;
  std::vector<std::string> ring_;  // guarded by mutex_
  std::atomic<bool> stop_{false};
  std::thread server_;
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_TESTS_STREAM_FAKE_PUBLISHER_H_
