#include "lib/client/client.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "lib/client/conductor_url.h"
#include "lib/client/http_transport.h"
#include "lib/client/zmq_transport.h"

namespace conductor::client {
namespace {

// Whether the conductor is to blame for a status, and another may do better.
bool IsItsFault(int status) { return status >= 500 || status == 408 || status == 429; }

bool IsWord(std::string_view token) {
  return std::ranges::all_of(token, [](char c) { return c > 0x20 && c < 0x7f; });
}

enum class Repeat : uint8_t { kAlways, kIfNotAsked };

// What a 200 says, into the place where the caller wants it. An error is the conductor's fault.
using Read = std::function<Status(const Reply& reply, const std::string& conductor)>;

// An answer that names the conductor it is from; read(body) reads the rest.
template <typename ReadBody>
auto NamingIts(ReadBody read) {
  return [read](const Reply& reply, const std::string& conductor) {
    auto answer = read(reply.body);
    if (answer) answer->conductor = conductor;
    return answer;
  };
}

Result<Reply> AsItCame(const Reply& reply, const std::string&) { return reply; }

Error NotOverHttp(const Request& request) {
  return Error{fmt::format("{} {} goes over HTTP, and no conductor is asked that way",
                           request.method, request.path),
               {},
               "an http:// or https:// URL"};
}

}  // namespace

struct Client::Impl {
  Impl(std::vector<Way> given_ways, ClientOptions given)
      : options(std::move(given)),
        ways(std::move(given_ways)),
        failover(ways.size(), options.failover, [this] { return Random(); }) {}

  [[nodiscard]] double Random() {
    if (options.random) return options.random();
    return std::uniform_real_distribution<double>(0, 1)(generator);
  }
  void Pause(Duration duration) const {
    if (options.pause) return options.pause(duration);
    std::this_thread::sleep_for(duration);
  }

  // One attempt at one conductor. Errors name it. `is_last` is set where the call ends with it.
  [[nodiscard]] Status Attempt(size_t way, const Request& request, Repeat repeat, const Read& read,
                               MonoTime deadline, bool& is_last);
  [[nodiscard]] Status Call(const Request& request, Repeat repeat, const Read& read);
  // The same; what read(reply, conductor) makes of it.
  template <typename Answer, typename Reader>
  [[nodiscard]] Result<Answer> Ask(const Request& request, Repeat repeat, Reader read) {
    Answer answer;
    const Status done =
        Call(request, repeat, [&](const Reply& reply, const std::string& conductor) -> Status {
          Result<Answer> made = read(reply, conductor);
          if (!made) return tl::unexpected(std::move(made.error()));
          answer = std::move(*made);
          return {};
        });
    if (!done) return tl::unexpected(done.error());
    return answer;
  }
  // At each over HTTP, one after the other. `is_fine` judges what is no 200.
  [[nodiscard]] Status CallAll(const Request& request,
                               const std::function<bool(const Reply&)>& is_fine);

  [[nodiscard]] Deadlines DeadlinesBefore(MonoTime deadline) const {
    const MonoTime now = options.now();
    const MonoTime whole = std::min(now + options.attempt_limit, deadline);
    return {std::min(now + options.connect_limit, whole), whole};
  }

  ClientOptions options;
  std::vector<Way> ways;
  std::mt19937_64 generator{std::random_device{}()};
  Failover failover;
};

Status Client::Impl::Attempt(size_t way, const Request& request, Repeat repeat, const Read& read,
                             MonoTime deadline, bool& is_last) {
  const std::string& name = ways[way].name;
  const auto reply = ways[way].transport->Exchange(request, DeadlinesBefore(deadline));
  if (!reply) {
    failover.Failed(way, options.now());
    is_last = repeat == Repeat::kIfNotAsked && reply.error().asked;
    return tl::unexpected(Error(reply.error().error).Within(name));
  }
  if (reply->status == 200) {
    auto done = read(*reply, name);
    if (done) {
      failover.Succeeded(way);
    } else {
      failover.Failed(way, options.now());
      is_last = repeat == Repeat::kIfNotAsked;
      done = tl::unexpected(std::move(done.error()).Within(name));
    }
    return done;
  }
  const bool its_fault = IsItsFault(reply->status);
  if (its_fault) {
    failover.Failed(way, options.now());
  } else {
    failover.Succeeded(way);
  }
  is_last = !its_fault || repeat == Repeat::kIfNotAsked;
  return Fail(DescribeRefusal(*reply), name);
}

Status Client::Impl::Call(const Request& request, Repeat repeat, const Read& read) {
  const MonoTime deadline = options.now() + options.time_limit;
  std::vector<size_t> all;
  for (size_t way = 0; way < ways.size(); ++way) {
    if (ways[way].transport->Carries(request)) all.push_back(way);
  }
  std::vector<size_t> left = all;
  std::vector<std::string> failures;
  Duration pause = options.retry_pause;
  for (uint32_t attempt = 0; attempt < options.attempts && !all.empty(); ++attempt) {
    if (left.empty()) {
      const auto jittered = std::chrono::duration_cast<Duration>(pause * (1 + Random()) / 2);
      if (options.now() + jittered >= deadline) break;
      Pause(jittered);
      pause *= 2;
      left = all;
    }
    if (options.now() >= deadline) break;
    const size_t way = *failover.Next(left, options.now());
    std::erase(left, way);
    bool is_last = false;
    auto done = Attempt(way, request, repeat, read, deadline, is_last);
    if (done || is_last) return done;
    failures.push_back(done.error().Message());
  }
  if (all.empty()) {
    return tl::unexpected(NotOverHttp(request));
  }
  return Fail(fmt::format("{}: {}", kNobodyAnswered, fmt::join(failures, "; ")));
}

Status Client::Impl::CallAll(const Request& request,
                             const std::function<bool(const Reply&)>& is_fine) {
  std::vector<std::string> failures;
  size_t asked = 0;
  for (size_t way = 0; way < ways.size(); ++way) {
    if (!ways[way].transport->Carries(request)) continue;
    ++asked;
    const MonoTime deadline = options.now() + options.time_limit;
    const auto reply = ways[way].transport->Exchange(request, DeadlinesBefore(deadline));
    if (!reply) {
      failover.Failed(way, options.now());
      failures.push_back(Error(reply.error().error).Within(ways[way].name).Message());
      continue;
    }
    if (!IsItsFault(reply->status)) failover.Succeeded(way);
    if (reply->status != 200 && !is_fine(*reply)) {
      failures.push_back(Error{DescribeRefusal(*reply), ways[way].name, {}}.Message());
    }
  }
  if (asked == 0) {
    return tl::unexpected(NotOverHttp(request));
  }
  if (failures.empty()) return {};
  return Fail(fmt::format("not done at {} of {} conductors: {}", failures.size(), asked,
                          fmt::join(failures, "; ")));
}

Result<Client> Client::Create(std::span<const std::string> urls, ClientOptions options) {
  if (urls.empty()) return Fail("no conductor is named", {}, "at least one URL");
  if (!IsWord(options.token)) {
    return Fail("the token has spaces or other characters that no header can hold");
  }
  std::vector<Way> ways;
  for (const std::string& text : urls) {
    const auto url = ConductorUrl::Parse(text);
    if (!url) return tl::unexpected(url.error());
    ways.push_back({url->text, url->is_http()
                                   ? MakeHttpTransport(
                                         *url, {.token = options.token,
                                                .ca_file = options.ca_file,
                                                .verify_certificates = options.verify_certificates})
                                   : MakeZmqTransport(*url)});
  }
  return Client(std::move(ways), std::move(options));
}

Client::Client(std::vector<Way> ways, ClientOptions options)
    : impl_(std::make_unique<Impl>(std::move(ways), std::move(options))) {}
Client::~Client() = default;
Client::Client(Client&& other) noexcept = default;
Client& Client::operator=(Client&& other) noexcept = default;

Result<QueryAnswer> Client::Query(const QuerySpec& spec) {
  const std::string body = QueryBody(spec);
  return impl_->Ask<QueryAnswer>(
      {.method = "POST", .path = "/v1/query", .body = body, .form = Form::kMsgpack},
      Repeat::kAlways, NamingIts(ReadQueryAnswer));
}

Result<ScoreAnswer> Client::Score(const ScoreSpec& spec) {
  const std::string body = ScoreBody(spec);
  return impl_->Ask<ScoreAnswer>(
      {.method = "POST", .path = "/v1/score", .body = body, .form = Form::kMsgpack},
      Repeat::kAlways, NamingIts(ReadScoreAnswer));
}

Result<std::vector<PublisherEntry>> Client::Publishers() {
  return impl_->Ask<std::vector<PublisherEntry>>(
      {.method = "GET", .path = "/v1/publishers"}, Repeat::kAlways,
      [](const Reply& reply, const std::string&) { return ReadPublishers(reply.body); });
}

Status Client::Register(std::string_view registration) {
  return impl_->CallAll({.method = "POST", .path = "/register", .body = registration},
                        [](const Reply&) { return false; });
}

Status Client::Unregister(std::string_view instance_id, std::string_view tenant_id,
                          uint32_t dp_rank) {
  const nlohmann::json json = {
      {"instance_id", instance_id}, {"tenant_id", tenant_id}, {"dp_rank", dp_rank}};
  const std::string body = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return impl_->CallAll({.method = "POST", .path = "/unregister", .body = body},
                        [](const Reply& reply) { return reply.status == 404; });
}

Result<Reply> Client::Get(std::string_view path, Form form) {
  return impl_->Ask<Reply>({.method = "GET", .path = path, .form = form}, Repeat::kAlways,
                           AsItCame);
}

Result<Reply> Client::Post(std::string_view path, std::string_view body, Form form) {
  const bool asks = path == "/v1/query" || path == "/v1/score";
  return impl_->Ask<Reply>({.method = "POST", .path = path, .body = body, .form = form},
                           asks ? Repeat::kAlways : Repeat::kIfNotAsked, AsItCame);
}

}  // namespace conductor::client
