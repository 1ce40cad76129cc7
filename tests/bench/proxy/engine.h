#ifndef CONDUCTOR_TESTS_BENCH_PROXY_ENGINE_H_
#define CONDUCTOR_TESTS_BENCH_PROXY_ENGINE_H_

#include <sys/types.h>

#include <cstdint>

namespace conductor::bench {

// An engine in a process of its own, as far as a relay sees one: it streams the events of answer.h,
// in chunks as vLLM does, an event at a time. Thousands of streams on one thread.
//
// The first token of a stream is there at once, with the head. Each further one is due an
// interval after the last was due, whether or not that could be sent: a relay that is slow does not
// make the engine wait. Beside that it answers what relays ask before they trust an engine: GET
// /health and /v1/models, POST /tokenize.
class EngineProcess {
 public:
  // Before any thread is started. Ends the process with a message when it cannot.
  EngineProcess();
  ~EngineProcess();
  EngineProcess(const EngineProcess&) = delete;
  EngineProcess& operator=(const EngineProcess&) = delete;

  [[nodiscard]] uint16_t port() const { return port_; }

 private:
  pid_t child_ = -1;
  uint16_t port_ = 0;
};

}  // namespace conductor::bench

#endif  // CONDUCTOR_TESTS_BENCH_PROXY_ENGINE_H_
