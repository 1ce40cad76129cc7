#ifndef CONDUCTOR_TESTS_BENCH_QUERY_SERVER_H_
#define CONDUCTOR_TESTS_BENCH_QUERY_SERVER_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "lib/hash/block_hash.h"

namespace conductor::bench {

// What is asked for: one prompt, which 1 engine of model and tenant "one" and 64 of "many" hold
// whole.
inline constexpr size_t kPromptTokens = 8192;
inline constexpr uint32_t kBlockSize = 16;
inline constexpr size_t kMany = 64;
[[nodiscard]] std::vector<TokenId> Prompt();

// How long events took from being published until lookups counted them, in microseconds.
struct Visibility {
  uint64_t events = 0;
  double p50 = 0;
  double p99 = 0;
  double max = 0;
};

// The server under test in a process of its own: a registry with engines that publish over ZeroMQ,
// the HTTP API, and beside it the same HTTP server with a handler that only reads the body. An
// engine publishes a block every 5 milliseconds all the time, and its visibility is watched.
class ServerProcess {
 public:
  // Before any thread is started. Ends the process with a message when it cannot.
  ServerProcess();
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  [[nodiscard]] uint16_t api_port() const { return api_port_; }
  // POST /null/BYTES of these: answers so many bytes.
  [[nodiscard]] uint16_t null_port() const { return null_port_; }
  // POST /null of cpp-httplib's own server: answers as many bytes as X-Answer-Bytes says.
  [[nodiscard]] uint16_t library_port() const { return library_port_; }
  // The same answers over ZeroMQ.
  [[nodiscard]] uint16_t zmq_port() const { return zmq_port_; }
  // That it has used, of all its threads.
  [[nodiscard]] double CpuSeconds() const;
  // Since the last call.
  [[nodiscard]] Visibility TakeVisibility();

 private:
  pid_t child_ = -1;
  int to_child_ = -1;
  int from_child_ = -1;
  uint16_t api_port_ = 0;
  uint16_t null_port_ = 0;
  uint16_t library_port_ = 0;
  uint16_t zmq_port_ = 0;
};

}  // namespace conductor::bench

#endif  // CONDUCTOR_TESTS_BENCH_QUERY_SERVER_H_
