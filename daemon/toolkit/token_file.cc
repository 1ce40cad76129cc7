#include "daemon/toolkit/token_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

#include "daemon/serve/file_descriptor.h"
#include "daemon/toolkit/terminal.h"
#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

constexpr const char* kExpected = "an integer from 0 to 4294967295";

constexpr bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }
constexpr bool IsBetween(char c) { return IsSpace(c) || c == ','; }

std::string NameOf(const std::string& path) { return path == "-" ? "standard input" : path; }

// What stands there, short enough for a message.
std::string WordAt(std::string_view text, size_t at) {
  size_t end = at;
  while (end < text.size() && end - at < 24 && !IsBetween(text[end]) && text[end] != ']') ++end;
  return Printable(text.substr(at, end - at));
}

Result<std::vector<TokenId>> ParseBinary(std::string_view bytes) {
  static_assert(std::endian::native == std::endian::little);
  if (bytes.size() % sizeof(TokenId) != 0) {
    return Fail(fmt::format("has {}", Counted(bytes.size(), "byte")), {},
                "4 for each token, little-endian");
  }
  std::vector<TokenId> tokens(bytes.size() / sizeof(TokenId));
  std::memcpy(tokens.data(), bytes.data(), bytes.size());
  return tokens;
}

Result<std::vector<TokenId>> ParseNumbers(std::string_view text, size_t at, size_t end) {
  std::vector<TokenId> tokens;
  for (;;) {
    while (at < end && IsBetween(text[at])) ++at;
    if (at == end) return tokens;
    TokenId token = 0;
    const auto [stop, error] = std::from_chars(text.data() + at, text.data() + end, token);
    const bool whole = stop == text.data() + end || IsBetween(*stop);
    if (error != std::errc() || !whole) {
      return Fail(fmt::format("'{}' is no token id", WordAt(text, at)), fmt::format("byte {}", at),
                  kExpected);
    }
    tokens.push_back(token);
    at = static_cast<size_t>(stop - text.data());
  }
}

}  // namespace

Result<std::vector<TokenId>> ParseTokens(std::string_view bytes, bool binary) {
  if (binary || bytes.find('\0') != std::string_view::npos) return ParseBinary(bytes);
  size_t at = 0;
  while (at < bytes.size() && IsSpace(bytes[at])) ++at;
  if (at == bytes.size() || bytes[at] != '[') return ParseNumbers(bytes, at, bytes.size());
  size_t end = bytes.size();
  while (IsSpace(bytes[end - 1])) --end;
  if (bytes[end - 1] != ']') {
    return Fail("the array does not end", fmt::format("byte {}", end), "']'");
  }
  return ParseNumbers(bytes, at + 1, end - 1);
}

Result<std::vector<TokenId>> ReadTokenFile(const std::string& path) {
  auto bytes = ReadWholeFile(path);
  if (!bytes) return tl::unexpected(std::move(bytes.error()));
  auto tokens = ParseTokens(*bytes, path.ends_with(".bin"));
  if (!tokens) return tl::unexpected(std::move(tokens.error()).Within(NameOf(path)));
  return tokens;
}

Result<std::string> ReadWholeFile(const std::string& path) {
  serve::FileDescriptor opened;
  if (path != "-") {
    opened = serve::FileDescriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (opened.get() < 0) return Fail(std::strerror(errno), path);
  }
  const int fd = path == "-" ? STDIN_FILENO : opened.get();
  std::string bytes;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Fail(std::strerror(errno), NameOf(path));
    if (got == 0) return bytes;
    bytes.append(buffer, static_cast<size_t>(got));
    if (bytes.size() > kMostFileBytes) {
      return Fail(fmt::format("has more than {} bytes", kMostFileBytes), NameOf(path));
    }
  }
}

}  // namespace conductor::toolkit
