#include "daemon/serve/settings.h"

#include <gtest/gtest.h>

#include <chrono>
#include <set>
#include <string>

namespace conductor::serve {
namespace {

using namespace std::chrono_literals;

const Setting& Named(std::string_view key) {
  const Setting* setting = FindSetting(key);
  EXPECT_NE(setting, nullptr) << key;
  return setting != nullptr ? *setting : AllSettings().front();
}

TEST(Settings, HaveNamesOfTheirOwnAndReadBackWhatTheyShow) {
  std::set<std::string> keys;
  for (const Setting& setting : AllSettings()) {
    EXPECT_TRUE(keys.insert(setting.Key()).second) << setting.name;
    Limits limits;
    EXPECT_FALSE(setting.Set("", limits)) << setting.name;
    if (setting.kind == Setting::Kind::kFile) {
      EXPECT_EQ(setting.Show(limits), "") << setting.name;
      continue;
    }
    const std::string shown = setting.Show(limits);
    EXPECT_TRUE(setting.Set(shown, limits)) << setting.name << " " << shown;
    EXPECT_EQ(setting.Show(limits), shown) << setting.name;
    EXPECT_FALSE(setting.Set("nonsense", limits)) << setting.name;
  }
}

TEST(Settings, AreSetOneByOne) {
  // Each to what no setting has by default, and none changes another.
  for (const Setting& setting : AllSettings()) {
    const bool is_number = setting.kind == Setting::Kind::kNumber;
    const char* text = setting.kind == Setting::Kind::kTime     ? "17ms"
                       : setting.kind == Setting::Kind::kState  ? "replaying"
                       : setting.kind == Setting::Kind::kCompat ? "cpp-json"
                       : setting.kind == Setting::Kind::kReal   ? "0.017"
                       : setting.kind == Setting::Kind::kFile   ? "a/file"
                       : is_number                              ? "17"
                                                                : "17k";
    Limits limits;
    ASSERT_TRUE(setting.Set(text, limits)) << setting.name;
    for (const Setting& other : AllSettings()) {
      EXPECT_EQ(other.Show(limits), &other == &setting ? text : other.Show({}))
          << other.name << " after " << setting.name;
    }
  }
}

TEST(Settings, AreFoundByTheKeyOfTheFile) {
  EXPECT_EQ(Named("probe_interval").name, "probe-interval");
  EXPECT_EQ(FindSetting("probe-interval"), nullptr);
  EXPECT_EQ(FindSetting(""), nullptr);
}

TEST(Settings, OfFlagsComeBeforeThoseOfTheFileAndThoseBeforeTheDefaults) {
  const auto limits = LimitsFrom({{&Named("probe_interval"), "2s"}, {&Named("hash_check"), "0"}},
                                 {{&Named("probe_interval"), "3s"}});
  ASSERT_TRUE(limits) << limits.error().Message();
  EXPECT_EQ(limits->registry.stream.probe_interval, 3s);
  EXPECT_EQ(limits->registry.ingest.hash_check_every, 0u);
  EXPECT_EQ(limits->registry.stream.replay_timeout, 3s);
}

TEST(Settings, ThatDoNotFitOneAnotherAreAnError) {
  const struct {
    const char* key;
    const char* text;
    const char* where;
  } cases[] = {
      {"http_max_body", "1g", "--http-max-inflight"},
      {"reconnect_min", "1m", "--reconnect-min"},
      {"tls_cert", "cert.pem", "--tls-cert"},
      {"tls_key", "key.pem", "--tls-key"},
      {"replay_backoff_max", "1ms", "--replay-backoff-min"},
  };
  for (const auto& [key, text, where] : cases) {
    const auto limits = LimitsFrom({{&Named(key), text}}, {});
    ASSERT_FALSE(limits) << key;
    EXPECT_EQ(limits.error().where, where);
  }
}

}  // namespace
}  // namespace conductor::serve
