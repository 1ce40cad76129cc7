#ifndef CONDUCTOR_DAEMON_SERVE_HTTP_FRAMING_H_
#define CONDUCTOR_DAEMON_SERVE_HTTP_FRAMING_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace conductor::serve {

// Where an HTTP/1 request begins and ends (RFC 9112), as plain functions over bytes. Everything
// that two readers could understand differently is refused instead of guessed at.

// Why a request is answered without being handled. `reason` is one word for programs.
struct HttpRefusal {
  int status = 400;
  std::string reason;
  std::string error;
  std::string header = {};  // one more of the answer's: "Allow: GET"
  // What stands in the answer instead of reason and error, and its Content-Type; empty: nothing.
  std::string body = {};
  std::string content_type = {};

  friend bool operator==(const HttpRefusal&, const HttpRefusal&) = default;
};

template <typename T>
using HttpResult = tl::expected<T, HttpRefusal>;

// What the answer to a refusal says: its body, or {"error", "reason"}, whose texts are ours and
// need no escapes.
[[nodiscard]] std::string BodyOf(const HttpRefusal& refusal);

// The whole answer that tells a refusal. Without `keep_alive` it says that the connection ends. A
// 503 says to come back in a second.
[[nodiscard]] std::string RefusalBytes(const HttpRefusal& refusal, bool keep_alive,
                                       bool head_only = false);

// What a head says.
struct HttpHead {
  std::string method;  // "GET", as sent
  std::string path;    // of the target, without query: "/v1/query"
  std::string query;   // after the '?'
  std::string content_type;
  std::string accept;           // its lines joined with commas
  std::string compat;           // X-Conductor-Compat
  std::string authorization;    // "Bearer abc"
  uint64_t content_length = 0;  // of the body; 0 when it is chunked
  bool chunked = false;
  bool keep_alive = true;         // the client will send more on this connection
  bool expects_continue = false;  // it waits for "100 Continue" before it sends the body

  [[nodiscard]] bool has_body() const { return chunked || content_length > 0; }
};

// The size of the head at the start of `bytes`, its blank line included; 0 while it is incomplete.
// `scanned` is where the search begins and is moved on, so that a head that comes byte by byte is
// searched once; start with 0. A line that does not end in CR LF is refused.
[[nodiscard]] HttpResult<size_t> FindHeadEnd(std::string_view bytes, size_t& scanned);

// Reads a complete head. Refused with 400 malformed_request: anything that is not the grammar,
// lengths given twice or together with chunks, a body on GET or HEAD. 415: bodies in parts or with
// a Content-Encoding. 417, 501, 505: expectations, transfer codings and versions not spoken here.
// `refused`, if given, takes what could be read of a head that is refused, behind the fault too: in
// which form its client reads errors stands there.
[[nodiscard]] HttpResult<HttpHead> ParseHead(std::string_view head, HttpHead* refused = nullptr);

// Takes a chunked body apart as its bytes come. Holds no more than one line of 1 KiB besides.
class ChunkedDecoder {
 public:
  // Bodies above `max_body_bytes` are refused with 413 as soon as a chunk says so.
  explicit ChunkedDecoder(uint64_t max_body_bytes) : max_body_bytes_(max_body_bytes) {}

  // Consumes from the front of `bytes` and appends to `body`; true once the body is complete (what
  // is left of `bytes` is the next request's), false when more bytes are needed.
  [[nodiscard]] HttpResult<bool> Decode(std::string_view& bytes, std::string& body);

 private:
  enum class State : uint8_t { kSize, kData, kDataEnd, kTrailer, kDone };

  [[nodiscard]] HttpResult<bool> TakeLine(std::string_view& bytes);
  [[nodiscard]] HttpResult<void> BeginChunk(size_t body_size);

  uint64_t max_body_bytes_;
  State state_ = State::kSize;
  std::string line_;
  uint64_t chunk_left_ = 0;  // bytes
  size_t trailer_bytes_ = 0;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_HTTP_FRAMING_H_
