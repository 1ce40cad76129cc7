#include "relay.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "process.h"

namespace conductor::bench {

Relay::Relay(const std::vector<std::string>& words) {
  int out[2];
  if (::pipe(out) != 0) DieOfErrno("no pipe");
  child_ = ::fork();
  if (child_ < 0) DieOfErrno("cannot fork");
  if (child_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(out[1], STDOUT_FILENO);
    ::close(out[0]);
    ::close(out[1]);
    std::vector<char*> arguments;
    // execv() does not change them.
    for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    ::execv(arguments.front(), arguments.data());
    DieOfErrno(words.front());
  }
  ::close(out[1]);
  output_ = out[0];
}

Relay::~Relay() {
  ::kill(child_, SIGKILL);
  ::waitpid(child_, nullptr, 0);
  ::close(output_);
}

std::unique_ptr<Relay> Relay::HaProxy(const std::string& binary, uint16_t engine, size_t threads,
                                      size_t max_streams) {
  uint16_t port = 0;
  const int listener = Listen(port);
  const std::string text = fmt::format(
      "global\n"
      "  nbthread {}\n"
      "  maxconn {}\n"
      "defaults\n"
      "  mode http\n"
      "  option http-no-delay\n"
      "  http-reuse always\n"
      "  timeout connect 5s\n"
      "  timeout client 600s\n"
      "  timeout server 600s\n"
      "frontend clients\n"
      "  bind fd@{}\n"
      "  default_backend engines\n"
      "backend engines\n"
      "  server engine 127.0.0.1:{}\n",
      threads, max_streams + 100, listener, engine);
  const int config = ::memfd_create("haproxy.cfg", 0);
  if (config < 0 || ::write(config, text.data(), text.size()) != ssize_t(text.size())) {
    DieOfErrno("haproxy.cfg");
  }
  // Whoever connects before it has read that waits: the socket listens already.
  std::unique_ptr<Relay> relay(
      new Relay({binary, "-db", "-q", "-f", fmt::format("/proc/self/fd/{}", config)}));
  ::close(config);
  ::close(listener);
  relay->port_ = port;
  return relay;
}

std::unique_ptr<Relay> Relay::Conductor(const std::string& binary, uint16_t engine, size_t threads,
                                        size_t max_streams) {
  std::unique_ptr<Relay> relay(new Relay(
      {binary, "proxy", "--port", "0", "--engine-endpoints", fmt::format("127.0.0.1:{}", engine),
       "--policy", "least-loaded", "--threads", std::to_string(threads), "--max-requests",
       std::to_string(max_streams + 100), "--log-level", "ERROR"}));
  relay->ReadPort();
  return relay;
}

void Relay::ReadPort() {
  constexpr std::string_view kSaid = "listening on http://127.0.0.1:";
  std::string said;
  char byte = 0;
  while (::read(output_, &byte, 1) == 1) {
    said += byte;
    const size_t at = said.find(kSaid);
    if (byte != '\n' || at == std::string::npos) continue;
    port_ = static_cast<uint16_t>(std::strtoul(said.c_str() + at + kSaid.size(), nullptr, 10));
    return;
  }
  Die("`conductor proxy` ended before it said where it listens");
}

}  // namespace conductor::bench
