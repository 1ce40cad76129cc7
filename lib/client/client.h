#ifndef CONDUCTOR_LIB_CLIENT_CLIENT_H_
#define CONDUCTOR_LIB_CLIENT_CLIENT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/client/failover.h"
#include "lib/client/questions.h"
#include "lib/client/transport.h"

namespace conductor::client {

// What an error begins with where no conductor answered at all; any other is about the request.
inline constexpr std::string_view kNobodyAnswered = "no conductor answered";

struct ClientOptions {
  // A call never takes longer than `time_limit`, whatever the conductors do, but for the looking-up
  // of host names. It may take `attempts` of at most `attempt_limit` each, of which `connect_limit`
  // for a connection that is not there yet.
  Duration time_limit = std::chrono::seconds(2);
  Duration attempt_limit = std::chrono::milliseconds(500);
  Duration connect_limit = std::chrono::milliseconds(250);
  uint32_t attempts = 3;
  // Before a conductor is asked a second time in one call; doubled each time, and spread by jitter.
  Duration retry_pause = std::chrono::milliseconds(20);
  Failover::Options failover;

  std::string token;    // bearer token, for http and https; over ZeroMQ none is spoken
  std::string ca_file;  // https: PEM of who may sign; empty: the system's
  bool verify_certificates = true;

  // Time and chance; tests bring their own.
  std::function<MonoTime()> now = MonoNow;
  std::function<void(Duration)> pause;  // none: sleeps
  std::function<double()> random;       // 0 to below 1; none: a generator of its own
};

// Asks one of several conductors that know the same fleet.
//
//   auto client = Client::Create({"tcp://10.0.0.1:13334", "http://10.0.0.2:13333"}, {});
//   const auto answer = client->Query({.model = "llama-3", .token_ids = prompt});
//   if (!answer) return round_robin();  // answer.error().Message() says who failed and how
//
// The URLs (conductor_url.h) are in the order of preference: the first that is well is asked. One
// that cannot be reached, does not answer in time, answers what cannot be read, or answers 408, 429
// or 5xx is left out for a while (failover.h), and the call goes on to the next one; where all have
// been asked, to the best of them again after a pause, until the attempts or the time are used up.
// When all are left out, the one that comes back first is asked all the same. Any other status that
// is no 200 is about the request: it is returned as an error at once, and says nothing against the
// conductor.
//
// Queries, scores and GETs are asked again as often as the options say. A Post() of something else
// only when it cannot have reached the one asked before.
//
// Errors tell every conductor that was asked and what was wrong there, in order:
//   "no conductor answered: http://a:13333: cannot connect; tcp://b:13334: no whole answer in time"
//   "http://a:13333: status 400: model is required (missing)"
//
// One thread at a time: make one for each thread. They are small, but each keeps a connection to
// every conductor that it asked, and for each of HTTP one thread that cuts off what takes too long.
// The process must ignore SIGPIPE.
class Client {
 public:
  // Connects to nobody yet. An error names the URL that cannot be used, or the option.
  [[nodiscard]] static Result<Client> Create(std::span<const std::string> urls,
                                             ClientOptions options);
  [[nodiscard]] static Result<Client> Create(std::initializer_list<std::string> urls,
                                             ClientOptions options) {
    return Create(std::span(urls.begin(), urls.size()), std::move(options));
  }

  // A conductor by any other way; tests.
  struct Way {
    std::string name;  // for messages
    std::unique_ptr<Transport> transport;
  };
  Client(std::vector<Way> ways, ClientOptions options);
  ~Client();
  Client(Client&& other) noexcept;
  Client& operator=(Client&& other) noexcept;

  [[nodiscard]] Result<QueryAnswer> Query(const QuerySpec& spec);
  [[nodiscard]] Result<ScoreAnswer> Score(const ScoreSpec& spec);

  // Of the first conductor that answers. Over HTTP only, as all that follows.
  [[nodiscard]] Result<std::vector<PublisherEntry>> Publishers();

  // At every conductor that is asked over HTTP, for each keeps an index of its own: an error when
  // one of them could not, after all have been tried. `registration` is the JSON of POST /register.
  [[nodiscard]] Status Register(std::string_view registration);
  // One that does not know the publisher has nothing to forget: no error.
  [[nodiscard]] Status Unregister(std::string_view instance_id, std::string_view tenant_id,
                                  uint32_t dp_rank);

  // Any path, with a body in `form`; the reply is a 200.
  [[nodiscard]] Result<Reply> Get(std::string_view path, Form form = Form::kJson);
  [[nodiscard]] Result<Reply> Post(std::string_view path, std::string_view body,
                                   Form form = Form::kJson);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace conductor::client

#endif  // CONDUCTOR_LIB_CLIENT_CLIENT_H_
