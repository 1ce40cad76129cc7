#include "daemon/proxy/metaserver.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

namespace conductor::proxy {
namespace {

TEST(MetaserverTest, EngineRequestIdsAreRead) {
  const auto completion = ParseEngineRequestId("cmpl-a-b-12");
  ASSERT_TRUE(completion);
  EXPECT_EQ(completion->id, "a-b");
  EXPECT_EQ(completion->prompt, 12u);
  EXPECT_EQ(ParseEngineRequestId("chatcmpl-a-b-1")->id, "a-b-1");
  for (const char* text : {"", "cmpl-a", "cmpl-a-x", "other-a-1"}) {
    EXPECT_FALSE(ParseEngineRequestId(text)) << text;
  }
}

TEST(MetaserverTest, TheLastOfAllPromptsCallsWithWhatTheFirstSaid) {
  Metaserver server;
  std::vector<std::string> called;
  std::vector<int> statuses;
  const auto note = [&](int status) { statuses.push_back(status); };
  {
    const Metaserver::Waiting waiting(server, "r", 2,
                                      [&](const std::string& params, const Metaserver::Done& done) {
                                        called.push_back(params);
                                        done(200);
                                      });
    EXPECT_TRUE(server.Call(R"({"request_id": "cmpl-r-1"})", note));
    EXPECT_TRUE(called.empty());
    EXPECT_TRUE(server.Call(R"({"request_id": "cmpl-r-0", "x": 1e400})", note));
  }
  EXPECT_EQ(called, std::vector<std::string>{R"({"request_id": "cmpl-r-0", "x": 1e400})"});
  EXPECT_TRUE(server.Call(R"({"request_id": "cmpl-r-0"})", note));
  EXPECT_EQ(statuses, (std::vector<int>{200, 200, 404}));
}

TEST(MetaserverTest, ABodyThatNamesNoRequestIsAnError) {
  Metaserver server;
  for (const char* body : {"", "[]", "{}", R"({"request_id": 5})", R"({"request_id": "x"})"}) {
    EXPECT_FALSE(server.Call(body, [](int) { FAIL(); })) << body;
  }
}

}  // namespace
}  // namespace conductor::proxy
