#ifndef CONDUCTOR_TESTS_BENCH_QUERY_HTTP_LOAD_H_
#define CONDUCTOR_TESTS_BENCH_QUERY_HTTP_LOAD_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace conductor::bench {

// One request, sent again and again over kept-alive connections to 127.0.0.1.
struct HttpLoad {
  uint16_t port = 0;
  std::string request;  // head and body
  size_t connections = 1;
  double seconds = 1;  // for which it goes on
  double rate = 0;     // requests a second, open loop; 0: each connection asks as fast as it can
};

struct LoadResult {
  double seconds = 0;
  std::vector<double> latencies;        // seconds, sorted; open loop: from when it was to be asked
  std::vector<uint64_t> of_connection;  // answers
  size_t answer_bytes = 0;              // of the last answer's body
  uint64_t failed = 0;  // answers of another status than 200, and broken connections

  [[nodiscard]] double Rate() const { return static_cast<double>(latencies.size()) / seconds; }
  // Of the latencies, in microseconds; `part` from 0 to 1.
  [[nodiscard]] double Percentile(double part) const;
};

// The request for a POST of `body`.
[[nodiscard]] std::string PostRequest(const std::string& path, const std::string& content_type,
                                      const std::string& body);

// Puts the load on from this thread. Ends the process with a message when it cannot connect.
[[nodiscard]] LoadResult Run(const HttpLoad& load);

}  // namespace conductor::bench

#endif  // CONDUCTOR_TESTS_BENCH_QUERY_HTTP_LOAD_H_
