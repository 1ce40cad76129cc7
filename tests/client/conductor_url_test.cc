#include "lib/client/conductor_url.h"

#include <gtest/gtest.h>

namespace conductor::client {
namespace {

using Scheme = ConductorUrl::Scheme;

TEST(ConductorUrl, SaysHowAConductorIsAsked) {
  struct Case {
    const char* text;
    Scheme scheme;
    const char* host;
    uint16_t port;
  };
  const Case cases[] = {
      {"http://10.0.0.1:8080", Scheme::kHttp, "10.0.0.1", 8080},
      {"http://conductor", Scheme::kHttp, "conductor", 13333},
      {"https://conductor/", Scheme::kHttps, "conductor", 13333},
      {"http://[::1]:8080", Scheme::kHttp, "::1", 8080},
      {"https://[::1]", Scheme::kHttps, "::1", 13333},
      {"tcp://10.0.0.1:13334", Scheme::kZmq, "", 0},
      {"ipc:///run/conductor", Scheme::kZmq, "", 0},
  };
  for (const Case& good : cases) {
    const auto url = ConductorUrl::Parse(good.text);
    ASSERT_TRUE(url.has_value()) << url.error().Message();
    EXPECT_EQ(url->scheme, good.scheme) << good.text;
    EXPECT_EQ(url->host, good.host) << good.text;
    EXPECT_EQ(url->port, good.port) << good.text;
  }
  EXPECT_EQ(ConductorUrl::Parse("http://a/")->text, "http://a");
}

TEST(ConductorUrl, ThatCannotBeUsedIsToldWhole) {
  for (const char* bad :
       {"", "conductor", "10.0.0.1:13333", "ftp://a", "http://", "http://a:0", "http://a:99999",
        "http://a/v1", "http://user@a", "tcp://a", "inproc://a"}) {
    const auto url = ConductorUrl::Parse(bad);
    ASSERT_FALSE(url.has_value()) << bad;
    EXPECT_EQ(url.error().where, "conductor '" + std::string(bad) + "'");
    EXPECT_FALSE(url.error().expected.empty());
  }
}

}  // namespace
}  // namespace conductor::client
