#ifndef CONDUCTOR_TESTS_BENCH_PROXY_LOAD_H_
#define CONDUCTOR_TESTS_BENCH_PROXY_LOAD_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace conductor::bench {

// Streams from 127.0.0.1, closed loop: as soon as one has ended, its connection asks for the next.
// Completions and chats in turns.
struct Load {
  uint16_t port = 0;
  size_t streams = 1;   // at once
  uint32_t tokens = 1;  // of each
  double interval = 0;  // seconds from token to token
  size_t prompt_bytes = 0;
  double seconds = 1;  // that are measured, after all streams have begun and found their places
  pid_t watched = 0;   // its CPU and memory are measured meanwhile; 0: nothing's
};

// What came in the measured time.
struct LoadResult {
  double seconds = 0;
  std::vector<double> first_bytes;  // seconds from asking to the first byte of the body, sorted
  uint64_t tokens = 0;
  uint64_t ended = 0;         // streams, whole and as they were sent
  uint64_t failed = 0;        // all others, in the time before too
  std::string failure;        // the first of these
  double cpu_seconds = 0;     // of the watched process
  size_t resident_bytes = 0;  // of it, the most that was seen

  // Of `first_bytes`, in microseconds; `part` from 0 to 1.
  [[nodiscard]] double FirstByte(double part) const;
};

// Puts the load on from this thread, and compares each byte of a body with what the engine sends.
[[nodiscard]] LoadResult Run(const Load& load);

// Asks for one token again and again until that is answered as it should be. Ends the process with
// a message when it is not within ten seconds.
void AwaitAnswer(uint16_t port, const std::string& whose);

}  // namespace conductor::bench

#endif  // CONDUCTOR_TESTS_BENCH_PROXY_LOAD_H_
