#include "daemon/serve/http_framing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>
#include <utility>

namespace conductor::serve {
namespace {

constexpr size_t kMaxChunkLine = 1024;
constexpr size_t kMaxTrailer = 8192;

tl::unexpected<HttpRefusal> Refuse(int status, std::string reason, std::string error) {
  return tl::unexpected<HttpRefusal>(HttpRefusal{status, std::move(reason), std::move(error)});
}

tl::unexpected<HttpRefusal> Malformed(std::string error) {
  return Refuse(400, "malformed_request", std::move(error));
}

bool IsTokenChar(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

bool IsToken(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), IsTokenChar);
}

// Field values may hold anything but control characters.
bool IsFieldValue(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return c == '\t' || (byte >= 0x20 && byte != 0x7f);
  });
}

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) ==
           std::tolower(static_cast<unsigned char>(y));
  });
}

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool ListHas(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    if (EqualsIgnoringCase(Trim(list.substr(0, comma)), word)) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

std::optional<uint64_t> ParseNumber(std::string_view digits, int base) {
  uint64_t value = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, value, base);
  if (digits.empty() || error != std::errc() || stop != end) return std::nullopt;
  return value;
}

// "/path?query", or the same behind "http://authority" as proxies send it.
HttpResult<void> ParseTarget(std::string_view target, HttpHead& head) {
  constexpr std::string_view kScheme = "http://";
  if (EqualsIgnoringCase(target.substr(0, kScheme.size()), kScheme)) {
    target.remove_prefix(std::min(target.find('/', kScheme.size()), target.size()));
    if (target.empty()) target = "/";
  }
  const bool printable =
      std::all_of(target.begin(), target.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  if (!printable || (target.front() != '/' && target != "*")) {
    return Malformed("the request target is not a path");
  }
  const size_t mark = std::min(target.find('?'), target.size());
  head.path = target.substr(0, mark);
  head.query = target.substr(std::min(mark + 1, target.size()));
  return {};
}

HttpResult<void> ParseRequestLine(std::string_view line, HttpHead& head) {
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last || !IsToken(line.substr(0, first)) ||
      last == first + 1) {
    return Malformed("the request line is not METHOD TARGET VERSION");
  }
  const std::string_view version = line.substr(last + 1);
  if (!version.starts_with("HTTP/")) {
    return Malformed("the request line is not METHOD TARGET VERSION");
  }
  if (version != "HTTP/1.1" && version != "HTTP/1.0") {
    return Refuse(505, "unsupported_version", "only HTTP/1.1 and HTTP/1.0 are spoken here");
  }
  head.method = line.substr(0, first);
  head.keep_alive = version == "HTTP/1.1";
  return ParseTarget(line.substr(first + 1, last - first - 1), head);
}

struct SeenFields {
  bool content_length = false;
  bool transfer_encoding = false;
  bool authorization = false;
};

HttpResult<void> ParseField(std::string_view line, HttpHead& head, SeenFields& seen) {
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || !IsToken(line.substr(0, colon))) {
    return Malformed("a header line is not NAME: VALUE");
  }
  const std::string_view name = line.substr(0, colon);
  const std::string_view value = Trim(line.substr(colon + 1));
  if (!IsFieldValue(value)) return Malformed("a header value has control characters");

  if (EqualsIgnoringCase(name, "Content-Length")) {
    const auto length = ParseNumber(value, 10);
    if (!length) return Malformed("Content-Length is not a number of bytes");
    if (seen.content_length) return Malformed("Content-Length is given twice");
    seen.content_length = true;
    head.content_length = *length;
  } else if (EqualsIgnoringCase(name, "Transfer-Encoding")) {
    if (seen.transfer_encoding) return Malformed("Transfer-Encoding is given twice");
    seen.transfer_encoding = true;
    if (!EqualsIgnoringCase(value, "chunked")) {
      return Refuse(501, "unsupported_transfer_encoding",
                    "the only Transfer-Encoding spoken here is chunked");
    }
    head.chunked = true;
  } else if (EqualsIgnoringCase(name, "Connection")) {
    if (ListHas(value, "close")) {
      head.keep_alive = false;
    } else if (ListHas(value, "keep-alive")) {
      head.keep_alive = true;
    }
  } else if (EqualsIgnoringCase(name, "Content-Type")) {
    if (EqualsIgnoringCase(value.substr(0, 10), "multipart/")) {
      return Refuse(415, "unsupported_content_type", "multipart bodies are not read here");
    }
    head.content_type = value;
  } else if (EqualsIgnoringCase(name, "Accept")) {
    head.accept.append(head.accept.empty() ? "" : ",").append(value);
  } else if (EqualsIgnoringCase(name, "X-Conductor-Compat")) {
    head.compat = value;
  } else if (EqualsIgnoringCase(name, "Authorization")) {
    if (seen.authorization) return Malformed("Authorization is given twice");
    seen.authorization = true;
    head.authorization = value;
  } else if (EqualsIgnoringCase(name, "Content-Encoding")) {
    if (!EqualsIgnoringCase(value, "identity")) {
      return Refuse(415, "unsupported_content_encoding", "bodies must be sent uncompressed");
    }
  } else if (EqualsIgnoringCase(name, "Expect")) {
    if (!EqualsIgnoringCase(value, "100-continue")) {
      return Refuse(417, "unsupported_expectation",
                    "the only expectation met here is 100-continue");
    }
    head.expects_continue = true;
  }
  return {};
}

const char* StatusText(int status) {
  switch (status) {
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 431:
      return "Request Header Fields Too Large";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Error";
  }
}

}  // namespace

std::string BodyOf(const HttpRefusal& refusal) {
  if (!refusal.content_type.empty()) return refusal.body;
  return fmt::format(R"({{"error":"{}","reason":"{}"}})", refusal.error, refusal.reason);
}

std::string RefusalBytes(const HttpRefusal& refusal, bool keep_alive, bool head_only) {
  const std::string body = BodyOf(refusal);
  std::string bytes = fmt::format(
      "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n", refusal.status,
      StatusText(refusal.status),
      refusal.content_type.empty() ? "application/json" : refusal.content_type, body.size());
  if (refusal.status == 503) bytes += "Retry-After: 1\r\n";
  if (!refusal.header.empty()) bytes += refusal.header + "\r\n";
  if (!keep_alive) bytes += "Connection: close\r\n";
  bytes += "\r\n";
  if (!head_only) bytes += body;
  return bytes;
}

HttpResult<size_t> FindHeadEnd(std::string_view bytes, size_t& scanned) {
  for (;;) {
    const size_t feed = bytes.find('\n', scanned);
    if (feed == std::string_view::npos) {
      scanned = bytes.size();
      return 0;
    }
    if (feed == 0 || bytes[feed - 1] != '\r') {
      return Malformed("a line of the request's head does not end in CR LF");
    }
    scanned = feed + 1;
    if (feed >= 3 && bytes.substr(feed - 3, 4) == "\r\n\r\n") return feed + 1;
  }
}

HttpResult<HttpHead> ParseHead(std::string_view head_bytes, HttpHead* refused) {
  HttpHead head;
  SeenFields seen;
  bool first = true;
  std::optional<HttpRefusal> refusal;
  const auto heed = [&refusal](HttpResult<void> read) {
    if (!read && !refusal) refusal = std::move(read.error());
  };
  while (!head_bytes.empty()) {
    const size_t end = std::min(head_bytes.find("\r\n"), head_bytes.size());
    const std::string_view line = head_bytes.substr(0, end);
    head_bytes.remove_prefix(std::min(end + 2, head_bytes.size()));
    if (first) {
      heed(ParseRequestLine(line, head));
      first = false;
    } else if (line.empty()) {
      break;
    } else {
      heed(ParseField(line, head, seen));
    }
    if (refusal && refused == nullptr) break;
  }
  if (first) heed(Malformed("the request line is not METHOD TARGET VERSION"));
  if (seen.content_length && seen.transfer_encoding) {
    heed(Malformed("Content-Length and Transfer-Encoding are given together"));
  }
  if ((head.method == "GET" || head.method == "HEAD") && head.has_body()) {
    heed(Malformed("a " + head.method + " request has no body here"));
  }
  if (!refusal) return head;
  if (refused != nullptr) *refused = std::move(head);
  return tl::unexpected(*std::move(refusal));
}

// Collects a line without its CR LF in line_; true once it is complete.
HttpResult<bool> ChunkedDecoder::TakeLine(std::string_view& bytes) {
  const size_t feed = bytes.find('\n');
  const size_t take = feed == std::string_view::npos ? bytes.size() : feed + 1;
  if (line_.size() + take > kMaxChunkLine) return Malformed("a line between chunks is too long");
  line_.append(bytes.substr(0, take));
  bytes.remove_prefix(take);
  if (feed == std::string_view::npos) return false;
  if (!line_.ends_with("\r\n")) return Malformed("a line between chunks does not end in CR LF");
  line_.resize(line_.size() - 2);
  return true;
}

HttpResult<void> ChunkedDecoder::BeginChunk(size_t body_size) {
  const std::string_view digits =
      Trim(std::string_view(line_).substr(0, std::min(line_.find(';'), line_.size())));
  const auto size = ParseNumber(digits, 16);
  if (!size) return Malformed("a chunk does not begin with its size in hex digits");
  line_.clear();
  if (*size > max_body_bytes_ || body_size > max_body_bytes_ - *size) {
    return Refuse(413, "body_too_large",
                  "the body is larger than " + std::to_string(max_body_bytes_) + " bytes");
  }
  chunk_left_ = *size;
  state_ = *size == 0 ? State::kTrailer : State::kData;
  return {};
}

HttpResult<bool> ChunkedDecoder::Decode(std::string_view& bytes, std::string& body) {
  while (state_ != State::kDone && !bytes.empty()) {
    if (state_ == State::kData) {
      const size_t take = static_cast<size_t>(std::min<uint64_t>(chunk_left_, bytes.size()));
      body.append(bytes.substr(0, take));
      bytes.remove_prefix(take);
      chunk_left_ -= take;
      if (chunk_left_ == 0) state_ = State::kDataEnd;
      continue;
    }
    auto complete = TakeLine(bytes);
    if (!complete) return complete;
    if (!*complete) return false;
    switch (state_) {
      case State::kSize:
        if (auto begun = BeginChunk(body.size()); !begun) return tl::unexpected(begun.error());
        break;
      case State::kDataEnd:
        if (!line_.empty()) return Malformed("a chunk is longer than the size it began with");
        state_ = State::kSize;
        break;
      case State::kTrailer:
        trailer_bytes_ += line_.size();
        if (trailer_bytes_ > kMaxTrailer) return Malformed("the trailer is too long");
        if (line_.empty()) state_ = State::kDone;
        line_.clear();
        break;
      case State::kData:
      case State::kDone:
        break;
    }
  }
  return state_ == State::kDone;
}

}  // namespace conductor::serve
