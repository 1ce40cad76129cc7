#include "daemon/proxy/http_head.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/status.hpp>
#include <charconv>
#include <limits>
#include <utility>

namespace conductor::proxy {
namespace {

namespace http = boost::beast::http;

std::string_view View(boost::beast::string_view text) { return {text.data(), text.size()}; }

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

template <typename Message>
Fields FieldsOf(const Message& message) {
  Fields fields;
  for (const auto& field : message) fields.Add(View(field.name_string()), View(field.value()));
  return fields;
}

// Reads `head` with `parser`; why not.
template <typename Parser>
boost::system::error_code Parse(Parser& parser, std::string_view head) {
  boost::system::error_code error;
  parser.header_limit(kMaxHeadBytes);
  parser.body_limit(std::numeric_limits<uint64_t>::max());  // the body is not the parser's
  parser.put(boost::asio::buffer(head.data(), head.size()), error);
  if (!error && !parser.is_header_done()) error = http::error::partial_message;
  return error;
}

bool IsTokenChar(char c) {
  return (c >= '0' && c <= '9') || (Lower(c) >= 'a' && Lower(c) <= 'z') ||
         (c != '\0' && std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos);
}

// What is wrong with the lines of a head; nothing: they can be read in one way only.
std::optional<BadHead> LineError(std::string_view head) {
  bool is_first = true;
  size_t fields = 0;
  while (head != "\r\n") {
    const size_t end = head.find("\r\n");
    if (end == std::string_view::npos) return BadHead{400, "a line does not end with CR LF"};
    const std::string_view line = head.substr(0, end);
    head.remove_prefix(end + 2);
    if (std::ranges::any_of(line, IsControl)) return BadHead{400, "a line has a control character"};
    if (std::exchange(is_first, false)) continue;
    if (++fields > kMaxFields) {
      return BadHead{431, fmt::format("there are more than {} fields", kMaxFields)};
    }
    const std::string_view name = line.substr(0, line.find(':'));
    if (name.empty() || name.size() == line.size() || !std::ranges::all_of(name, IsTokenChar)) {
      return BadHead{400, "a line is no field: expected \"name: value\""};
    }
  }
  return std::nullopt;
}

struct Framing {
  bool is_chunked = false;
  std::optional<uint64_t> length;
};

// What the fields say of how the body ends.
tl::expected<Framing, BadHead> FramingOf(const Fields& fields, bool is_http_1_1) {
  Framing framing;
  for (const Field& field : fields.all()) {
    if (SameName(field.name, "transfer-encoding")) {
      if (!is_http_1_1) return tl::unexpected(BadHead{400, "HTTP/1.0 has no Transfer-Encoding"});
      if (framing.is_chunked || field.value.empty()) {
        return tl::unexpected(BadHead{400, "Transfer-Encoding cannot be read"});
      }
      if (!SameName(field.value, "chunked")) {
        return tl::unexpected(BadHead{501, "only chunked bodies are known"});
      }
      framing.is_chunked = true;
    } else if (SameName(field.name, "content-length")) {
      // At most 18 digits: what is added to it does not overflow.
      uint64_t length = 0;
      const char* const end = field.value.data() + field.value.size();
      const auto [stop, error] = std::from_chars(field.value.data(), end, length);
      if (framing.length || error != std::errc() || stop != end || field.value.size() > 18) {
        return tl::unexpected(BadHead{400, "Content-Length cannot be read: expected one number"});
      }
      framing.length = length;
    }
  }
  if (framing.is_chunked && framing.length) {
    return tl::unexpected(BadHead{400, "Content-Length stands beside Transfer-Encoding"});
  }
  return framing;
}

// Path and query of a target. Who takes this for his proxy sends a whole URL (RFC 9112, 3.2.2).
std::string_view WithoutOrigin(std::string_view target) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!SameName(target.substr(0, scheme.size()), scheme)) continue;
    target.remove_prefix(scheme.size());
    target.remove_prefix(std::min(target.find_first_of("/?"), target.size()));
    break;
  }
  return target;
}

// Calls with each name in a list: "close, x-mine".
template <typename Call>
void ForEachWord(std::string_view list, Call call) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    std::string_view word = list.substr(0, comma);
    list = comma == std::string_view::npos ? std::string_view() : list.substr(comma + 1);
    while (word.starts_with(' ') || word.starts_with('\t')) word.remove_prefix(1);
    while (word.ends_with(' ') || word.ends_with('\t')) word.remove_suffix(1);
    if (!word.empty()) call(word);
  }
}

constexpr std::array<std::string_view, 10> kHopByHop = {"connection",
                                                        "keep-alive",
                                                        "proxy-connection",
                                                        "proxy-authenticate",
                                                        "proxy-authorization",
                                                        "te",
                                                        "trailer",
                                                        "transfer-encoding",
                                                        "upgrade",
                                                        "content-length"};

}  // namespace

bool SameName(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::ranges::equal(a, b, {}, Lower, Lower);
}

void Fields::Set(std::string_view name, std::string_view value) {
  Remove(name);
  Add(name, value);
}

void Fields::Remove(std::string_view name) {
  std::erase_if(all_, [&](const Field& field) { return SameName(field.name, name); });
}

std::string_view Fields::Get(std::string_view name) const {
  const auto found =
      std::ranges::find_if(all_, [&](const Field& field) { return SameName(field.name, name); });
  return found == all_.end() ? std::string_view() : found->value;
}

void Fields::AppendTo(std::string& text) const {
  for (const Field& field : all_) {
    text.append(field.name).append(": ").append(field.value).append("\r\n");
  }
}

std::optional<size_t> HeadEnd(std::string_view bytes) {
  const size_t end = bytes.find("\r\n\r\n");
  if (end == std::string_view::npos) return std::nullopt;
  return end + 4;
}

tl::expected<RequestHead, BadHead> ReadRequestHead(std::string_view head) {
  if (auto loose = LineError(head)) return tl::unexpected(*std::move(loose));
  http::request_parser<http::empty_body> parser;
  if (const auto error = Parse(parser, head)) {
    const bool too_large = error == http::error::header_limit;
    return tl::unexpected(BadHead{too_large ? 431 : 400, error.message()});
  }
  const auto& message = parser.get();
  RequestHead read;
  read.method = View(message.method_string());
  const std::string_view target = WithoutOrigin(View(message.target()));
  if (!target.starts_with('/') && target != "*") read.target = "/";
  read.target.append(target);
  read.is_http_1_1 = message.version() >= 11;
  read.keep_alive = parser.keep_alive();
  read.fields = FieldsOf(message);
  read.expects_continue = SameName(read.fields.Get("Expect"), "100-continue");
  auto framing = FramingOf(read.fields, read.is_http_1_1);
  if (!framing) return tl::unexpected(std::move(framing.error()));
  if (framing->is_chunked) {
    read.body_end = BodyEnd::kChunked;
  } else if (framing->length.value_or(0) > 0) {
    read.body_end = BodyEnd::kLength;
    read.length = *framing->length;
  }
  return read;
}

Result<ResponseHead> ReadResponseHead(std::string_view head, bool to_head) {
  constexpr std::string_view kUnreadable = "the head of the answer cannot be read: {}";
  if (const auto loose = LineError(head)) return Fail(fmt::format(kUnreadable, loose->what));
  http::response_parser<http::empty_body> parser;
  if (const auto error = Parse(parser, head)) {
    return Fail(fmt::format(kUnreadable, error.message()));
  }
  const auto& message = parser.get();
  ResponseHead read;
  read.status = static_cast<int>(message.result_int());
  read.reason = View(message.reason());
  read.fields = FieldsOf(message);
  const auto framing = FramingOf(read.fields, message.version() >= 11);
  if (!framing) return Fail(fmt::format(kUnreadable, framing.error().what));
  const bool has_none = to_head || read.status < 200 || read.status == 204 || read.status == 304;
  if (has_none) {
    read.body_end = BodyEnd::kNoBody;
  } else if (framing->is_chunked) {
    read.body_end = BodyEnd::kChunked;
  } else if (framing->length) {
    read.body_end = *framing->length == 0 ? BodyEnd::kNoBody : BodyEnd::kLength;
    read.length = *framing->length;
  } else {
    read.body_end = BodyEnd::kClose;
  }
  read.keep_alive = message.keep_alive() && read.body_end != BodyEnd::kClose;
  return read;
}

Fields WithoutHopByHop(const Fields& fields) {
  std::vector<std::string_view> dropped(kHopByHop.begin(), kHopByHop.end());
  for (const Field& field : fields.all()) {
    if (!SameName(field.name, "connection")) continue;
    ForEachWord(field.value, [&](std::string_view word) { dropped.push_back(word); });
  }
  Fields kept;
  for (const Field& field : fields.all()) {
    const bool drop = std::ranges::any_of(
        dropped, [&](std::string_view name) { return SameName(field.name, name); });
    if (!drop) kept.Add(field.name, field.value);
  }
  return kept;
}

std::string_view StatusText(int status) {
  return View(http::obsolete_reason(http::int_to_status(static_cast<unsigned>(status))));
}

}  // namespace conductor::proxy
