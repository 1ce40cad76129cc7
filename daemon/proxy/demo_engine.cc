#include "daemon/proxy/demo_engine.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <utility>

#include "daemon/proxy/prompt_tokens.h"
#include "daemon/proxy/request.h"
#include "lib/base/number.h"

namespace conductor::proxy {
namespace {

using std::chrono::microseconds;

// So small that no prefiller can hold all conversations, while the fleet can.
constexpr uint32_t kCapacityBlocks = 384;
// What a prefill takes: about as a small model on a large accelerator, ten times slower.
constexpr microseconds kPrefillBase(3000);
constexpr microseconds kPrefillToken(120);
constexpr microseconds kDecodeToken(1000);
constexpr size_t kBytesPerToken = 3;
constexpr uint64_t kMaxBodies = 64 << 20;

constexpr std::array<std::string_view, 12> kWords = {" An",     " engine", " that", " holds",
                                                     " the",    " prefix", " of",   " a",
                                                     " prompt", " has",    " less", " to do."};

// Of a text some bytes each, so that texts which begin alike have tokens that do.
std::vector<TokenId> TokensOfText(std::string_view text) {
  std::vector<TokenId> tokens;
  for (size_t at = 0; at < text.size(); at += kBytesPerToken) {
    TokenId token = 0;
    for (const char byte : text.substr(at, kBytesPerToken)) {
      token = token << 8 | static_cast<unsigned char>(byte);
    }
    tokens.push_back(token);
  }
  return tokens;
}

std::vector<TokenId> TokensOf(const JsonMembers& members) {
  TokenSource source = TokenSourceOf(members);
  if (source.kind == TokenSource::Kind::kGiven) return std::move(source.tokens);
  if (const auto prompt = members.FindString("prompt")) return TokensOfText(*prompt);
  auto messages = members.Find("messages").value_or(std::string_view());
  // Without the bracket at the end a longer conversation begins with a shorter one.
  if (!messages.empty()) messages.remove_suffix(1);
  return TokensOfText(messages);
}

std::string UsageJson(size_t prompt_tokens, size_t completion_tokens, uint64_t cached_tokens) {
  return fmt::format(R"({{"prompt_tokens": {}, "completion_tokens": {}, "total_tokens": {}, )"
                     R"("prompt_tokens_details": {{"cached_tokens": {}}}}})",
                     prompt_tokens, completion_tokens, prompt_tokens + completion_tokens,
                     cached_tokens);
}

// One choice of an answer, or of a piece of a stream. `finish`: JSON.
std::string ChoiceJson(bool is_chat, bool is_stream, std::string_view text,
                       std::string_view finish) {
  const std::string content = JsonString(text);
  if (!is_chat) {
    return fmt::format(R"({{"index": 0, "text": {}, "finish_reason": {}}})", content, finish);
  }
  return fmt::format(
      R"({{"index": 0, "{}": {{"role": "assistant", "content": {}}}, "finish_reason": {}}})",
      is_stream ? "delta" : "message", content, finish);
}

std::string AnswerJson(bool is_chat, bool is_stream, std::string_view choice,
                       std::string_view more) {
  const std::string_view kind = !is_chat    ? "text_completion"
                                : is_stream ? "chat.completion.chunk"
                                            : "chat.completion";
  return fmt::format(
      R"({{"id": "{}-demo", "object": "{}", "created": 0, "model": "{}", "choices": [{}]{}}})",
      is_chat ? "chatcmpl" : "cmpl", kind, kDemoModel, choice, more);
}

size_t LengthOf(const JsonMembers& members) {
  for (const char* const name : {"max_completion_tokens", "max_tokens"}) {
    const auto text = members.Find(name);
    const auto number = text ? ParseNumber(*text, "a number", 1, kWords.size())
                             : Result<uint64_t>(uint64_t{kWords.size()});
    if (text && number) return *number;
  }
  return kWords.size();
}

}  // namespace

Awaitable<bool> Pause(Lane& lane, Duration time) {
  if (lane.ending.happened()) co_return false;
  net::steady_timer timer(lane.io);
  const Departure::Listener ends(lane.ending, [&timer] { timer.cancel(); });
  timer.expires_after(std::chrono::duration_cast<net::steady_timer::duration>(time));
  error_code ignored;
  co_await timer.async_wait(Into(ignored));
  co_return !lane.ending.happened();
}

DemoEngine::DemoEngine(Role role, std::string name, uint64_t seed, Lane& lane)
    : role_(role),
      name_(std::move(name)),
      lane_(lane),
      bodies_(kMaxBodies),
      acceptor_(lane.io),
      cache_({.seed = seed, .block_size = kDemoBlockSize, .capacity_blocks = kCapacityBlocks}) {}

Result<std::unique_ptr<DemoEngine>> DemoEngine::Create(Role role, std::string name, uint64_t seed,
                                                       Lane& lane) {
  std::unique_ptr<DemoEngine> engine(new DemoEngine(role, std::move(name), seed, lane));
  error_code error;
  const tcp::endpoint any(net::ip::address_v4::loopback(), 0);
  engine->acceptor_.open(any.protocol(), error);
  if (!error) engine->acceptor_.bind(any, error);
  if (!error) engine->acceptor_.listen(tcp::acceptor::max_listen_connections, error);
  if (error) return Fail(fmt::format("cannot listen: {}", error.message()), "127.0.0.1");
  if (role == Role::kPrefill) {
    auto publisher = trace::SimulatedPublisher::Create({});
    if (!publisher) return tl::unexpected(std::move(publisher.error()));
    engine->publisher_ = *std::move(publisher);
  }
  return engine;
}

void DemoEngine::Start() {
  net::co_spawn(
      lane_.io, [this] { return Accept(); }, net::detached);
}

EngineSpec DemoEngine::spec() const {
  EngineSpec spec;
  spec.host = "127.0.0.1";
  error_code ignored;
  spec.port = acceptor_.local_endpoint(ignored).port();
  if (publisher_ != nullptr) {
    spec.instance_id = name_;
    spec.events.push_back({0, publisher_->endpoint(), publisher_->replay_endpoint()});
  }
  return spec;
}

Awaitable<void> DemoEngine::Accept() {
  const Departure::Listener ends(lane_.ending, [this] {
    error_code ignored;
    acceptor_.close(ignored);
  });
  while (!lane_.ending.happened()) {
    error_code error;
    tcp::socket socket = co_await acceptor_.async_accept(Into(error));
    if (error) {
      // No file descriptor is free: that passes.
      const bool goes_on = co_await Pause(lane_, std::chrono::milliseconds(100));
      if (!goes_on) break;
      continue;
    }
    auto client = std::make_shared<ClientConnection>(std::move(socket), lane_.limits, bodies_,
                                                     ClientConnection::Options{});
    net::co_spawn(lane_.io, Serve(std::move(client)), net::detached);
  }
}

Awaitable<void> DemoEngine::Serve(std::shared_ptr<ClientConnection> client) {
  const Departure::Listener ends(lane_.ending, [&client] { client->Cut(); });
  while (true) {
    auto next = co_await client->Next();
    if (!next) co_return;
    if (!*next) {
      const std::string body =
          ErrorBody(next->error().status, "invalid_request_error", next->error().what);
      (void)co_await client->Answer(next->error().status, "application/json", body);
      co_return;
    }
    const bool sent = co_await Answer(*client, **next);
    client->ReleaseBody(**next);
    if (!sent) co_return;
  }
}

Awaitable<bool> DemoEngine::Answer(ClientConnection& client, const ClientRequest& asked) {
  const std::string_view path = asked.head.path();
  if (path == "/v1/models") {
    const std::string models =
        fmt::format(R"({{"object": "list", "data": [{{"id": "{}", "object": "model", )"
                    R"("owned_by": "conductor"}}]}})",
                    kDemoModel);
    co_return co_await client.Answer(200, "application/json", models);
  }
  const bool is_chat = path == "/v1/chat/completions";
  if (!is_chat && path != "/v1/completions" && path != "/tokenize") {
    const std::string error =
        ErrorBody(404, "not_found", "a simulated engine has completions, /tokenize and models");
    co_return co_await client.Answer(404, "application/json", error);
  }
  const auto members = JsonMembers::Parse(asked.body);
  if (!members || (!members->Find("prompt") && !members->Find("messages"))) {
    const std::string error =
        ErrorBody(400, "invalid_request_error", "a JSON object with a prompt is expected");
    co_return co_await client.Answer(400, "application/json", error);
  }
  const std::vector<TokenId> prompt = TokensOf(*members);
  if (path == "/tokenize") {
    const std::string tokens =
        fmt::format(R"({{"count": {}, "max_model_len": 131072, "tokens": [{}]}})", prompt.size(),
                    fmt::join(prompt, ","));
    co_return co_await client.Answer(200, "application/json", tokens);
  }
  if (role_ == Role::kPrefill) co_return co_await Prefill(client, prompt);
  co_return co_await Decode(client, *members, prompt.size(), is_chat);
}

Awaitable<bool> DemoEngine::Prefill(ClientConnection& client, std::span<const TokenId> prompt) {
  const uint64_t cached = uint64_t{cache_.CachedBlocks(prompt)} * kDemoBlockSize;
  auto events = cache_.Run(prompt);
  ++counts_.prompts;
  counts_.tokens += prompt.size();
  counts_.cached_tokens += cached;
  const MonoTime now = MonoNow();
  busy_until_ = std::max(busy_until_, now) + kPrefillBase +
                kPrefillToken * static_cast<int64_t>(prompt.size() - cached);
  const bool goes_on = co_await Pause(lane_, busy_until_ - now);
  if (!goes_on) co_return false;
  if (!events.empty()) publisher_->Publish(std::move(events));
  const std::string params = fmt::format(
      R"(, "usage": {}, "kv_transfer_params": {{"do_remote_prefill": true, )"
      R"("do_remote_decode": false, "remote_engine_id": "{}", "remote_block_ids": [[1]], )"
      R"("remote_host": "127.0.0.1", "remote_port": 5600}})",
      UsageJson(prompt.size(), 1, cached), name_);
  const std::string body =
      AnswerJson(false, false, ChoiceJson(false, false, kWords.front(), R"("length")"), params);
  co_return co_await client.Answer(200, "application/json", body);
}

Awaitable<bool> DemoEngine::Decode(ClientConnection& client, const JsonMembers& members,
                                   size_t prompt_tokens, bool is_chat) {
  const size_t length = LengthOf(members);
  if (!members.IsTrue("stream")) {
    const bool goes_on = co_await Pause(lane_, kDecodeToken * static_cast<int64_t>(length));
    if (!goes_on) co_return false;
    const std::string text = fmt::format(
        "{}", fmt::join(kWords.begin(), kWords.begin() + static_cast<ptrdiff_t>(length), ""));
    const std::string body =
        AnswerJson(is_chat, false, ChoiceJson(is_chat, false, text, R"("length")"),
                   fmt::format(R"(, "usage": {})", UsageJson(prompt_tokens, length, 0)));
    co_return co_await client.Answer(200, "application/json", body);
  }
  ResponseHead head;
  head.status = 200;
  head.body_end = BodyEnd::kChunked;
  head.fields.Add("Content-Type", "text/event-stream; charset=utf-8");
  client.Begin(head);
  for (size_t i = 0; i < length; ++i) {
    const bool goes_on = co_await Pause(lane_, kDecodeToken);
    if (!goes_on) co_return false;
    const std::string_view finish = i + 1 == length ? R"("length")" : "null";
    const std::string piece =
        fmt::format("data: {}\n\n",
                    AnswerJson(is_chat, true, ChoiceJson(is_chat, true, kWords[i], finish), {}));
    const bool sent = co_await client.Write(piece);
    if (!sent) co_return false;
  }
  const bool sent = co_await client.Write("data: [DONE]\n\n");
  if (!sent) co_return false;
  co_return co_await client.End();
}

}  // namespace conductor::proxy
