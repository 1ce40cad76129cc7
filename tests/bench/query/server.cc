#include "server.h"

#include <fmt/format.h>
#include <httplib.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>

#include "daemon/serve/http_api.h"
#include "daemon/serve/http_listener.h"
#include "daemon/serve/query_endpoint.h"
#include "daemon/serve/registry.h"
#include "daemon/serve/routes.h"
#include "lib/base/log.h"
#include "lib/trace/simulated_engine.h"
#include "lib/trace/simulated_publisher.h"

namespace conductor::bench {
namespace {

using namespace std::chrono_literals;

[[noreturn]] void Die(const std::string& what) {
  fmt::print(stderr, "query_bench: {}\n", what);
  std::_Exit(1);
}

struct Ports {
  uint16_t api = 0;
  uint16_t null = 0;
  uint16_t library = 0;
  uint16_t zmq = 0;
};

// One engine of a model, registered, and what it publishes with.
class EngineAndPublisher {
 public:
  EngineAndPublisher(serve::Registry& registry, const std::string& model, size_t number)
      : engine_({.seed = 1, .block_size = kBlockSize, .capacity_blocks = 1 << 20}) {
    auto publisher = trace::SimulatedPublisher::Create({});
    if (!publisher) Die(publisher.error().Message());
    publisher_ = std::move(*publisher);
    serve::Registration registration;
    registration.endpoint = publisher_->endpoint();
    registration.replay_endpoint = publisher_->replay_endpoint();
    registration.model = model;
    registration.tenant = model;
    registration.instance_id = fmt::format("{}-engine-{}", model, number);
    registration.block_size = kBlockSize;
    key_ = registration.Key();
    if (const auto added = registry.Add(registration); !added) Die(added.error().Message());
  }

  void Runs(const std::vector<TokenId>& prompt) { publisher_->Publish(engine_.Run(prompt)); }
  [[nodiscard]] const std::string& key() const { return key_; }

 private:
  trace::SimulatedEngine engine_;
  std::unique_ptr<trace::SimulatedPublisher> publisher_;
  std::string key_;
};

uint32_t Matched(const serve::Registry& registry, const std::string& model,
                 const std::vector<TokenId>& prompt, size_t& holders) {
  index::TokenChain chain(prompt, kBlockSize, hash::kDefaultSeed);
  const index::Scope scope{model, model, "", kBlockSize, {}};
  const index::Matches matches = registry.index().Match(scope, chain);
  holders = matches.ranks.size();
  uint32_t least = UINT32_MAX;
  for (const index::RankMatch& match : matches.ranks) least = std::min(least, match.gpu);
  return holders == 0 ? 0 : least;
}

void AwaitHeld(const serve::Registry& registry, const std::string& model, size_t engines) {
  const std::vector<TokenId> prompt = Prompt();
  const auto until = std::chrono::steady_clock::now() + 60s;
  size_t holders = 0;
  while (Matched(registry, model, prompt, holders) < prompt.size() / kBlockSize ||
         holders < engines) {
    if (std::chrono::steady_clock::now() > until) Die("the engines' events did not come");
    std::this_thread::sleep_for(10ms);
  }
}

// Publishes a block now and then and looks when it is there.
class Watcher {
 public:
  explicit Watcher(serve::Registry& registry)
      : registry_(registry), engine_(registry, "watched", 0), thread_([this] { Watch(); }) {}
  ~Watcher() {
    stop_ = true;
    thread_.join();
  }

  Visibility Take() {
    std::vector<double> seen;
    {
      const std::lock_guard lock(mutex_);
      seen = std::exchange(seen_, {});
    }
    std::ranges::sort(seen);
    if (seen.empty()) return {};
    const auto at = [&seen](double part) {
      return seen[static_cast<size_t>(part * static_cast<double>(seen.size() - 1))];
    };
    return {seen.size(), at(0.5), at(0.99), seen.back()};
  }

 private:
  void Watch() {
    std::vector<TokenId> prompt(kBlockSize);
    for (TokenId number = 0; !stop_; ++number) {
      std::ranges::fill(prompt, number);
      const auto begin = std::chrono::steady_clock::now();
      engine_.Runs(prompt);
      size_t holders = 0;
      while (Matched(registry_, "watched", prompt, holders) == 0 && !stop_) {
        // Often enough to tell, and not so often that it takes a core.
        std::this_thread::sleep_for(50us);
      }
      const auto taken = std::chrono::steady_clock::now() - begin;
      {
        const std::lock_guard lock(mutex_);
        seen_.push_back(std::chrono::duration<double>(taken).count() * 1e6);
      }
      std::this_thread::sleep_for(5ms);
    }
  }

  serve::Registry& registry_;
  EngineAndPublisher engine_;
  std::mutex mutex_;  // guards seen_
  std::vector<double> seen_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

// As many as there are connections at most.
constexpr size_t kLibraryThreads = 300;

// Ends when the parent closes its end.
[[noreturn]] void Serve(int from_parent, int to_parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::prctl(PR_SET_NAME, "query_server");  // apart from the client in profiles
  log::SetLevel(log::Level::kError);
  serve::Registry registry({});
  std::vector<std::unique_ptr<EngineAndPublisher>> engines;
  const std::vector<TokenId> prompt = Prompt();
  for (size_t i = 0; i < 1 + kMany; ++i) {
    engines.push_back(std::make_unique<EngineAndPublisher>(registry, i == 0 ? "one" : "many", i));
    engines.back()->Runs(prompt);
  }
  AwaitHeld(registry, "one", 1);
  AwaitHeld(registry, "many", kMany);

  serve::HttpApi api(registry, {.port = 0});
  serve::HttpListener null({});
  null.Route("POST", "/null/{bytes}", [](const serve::HttpRequest& request) {
    return serve::HttpResponse{
        .body = std::string(std::strtoull(request.parameter.c_str(), nullptr, 10), 'x')};
  });
  // The library's own server, set up for many requests a connection and a thread for each.
  httplib::Server library;
  library.new_task_queue = [] { return new httplib::ThreadPool(kLibraryThreads); };
  library.set_keep_alive_max_count(std::numeric_limits<size_t>::max());
  library.set_tcp_nodelay(true);
  library.Post("/null", [](const httplib::Request& request, httplib::Response& response) {
    const std::string bytes = request.get_header_value("X-Answer-Bytes");
    response.set_content(std::string(std::strtoull(bytes.c_str(), nullptr, 10), 'x'),
                         "application/octet-stream");
  });
  const int library_port = library.bind_to_any_port("127.0.0.1");
  std::thread([&library] { library.listen_after_bind(); }).detach();
  const auto api_port = api.Start();
  const auto null_port = null.Start();
  if (!api_port || !null_port || library_port <= 0) Die("no port is free");
  serve::QueryEndpoint queries(api.context(), {.address = "tcp://127.0.0.1:*"});
  const auto bound = queries.Start();
  if (!bound) Die(bound.error().Message());
  const auto zmq_port = std::strtoul(bound->c_str() + bound->rfind(':') + 1, nullptr, 10);
  const Ports ports{*api_port, *null_port, static_cast<uint16_t>(library_port),
                    static_cast<uint16_t>(zmq_port)};
  if (::write(to_parent, &ports, sizeof ports) != sizeof ports) std::_Exit(1);
  Watcher watcher(registry);
  char asked = 0;
  while (::read(from_parent, &asked, 1) == 1) {
    const Visibility visibility = watcher.Take();
    if (::write(to_parent, &visibility, sizeof visibility) != sizeof visibility) break;
  }
  std::_Exit(0);
}

}  // namespace

std::vector<TokenId> Prompt() {
  std::vector<TokenId> prompt(kPromptTokens);
  // As a tokenizer's: of all sizes.
  for (size_t i = 0; i < prompt.size(); ++i) {
    prompt[i] = static_cast<TokenId>(i * 2654435761u % 128000);
  }
  return prompt;
}

ServerProcess::ServerProcess() {
  int down[2];
  int up[2];
  if (::pipe(down) != 0 || ::pipe(up) != 0) Die("no pipe");
  child_ = ::fork();
  if (child_ < 0) Die("cannot fork");
  if (child_ == 0) {
    ::close(down[1]);
    ::close(up[0]);
    Serve(down[0], up[1]);
  }
  ::close(down[0]);
  ::close(up[1]);
  to_child_ = down[1];
  from_child_ = up[0];
  Ports ports;
  if (::read(from_child_, &ports, sizeof ports) != sizeof ports) Die("the server did not start");
  api_port_ = ports.api;
  null_port_ = ports.null;
  library_port_ = ports.library;
  zmq_port_ = ports.zmq;
}

ServerProcess::~ServerProcess() {
  ::close(to_child_);
  ::close(from_child_);
  ::waitpid(child_, nullptr, 0);
}

double ServerProcess::CpuSeconds() const {
  clockid_t clock = 0;
  timespec time{};
  if (::clock_getcpuclockid(child_, &clock) != 0 || ::clock_gettime(clock, &time) != 0) {
    Die("no CPU time of the server");
  }
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

Visibility ServerProcess::TakeVisibility() {
  Visibility visibility;
  const char ask = 'v';
  if (::write(to_child_, &ask, 1) != 1 ||
      ::read(from_child_, &visibility, sizeof visibility) != sizeof visibility) {
    Die("the server is gone");
  }
  return visibility;
}

}  // namespace conductor::bench
