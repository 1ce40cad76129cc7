#ifndef CONDUCTOR_TESTS_BENCH_PROXY_RELAY_H_
#define CONDUCTOR_TESTS_BENCH_PROXY_RELAY_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace conductor::bench {

// A process between client and engine. Ends with this.
class Relay {
 public:
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  // HAProxy as a reverse proxy: it reads and writes HTTP, keeps connections to the engine, and
  // sends on at once what comes. Nothing is logged and nothing is checked.
  [[nodiscard]] static std::unique_ptr<Relay> HaProxy(const std::string& binary, uint16_t engine,
                                                      size_t threads, size_t max_streams);
  // `conductor proxy` before an engine that does all, with nobody to ask.
  [[nodiscard]] static std::unique_ptr<Relay> Conductor(const std::string& binary, uint16_t engine,
                                                        size_t threads, size_t max_streams);

  [[nodiscard]] pid_t process() const { return child_; }
  [[nodiscard]] uint16_t port() const { return port_; }

 private:
  // Runs `words`.
  explicit Relay(const std::vector<std::string>& words);
  // Of what it says to listen on. Ends this process when it ended before.
  void ReadPort();

  pid_t child_ = -1;
  int output_ = -1;  // the end of its standard output that is read
  uint16_t port_ = 0;
};

}  // namespace conductor::bench

#endif  // CONDUCTOR_TESTS_BENCH_PROXY_RELAY_H_
