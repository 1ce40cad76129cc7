#include "daemon/proxy/client_connection.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "daemon/proxy/body_decoder.h"

namespace conductor::proxy {
namespace {

constexpr size_t kReadBytes = 16 << 10;
// Of pipelined requests, while one is worked on.
constexpr size_t kMaxAhead = 64 << 10;
// How often it is looked whether a client that sent more is there still.
constexpr std::chrono::milliseconds kLook(100);
constexpr std::chrono::seconds kLinger(2);

// Whether the client has closed its side, whatever it has sent that was not read.
bool HasLeft(tcp::socket& socket) {
  pollfd look{socket.native_handle(), POLLRDHUP, 0};
  return ::poll(&look, 1, 0) != 0;
}

std::string AddressOf(const tcp::socket& socket) {
  error_code error;
  const auto endpoint = socket.remote_endpoint(error);
  return error ? std::string("-") : endpoint.address().to_string();
}

bool HasSent(tcp::socket& socket) {
  char byte = 0;
  return ::recv(socket.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

}  // namespace

ClientConnection::ClientConnection(tcp::socket socket, TimeLimits& limits, BodyBudget& budget,
                                   const Options& options)
    : socket_(std::move(socket)),
      peer_(AddressOf(socket_)),
      limit_(limits, [this] { Close(); }),
      budget_(budget),
      options_(options) {
  error_code ignored;
  socket_.set_option(tcp::no_delay(true), ignored);
  socket_.non_blocking(true, ignored);
}

ClientConnection::~ClientConnection() { budget_.Give(body_bytes_); }

void ClientConnection::Close() {
  error_code ignored;
  // A reset in place of an end, which would be the body's.
  if (ends_by_close_) socket_.set_option(tcp::socket::linger(true, 0), ignored);
  socket_.close(ignored);
}

Awaitable<error_code> ClientConnection::ReadMore() {
  const size_t had = in_.size();
  in_.resize(had + kReadBytes);
  error_code error;
  const size_t got =
      co_await socket_.async_read_some(net::buffer(in_.data() + had, kReadBytes), Into(error));
  in_.resize(had + got);
  co_return error;
}

Awaitable<std::optional<tl::expected<ClientRequest, RefusedRequest>>> ClientConnection::Next() {
  using Got = std::optional<tl::expected<ClientRequest, RefusedRequest>>;
  is_idle_ = in_.empty();
  has_begun_ = false;
  // Of the request before, which a head that cannot be read is answered without.
  to_head_ = false;
  is_http_1_1_ = true;
  if (!keep_alive_ || (drains_ && is_idle_ && !HasSent(socket_))) {
    Close();
    co_return Got();
  }
  limit_.Set(is_idle_ ? options_.keep_alive : options_.request);
  began_ = MonoNow();
  ClientRequest request;
  const auto refuse = [&](RefusedRequest refused) {
    // What cannot be answered has ended already, and says by which.
    if (refused.status == 0) refused.what = limit_.passed() ? "request_timeout" : "client_left";
    if (refused.status == 0) Close();
    limit_.Clear();
    keep_alive_ = false;
    refused.head = std::move(request.head);
    refused.body_bytes = std::max<uint64_t>(refused.head.length, request.body.size());
    ReleaseBody(request);
    refused.took = MonoNow() - began_;
    return Got(tl::unexpected(std::move(refused)));
  };
  std::optional<size_t> size;
  while (true) {
    // Line breaks before a request are passed over (RFC 9112, 2.2).
    in_.erase(0, std::min(in_.find_first_not_of("\r\n"), in_.size()));
    size = HeadEnd(in_);
    if (size) break;
    if (in_.size() > kMaxHeadBytes) {
      co_return refuse({431, "the request's head is too large"});
    }
    const error_code error = co_await ReadMore();
    if (error) {
      if (!in_.empty()) co_return refuse({.status = 0, .what = {}});
      Close();
      co_return Got();
    }
    if (std::exchange(is_idle_, false)) {
      limit_.Set(options_.request);
      began_ = MonoNow();
    }
  }
  is_idle_ = false;
  auto head = ReadRequestHead(std::string_view(in_).substr(0, *size));
  if (!head) co_return refuse({head.error().status, head.error().what});
  in_.erase(0, *size);
  request.head = *std::move(head);
  keep_alive_ = request.head.keep_alive;
  to_head_ = request.head.method == "HEAD";
  is_http_1_1_ = request.head.is_http_1_1;
  auto refused = co_await ReadBody(request.head, request.body);
  if (refused) co_return refuse(*std::move(refused));
  limit_.Clear();
  if (in_.empty()) std::string().swap(in_);
  co_return Got(std::move(request));
}

Awaitable<std::optional<RefusedRequest>> ClientConnection::ReadBody(const RequestHead& head,
                                                                    std::string& body) {
  using Refused = std::optional<RefusedRequest>;
  BodyDecoder decoder(head.body_end, head.length);
  if (decoder.done()) co_return Refused();
  const std::string too_large = fmt::format("the body is larger than {} bytes", options_.max_body);
  if (head.length > options_.max_body) co_return Refused(RefusedRequest{413, too_large});
  const bool is_work = options_.is_work == nullptr || options_.is_work(head.method, head.path());
  const uint64_t aside = is_work ? 0 : kMaxAside;
  // What has come, and not what was announced: that would keep out others at no cost.
  const auto grow = [this, aside](uint64_t bytes) {
    if (body_bytes_ + bytes <= aside) {
      budget_.Add(bytes);
    } else if (!budget_.Take(bytes)) {
      return false;
    }
    body_bytes_ += bytes;
    return true;
  };
  const std::string no_room = "the bodies of all requests together are too large now";
  // What is not there yet may never come: no more than this at once.
  body.reserve(static_cast<size_t>(std::min<uint64_t>(head.length, 1 << 20)));
  if (head.expects_continue && in_.empty()) {
    constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    Buffers buffers{net::buffer(kContinue.data(), kContinue.size())};
    const bool sent = co_await Send(buffers);
    if (!sent) co_return Refused(RefusedRequest{0, {}});
    limit_.Set(options_.request);
  }
  while (true) {
    const auto step = decoder.Decode(in_.data(), in_.size());
    if (decoder.bad()) co_return Refused(RefusedRequest{400, "the chunks of the body are broken"});
    if (body.size() + step.payload > options_.max_body) {
      co_return Refused(RefusedRequest{413, too_large});
    }
    if (!grow(step.payload)) co_return Refused(RefusedRequest{503, no_room});
    body.append(in_, 0, step.payload);
    in_.erase(0, step.consumed);
    if (decoder.done()) co_return Refused();
    const error_code error = co_await ReadMore();
    if (error) co_return Refused(RefusedRequest{0, {}});
  }
}

void ClientConnection::ReleaseBody(ClientRequest& request) {
  std::string().swap(request.body);
  budget_.Give(std::exchange(body_bytes_, 0));
}

void ClientConnection::Watch(Departure& departure) {
  departure_ = &departure;
  ++watch_;
  WaitForClient();
}

void ClientConnection::WaitForClient() {
  socket_.async_wait(tcp::socket::wait_read,
                     [self = shared_from_this(), watch = watch_](error_code error) {
                       if (watch != self->watch_) return;
                       // Its end, or the next request.
                       std::array<char, 4096> bytes;
                       size_t got = 0;
                       if (!error) got = self->socket_.read_some(net::buffer(bytes), error);
                       if (error == net::error::would_block) return self->WaitForClient();
                       if (error) return self->departure_->Happen();
                       self->in_.append(bytes.data(), got);
                       if (self->in_.size() < kMaxAhead) return self->WaitForClient();
                       self->LookForClient();
                     });
}

void ClientConnection::LookForClient() {
  if (!look_) look_ = std::make_unique<net::steady_timer>(socket_.get_executor());
  look_->expires_after(kLook);
  look_->async_wait([self = shared_from_this(), watch = watch_](error_code error) {
    if (error || watch != self->watch_) return;
    if (HasLeft(self->socket_)) return self->departure_->Happen();
    self->LookForClient();
  });
}

void ClientConnection::Unwatch() {
  if (std::exchange(departure_, nullptr) == nullptr) return;
  ++watch_;
  look_.reset();
  error_code ignored;
  socket_.cancel(ignored);
}

void ClientConnection::Begin(const ResponseHead& head) {
  has_begun_ = true;
  Fields fields = WithoutHopByHop(head.fields);
  const bool has_body = !to_head_ && head.status >= 200 && head.status != 204 && head.status != 304;
  is_chunked_ = false;
  if (head.body_end == BodyEnd::kLength || (head.body_end == BodyEnd::kNoBody && has_body)) {
    fields.Add("Content-Length", std::to_string(head.length));
  } else if (has_body && is_http_1_1_) {
    is_chunked_ = true;
    fields.Add("Transfer-Encoding", "chunked");
  } else if (has_body) {
    keep_alive_ = false;
    ends_by_close_ = true;
  }
  if (drains_) keep_alive_ = false;
  if (!keep_alive_) {
    fields.Add("Connection", "close");
  } else if (!is_http_1_1_) {
    fields.Add("Connection", "keep-alive");
  }
  out_ = fmt::format("HTTP/1.1 {} {}\r\n", head.status,
                     head.reason.empty() ? StatusText(head.status) : head.reason);
  fields.AppendTo(out_);
  out_.append("\r\n");
}

Awaitable<bool> ClientConnection::Flush() {
  if (out_.empty()) co_return true;
  Buffers buffers{net::buffer(out_)};
  const bool sent = co_await Send(buffers);
  std::string().swap(out_);
  co_return sent;
}

Awaitable<bool> ClientConnection::Write(std::string_view piece) {
  if (piece.empty() || to_head_) co_return true;
  std::array<char, 20> size;
  Buffers buffers{net::buffer(out_)};
  if (is_chunked_) {
    auto* const end = std::to_chars(size.data(), size.data() + 16, piece.size(), 16).ptr;
    end[0] = '\r';
    end[1] = '\n';
    buffers[1] = net::buffer(size.data(), static_cast<size_t>(end + 2 - size.data()));
    buffers[3] = net::buffer("\r\n", 2);
  }
  buffers[2] = net::buffer(piece.data(), piece.size());
  const bool sent = co_await Send(buffers);
  if (!out_.empty()) std::string().swap(out_);
  co_return sent;
}

Awaitable<bool> ClientConnection::End() {
  constexpr std::string_view kLast = "0\r\n\r\n";
  Buffers buffers{net::buffer(out_)};
  if (is_chunked_) buffers[1] = net::buffer(kLast.data(), kLast.size());
  bool sent = true;
  if (is_chunked_ || !out_.empty()) sent = co_await Send(buffers);
  std::string().swap(out_);
  Unwatch();
  if (!sent) {
    Close();
  } else {
    ends_by_close_ = false;
  }
  co_return sent;
}

Awaitable<bool> ClientConnection::Answer(int status, std::string_view content_type,
                                         std::string_view body, const Fields& more) {
  ResponseHead head;
  head.status = status;
  head.body_end = BodyEnd::kLength;
  head.length = body.size();
  head.fields = more;
  if (!content_type.empty()) head.fields.Add("Content-Type", content_type);
  Begin(head);
  bool sent = co_await Write(body);
  if (sent) sent = co_await End();
  co_return sent;
}

Awaitable<bool> ClientConnection::Send(Buffers buffers) {
  // Most of what is sent finds room at once; then nothing has to be waited for.
  error_code error;
  size_t sent = socket_.write_some(buffers, error);
  const size_t whole = net::buffer_size(buffers);
  if (error == net::error::would_block) error = {};
  while (!error && sent < whole) {
    size_t skip = sent;
    Buffers rest{};
    for (size_t i = 0; i < buffers.size(); ++i) {
      const size_t here = std::min(skip, buffers[i].size());
      rest[i] = buffers[i] + here;
      skip -= here;
    }
    limit_.Set(options_.write);
    sent += co_await socket_.async_write_some(rest, Into(error));
    limit_.Clear();
  }
  if (error) {
    Close();
    // Who watches may hear nothing of it: the answer ends now.
    if (departure_ != nullptr) departure_->Happen();
  }
  co_return !error;
}

Awaitable<void> ClientConnection::Linger() {
  error_code error;
  socket_.shutdown(tcp::socket::shutdown_send, error);
  limit_.Set(kLinger);
  std::array<char, 4096> ignored;
  while (!error) co_await socket_.async_read_some(net::buffer(ignored), Into(error));
  limit_.Clear();
  Close();
}

void ClientConnection::Abort() {
  Unwatch();
  keep_alive_ = false;
  Close();
}

void ClientConnection::Drain() {
  drains_ = true;
  if (is_idle_ && !HasSent(socket_)) Close();
}

}  // namespace conductor::proxy
