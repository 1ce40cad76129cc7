#include "daemon/proxy/upstream.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace conductor::proxy {
namespace {

// What a relay holds of an answer at most. An engine's piece, a token, has some hundred bytes.
constexpr size_t kBufferBytes = 16 << 10;

// An idle connection has nothing to read, not even its end.
bool IsOpen(tcp::socket& socket) {
  char byte = 0;
  const ssize_t got = ::recv(socket.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

}  // namespace

std::optional<tcp::socket> Upstreams::Take(const std::string& engine) {
  const auto found = kept_.find(engine);
  if (found == kept_.end()) return std::nullopt;
  auto& sockets = found->second;
  while (!sockets.empty()) {
    tcp::socket socket = std::move(sockets.back());
    sockets.pop_back();
    if (IsOpen(socket)) return socket;
  }
  return std::nullopt;
}

void Upstreams::Keep(const std::string& engine, tcp::socket socket) {
  auto& sockets = kept_[engine];
  if (sockets.size() >= options_.max_kept) sockets.erase(sockets.begin());
  sockets.push_back(std::move(socket));
}

void Upstreams::Sweep(const std::function<bool(const std::string& engine)>& is_known) {
  std::erase_if(kept_, [&](const auto& kept) { return !is_known(kept.first); });
  auto next = kept_.upper_bound(swept_);
  if (next == kept_.end()) next = kept_.begin();
  if (next == kept_.end()) return;
  swept_ = next->first;
  std::erase_if(next->second, [](tcp::socket& socket) { return !IsOpen(socket); });
}

std::string_view KindName(UpstreamError::Kind kind) {
  switch (kind) {
    case UpstreamError::Kind::kConnect:
      return "connect";
    case UpstreamError::Kind::kFirstByte:
      return "first_byte";
    case UpstreamError::Kind::kIdle:
      return "idle";
    case UpstreamError::Kind::kBroken:
      return "broken";
    case UpstreamError::Kind::kLeft:
      return "left";
  }
  return {};
}

Exchange::Exchange(Upstreams& upstreams, Departure& departure)
    : upstreams_(upstreams),
      departure_(departure),
      socket_(upstreams.io()),
      limit_(upstreams.limits(), [this] { Close(); }),
      leaves_(departure, [this] { Close(); }) {}

void Exchange::Close() {
  error_code ignored;
  socket_.close(ignored);
}

tl::unexpected<UpstreamError> Exchange::Failed(UpstreamError::Kind kind, std::string_view what) {
  Close();
  if (departure_.happened()) {
    kind = UpstreamError::Kind::kLeft;
  } else if (is_late()) {
    kind = UpstreamError::Kind::kFirstByte;
    what = "no answer in time";
  }
  return tl::unexpected(UpstreamError{kind, fmt::format("{}: {}", engine_, what)});
}

void Exchange::Within(Duration whole) {
  whole_.emplace(upstreams_.limits(), [this] { Close(); });
  whole_->Set(whole);
}

Awaitable<tl::expected<void, UpstreamError>> Exchange::Connect(const Engine& engine) {
  const auto addresses = engine.addresses();
  if (addresses.empty()) {
    co_return Failed(UpstreamError::Kind::kConnect, "cannot connect: its name is not known");
  }
  limit_.Set(upstreams_.options().connect);
  error_code error;
  for (const tcp::endpoint& address : addresses) {
    if (is_over() || limit_.passed()) break;
    error = {};
    Close();
    co_await socket_.async_connect(address, Into(error));
    if (!error) break;
  }
  const bool passed = limit_.passed();
  limit_.Clear();
  if (passed) co_return Failed(UpstreamError::Kind::kConnect, "cannot connect in time");
  if (is_over()) co_return Failed(UpstreamError::Kind::kLeft, "not wanted any more");
  if (error) {
    co_return Failed(UpstreamError::Kind::kConnect,
                     fmt::format("cannot connect: {}", error.message()));
  }
  socket_.set_option(tcp::no_delay(true), error);
  socket_.non_blocking(true, error);
  co_return tl::expected<void, UpstreamError>();
}

Awaitable<tl::expected<void, UpstreamError>> Exchange::Ask(const Engine& engine,
                                                           std::string_view head,
                                                           std::string_view body) {
  engine_ = engine.name();
  to_head_ = head.starts_with("HEAD ");
  // Whoever wanted it may have left before this began, and it would be sent all the same.
  if (is_over()) co_return Failed(UpstreamError::Kind::kLeft, "not wanted any more");
  auto kept = upstreams_.Take(engine_);
  if (kept) {
    socket_ = *std::move(kept);
    auto asked = co_await AskOnce(head, body);
    const bool is_unanswered =
        !asked && asked.error().kind == UpstreamError::Kind::kBroken && !got_bytes_ && !is_over();
    const bool was_closed =
        is_unanswered && (!is_sent_ || MonoNow() - sent_ < upstreams_.options().stale);
    if (!was_closed) co_return asked;
    has_sent_ = false;  // to nobody
  }
  auto connected = co_await Connect(engine);
  if (!connected) co_return connected;
  auto asked = co_await AskOnce(head, body);
  co_return asked;
}

Awaitable<tl::expected<void, UpstreamError>> Exchange::AskOnce(std::string_view head,
                                                               std::string_view body) {
  has_sent_ = is_sent_ = has_head_ = got_bytes_ = has_begun_ = finished_ = false;
  begin_ = end_ = 0;
  if (buffer_.empty()) buffer_.resize(kBufferBytes);
  limit_.Set(upstreams_.options().first_byte);
  auto done = co_await Send(head, body);
  if (done && !has_head_) done = co_await ReadHead();
  limit_.Clear();
  co_return done;
}

Awaitable<tl::expected<void, UpstreamError>> Exchange::Send(std::string_view head,
                                                            std::string_view body) {
  error_code error;
  // While it does not take the request it may have refused it.
  bool watches = true;
  while (!head.empty() || !body.empty()) {
    const std::array<net::const_buffer, 2> rest = {net::buffer(head.data(), head.size()),
                                                   net::buffer(body.data(), body.size())};
    const size_t sent = socket_.write_some(rest, error);
    if (!error) {
      has_sent_ = true;
      const size_t of_head = std::min(sent, head.size());
      head.remove_prefix(of_head);
      body.remove_prefix(sent - of_head);
      continue;
    }
    if (error != net::error::would_block) break;
    const bool can_read = co_await WaitForRoom(watches);
    if (!can_read) continue;
    watches = !co_await Fill();
    const auto taken = watches ? TakeHead() : false;
    if (!taken) co_return tl::unexpected(taken.error());
    if (!*taken) continue;
    if (head_.status >= 300) co_return tl::expected<void, UpstreamError>();
    watches = false;
  }
  is_sent_ = head.empty() && body.empty();
  sent_ = MonoNow();
  if (is_sent_ || has_head_) co_return tl::expected<void, UpstreamError>();
  if (limit_.passed()) {
    co_return Failed(UpstreamError::Kind::kFirstByte, "does not take the request");
  }
  // It has closed, and may have said before why.
  const error_code closed = error;
  auto refused = co_await ReadHead();
  if (refused) co_return refused;
  co_return Failed(UpstreamError::Kind::kBroken,
                   fmt::format("does not take the request: {}", closed.message()));
}

Awaitable<bool> Exchange::WaitForRoom(bool watches) {
  struct State {
    bool waits = true;
    bool can_read = false;
  };
  const auto state = std::make_shared<State>();
  if (watches) {
    socket_.async_wait(tcp::socket::wait_read, [this, state](error_code error) {
      if (error || !state->waits) return;
      state->can_read = true;
      error_code ignored;
      socket_.cancel(ignored);
    });
  }
  error_code ignored;
  co_await socket_.async_wait(tcp::socket::wait_write, Into(ignored));
  state->waits = false;
  if (watches) socket_.cancel(ignored);
  co_return state->can_read;
}

tl::expected<bool, UpstreamError> Exchange::TakeHead() {
  while (true) {
    const auto size = HeadEnd(std::string_view(buffer_.data() + begin_, end_ - begin_));
    if (!size) return false;
    auto head = ReadResponseHead(std::string_view(buffer_.data() + begin_, *size), to_head_);
    if (!head) return Failed(UpstreamError::Kind::kBroken, head.error().Message());
    begin_ += *size;
    if (head->status == 101) {
      return Failed(UpstreamError::Kind::kBroken, "changes the protocol, which nobody asked for");
    }
    if (head->status < 200) continue;  // 100 Continue
    head_ = *std::move(head);
    has_head_ = true;
    decoder_ = BodyDecoder(head_.body_end, head_.length);
    if (decoder_.done()) Finish();
    return true;
  }
}

Awaitable<tl::expected<void, UpstreamError>> Exchange::ReadHead() {
  while (true) {
    const auto taken = TakeHead();
    if (!taken) co_return tl::unexpected(taken.error());
    if (*taken) co_return tl::expected<void, UpstreamError>();
    const error_code error = co_await Fill();
    if (!error) continue;
    if (limit_.passed()) co_return Failed(UpstreamError::Kind::kFirstByte, "no answer in time");
    if (error == net::error::no_buffer_space) {
      co_return Failed(UpstreamError::Kind::kBroken, "the head of its answer has no end");
    }
    co_return Failed(UpstreamError::Kind::kBroken, fmt::format("no answer: {}", error.message()));
  }
}

Awaitable<error_code> Exchange::Fill() {
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (end_ == buffer_.size()) {
    if (buffer_.size() >= kMaxHeadBytes) co_return error_code(net::error::no_buffer_space);
    buffer_.resize(kMaxHeadBytes);
  }
  error_code error;
  const size_t got = co_await socket_.async_read_some(
      net::buffer(buffer_.data() + end_, buffer_.size() - end_), Into(error));
  end_ += got;
  got_bytes_ |= got > 0;
  co_return error;
}

Awaitable<tl::expected<std::string_view, UpstreamError>> Exchange::Read() {
  while (true) {
    if (begin_ < end_ && !decoder_.done()) {
      const auto step = decoder_.Decode(buffer_.data() + begin_, end_ - begin_);
      const std::string_view payload(buffer_.data() + begin_, step.payload);
      begin_ += step.consumed;
      if (decoder_.bad()) {
        co_return Failed(UpstreamError::Kind::kBroken, "the framing of its answer is broken");
      }
      if (decoder_.done()) Finish();
      if (!payload.empty()) {
        has_begun_ = true;
        co_return payload;
      }
    }
    if (decoder_.done()) co_return std::string_view();
    begin_ = end_ = 0;
    limit_.Set(has_begun_ ? upstreams_.options().idle : upstreams_.options().first_byte);
    error_code error;
    end_ = co_await socket_.async_read_some(net::buffer(buffer_), Into(error));
    if (!error) {
      limit_.Clear();
      continue;
    }
    const bool passed = limit_.passed();
    limit_.Clear();
    if (passed && !has_begun_) {
      co_return Failed(UpstreamError::Kind::kFirstByte, "its answer does not begin in time");
    }
    if (passed) co_return Failed(UpstreamError::Kind::kIdle, "its answer does not go on");
    if (error == net::error::eof && !departure_.happened() && decoder_.Closed()) {
      Close();
      co_return std::string_view();
    }
    co_return Failed(UpstreamError::Kind::kBroken,
                     fmt::format("its answer breaks off: {}", error.message()));
  }
}

Awaitable<tl::expected<std::string, UpstreamError>> Exchange::ReadAll(size_t limit) {
  std::string whole;
  while (true) {
    auto piece = co_await Read();
    if (!piece) co_return tl::unexpected(std::move(piece.error()));
    if (piece->empty()) co_return whole;
    if (whole.size() + piece->size() > limit) {
      co_return Failed(UpstreamError::Kind::kBroken,
                       fmt::format("its answer is larger than {} bytes", limit));
    }
    whole.append(*piece);
  }
}

void Exchange::Finish() {
  if (std::exchange(finished_, true)) return;
  if (head_.keep_alive && is_sent_ && begin_ == end_ && socket_.is_open()) {
    upstreams_.Keep(engine_, std::move(socket_));
    socket_ = tcp::socket(upstreams_.io());
  } else {
    Close();
  }
}

}  // namespace conductor::proxy
