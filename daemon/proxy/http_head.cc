#include "daemon/proxy/http_head.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/status.hpp>
#include <limits>

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
  http::request_parser<http::empty_body> parser;
  if (const auto error = Parse(parser, head)) {
    const bool too_large = error == http::error::header_limit;
    return tl::unexpected(BadHead{too_large ? 431 : 400, error.message()});
  }
  const auto& message = parser.get();
  RequestHead read;
  read.method = View(message.method_string());
  read.target = View(message.target());
  read.is_http_1_1 = message.version() >= 11;
  read.keep_alive = parser.keep_alive();
  read.fields = FieldsOf(message);
  read.expects_continue = SameName(read.fields.Get("Expect"), "100-continue");
  if (!read.fields.Get("Transfer-Encoding").empty()) {
    if (!parser.chunked()) return tl::unexpected(BadHead{501, "only chunked bodies are known"});
    read.body_end = BodyEnd::kChunked;
  } else if (const auto length = parser.content_length(); length && *length > 0) {
    read.body_end = BodyEnd::kLength;
    read.length = *length;
  }
  return read;
}

Result<ResponseHead> ReadResponseHead(std::string_view head, bool to_head) {
  http::response_parser<http::empty_body> parser;
  if (const auto error = Parse(parser, head)) {
    return Fail(fmt::format("the head of the answer cannot be read: {}", error.message()));
  }
  const auto& message = parser.get();
  ResponseHead read;
  read.status = static_cast<int>(message.result_int());
  read.reason = View(message.reason());
  read.fields = FieldsOf(message);
  const bool has_none = to_head || read.status < 200 || read.status == 204 || read.status == 304;
  if (has_none) {
    read.body_end = BodyEnd::kNoBody;
  } else if (parser.chunked()) {
    read.body_end = BodyEnd::kChunked;
  } else if (const auto length = parser.content_length()) {
    read.body_end = *length == 0 ? BodyEnd::kNoBody : BodyEnd::kLength;
    read.length = *length;
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
