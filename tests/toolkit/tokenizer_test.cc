#include "daemon/toolkit/tokenizer.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace conductor::toolkit {
namespace {

using Tokens = std::vector<TokenId>;

// Answers as it is told to, and keeps what it was asked.
class Fake final : public client::Transport {
 public:
  struct Asked {
    std::string method;
    std::string path;
    std::string body;
  };

  Fake(tl::expected<client::Reply, client::Failure> answer, Asked& asked)
      : answer_(std::move(answer)), asked_(asked) {}
  [[nodiscard]] bool Carries(const client::Request&) const override { return true; }
  [[nodiscard]] tl::expected<client::Reply, client::Failure> Exchange(
      const client::Request& request, const client::Deadlines&) override {
    asked_ = {std::string(request.method), std::string(request.path), std::string(request.body)};
    return answer_;
  }

 private:
  tl::expected<client::Reply, client::Failure> answer_;
  Asked& asked_;
};

class TokenizerTest : public testing::Test {
 protected:
  Result<Tokens> Ask(tl::expected<client::Reply, client::Failure> answer,
                     const std::string& url = "http://engine:8000") {
    const auto parsed = TokenizerUrl::Parse(url);
    EXPECT_TRUE(parsed.has_value());
    Tokenizer tokenizer(*parsed, std::make_unique<Fake>(std::move(answer), asked_),
                        std::chrono::seconds(1));
    return tokenizer.Tokenize(R"({"prompt":"x"})", "m");
  }
  std::string ErrorOf(int status, const std::string& body) {
    const auto tokens = Ask(client::Reply{.status = status, .body = body});
    return tokens ? "none" : tokens.error().Message();
  }

  Fake::Asked asked_;
};

TEST(TokenizerUrl, IsAnEnginesAddress) {
  struct Case {
    const char* text;
    const char* host;
    uint16_t port;
    const char* path;
  };
  for (const Case& good : {Case{"http://engine:8000", "engine", 8000, "/tokenize"},
                           Case{"http://engine:8000/", "engine", 8000, "/tokenize"},
                           Case{"http://engine", "engine", 80, "/tokenize"},
                           Case{"https://engine/v1/tokenize", "engine", 443, "/v1/tokenize"},
                           Case{"http://[::1]:30000", "::1", 30000, "/tokenize"},
                           Case{"http://[::1]/a", "::1", 80, "/a"}}) {
    const auto url = TokenizerUrl::Parse(good.text);
    ASSERT_TRUE(url.has_value()) << good.text << ": " << url.error().Message();
    EXPECT_EQ(url->address.host, good.host) << good.text;
    EXPECT_EQ(url->address.port, good.port) << good.text;
    EXPECT_EQ(url->path, good.path) << good.text;
  }
  for (const char* bad :
       {"", "engine:8000", "tcp://engine:8000", "http://", "http://:80", "http://engine:80000"}) {
    EXPECT_FALSE(TokenizerUrl::Parse(bad).has_value()) << bad;
  }
}

TEST_F(TokenizerTest, TheRequestIsSentWithItsModel) {
  const auto tokens =
      Ask(client::Reply{.status = 200, .body = R"({"tokens": [1, 300], "count": 2})"},
          "http://engine:8000/v1/tokenize");
  ASSERT_TRUE(tokens.has_value()) << tokens.error().Message();
  EXPECT_EQ(*tokens, (Tokens{1, 300}));
  EXPECT_EQ(asked_.method, "POST");
  EXPECT_EQ(asked_.path, "/v1/tokenize");
  EXPECT_EQ(asked_.body, R"({"prompt":"x","model":"m"})");
}

TEST_F(TokenizerTest, ARefusalIsToldInItsOwnWords) {
  EXPECT_EQ(ErrorOf(400, R"({"object": "error", "message": "too long"})"),
            "tokenizer http://engine:8000: status 400: too long");
  EXPECT_EQ(ErrorOf(400, R"({"error": {"message": "no model"}})"),
            "tokenizer http://engine:8000: status 400: no model");
  EXPECT_EQ(ErrorOf(500, "<html>"), "tokenizer http://engine:8000: status 500");
  EXPECT_EQ(ErrorOf(404, R"({"detail": "Not Found"})"),
            "tokenizer http://engine:8000: status 404: Not Found (expected an engine's /tokenize: "
            "is this the engine, and not a router?)");
}

TEST_F(TokenizerTest, AnEngineThatIsAwayIsNamed) {
  EXPECT_EQ(
      Ask(tl::unexpected(client::Failure{{"cannot connect", {}, {}}, false})).error().Message(),
      "tokenizer http://engine:8000: cannot connect (expected an engine there: --tokenizer "
      "names its HTTP port)");
}

TEST(TokenizerAnswer, HasTokensAndTheirNumber) {
  EXPECT_EQ(*ReadTokenizerAnswer(R"({"tokens": [1, 2]})"), (Tokens{1, 2}));
  EXPECT_EQ(*ReadTokenizerAnswer(R"({"tokens": [], "count": 0, "token_strs": null})"), Tokens());
  for (const char* bad :
       {"", "[]", "{}", R"({"tokens": 1})", R"({"tokens": ["a"]})", R"({"tokens": [-1]})",
        R"({"tokens": [4294967296]})", R"({"tokens": [[1]]})", R"({"tokens": [1], "count": 3})"}) {
    EXPECT_FALSE(ReadTokenizerAnswer(bad).has_value()) << bad;
  }
  EXPECT_FALSE(
      ReadTokenizerAnswer(R"({"tokens": [)" + std::string(100000, '[') + "]}").has_value());
}

}  // namespace
}  // namespace conductor::toolkit
