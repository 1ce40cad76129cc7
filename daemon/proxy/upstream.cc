#include "daemon/proxy/upstream.h"

#include <fmt/format.h>
#include <sys/socket.h>

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
  if (departure_.happened()) kind = UpstreamError::Kind::kLeft;
  return tl::unexpected(UpstreamError{kind, fmt::format("{}: {}", engine_, what)});
}

Awaitable<tl::expected<void, UpstreamError>> Exchange::Connect(const Engine& engine) {
  const auto addresses = engine.addresses();
  if (addresses.empty()) {
    co_return Failed(UpstreamError::Kind::kConnect, "cannot connect: its name is not known");
  }
  limit_.Set(upstreams_.options().connect);
  error_code error;
  for (const tcp::endpoint& address : addresses) {
    if (departure_.happened() || limit_.passed()) break;
    error = {};
    Close();
    co_await socket_.async_connect(address, Into(error));
    if (!error) break;
  }
  const bool passed = limit_.passed();
  limit_.Clear();
  if (passed) co_return Failed(UpstreamError::Kind::kConnect, "cannot connect in time");
  if (departure_.happened()) co_return Failed(UpstreamError::Kind::kLeft, "not wanted any more");
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
  // Whoever wanted it may have left before this began, and it would be sent all the same.
  if (departure_.happened()) co_return Failed(UpstreamError::Kind::kLeft, "not wanted any more");
  auto kept = upstreams_.Take(engine_);
  if (kept) {
    socket_ = *std::move(kept);
    auto asked = co_await AskOnce(head, body);
    const bool was_closed = !asked && asked.error().kind == UpstreamError::Kind::kBroken &&
                            !got_bytes_ && !departure_.happened();
    if (!was_closed) co_return asked;
  }
  auto connected = co_await Connect(engine);
  if (!connected) co_return connected;
  auto asked = co_await AskOnce(head, body);
  co_return asked;
}

Awaitable<tl::expected<void, UpstreamError>> Exchange::AskOnce(std::string_view head,
                                                               std::string_view body) {
  got_bytes_ = has_begun_ = finished_ = false;
  begin_ = end_ = 0;
  limit_.Set(upstreams_.options().first_byte);
  const std::array<net::const_buffer, 2> whole = {net::buffer(head.data(), head.size()),
                                                  net::buffer(body.data(), body.size())};
  error_code error;
  co_await net::async_write(socket_, whole, Into(error));
  if (error) {
    const bool passed = limit_.passed();
    limit_.Clear();
    co_return passed ? Failed(UpstreamError::Kind::kFirstByte, "does not take the request")
                     : Failed(UpstreamError::Kind::kBroken,
                              fmt::format("does not take the request: {}", error.message()));
  }
  if (buffer_.empty()) buffer_.resize(kBufferBytes);
  auto read = co_await ReadHead(head.starts_with("HEAD "));
  limit_.Clear();
  co_return read;
}

Awaitable<tl::expected<void, UpstreamError>> Exchange::ReadHead(bool to_head) {
  while (true) {
    const auto size = HeadEnd(std::string_view(buffer_.data() + begin_, end_ - begin_));
    if (!size) {
      const error_code error = co_await Fill();
      if (error && limit_.passed()) {
        co_return Failed(UpstreamError::Kind::kFirstByte, "no answer in time");
      }
      if (error == net::error::no_buffer_space) {
        co_return Failed(UpstreamError::Kind::kBroken, "the head of its answer has no end");
      }
      if (error) {
        co_return Failed(UpstreamError::Kind::kBroken,
                         fmt::format("no answer: {}", error.message()));
      }
      got_bytes_ = true;
      continue;
    }
    auto head = ReadResponseHead(std::string_view(buffer_.data() + begin_, *size), to_head);
    if (!head) co_return Failed(UpstreamError::Kind::kBroken, head.error().Message());
    begin_ += *size;
    if (head->status < 200) continue;  // 100 Continue
    head_ = *std::move(head);
    decoder_ = BodyDecoder(head_.body_end, head_.length);
    if (decoder_.done()) Finish();
    co_return tl::expected<void, UpstreamError>();
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
  if (head_.keep_alive && begin_ == end_ && socket_.is_open()) {
    upstreams_.Keep(engine_, std::move(socket_));
    socket_ = tcp::socket(upstreams_.io());
  } else {
    Close();
  }
}

}  // namespace conductor::proxy
