#include "daemon/proxy/options.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "daemon/proxy/conductor_advisor.h"
#include "daemon/proxy/keeper.h"

namespace conductor::proxy {
namespace {

std::vector<std::string> Names(const std::vector<EngineSpec>& engines) {
  std::vector<std::string> names;
  for (const EngineSpec& engine : engines) names.push_back(engine.Name());
  return names;
}

TEST(ProxyOptionsTest, HostsAndPortsGoTogetherByTheirPlaces) {
  const auto of = [](const EngineLists& lists) { return Names(*EnginesOf(lists, "x", 8100)); };
  using Texts = std::vector<std::string>;
  EXPECT_EQ(of({.hosts = {"a", "b"}, .ports = {"1", "2"}}), (Texts{"a:1", "b:2"}));
  EXPECT_EQ(of({.hosts = {"a", "b"}, .ports = {"1"}}), (Texts{"a:1", "b:1"}));
  EXPECT_EQ(of({.hosts = {"a"}, .ports = {"1", "2"}}), (Texts{"a:1", "a:2"}));
  EXPECT_EQ(of({.hosts = {"a"}}), (Texts{"a:8100"}));
  EXPECT_EQ(of({.ports = {"1"}}), (Texts{"localhost:1"}));
  EXPECT_EQ(of({.hosts = {"fd00::1"}}), (Texts{"[fd00::1]:8100"}));
  EXPECT_EQ(of({.endpoints = {"a:1", "http://b:2"}}), (Texts{"a:1", "b:2"}));
  EXPECT_EQ(of({}), Texts{});
  EXPECT_FALSE(EnginesOf({.hosts = {"a"}, .endpoints = {"b:1"}}, "x", 1));
}

TEST(ProxyOptionsTest, PrefillersHaveBootstrapPortsOfTheirOwn) {
  const auto of = [](const EngineLists& lists, std::string_view what = "prefiller") {
    std::vector<std::string> ports;
    const auto engines = EnginesOf(lists, what, 8100);
    if (!engines) return std::vector<std::string>{engines.error().Message()};
    for (const EngineSpec& engine : *engines) {
      const auto port = engine.bootstrap_port;
      ports.push_back(engine.Name() + " " + (port ? std::to_string(*port) : "-"));
    }
    return ports;
  };
  using Texts = std::vector<std::string>;
  EXPECT_EQ(of({.endpoints = {"http://a:1", "8998", "a:2", "none", "b:1"}}),
            (Texts{"a:1 8998", "a:2 0", "b:1 -"}));
  EXPECT_EQ(of({.hosts = {"a"}, .ports = {"1", "2"}, .bootstrap_ports = {"8998", "none"}}),
            (Texts{"a:1 8998", "a:2 0"}));
  EXPECT_EQ(of({.hosts = {"a", "b"}, .bootstrap_ports = {"9"}}), (Texts{"a:8100 9", "b:8100 9"}));
  const auto fails = [&](const EngineLists& lists, const std::string& with,
                         std::string_view what = "prefiller") {
    const Texts said = of(lists, what);
    ASSERT_EQ(said.size(), 1u);
    EXPECT_NE(said[0].find(with), std::string::npos) << said[0];
  };
  fails({.endpoints = {"a:1", "70000"}}, "'70000' is no bootstrap port");
  fails({.endpoints = {"8998", "a:1"}}, "8998");
  fails({.endpoints = {"a:1", "8998", "8999"}}, "8999");
  fails({.endpoints = {"a:1", "8998"}}, "8998", "decoder");
  fails({.endpoints = {"a:1", "9"}, .bootstrap_ports = {"9"}}, "has one already");
  fails({.endpoints = {"a:1"}, .bootstrap_ports = {"9", "9"}}, "2 ports for 1 engines");
  fails({.bootstrap_ports = {"9"}}, "1 ports for 0 engines");
}

TEST(ProxyOptionsTest, NoTwoPrefillersAreAtOneBootstrapServer) {
  ProxyOptions options;
  options.decoders = {*EngineSpec::Parse("d:1")};
  options.prefillers = {*EngineSpec::Parse("a:1"), *EngineSpec::Parse("a:2")};
  EXPECT_TRUE(CheckOptions(options));  // nixl has none
  for (const Connector connector : {Connector::kMooncake, Connector::kSglang}) {
    options.choreography.connector = connector;
    options.prefillers[1].bootstrap_port.reset();
    const auto checked = CheckOptions(options);
    ASSERT_FALSE(checked);
    EXPECT_NE(checked.error().Message().find("a:2: its bootstrap port 8998 is that of a:1 too"),
              std::string::npos)
        << checked.error().Message();
    options.prefillers[1].bootstrap_port = 8999;
    EXPECT_TRUE(CheckOptions(options));
    options.prefillers[1].bootstrap_port = 0;
    EXPECT_EQ(CheckOptions(options).has_value(), connector == Connector::kSglang);
  }
}

TEST(ProxyOptionsTest, TheFileHasBootstrapPorts) {
  const auto read = [](const std::string& port, const std::string& list) {
    ProxyOptions options;
    const auto done = ReadProxyJson(R"({")" + list + R"(": {"instances": [
        {"http_endpoint": "a:1", "bootstrap_port": )" +
                                        port + "}]}}",
                                    "f.json", options);
    if (!done) return done.error().Message();
    return std::to_string(options.prefillers[0].bootstrap_port.value_or(1));
  };
  EXPECT_EQ(read("8999", "prefill"), "8999");
  EXPECT_EQ(read(R"("none")", "prefill"), "0");
  for (const char* bad : {"0", "70000", R"("x")", "null", "[1]"}) {
    EXPECT_NE(read(bad, "prefill").find("prefill.instances[0].bootstrap_port"), std::string::npos)
        << read(bad, "prefill");
  }
  EXPECT_NE(read("8999", "decode").find("is not known"), std::string::npos);
}

TEST(ProxyOptionsTest, EverySettingShowsWhatItReads) {
  for (const ProxySetting& setting : ProxySettings()) {
    ProxyOptions options;
    const std::string value = setting.show(options);
    if (value.empty()) continue;
    EXPECT_TRUE(setting.set(value, options)) << setting.name;
    EXPECT_EQ(setting.show(options), value) << setting.name;
    EXPECT_FALSE(setting.set("x y", options)) << setting.name;
  }
}

TEST(ProxyOptionsTest, TheFileOfTheExampleProxyIsRead) {
  ProxyOptions options;
  const auto read = ReadProxyJson(R"({
    "conductor": {"address": "http://127.0.0.1:13333", "query_timeout_seconds": 0.5},
    "prefill": {
      "config": {"modelname": "m", "block_size": 128, "tenant_id": "t", "lora_name": "",
                 "hash_profile": {"strategy": "vllm_v1", "algorithm": "sha256_cbor",
                                  "python_hash_seed": "0", "index_projection": "low64_be"}},
      "instances": [{"instance_id": "p0", "http_endpoint": "http://10.0.0.1:8100",
                     "registrations": [{"endpoint": "tcp://10.0.0.1:5557", "dp_rank": 0},
                                       {"endpoint": "tcp://10.0.0.1:5558", "dp_rank": 1}]}]},
    "decode": {"instances": [{"http_endpoint": "http://10.0.0.2:8200"}]},
    "proxy": {"port": 9000, "connector": "store", "retries": 1, "max_body": "1m"}})",
                                  "f.json", options);
  ASSERT_TRUE(read) << read.error().Message();
  EXPECT_EQ(options.conductors, std::vector<std::string>{"http://127.0.0.1:13333"});
  EXPECT_EQ(options.query_timeout, std::chrono::milliseconds(500));
  EXPECT_EQ(options.prompts.block_size, 128u);
  EXPECT_EQ(options.prompts.hash_algorithm, "sha256_cbor");
  EXPECT_EQ(Names(options.prefillers), std::vector<std::string>{"10.0.0.1:8100"});
  EXPECT_EQ(options.prefillers[0].events.size(), 2u);
  EXPECT_EQ(Names(options.decoders), std::vector<std::string>{"10.0.0.2:8200"});
  EXPECT_EQ(options.port, 9000);
  EXPECT_EQ(options.choreography.connector, Connector::kStore);
  EXPECT_EQ(options.clients.max_body, 1u << 20);
  EXPECT_TRUE(CheckOptions(options));
  EXPECT_EQ(options.effective_policy(), Policy::kScore);
}

TEST(ProxyOptionsTest, DecodersThatCallBackAreToldAnAddressThatTheyReach) {
  ProxyOptions options;
  options.prefillers = {*EngineSpec::Parse("10.0.0.1:1")};
  options.choreography.connector = Connector::kAscendLayerwise;
  const auto is_fine = [&](const char* host, const char* decoder) {
    options.host = host;
    options.decoders = {*EngineSpec::Parse(decoder)};
    return CheckOptions(options).has_value();
  };
  EXPECT_TRUE(is_fine("10.0.0.9", "10.0.0.2:1"));
  EXPECT_TRUE(is_fine("127.0.0.1", "127.0.0.2:1"));
  EXPECT_TRUE(is_fine("localhost", "localhost:1"));
  EXPECT_FALSE(is_fine("0.0.0.0", "127.0.0.1:1"));
  EXPECT_FALSE(is_fine("::", "10.0.0.2:1"));
  EXPECT_FALSE(is_fine("127.0.0.1", "10.0.0.2:1"));
  EXPECT_NE(CheckOptions(options).error().Message().find("--metaserver"), std::string::npos);
  options.choreography.metaserver = "http://10.0.0.9:8000/v1/metaserver";
  EXPECT_TRUE(is_fine("0.0.0.0", "10.0.0.2:1"));
  options.choreography.metaserver = "10.0.0.9:8000";
  EXPECT_FALSE(is_fine("10.0.0.9", "10.0.0.2:1"));
  options.choreography = {};
  EXPECT_TRUE(is_fine("0.0.0.0", "10.0.0.2:1"));
}

TEST(ProxyOptionsTest, OnlyFiguresThatAreNotTooHighAreTrusted) {
  client::InstanceFigures figures;
  figures.tiers = {16, 32, 48};
  for (const auto& [state, reason, is_trusted] :
       std::vector<std::tuple<std::string, std::string, bool>>{
           {"live", "", true},
           {"replaying", "", true},
           {"degraded", "incomplete", true},
           {"degraded", "doubtful", false},
           {"degraded", "shared_endpoint", false},
           {"stale", "unreachable", false},
           {"connecting", "", false},
           {"new_state", "", false}}) {
    figures.state = state;
    figures.reason = reason;
    EXPECT_EQ(TrustedHeld(figures).has_value(), is_trusted) << state << reason;
  }
}

TEST(ProxyOptionsTest, TheBestRankIsPinnedWhereThereAreSeveral) {
  client::InstanceFigures figures;
  figures.state = "live";
  figures.tiers = {16, 32, 48};
  figures.ranks = {{0, {16, 32, 48}}};
  EXPECT_EQ(TrustedHeld(figures)->rank, std::nullopt);
  figures.ranks = {{0, {16, 16, 16}}, {1, {16, 32, 48}}, {2, {32, 32, 32}}};
  EXPECT_EQ(TrustedHeld(figures)->rank, 1u);
  EXPECT_EQ(TrustedHeld(figures)->gpu, 16u);
  figures.ranks = {{0, {}}, {1, {}}};
  EXPECT_EQ(TrustedHeld(figures)->rank, std::nullopt);
}

TEST(ProxyOptionsTest, BootstrapServersSayTheIdsOfTheirRanks) {
  EXPECT_EQ(ReadBootstrap(R"({"0": {"engine_id": "a", "x": 1}, "3": {"engine_id": "b"}})"),
            (BootstrapIds{{0, "a"}, {3, "b"}}));
  EXPECT_FALSE(ReadBootstrap(R"({"x": {"engine_id": "a"}})"));
  EXPECT_FALSE(ReadBootstrap(R"({"0": {}})"));
  EXPECT_FALSE(ReadBootstrap("[]"));
  EXPECT_EQ(ReadBootstrap(R"({"0": {"engine_id": 17}})"), (BootstrapIds{{0, "17"}}));
  EXPECT_FALSE(ReadBootstrap(R"({"0": {"engine_id": )" + std::string(1'000'000, '[') +
                             std::string(1'000'000, ']') + "}}"));
}

}  // namespace
}  // namespace conductor::proxy
