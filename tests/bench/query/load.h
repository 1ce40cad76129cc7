#ifndef CONDUCTOR_TESTS_BENCH_QUERY_LOAD_H_
#define CONDUCTOR_TESTS_BENCH_QUERY_LOAD_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace conductor::bench {

enum class Protocol : uint8_t {
  kHttp,
  kZmtp,  // ZeroMQ's, as a DEALER
};

// One request, sent again and again over kept connections to 127.0.0.1. In either protocol the
// client is this thread and the kernel: what a client's library costs is not measured.
struct Load {
  Protocol protocol = Protocol::kHttp;
  uint16_t port = 0;
  std::string request;  // HttpRequest() or ZmtpRequest()
  size_t connections = 1;
  size_t window = 1;   // requests of each connection that are on their way at once
  double seconds = 1;  // for which it goes on
  double rate = 0;     // requests a second, open loop; 0: each connection asks as fast as it can
};

struct LoadResult {
  double seconds = 0;
  // Seconds, sorted; open loop: from when it was to be asked. With a window answers are taken to
  // come in the order of their requests.
  std::vector<double> latencies;
  std::vector<uint64_t> of_connection;  // answers
  size_t answer_bytes = 0;              // of the last answer's body
  uint64_t failed = 0;                  // answers of another status than 200

  [[nodiscard]] double Rate() const { return static_cast<double>(latencies.size()) / seconds; }
  // Of the latencies, in microseconds; `part` from 0 to 1.
  [[nodiscard]] double Percentile(double part) const;
};

// The request for a POST of `body`; `header`: more lines of the head, each with its end.
[[nodiscard]] std::string HttpRequest(const std::string& path, const std::string& content_type,
                                      const std::string& body, const std::string& header = {});
// The same in frames for the ZeroMQ endpoint.
[[nodiscard]] std::string ZmtpRequest(const std::string& path, const std::string& body);

// Puts the load on from this thread. Ends the process with a message when it cannot.
[[nodiscard]] LoadResult Run(const Load& load);

}  // namespace conductor::bench

#endif  // CONDUCTOR_TESTS_BENCH_QUERY_LOAD_H_
