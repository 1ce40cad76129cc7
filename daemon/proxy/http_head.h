#ifndef CONDUCTOR_DAEMON_PROXY_HTTP_HEAD_H_
#define CONDUCTOR_DAEMON_PROXY_HTTP_HEAD_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"

// The heads of HTTP/1.0 and 1.1 messages, read by Boost.Beast's parser.
namespace conductor::proxy {

struct Field {
  std::string name;
  std::string value;

  friend bool operator==(const Field&, const Field&) = default;
};

// In the order of the message; names are compared without case.
class Fields {
 public:
  void Add(std::string_view name, std::string_view value) {
    all_.push_back({std::string(name), std::string(value)});
  }
  // In place of all of that name.
  void Set(std::string_view name, std::string_view value);
  void Remove(std::string_view name);
  // The first of that name; empty when there is none.
  [[nodiscard]] std::string_view Get(std::string_view name) const;
  [[nodiscard]] const std::vector<Field>& all() const { return all_; }
  // "name: value\r\n" of each.
  void AppendTo(std::string& text) const;

 private:
  std::vector<Field> all_;
};

[[nodiscard]] bool SameName(std::string_view a, std::string_view b);

// What no line of a head or of a chunk's framing may have.
[[nodiscard]] constexpr bool IsControl(char c) {
  return (static_cast<unsigned char>(c) < ' ' && c != '\t') || c == 0x7f;
}

// How the end of a message's body is told.
enum class BodyEnd : uint8_t { kNoBody, kLength, kChunked, kClose };

struct RequestHead {
  std::string method;
  std::string target;  // path and query, as sent; of a whole URL only these
  bool is_http_1_1 = true;
  bool keep_alive = true;
  bool expects_continue = false;
  BodyEnd body_end = BodyEnd::kNoBody;
  uint64_t length = 0;  // of kLength
  Fields fields;        // all that came

  [[nodiscard]] std::string_view path() const {
    return std::string_view(target).substr(0, target.find('?'));
  }
};

struct ResponseHead {
  int status = 0;
  std::string reason;
  bool keep_alive = true;
  BodyEnd body_end = BodyEnd::kNoBody;
  uint64_t length = 0;
  Fields fields;
};

// The largest head that is read, in bytes, and the most fields of it: one of four bytes costs a
// hundred here.
inline constexpr size_t kMaxHeadBytes = 32 << 10;
inline constexpr size_t kMaxFields = 256;

// Why a head cannot be read, as the status that says so: 400, 431 when it is too large, 501 for a
// coding that is not known.
struct BadHead {
  int status = 400;
  std::string what;
};

// Where the head that `bytes` begin with ends; nothing while it has not come whole.
[[nodiscard]] std::optional<size_t> HeadEnd(std::string_view bytes);

// `head` is one whole head with its empty line. What RFC 9112 lets a recipient read in more than
// one way is refused, as is what it lets it repair: line ends that are not CR LF, fields that go on
// in the next line, space before a colon, a length or a coding that stands twice, is no plain
// number or "chunked", or beside the other. A server behind this one may read it the other way, and
// take one message for two.
[[nodiscard]] tl::expected<RequestHead, BadHead> ReadRequestHead(std::string_view head);
// `to_head`: it answers a HEAD request, and has no body.
[[nodiscard]] Result<ResponseHead> ReadResponseHead(std::string_view head, bool to_head = false);

// Of this connection only, and never passed on (RFC 9110, 7.6.1), with those that `fields` itself
// names in Connection; and what frames a body.
[[nodiscard]] Fields WithoutHopByHop(const Fields& fields);

[[nodiscard]] std::string_view StatusText(int status);

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_HTTP_HEAD_H_
