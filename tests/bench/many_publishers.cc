// What hundreds of publishers with a few events a second cost the one that listens.
//
//     many_publishers [publishers] [events a second of each] [seconds]      (500 4 10)
//
// The publishers live in a child process, so the CPU time printed is the listener's alone: sockets,
// streams, and a consumer that does nothing. Besides, the longest time that publisher 0, which
// sends 200 events a second, was not heard of: once while nothing else happens, and once while
// other publishers are registered and removed without pause.

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/stream/transport.h"

namespace {

using conductor::Duration;
using conductor::MonoNow;
using conductor::MonoTime;
using conductor::stream::Consumer;
using conductor::stream::Sequence;
using conductor::stream::Transport;
using conductor::stream::Trust;
using conductor::stream::TrustState;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kQuickRate = 200;  // events a second of publisher 0

struct Arguments {
  int publishers = 500;
  int rate = 4;
  int seconds = 10;
};

// One PUB socket on a port that was free.
struct Publisher {
  void* socket = nullptr;
  uint64_t next = 0;
  MonoTime due{};
  Duration period{};
};

// A typical batch is about this long; its content means nothing to the stream.
const std::string kPayload(300, 'x');

// Binds, writes the ports to `pipe`, and publishes until it is killed.
[[noreturn]] void Publish(const Arguments& arguments, int pipe) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  void* context = zmq_ctx_new();
  zmq_ctx_set(context, ZMQ_MAX_SOCKETS, arguments.publishers + 16);
  std::vector<Publisher> publishers(static_cast<size_t>(arguments.publishers));
  std::vector<uint16_t> ports;
  for (Publisher& publisher : publishers) {
    publisher.socket = zmq_socket(context, ZMQ_PUB);
    if (!publisher.socket || zmq_bind(publisher.socket, "tcp://127.0.0.1:*") != 0) {
      std::perror("many_publishers: cannot bind");
      _exit(1);
    }
    char endpoint[64];
    size_t size = sizeof endpoint;
    zmq_getsockopt(publisher.socket, ZMQ_LAST_ENDPOINT, endpoint, &size);
    ports.push_back(static_cast<uint16_t>(std::atoi(std::string(endpoint).substr(16).c_str())));
    publisher.period = Duration(seconds(1)) / (ports.size() == 1 ? kQuickRate : arguments.rate);
    publisher.due = MonoNow() + publisher.period * static_cast<int>(ports.size() % 97) / 97;
  }
  const size_t bytes = ports.size() * sizeof(uint16_t);
  if (write(pipe, ports.data(), bytes) != static_cast<ssize_t>(bytes)) _exit(1);
  for (;;) {
    const MonoTime now = MonoNow();
    for (Publisher& publisher : publishers) {
      if (publisher.due > now) continue;
      publisher.due += publisher.period;
      const auto number = conductor::StoreBigEndian64(publisher.next++);
      zmq_send(publisher.socket, "", 0, ZMQ_SNDMORE);
      zmq_send(publisher.socket, number.data(), number.size(), ZMQ_SNDMORE);
      zmq_send(publisher.socket, kPayload.data(), kPayload.size(), 0);
    }
    std::this_thread::sleep_for(milliseconds(1));
  }
}

// Counts, and keeps the longest silence.
struct Seen {
  std::atomic<uint64_t> batches{0};
  std::atomic<int64_t> longest_gap{0};  // nanoseconds, since it was last set to 0
};

class CountingConsumer : public Consumer {
 public:
  explicit CountingConsumer(Seen& seen) : seen_(seen) {}
  Applied Apply(Sequence, std::string_view) override {
    const MonoTime now = MonoNow();
    if (seen_.batches.fetch_add(1) > 0) {
      const int64_t gap = Duration(now - last_).count();
      if (gap > seen_.longest_gap.load()) seen_.longest_gap.store(gap);
    }
    last_ = now;
    return {};
  }
  void NewLife() override {}
  void BeginRebuild() override {}
  void CommitRebuild() override {}
  void AbandonRebuild() override {}
  void TrustChanged(const Trust&) override {}

 private:
  Seen& seen_;
  MonoTime last_{};
};

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

double Milliseconds(int64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e6; }

int Measure(const Arguments& arguments, const std::vector<uint16_t>& ports) {
  Transport transport({.max_publishers = static_cast<uint32_t>(ports.size()) + 64});
  if (!transport.limit_warning().empty()) std::puts(transport.limit_warning().c_str());
  std::vector<std::unique_ptr<Seen>> seen;
  const auto add = [&](size_t i, Seen& where) {
    return transport.Add({.endpoint = "tcp://127.0.0.1:" + std::to_string(ports[i])}, {},
                         std::make_unique<CountingConsumer>(where));
  };
  for (size_t i = 0; i < ports.size(); ++i) {
    seen.push_back(std::make_unique<Seen>());
    if (const auto added = add(i, *seen.back()); !added) {
      std::puts(added.error().Message().c_str());
      return 1;
    }
  }
  const auto all_heard = [&] {
    return std::all_of(seen.begin(), seen.end(), [](const auto& s) { return s->batches > 0; });
  };
  while (!all_heard()) std::this_thread::sleep_for(milliseconds(50));

  const auto total = [&] {
    uint64_t sum = 0;
    for (const auto& s : seen) sum += s->batches;
    return sum;
  };
  seen[0]->longest_gap = 0;
  const uint64_t before = total();
  const double cpu = CpuSeconds();
  const MonoTime start = MonoNow();
  std::this_thread::sleep_for(seconds(arguments.seconds));
  const double took = std::chrono::duration<double>(MonoNow() - start).count();
  std::printf("%zu publishers, %.0f events a second in all: %.1f %% of a core\n", ports.size(),
              static_cast<double>(total() - before) / took, (CpuSeconds() - cpu) / took * 100);
  std::printf("longest silence of a publisher with %d events a second: %.1f ms\n", kQuickRate,
              Milliseconds(seen[0]->longest_gap));

  seen[0]->longest_gap = 0;
  Seen passing;
  uint64_t registered = 0;
  const MonoTime until = MonoNow() + seconds(arguments.seconds) / 2;
  while (MonoNow() < until) {
    const auto id = add(static_cast<size_t>(registered++) % ports.size(), passing);
    if (id) transport.Remove(*id);
  }
  std::printf("... while %llu others were registered and removed: %.1f ms\n",
              static_cast<unsigned long long>(registered), Milliseconds(seen[0]->longest_gap));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  int* const values[] = {&arguments.publishers, &arguments.rate, &arguments.seconds};
  for (int i = 1; i < argc; ++i) {
    const int value = i <= 3 ? std::atoi(argv[i]) : 0;
    if (value < 1) {
      std::fputs("usage: many_publishers [publishers] [events a second of each] [seconds]\n",
                 stderr);
      return 2;
    }
    *values[i - 1] = value;
  }
  int pipes[2];
  if (pipe(pipes) != 0) return 1;
  const pid_t child = fork();
  if (child == 0) Publish(arguments, pipes[1]);
  close(pipes[1]);
  std::vector<uint16_t> ports(static_cast<size_t>(arguments.publishers));
  size_t got = 0;
  while (got < ports.size() * sizeof(uint16_t)) {
    const ssize_t count = read(pipes[0], reinterpret_cast<char*>(ports.data()) + got,
                               ports.size() * sizeof(uint16_t) - got);
    if (count <= 0) break;
    got += static_cast<size_t>(count);
  }
  const int result = got == ports.size() * sizeof(uint16_t) ? Measure(arguments, ports) : 1;
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  return result;
}
