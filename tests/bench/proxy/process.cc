#include "process.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

namespace conductor::bench {

void Die(const std::string& what) {
  fmt::print(stderr, "proxy_bench: {}\n", what);
  std::exit(1);
}

void DieOfErrno(const std::string& what) { Die(fmt::format("{}: {}", what, std::strerror(errno))); }

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double CpuSeconds(pid_t process) {
  clockid_t clock = 0;
  timespec time{};
  if (::clock_getcpuclockid(process, &clock) != 0 || ::clock_gettime(clock, &time) != 0) {
    Die(fmt::format("no CPU time of process {}: it has ended", process));
  }
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

size_t ResidentBytes(pid_t process) {
  std::ifstream file(fmt::format("/proc/{}/statm", process));
  size_t total = 0;
  size_t resident = 0;
  if (!(file >> total >> resident)) {
    Die(fmt::format("no memory of process {}: it has ended", process));
  }
  return resident * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

void RaiseDescriptorLimit(size_t needed) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) DieOfErrno("getrlimit");
  limit.rlim_cur = limit.rlim_max;
  if (limit.rlim_cur < needed) {
    Die(
        fmt::format("{} file descriptors are allowed, and a relay needs {}: ulimit -Hn, or fewer "
                    "streams",
                    limit.rlim_cur, needed));
  }
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) DieOfErrno("setrlimit");
}

int Listen(uint16_t& port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  sockaddr_in address{};
  socklen_t size = sizeof address;
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* any = reinterpret_cast<sockaddr*>(&address);
  if (fd < 0 || ::bind(fd, any, size) != 0 || ::listen(fd, SOMAXCONN) != 0 ||
      ::getsockname(fd, any, &size) != 0) {
    DieOfErrno("no port is free");
  }
  port = ntohs(address.sin_port);
  return fd;
}

}  // namespace conductor::bench
