#include "daemon/serve/auth_tokens.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

namespace conductor::serve {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;
constexpr size_t kMaxTokenBytes = 4096;
constexpr size_t kSafeTokenBytes = 16;
constexpr std::string_view kExpected = "'read TOKEN' or 'admin TOKEN'";
constexpr std::string_view kBlank = " \t\r";

std::string_view Trim(std::string_view text) {
  const size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

// RFC 6750's b64token.
bool IsToken(std::string_view text) {
  while (text.ends_with('=')) text.remove_suffix(1);
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           std::string_view("-._~+/").find(c) != std::string_view::npos;
  });
}

// The token in "Bearer TOKEN"; empty where there is none.
std::string_view BearerToken(std::string_view authorization) {
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() <= kScheme.size()) return {};
  for (size_t i = 0; i < kScheme.size(); ++i) {
    if (std::tolower(static_cast<unsigned char>(authorization[i])) != kScheme[i]) return {};
  }
  return Trim(authorization.substr(kScheme.size()));
}

std::string LineName(size_t number) { return fmt::format("line {}", number); }

}  // namespace

AuthTokens::Digest AuthTokens::DigestOf(std::string_view token) {
  Digest digest{};
  ::SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(), digest.data());
  return digest;
}

Status AuthTokens::Add(std::string_view line, size_t number) {
  const auto wrong = [number](std::string what) {
    return Fail(std::move(what), LineName(number), std::string(kExpected));
  };
  line = Trim(line.substr(0, line.find('#')));
  if (line.empty()) return {};
  const size_t gap = line.find_first_of(kBlank);
  const std::string_view word = line.substr(0, gap);
  std::string_view token = gap == std::string_view::npos ? line : Trim(line.substr(gap));
  if (gap == std::string_view::npos) {
    if (word == "read" || word == "admin") return wrong(fmt::format("'{}' has no token", word));
  } else if (word != "read" && word != "admin") {
    return wrong("it does not begin with 'read' or 'admin'");
  }
  if (token.find_first_of(kBlank) != std::string_view::npos) return wrong("it has too many words");
  if (token.size() > kMaxTokenBytes) {
    return wrong(fmt::format("the token is longer than {} bytes", kMaxTokenBytes));
  }
  if (!IsToken(token)) {
    return Fail("the token has characters that no bearer token may have", LineName(number),
                "letters, digits and -._~+/, then any number of =");
  }
  const Token added{DigestOf(token), word != "read", number};
  const auto known = std::ranges::find(tokens_, added.digest, &Token::digest);
  if (known != tokens_.end()) {
    return Fail(fmt::format("the token of line {} again", known->line), LineName(number),
                "each token once");
  }
  if (token.size() < kSafeTokenBytes) {
    warnings_.push_back(
        fmt::format("line {}: a token of {} characters can be guessed; `openssl rand -hex 32` "
                    "makes a better one",
                    number, token.size()));
  }
  tokens_.push_back(added);
  return {};
}

Result<AuthTokens> AuthTokens::Parse(std::string_view text) {
  AuthTokens tokens;
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    if (auto added = tokens.Add(text.substr(0, end), number); !added) {
      return tl::unexpected(std::move(added.error()));
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  if (tokens.tokens_.empty()) {
    return Fail("has no tokens", {}, fmt::format("a line {} for each", kExpected));
  }
  return tokens;
}

Result<AuthTokens> AuthTokens::Load(const std::string& path) {
  struct stat status {};
  const auto unreadable = [&path](int error) {
    return Fail(fmt::format("cannot be read: {}", std::strerror(error)), path,
                "a file of tokens, a line for each");
  };
  if (::stat(path.c_str(), &status) != 0) return unreadable(errno);
  if (S_ISDIR(status.st_mode)) return unreadable(EISDIR);
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text(kMaxFileBytes + 1, '\0');
  if (file) file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file && !file.eof()) return unreadable(errno);
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kMaxFileBytes) {
    return Fail("is too large", path, fmt::format("at most {} bytes", kMaxFileBytes));
  }
  auto tokens = Parse(text);
  ::OPENSSL_cleanse(text.data(), text.size());
  if (!tokens) return tl::unexpected(std::move(tokens.error()).Within(path));
  for (std::string& warning : tokens->warnings_) warning = fmt::format("{}: {}", path, warning);
  if ((status.st_mode & (S_IRGRP | S_IWGRP | S_IROTH | S_IWOTH)) != 0) {
    tokens->warnings_.push_back(fmt::format(
        "{}: others than its owner can open it (its mode is {:04o}); `chmod 600` mends that", path,
        status.st_mode & 07777U));
  }
  return tokens;
}

AuthTokens::Verdict AuthTokens::Judge(std::string_view authorization, Access needed) const {
  if (needed == Access::kOpen) return Verdict::kAllowed;
  const std::string_view token = BearerToken(authorization);
  if (token.empty()) return Verdict::kMissing;
  const Digest given = DigestOf(token);
  bool known = false;
  bool admin = false;
  // All of them, whatever is found: neither which token fits nor how nearly one does shows in the
  // time that it takes.
  for (const Token& one : tokens_) {
    const bool same = ::CRYPTO_memcmp(one.digest.data(), given.data(), given.size()) == 0;
    known |= same;
    admin |= same && one.admin;
  }
  if (!known) return Verdict::kUnknown;
  return admin || needed == Access::kRead ? Verdict::kAllowed : Verdict::kForbidden;
}

}  // namespace conductor::serve
