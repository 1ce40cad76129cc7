#include "daemon/serve/pool_admin.h"

#include <gtest/gtest.h>
#include <httplib.h>

#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace conductor::serve {
namespace {

constexpr size_t kEnough = 1 << 20;

// The HTTP port of a master that answers as the test says: first all Answers, then Admin.
class FakeMaster {
 public:
  ~FakeMaster() {
    server_.stop();
    if (thread_.joinable()) thread_.join();
  }

  void Answer(const std::string& path, std::string body, int status = 200) {
    server_.Get(path, [this, body = std::move(body), status](const httplib::Request& request,
                                                             httplib::Response& response) {
      const std::lock_guard lock(mutex_);
      asked_ = request.has_param("keys") ? request.get_param_value("keys") : "";
      response.status = status;
      response.set_content(body, "text/plain");
    });
  }

  [[nodiscard]] std::unique_ptr<PoolAdmin> Admin() {
    if (!thread_.joinable()) Start();
    auto admin = PoolAdmin::Create("127.0.0.1:" + std::to_string(port_), std::chrono::seconds(10));
    EXPECT_TRUE(admin);
    return std::move(*admin);
  }
  // The keys that were asked for last, as they were sent but for the percent encoding.
  [[nodiscard]] std::string asked() {
    const std::lock_guard lock(mutex_);
    return asked_;
  }

 private:
  void Start() {
    port_ = server_.bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    while (!server_.is_running()) std::this_thread::yield();  // stop() would not be heard before
  }

  httplib::Server server_;
  int port_ = 0;
  std::thread thread_;
  std::mutex mutex_;
  std::string asked_;  // guarded by mutex_
};

std::vector<std::string> KeysOf(const std::vector<ingest::ListedObject>& objects) {
  std::vector<std::string> keys;
  for (const auto& object : objects) keys.push_back(object.key);
  return keys;
}

TEST(PoolAdmin, ListsOneKeyALine) {
  FakeMaster master;
  master.Answer("/get_all_keys", "m@tp_rank:0@1d\nm@tp_rank:1@1d\r\n\nlast");
  const auto keys = master.Admin()->AllKeys(kEnough);
  ASSERT_TRUE(keys) << keys.error().Message();
  EXPECT_EQ(KeysOf(*keys), (std::vector<std::string>{"m@tp_rank:0@1d", "m@tp_rank:1@1d", "last"}));
  EXPECT_FALSE(keys->front().cpu || keys->front().disk);
}

TEST(PoolAdmin, AnEmptyPoolIsNoError) {
  FakeMaster master;
  master.Answer("/get_all_keys", "");
  const auto keys = master.Admin()->AllKeys(kEnough);
  ASSERT_TRUE(keys) << keys.error().Message();
  EXPECT_TRUE(keys->empty());
}

TEST(PoolAdmin, AListBeyondTheLimitIsRefused) {
  FakeMaster master;
  master.Answer("/get_all_keys", std::string(5000, 'k') + "\n" + std::string(5000, 'l'));
  const auto keys = master.Admin()->AllKeys(4096);
  ASSERT_FALSE(keys);
  EXPECT_NE(keys.error().Message().find("lists more than 4096 bytes"), std::string::npos)
      << keys.error().Message();
}

TEST(PoolAdmin, AnotherStatusIsAnErrorThatSaysWhereAndWhat) {
  FakeMaster master;
  master.Answer("/get_all_keys", "no", 503);
  const auto keys = master.Admin()->AllKeys(kEnough);
  ASSERT_FALSE(keys);
  EXPECT_NE(keys.error().Message().find("/get_all_keys: answered with status 503"),
            std::string::npos)
      << keys.error().Message();
}

TEST(PoolAdmin, ReplicasTellTheTier) {
  FakeMaster master;
  master.Answer("/batch_query_keys", R"({"success": true, "data": {
      "a@1": {"ok": true, "values": [{}]},
      "b": {"ok": true, "values": [], "disk_values": [{}]},
      "c": {"ok": true, "values": [{}], "local_disk_values": [{}]},
      "d": {"ok": false, "error": "OBJECT_NOT_FOUND"}}})");
  const std::vector<std::string> asked{"a@1", "b", "c", "d", "unheard of", "x,y", "per cent %"};
  const auto tiers = master.Admin()->Tiers(asked);
  ASSERT_TRUE(tiers) << tiers.error().Message();
  ASSERT_EQ(KeysOf(*tiers), asked);
  const auto is = [&](size_t i, bool cpu, bool disk) {
    EXPECT_EQ((*tiers)[i].cpu, cpu) << asked[i];
    EXPECT_EQ((*tiers)[i].disk, disk) << asked[i];
  };
  is(0, true, false);
  is(1, false, true);
  is(2, true, true);
  is(3, false, false);
  is(4, false, false);
  is(5, false, true);  // its comma cannot be asked for
  EXPECT_EQ(master.asked(), "a@1,b,c,d,unheard of,per cent %");
}

TEST(PoolAdmin, AnAnswerWithoutDataIsAnError) {
  FakeMaster master;
  master.Answer("/batch_query_keys", R"({"success": false})");
  master.Answer("/kv_events/status", "not JSON");
  EXPECT_FALSE(master.Admin()->Tiers(std::vector<std::string>{"a"}));
  EXPECT_FALSE(master.Admin()->PublishedEvents());
}

TEST(PoolAdmin, TellsHowManyEventsWerePublished) {
  FakeMaster master;
  master.Answer("/kv_events/status", R"({"enabled": true, "published_batches": 3,
                                         "published_events": 17, "dropped_events": 0})");
  const auto published = master.Admin()->PublishedEvents();
  ASSERT_TRUE(published) << published.error().Message();
  EXPECT_EQ(*published, 17U);
}

TEST(PoolAdmin, NobodyThereIsAnError) {
  auto admin = PoolAdmin::Create("http://127.0.0.1:1/", std::chrono::seconds(1));
  ASSERT_TRUE(admin);
  const auto keys = (*admin)->AllKeys(kEnough);
  ASSERT_FALSE(keys);
  EXPECT_NE(keys.error().Message().find("http://127.0.0.1:1/get_all_keys: did not answer"),
            std::string::npos)
      << keys.error().Message();
}

TEST(PoolAdmin, AfterStopNothingIsAsked) {
  FakeMaster master;
  master.Answer("/get_all_keys", "a");
  const auto admin = master.Admin();
  admin->Stop();
  EXPECT_FALSE(admin->AllKeys(kEnough));
}

TEST(PoolAdmin, AnAddressIsHostAndPort) {
  for (const char* good :
       {"master:9003", "http://master:9003", "http://[::1]:9003/", "10.0.0.1:1"}) {
    EXPECT_TRUE(PoolAdmin::Create(good, std::chrono::seconds(1))) << good;
  }
  for (const char* bad : {"", "master", "https://master:9003", "master:9003/path", "master:0"}) {
    EXPECT_FALSE(PoolAdmin::Create(bad, std::chrono::seconds(1))) << bad;
  }
}

}  // namespace
}  // namespace conductor::serve
