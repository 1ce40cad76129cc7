#ifndef CONDUCTOR_TESTS_BENCH_PROXY_PROCESS_H_
#define CONDUCTOR_TESTS_BENCH_PROXY_PROCESS_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace conductor::bench {

// Ends the process with a message.
[[noreturn]] void Die(const std::string& what);
// The same, with what errno says.
[[noreturn]] void DieOfErrno(const std::string& what);

// Seconds of the monotonic clock.
[[nodiscard]] double Now();

// That a process has used, of all its threads.
[[nodiscard]] double CpuSeconds(pid_t process);
// That it has in memory now.
[[nodiscard]] size_t ResidentBytes(pid_t process);

// As many file descriptors as are allowed, for this process and those it starts. Ends the process
// when that is fewer than `needed`.
void RaiseDescriptorLimit(size_t needed);

// A socket that listens on a free port of 127.0.0.1, non-blocking.
[[nodiscard]] int Listen(uint16_t& port);

}  // namespace conductor::bench

#endif  // CONDUCTOR_TESTS_BENCH_PROXY_PROCESS_H_
