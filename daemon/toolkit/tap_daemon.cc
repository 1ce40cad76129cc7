#include "daemon/toolkit/tap_daemon.h"

#include <fmt/format.h>
#include <httplib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "daemon/toolkit/bearer_token.h"
#include "lib/client/conductor_url.h"

namespace conductor::toolkit {
namespace {

constexpr const char* kPath = "/v1/events";
constexpr int kOk = 200;
// The daemon says ": still here" every 15 seconds.
constexpr auto kSilence = std::chrono::seconds(60);
constexpr auto kAgain = std::chrono::seconds(1);

std::string Brief(std::string_view body) {
  constexpr size_t kShown = 300;
  std::string text(body.substr(0, kShown));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

std::string WhyAway(httplib::Error error) {
  if (error == httplib::Error::Connection) return "nothing listens there";
  if (error == httplib::Error::ConnectionTimeout) return "no connection in time";
  return httplib::to_string(error);
}

}  // namespace

bool ServerSentEvents::Feed(std::string_view bytes, std::deque<std::string>& events) {
  constexpr std::string_view kData = "data:";
  while (!bytes.empty()) {
    const size_t end = bytes.find('\n');
    line_ += bytes.substr(0, end);
    if (line_.size() + data_.size() > kMostBytes) return false;
    if (end == std::string_view::npos) return true;
    bytes.remove_prefix(end + 1);
    if (!line_.empty() && line_.back() == '\r') line_.pop_back();
    if (line_.empty() && !data_.empty()) {
      events.push_back(std::exchange(data_, {}));
    } else if (line_.starts_with(kData)) {
      if (!data_.empty()) data_ += '\n';
      std::string_view data = std::string_view(line_).substr(kData.size());
      if (data.starts_with(' ')) data.remove_prefix(1);
      data_ += data;
    }
    line_.clear();
  }
  return true;
}

void NotesOnce::Tell(const std::string& text) {
  const std::string shown = text.substr(0, kMostShown);
  if (told_.size() > kMost || !told_.insert(shown).second) return;
  TapNote(told_.size() > kMost ? "and more that is not known here" : shown);
}

TapDaemon::TapDaemon(std::string url)
    : url_(std::move(url)), ready_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

Result<std::unique_ptr<TapDaemon>> TapDaemon::Open(const TapOptions& options) {
  const auto url = client::ConductorUrl::Parse(options.conductor);
  if (!url) return tl::unexpected(url.error());
  std::unique_ptr<TapDaemon> daemon(new TapDaemon(url->text));
  const bool ipv6 = url->host.find(':') != std::string::npos;
  daemon->client_ = std::make_unique<httplib::Client>(fmt::format(
      "{}://{}{}{}:{}", url->scheme == client::ConductorUrl::Scheme::kHttps ? "https" : "http",
      ipv6 ? "[" : "", url->host, ipv6 ? "]" : "", url->port));
  httplib::Client& http = *daemon->client_;
  http.set_read_timeout(kSilence);
  http.set_connection_timeout(std::chrono::seconds(5));
  http.set_tcp_nodelay(true);
  if (!options.ca_file.empty()) http.set_ca_cert_path(options.ca_file);
  http.enable_server_certificate_verification(true);
  const auto token = ReadBearerToken(options.token_file);
  if (!token) return tl::unexpected(Error(token.error()).Within("--token-file"));
  if (!token->empty()) http.set_bearer_token_auth(*token);
  daemon->thread_ = std::thread([follower = daemon.get()] { follower->Follow(); });
  return daemon;
}

TapDaemon::~TapDaemon() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  client_->stop();
  if (thread_.joinable()) thread_.join();
}

void TapDaemon::Signal() {
  const uint64_t one = 1;
  (void)!::write(ready_.get(), &one, sizeof one);
}

std::deque<std::string> TapDaemon::Take() {
  uint64_t count = 0;
  (void)!::read(ready_.get(), &count, sizeof count);
  const std::lock_guard lock(mutex_);
  bytes_ = 0;
  changed_.notify_all();
  return std::exchange(events_, {});
}

std::optional<Error> TapDaemon::Refusal() {
  const std::lock_guard lock(mutex_);
  return refusal_;
}

// Waits while too much is not taken yet; false when it is over.
bool TapDaemon::Add(std::deque<std::string>& events) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return stop_ || bytes_ <= kMostBytes; });
  for (std::string& event : events) {
    bytes_ += event.size();
    events_.push_back(std::move(event));
  }
  if (!events.empty()) Signal();
  events.clear();
  return !stop_;
}

void TapDaemon::FollowOnce() {
  ServerSentEvents parser;
  std::deque<std::string> events;
  std::string body;
  int status = 0;
  const auto result = client_->Get(
      kPath, {{"Accept", "text/event-stream"}},
      [&](const httplib::Response& response) {
        status = response.status;
        if (status == kOk) {
          reached_.store(true, std::memory_order_relaxed);
          if (!std::exchange(told_, {}).empty()) TapNote(url_ + ": connected");
        }
        return true;
      },
      [&](const char* data, size_t size) {
        if (status != kOk) {
          body.append(data, std::min<size_t>(size, 4096 - std::min<size_t>(body.size(), 4096)));
          return true;
        }
        return parser.Feed({data, size}, events) && Add(events);
      });
  const std::lock_guard lock(mutex_);
  if (stop_) return;
  if (status != 0 && status != kOk) {
    refusal_ = Error{fmt::format("answers {} with status {}: {}", kPath, status, Brief(body)), url_,
                     status == 401 ? "a token: --token-file, or CONDUCTOR_TOKEN"
                                   : "a conductor serve that has this path"};
    return;
  }
  std::string state =
      status == kOk
          ? fmt::format("{}: the stream ended; connecting again", url_)
          : fmt::format("{}: cannot be reached ({}). Does conductor serve run there? Still trying",
                        url_, WhyAway(result.error()));
  if (state == told_) return;
  told_ = std::move(state);
  TapNote(told_);
}

void TapDaemon::Follow() {
  for (;;) {
    FollowOnce();
    std::unique_lock lock(mutex_);
    if (refusal_) break;
    if (changed_.wait_for(lock, kAgain, [&] { return stop_; })) break;
  }
  Signal();
}

}  // namespace conductor::toolkit
