#include "daemon/proxy/metaserver.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "daemon/proxy/request_id.h"

namespace conductor::proxy {
namespace {

const std::string kId = NewRequestId();

std::string Posted(const std::string& name, const std::string& more = "") {
  return R"({"request_id": ")" + name + R"(")" + more + "}";
}

TEST(MetaserverTest, EngineRequestIdsAreReadWithWhatEnginesPutBehindThem) {
  ASSERT_EQ(kId.size(), kRequestIdBytes);
  for (const char* suffix : {"-12", "-12-7f3a9c21", "-12-12345678"}) {
    const auto completion = ParseEngineRequestId("cmpl-" + kId + suffix);
    ASSERT_TRUE(completion) << suffix;
    EXPECT_EQ(completion->id, kId);
    EXPECT_EQ(completion->prompt, 12u);
  }
  for (const char* suffix : {"", "-7f3a9c21", "-1"}) {
    const auto chat = ParseEngineRequestId("chatcmpl-" + kId + suffix);
    ASSERT_TRUE(chat) << suffix;
    EXPECT_EQ(chat->id, kId);
    EXPECT_EQ(chat->prompt, 0u);
  }
  for (const std::string& text :
       {std::string(), "cmpl-" + kId, "cmpl-" + kId + "-x", "cmpl-" + kId + "0-1", "other-" + kId,
        std::string("chatcmpl-a"), "chatcmpl-" + kId + "x", kId}) {
    EXPECT_FALSE(ParseEngineRequestId(text)) << text;
  }
}

TEST(MetaserverTest, IdsAreNotLikeEachOther) {
  EXPECT_NE(NewRequestId(), NewRequestId());
  EXPECT_EQ(NewRequestId()[14], '4');
}

TEST(MetaserverTest, TheLastOfAllPromptsCallsOnceWithWhatTheFirstSaid) {
  Metaserver server;
  std::vector<std::string> called;
  std::vector<int> statuses;
  const auto note = [&](int status) { statuses.push_back(status); };
  {
    const Metaserver::Waiting waiting(server, kId, 2,
                                      [&](const std::string& params, const Metaserver::Done& done) {
                                        called.push_back(params);
                                        done(200);
                                      });
    EXPECT_TRUE(server.Call(Posted("cmpl-" + kId + "-0", R"(, "x": "old")"), note));
    EXPECT_TRUE(server.Call(Posted("cmpl-" + kId + "-0", R"(, "x": 1e400)"), note));
    EXPECT_TRUE(called.empty());
    EXPECT_TRUE(server.Call(Posted("cmpl-" + kId + "-2"), note));  // there is no such prompt
    EXPECT_TRUE(server.Call(Posted("cmpl-" + kId + "-1"), note));
    EXPECT_TRUE(server.Call(Posted("cmpl-" + kId + "-1"), note));  // a repetition
  }
  EXPECT_EQ(called, std::vector<std::string>{Posted("cmpl-" + kId + "-0", R"(, "x": 1e400)")});
  EXPECT_TRUE(server.Call(Posted("cmpl-" + kId + "-0"), note));
  EXPECT_EQ(statuses, (std::vector<int>{200, 200, 404, 200, 200, 404}));
}

TEST(MetaserverTest, ABodyThatNamesNoRequestIsAnError) {
  Metaserver server;
  for (const char* body : {"", "[]", "{}", R"({"request_id": 5})", R"({"request_id": "x"})"}) {
    EXPECT_FALSE(server.Call(body, [](int) { FAIL(); })) << body;
  }
}

}  // namespace
}  // namespace conductor::proxy
