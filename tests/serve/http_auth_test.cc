#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <memory>
#include <string>

#include "daemon/serve/auth_tokens.h"
#include "daemon/serve/http_listener.h"
#include "tests/serve/eventually.h"
#include "tests/serve/http_client.h"

namespace conductor::serve {
namespace {

using Verdict = AuthTokens::Verdict;

constexpr const char* kReader = "reader-0123456789";
constexpr const char* kAdmin = "admin-0123456789+/==";

AuthTokens Tokens(std::string_view text) {
  auto tokens = AuthTokens::Parse(text);
  EXPECT_TRUE(tokens) << tokens.error().Message();
  return tokens.value_or(AuthTokens());
}

TEST(AuthTokens, AreReadOneALine) {
  const AuthTokens tokens = Tokens(
      "# those of the routers\n"
      "read reader-0123456789\r\n"
      "\n"
      "  admin\tadmin-0123456789+/==  # Ann's\n"
      "alone-0123456789");
  EXPECT_EQ(tokens.size(), 3U);
  EXPECT_TRUE(tokens.warnings().empty());
  const struct {
    const char* authorization;
    Verdict read;
    Verdict admin;
  } cases[] = {
      {"", Verdict::kMissing, Verdict::kMissing},
      {"Bearer", Verdict::kMissing, Verdict::kMissing},
      {"Bearer ", Verdict::kMissing, Verdict::kMissing},
      {"Bearer  \t", Verdict::kMissing, Verdict::kMissing},
      {"Basic cmVhZGVy", Verdict::kMissing, Verdict::kMissing},
      {"reader-0123456789", Verdict::kMissing, Verdict::kMissing},
      {"Bearer reader-0123456789", Verdict::kAllowed, Verdict::kForbidden},
      {"bEARER  reader-0123456789 ", Verdict::kAllowed, Verdict::kForbidden},
      {"Bearer admin-0123456789+/==", Verdict::kAllowed, Verdict::kAllowed},
      {"Bearer alone-0123456789", Verdict::kAllowed, Verdict::kAllowed},
      {"Bearer reader-012345678", Verdict::kUnknown, Verdict::kUnknown},
      {"Bearer reader-01234567890", Verdict::kUnknown, Verdict::kUnknown},
      {"Bearer READER-0123456789", Verdict::kUnknown, Verdict::kUnknown},
      {"Bearer read reader-0123456789", Verdict::kUnknown, Verdict::kUnknown},
      {"Bearer #", Verdict::kUnknown, Verdict::kUnknown},
  };
  for (const auto& [authorization, read, admin] : cases) {
    EXPECT_EQ(tokens.Judge(authorization, Access::kRead), read) << authorization;
    EXPECT_EQ(tokens.Judge(authorization, Access::kAdmin), admin) << authorization;
    EXPECT_EQ(tokens.Judge(authorization, Access::kOpen), Verdict::kAllowed) << authorization;
  }
}

TEST(AuthTokens, ABrokenFileIsAnErrorThatNamesTheLineAndNoToken) {
  const struct {
    std::string text;
    const char* message;
  } cases[] = {
      {"", "has no tokens (expected a line 'read TOKEN' or 'admin TOKEN' for each)"},
      {"# none yet\n\n", "has no tokens (expected a line 'read TOKEN' or 'admin TOKEN' for each)"},
      {"read", "line 1: 'read' has no token (expected 'read TOKEN' or 'admin TOKEN')"},
      {"\nadmin # 5f0c\n", "line 2: 'admin' has no token (expected 'read TOKEN' or 'admin TOKEN')"},
      {"write s3cret-s3cret-s3cret",
       "line 1: it does not begin with 'read' or 'admin' (expected 'read TOKEN' or 'admin TOKEN')"},
      {"read s3cret-s3cret-s3cret s3cret",
       "line 1: it has too many words (expected 'read TOKEN' or 'admin TOKEN')"},
      {"read s3cret:s3cret-s3cret",
       "line 1: the token has characters that no bearer token may have (expected letters, digits "
       "and -._~+/, then any number of =)"},
      {"read s3cret-s3cr\xc3\xa9t-s3cret",
       "line 1: the token has characters that no bearer token may have (expected letters, digits "
       "and -._~+/, then any number of =)"},
      {"read ====",
       "line 1: the token has characters that no bearer token may have (expected letters, digits "
       "and -._~+/, then any number of =)"},
      {"read s3cret-s3cret-s3cret\nadmin another-another-another\nadmin s3cret-s3cret-s3cret",
       "line 3: the token of line 1 again (expected each token once)"},
      {"read " + std::string(4097, 'a'),
       "line 1: the token is longer than 4096 bytes (expected 'read TOKEN' or 'admin TOKEN')"},
  };
  for (const auto& [text, message] : cases) {
    const auto tokens = AuthTokens::Parse(text);
    ASSERT_FALSE(tokens) << text;
    EXPECT_EQ(tokens.error().Message(), message);
    EXPECT_EQ(tokens.error().Message().find("s3cret"), std::string::npos);
  }
}

TEST(AuthTokens, AShortOneIsWarnedAbout) {
  const AuthTokens tokens = Tokens("admin letmein\n");
  ASSERT_EQ(tokens.warnings().size(), 1U);
  EXPECT_EQ(tokens.warnings().front(),
            "line 1: a token of 7 characters can be guessed; `openssl rand -hex 32` makes a better "
            "one");
}

TEST(AuthTokens, AFileThatOthersReadIsWarnedAboutAndOneThatIsMissingIsAnError) {
  const std::string path = testing::TempDir() + "conductor_tokens_" + std::to_string(::getpid());
  std::ofstream(path) << "read " << kReader << "\n";
  ::chmod(path.c_str(), 0644);
  const auto open = AuthTokens::Load(path);
  ASSERT_TRUE(open) << open.error().Message();
  ASSERT_EQ(open->warnings().size(), 1U);
  EXPECT_EQ(
      open->warnings().front(),
      path + ": others than its owner can open it (its mode is 0644); `chmod 600` mends that");
  ::chmod(path.c_str(), 0600);
  EXPECT_TRUE(AuthTokens::Load(path).value().warnings().empty());

  std::ofstream(path) << "nonsense here\n";
  EXPECT_EQ(AuthTokens::Load(path).error().where, path + ": line 1");
  std::ofstream(path) << std::string((1 << 20) + 1, '\n');
  EXPECT_EQ(AuthTokens::Load(path).error().what, "is too large");
  ::unlink(path.c_str());
  EXPECT_EQ(AuthTokens::Load(path).error().what, "cannot be read: No such file or directory");
  EXPECT_EQ(AuthTokens::Load(testing::TempDir()).error().what, "cannot be read: Is a directory");
}

class HttpAuthTest : public testing::Test {
 protected:
  HttpAuthTest() : listener_(HttpListener::Options{}) {
    const auto answer = [](HttpRequest request) {
      return HttpResponse{.body = request.body + "ok"};
    };
    listener_.Route("GET", "/open", answer, Access::kOpen);
    listener_.Route("GET", "/read", answer);
    listener_.Route("POST", "/admin", answer, Access::kAdmin);
    listener_.OnExchange([this](const HttpExchange& exchange) {
      if (exchange.reason == "unauthorized") ++unauthorized_;
      if (exchange.reason == "forbidden") ++forbidden_;
    });
    listener_.Require(Tokens(std::string("read ") + kReader + "\nadmin " + kAdmin + "\n"));
    const auto port = listener_.Start();
    EXPECT_TRUE(port) << port.error().Message();
    port_ = port.value_or(0);
  }

  static std::string Head(const std::string& line, const char* token) {
    return line + " HTTP/1.1\r\n" +
           (token == nullptr ? "" : std::string("Authorization: Bearer ") + token + "\r\n");
  }

  Reply Ask(const std::string& line, const char* token) {
    HttpClient client(port_);
    client.Send(Head(line, token) + "\r\n");
    return client.Read(line.starts_with("HEAD"));
  }

  HttpListener listener_;
  uint16_t port_ = 0;
  std::atomic<int> unauthorized_ = 0;
  std::atomic<int> forbidden_ = 0;
};

TEST_F(HttpAuthTest, EachRouteTakesTheTokensOfItsAccess) {
  const struct {
    const char* line;
    const char* token;
    int status;
  } cases[] = {
      {"GET /open", nullptr, 200},
      {"GET /open", "nobody's", 200},
      {"HEAD /open", nullptr, 200},
      {"GET /read", nullptr, 401},
      {"GET /read", "nobody's", 401},
      {"HEAD /read", nullptr, 401},
      {"GET /read", kReader, 200},
      {"HEAD /read", kReader, 200},
      {"GET /read", kAdmin, 200},
      {"POST /admin", nullptr, 401},
      {"POST /admin", "nobody's", 401},
      {"POST /admin", kReader, 403},
      {"POST /admin", kAdmin, 200},
      {"GET /admin", nullptr, 401},
      {"GET /admin", kReader, 405},
      {"GET /nowhere", nullptr, 401},
      {"GET /nowhere", kReader, 404},
      {"POST /open", nullptr, 401},
      {"GET /read?token=reader-0123456789", nullptr, 401},
  };
  for (const auto& [line, token, status] : cases) {
    EXPECT_EQ(Ask(line, token).status, status) << line << " " << (token == nullptr ? "" : token);
  }
}

TEST_F(HttpAuthTest, ARefusalSaysWhatIsMissing) {
  const Reply missing = Ask("GET /read", nullptr);
  EXPECT_NE(missing.head.find("\r\nWWW-Authenticate: Bearer realm=\"conductor\"\r\n"),
            std::string::npos)
      << missing.head;
  EXPECT_EQ(missing.body,
            R"({"error":"this needs 'Authorization: Bearer TOKEN'","reason":"unauthorized"})");
  const Reply wrong = Ask("GET /read", "nobody's");
  EXPECT_NE(wrong.head.find("error=\"invalid_token\"\r\n"), std::string::npos) << wrong.head;
  EXPECT_EQ(wrong.body,
            R"({"error":"the bearer token is none that is known here","reason":"unauthorized"})");
  const Reply forbidden = Ask("POST /admin", kReader);
  EXPECT_NE(forbidden.head.find("error=\"insufficient_scope\"\r\n"), std::string::npos);
  EXPECT_EQ(forbidden.body, R"({"error":"this needs an admin's token","reason":"forbidden"})");
  // They are counted after the answer is sent.
  EXPECT_TRUE(Eventually([this] { return unauthorized_ == 2 && forbidden_ == 1; }));
}

TEST_F(HttpAuthTest, NothingOfABodyIsWaitedForWithoutAToken) {
  HttpClient claims(port_);
  claims.Send(Head("POST /admin", kReader) + "Content-Length: 1000000\r\n\r\n");
  EXPECT_EQ(claims.Read().status, 403);
  EXPECT_TRUE(claims.AtEnd());
  HttpClient expects(port_);
  expects.Send(Head("POST /admin", nullptr) +
               "Expect: 100-continue\r\nContent-Length: 1000000\r\n\r\n");
  EXPECT_EQ(expects.Read().status, 401) << "and not 100";
  EXPECT_EQ(listener_.connections().body_bytes, 0U);
}

TEST_F(HttpAuthTest, ARefusalWithoutABodyKeepsTheConnection) {
  HttpClient client(port_);
  client.Send(Head("GET /read", nullptr) + "\r\n" + Head("GET /read", kReader) + "\r\n");
  EXPECT_EQ(client.Read().status, 401);
  EXPECT_EQ(client.Read().status, 200);
}

TEST_F(HttpAuthTest, TwoAuthorizationsAreNone) {
  HttpClient client(port_);
  client.Send(Head("GET /read", kReader) + "Authorization: Bearer " + kAdmin + "\r\n\r\n");
  EXPECT_EQ(client.Read().status, 400);
}

TEST_F(HttpAuthTest, OtherTokensTakeThePlaceOfTheFirst) {
  HttpClient client(port_);
  client.Send(Head("GET /read", kReader) + "\r\n");
  EXPECT_EQ(client.Read().status, 200);
  listener_.Require(Tokens("read another-0123456789"));
  client.Send(Head("GET /read", kReader) + "\r\n");
  EXPECT_EQ(client.Read().status, 401) << "of the next request on the same connection, too";
  client.Send(Head("GET /read", "another-0123456789") + "\r\n");
  EXPECT_EQ(client.Read().status, 200);
}

}  // namespace
}  // namespace conductor::serve
