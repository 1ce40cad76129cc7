#include "daemon/serve/config.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace conductor::serve {
namespace {

using namespace std::chrono_literals;
using NoLines = std::vector<std::string>;

Config LoadGolden(const std::string& file) {
  auto config = LoadConfig(std::string(CONDUCTOR_TESTDATA) + "/config/" + file);
  EXPECT_TRUE(config) << config.error().Message();
  return config ? *config : Config{};
}

Config Parse(std::string_view json) {
  auto config = ParseConfig(json, "conductor.json");
  EXPECT_TRUE(config) << config.error().Message();
  return config ? *config : Config{};
}

// A file with one entry, "e", that has what a publisher needs and `fields`.
std::string WithEntry(std::string_view fields) {
  return fmt::format(
      R"({{"kvevent_instance": {{"e": {{"endpoint": "tcp://h:5557", "modelname": "m"{}{}}}}}}})",
      fields.empty() ? "" : ", ", fields);
}

testing::AssertionResult Has(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "'" << text << "' does not have '" << part << "'";
}

// `lines` is one line, and has `part`.
testing::AssertionResult IsOneWith(const std::vector<std::string>& lines, const std::string& part) {
  if (lines.size() == 1) return Has(lines.front(), part);
  auto failure = testing::AssertionFailure() << lines.size() << " lines:";
  for (const std::string& line : lines) failure << "\n  " << line;
  return failure;
}

std::vector<std::string> Messages(const std::vector<Error>& problems) {
  std::vector<std::string> messages;
  for (const Error& problem : problems) messages.push_back(problem.Message());
  return messages;
}

TEST(ConfigGenerations, TheFirstOneHasReplayAtTheNextPortForEnginesOnly) {
  const Config config = LoadGolden("go_early.json");
  EXPECT_EQ(config.http_server_port, 13333);
  EXPECT_EQ(Messages(config.problems), NoLines());
  EXPECT_EQ(config.notes, NoLines());
  Registration engine;
  engine.endpoint = "tcp://127.0.0.1:3337";
  engine.replay_endpoint = "tcp://127.0.0.1:3338";
  engine.model = "qwen2.5";
  engine.instance_id = "vllm-1";
  Registration pool;
  pool.endpoint = "tcp://127.0.0.1:50001";
  pool.type = PublisherType::kMooncake;
  pool.model = "qwen2.5";
  pool.instance_id = "mooncake";
  EXPECT_EQ(config.publishers, (std::vector<Registration>{engine, pool}));
}

TEST(ConfigGenerations, TheMiddleOneNamesAdaptersByNameOrId) {
  const Config config = LoadGolden("go_mid.json");
  EXPECT_EQ(Messages(config.problems), NoLines());
  ASSERT_EQ(config.publishers.size(), 2u);
  EXPECT_EQ(config.publishers[0].endpoint, "tcp://[fd00::7]:5557");
  EXPECT_EQ(config.publishers[0].replay_endpoint, "tcp://[fd00::7]:5558");
  EXPECT_EQ(config.publishers[0].lora_name, "sql-adapter");
  EXPECT_EQ(config.publishers[1].lora_name, "3");
  EXPECT_TRUE(IsOneWith(config.notes, "with-name.lora_id"));
}

TEST(ConfigGenerations, TheLateGoOneMeansTheDefaultByEmptyTexts) {
  const Config config = LoadGolden("go_late.json");
  EXPECT_EQ(Messages(config.problems), NoLines());
  EXPECT_EQ(config.notes, NoLines());
  Registration engine;
  engine.endpoint = "tcp://10.0.0.1:5557";
  engine.replay_endpoint = "tcp://10.0.0.1:5558";
  engine.model = "deepseek";
  engine.instance_id = "vllm-1";
  engine.block_size = 128;
  engine.additional_salt = "w8a8";
  ASSERT_EQ(config.publishers.size(), 2u);
  EXPECT_EQ(config.publishers[0], engine);
  EXPECT_EQ(config.publishers[1].tenant, "default");
  EXPECT_EQ(config.publishers[1].replay_endpoint, "");
}

TEST(ConfigGenerations, TheCppOnesHaveHashProfiles) {
  const Config config = LoadGolden("cpp_json.json");
  EXPECT_EQ(Messages(config.problems), NoLines());
  ASSERT_EQ(config.publishers.size(), 1u);
  EXPECT_EQ(config.publishers[0].Key(), "engine-a|team-a|0");
  EXPECT_EQ(config.notes, NoLines());
  EXPECT_EQ(config.publishers[0].hash_profile,
            (hash::HashProfile{hash::HashAlgorithm::kSha256Cbor, "0", 0}));
}

TEST(ConfigGenerations, RanksOfOneInstanceAreEntriesOfTheirOwn) {
  const Config config = LoadGolden("cpp_msgpack.json");
  EXPECT_EQ(Messages(config.problems), NoLines());
  EXPECT_EQ(config.http_server_port, 0);
  ASSERT_EQ(config.publishers.size(), 2u);
  EXPECT_EQ(config.publishers[0].Key(), "engine-a|default|0");
  EXPECT_EQ(config.publishers[1].Key(), "engine-a|default|1");
  EXPECT_EQ(config.publishers[1].replay_endpoint, "");
  EXPECT_EQ(config.publishers[1].hash_profile, config.publishers[0].hash_profile);
  EXPECT_EQ(config.notes, NoLines());
}

TEST(ConfigGenerations, OurOwnFieldsAreRead) {
  const Config config = LoadGolden("conductor.json");
  EXPECT_EQ(Messages(config.problems), NoLines());
  EXPECT_EQ(config.notes, NoLines());
  EXPECT_EQ(config.host, "0.0.0.0");
  ASSERT_EQ(config.publishers.size(), 4u);
  const Registration& engine = config.publishers[0];
  EXPECT_EQ(engine.model, "llama-3");
  EXPECT_EQ(engine.topic, "kv-events");
  EXPECT_EQ(engine.additional_salt, "fp8");
  EXPECT_EQ(engine.copies, index::CopyMode::kSet);
  EXPECT_EQ(engine.incarnation, "pod-7f3a");
  EXPECT_EQ(engine.ttl, (std::array<Duration, kTierCount>{0s, 10min, 1h}));
  EXPECT_EQ(engine.hash_profile,
            (hash::HashProfile{hash::HashAlgorithm::kSha256, "vllm-none-hash", 16}));
  EXPECT_EQ(config.publishers[1].type, PublisherType::kSglang);
  EXPECT_EQ(config.publishers[1].mode, stream::ListenMode::kBind);
  EXPECT_EQ(config.publishers[1].peer, "10.0.0.2");
  EXPECT_EQ(config.publishers[2].endpoint, "tcp://*:5560");
  EXPECT_EQ(config.publishers[2].dp_rank, 1u);
  const Registration& pool = config.publishers[3];
  EXPECT_EQ(pool.type, PublisherType::kMooncake);
  EXPECT_EQ(pool.pool, (PoolRegistration{.lookup = index::PoolLookup::kContinue,
                                         .tp_size = 8,
                                         .kv_heads = 4,
                                         .pp_size = 1,
                                         .layers = 32,
                                         .admin_endpoint = "10.0.0.9:9003",
                                         .key_models = {{"prod@Llama-3", "llama-3"}}}));
}

TEST(Config, AnEmptyObjectSaysNothing) {
  const Config config = Parse("{}");
  EXPECT_EQ(config.http_server_port, std::nullopt);
  EXPECT_EQ(config.host, std::nullopt);
  EXPECT_TRUE(config.publishers.empty());
  EXPECT_EQ(Messages(config.problems), NoLines());
  EXPECT_EQ(config.notes, NoLines());
}

TEST(Config, LimitsAndTimesStandAtTheTop) {
  const Config config = Parse(
      R"({"probe_interval": "2s", "http_max_body": "1m", "max_pending_bytes": 65536,
          "max_publishers": 7, "legacy_min_state": "incomplete", "doubt_grace": null,
          "compat": "msgpack"})");
  EXPECT_EQ(Messages(config.problems), NoLines());
  EXPECT_EQ(config.notes, NoLines());
  EXPECT_EQ(config.settings.size(), 6u);
  const auto limits = LimitsFrom(config.settings, {});
  ASSERT_TRUE(limits) << limits.error().Message();
  EXPECT_EQ(limits->registry.stream.probe_interval, 2s);
  EXPECT_EQ(limits->registry.stream.max_pending_bytes, 65536u);
  EXPECT_EQ(limits->registry.transport.max_publishers, 7u);
  EXPECT_EQ(limits->http.max_body_bytes, 1u << 20);
  EXPECT_EQ(limits->http.legacy_min_state, MinState::kIncomplete);
  EXPECT_EQ(limits->http.compat, Generation::kMsgpack);
}

TEST(Config, KeepsTheOrderOfTheFile) {
  const Config config = Parse(R"({"kvevent_instance": {
      "z": {"endpoint": "tcp://h:1", "modelname": "m"},
      "a": {"endpoint": "tcp://h:2", "modelname": "m"}}})");
  ASSERT_EQ(config.publishers.size(), 2u);
  EXPECT_EQ(config.publishers[0].instance_id, "z");
  EXPECT_EQ(config.publishers[1].instance_id, "a");
}

// Files that cannot be used at all.
TEST(Config, SaysWhatIsWrongWithTheFileAndWhere) {
  const struct {
    const char* json;
    const char* message;
  } cases[] = {
      {"", "conductor.json: line 1, column 1: "},
      {"{\n  \"host\": \"h\",\n}", "conductor.json: line 3, column 1: "},
      {"{\n  \"host\" \"h\"}", "conductor.json: line 2, column 12: "},
      {"{} x", "conductor.json: line 1, column 4: "},
      {"// no comments\n{}", "conductor.json: line 1, column "},
      {R"({"http_server_port": 1e999})", "conductor.json: line 1, column 26: number overflow"},
      {"{\"host\": \"\xff\"}", "conductor.json: line 1, column "},
      {"[]", "conductor.json: an array is not a configuration (expected a JSON object)"},
      {"3", "conductor.json: 3 is not a configuration (expected a JSON object)"},
      {R"({"http_server_port": "13333"})",
       "conductor.json: http_server_port: \"13333\" is not a port "
       "(expected an integer from 0 to 65535)"},
      {R"({"http_server_port": 65536})", "conductor.json: http_server_port: 65536 is not a port"},
      {R"({"http_server_port": -1})", "conductor.json: http_server_port: -1 is not a port"},
      {R"({"http_server_port": 80.5})", "conductor.json: http_server_port: 80.5 is not a port"},
      {R"({"http_server_port": 18446744073709551615})",
       "conductor.json: http_server_port: 18446744073709551615 is not a port"},
      {R"({"probe_interval": 5})",
       "conductor.json: probe_interval: 5 is not a text (expected \"5s\", as it is by default)"},
      {R"({"probe_interval": "5"})",
       "conductor.json: probe_interval: '5' is not a time (expected a"},
      {R"({"auth_token_file": 5})",
       "conductor.json: auth_token_file: 5 is not a text (expected the path of a file)"},
      {R"({"max_publishers": 0})",
       "conductor.json: max_publishers: '0' is not a possible value "
       "(expected an integer from 1 to 65536)"},
      {R"({"max_publishers": -1})", "conductor.json: max_publishers: -1 is not a number (expected"},
      {R"({"http_max_body": "64q"})", "conductor.json: http_max_body: '64q' is not a size "},
      {R"({"legacy_min_state": "good"})",
       "conductor.json: legacy_min_state: 'good' is not a state (expected live, replaying, "},
      {R"({"compat": "dynamo"})",
       "conductor.json: compat: 'dynamo' is not a generation of the Mooncake Conductor (expected "
       "go, cpp-json or msgpack)"},
      {R"({"compat": 1})",
       "conductor.json: compat: 1 is not a text (expected \"go\", as it is by default)"},
      {R"({"host": ""})", "conductor.json: host: \"\" is not a host (expected a name or an "},
      {R"({"host": 7})", "conductor.json: host: 7 is not a host (expected a name or an address"},
      {R"({"kvevent_instance": []})",
       "conductor.json: kvevent_instance: an array is not a set of publishers "
       "(expected an object with an entry for each)"},
  };
  for (const auto& [json, message] : cases) {
    const auto config = ParseConfig(json, "conductor.json");
    ASSERT_FALSE(config) << json;
    EXPECT_TRUE(Has(config.error().Message(), message)) << json;
  }
}

// Entries that cannot be used: each names its JSON path, and no publisher comes of it.
TEST(Config, ABrokenEntryIsAProblemWithItsPath) {
  const struct {
    std::string json;
    const char* message;
  } cases[] = {
      {R"({"kvevent_instance": {"vllm-1": {"ip": "h", "port": "abc", "modelname": "m"}}})",
       "conductor.json: kvevent_instance.vllm-1.port: \"abc\" is not a port "
       "(expected an integer from 1 to 65535)"},
      {R"({"kvevent_instance": {"e": {"ip": "h", "port": 0, "modelname": "m"}}})",
       "conductor.json: kvevent_instance.e.port: 0 is not a port "
       "(expected an integer from 1 to 65535)"},
      {R"({"kvevent_instance": {"e": {"ip": "h", "modelname": "m"}}})",
       "conductor.json: kvevent_instance.e.port: is missing "
       "(expected ip and port, or endpoint as tcp://HOST:PORT)"},
      {R"({"kvevent_instance": {"e": {"modelname": "m"}}})",
       "conductor.json: kvevent_instance.e.endpoint: is missing "
       "(expected tcp://HOST:PORT or ipc://PATH; or ip and port)"},
      {R"({"kvevent_instance": {"e": {"ip": 1, "port": 1, "modelname": "m"}}})",
       "conductor.json: kvevent_instance.e.ip: 1 is not a text (expected a string)"},
      {R"({"kvevent_instance": {"e": {"ip": "a b", "port": 1, "modelname": "m"}}})",
       "conductor.json: kvevent_instance.e.ip: 'a b' is not a host "
       "(expected a name, an IPv4 address or an IPv6 address)"},
      {R"({"kvevent_instance": {"e": {"endpoint": "h:5557", "modelname": "m"}}})",
       "conductor.json: kvevent_instance.e.endpoint: 'h:5557' has no scheme "
       "(expected tcp://HOST:PORT or ipc://PATH)"},
      {R"({"kvevent_instance": {"e": {"endpoint": "", "modelname": "m"}}})",
       "conductor.json: kvevent_instance.e.endpoint: is empty "
       "(expected tcp://HOST:PORT or ipc://PATH; or ip and port)"},
      {R"({"kvevent_instance": {"e": {"endpoint": "tcp://*:5557", "modelname": "m"}}})",
       "conductor.json: kvevent_instance.e.endpoint: 'tcp://*:5557' has * as its host, which only "
       "the engine itself can use (expected the name or address of the engine's machine, or "
       "\"mode\": \"bind\")"},
      {R"({"kvevent_instance": {"e": {"endpoint": "tcp://h:1"}}})",
       "conductor.json: kvevent_instance.e.modelname: is missing "
       "(expected the model as queries name it)"},
      {R"({"kvevent_instance": {"e": {"endpoint": "tcp://h:1", "model": ""}}})",
       "conductor.json: kvevent_instance.e.model: is empty (expected the model as queries name "},
      {WithEntry(R"("ip": "h")"),
       "conductor.json: kvevent_instance.e.endpoint: stands beside ip or port "
       "(expected either endpoint, or ip and port)"},
      {WithEntry(R"("replay_endpoint": "tcp://h:5557")"),
       "conductor.json: kvevent_instance.e.replay_endpoint: 'tcp://h:5557' is the event endpoint "
       "(expected the engine's own replay socket, or none)"},
      {WithEntry(R"("replay_endpoint": "tcp://h:99999")"),
       "conductor.json: kvevent_instance.e.replay_endpoint: 'tcp://h:99999' "},
      {WithEntry(R"("type": "TGI")"),
       "conductor.json: kvevent_instance.e.type: 'TGI' is not a publisher type "
       "(expected vLLM, vLLM-Ascend, SGLang, LMCache, TensorRT-LLM, RFC1527 or Mooncake)"},
      {WithEntry(R"("model": "n")"),
       "conductor.json: kvevent_instance.e.model: 'n' and modelname 'm' differ "
       "(expected one of the two fields)"},
      {WithEntry(R"("block_size": -16)"),
       "conductor.json: kvevent_instance.e.block_size: -16 is not a block size "
       "(expected an integer from 0 to 2147483647)"},
      {WithEntry(R"("block_size": 16.5)"),
       "conductor.json: kvevent_instance.e.block_size: 16.5 is not a block size "
       "(expected an integer from 0 to 2147483647)"},
      {WithEntry(R"("dp_rank": 4294967296)"),
       "conductor.json: kvevent_instance.e.dp_rank: 4294967296 is not a rank "
       "(expected an integer from 0 to 2147483647)"},
      {WithEntry(R"("lora_id": -2)"),
       "conductor.json: kvevent_instance.e.lora_id: -2 is not a LoRA id "
       "(expected an integer from -1 to 2147483647)"},
      {WithEntry(R"("copies": "many")"),
       "conductor.json: kvevent_instance.e.copies: 'many' is not a way to count copies "
       "(expected count or set)"},
      {WithEntry(R"("cache_group": 1)"),
       "conductor.json: kvevent_instance.e.cache_group: 1 is not a cache group that can be "
       "followed (expected 0 or null)"},
      {WithEntry(R"("hash_profile": "vllm_v1")"),
       "conductor.json: kvevent_instance.e.hash_profile: \"vllm_v1\" is not a hash profile "
       "(expected an object)"},
      {WithEntry(R"("hash_profile": {})"),
       "conductor.json: kvevent_instance.e.hash_profile.algorithm: is missing "
       "(expected sha256, sha256_cbor, xxhash or xxhash_cbor)"},
      {WithEntry(R"("mode": "bnd")"),
       "conductor.json: kvevent_instance.e.mode: 'bnd' is not a way to listen "
       "(expected connect, bind or ingest)"},
      {WithEntry(R"("peer": "10.0.0.1")"),
       "conductor.json: kvevent_instance.e.peer: has no meaning where Conductor connects "},
      {WithEntry(R"("dp_size": 0)"),
       "conductor.json: kvevent_instance.e.dp_size: 0 is not a number of ranks "
       "(expected an integer from 1 to 4096)"},
      {WithEntry(R"("dp_size": 2, "replay_endpoint": "tcp://h:5558")"),
       "conductor.json: kvevent_instance.e.dp_size: is 2 and both ports count up with the rank"},
      {WithEntry(R"("ttl": {"disk": "soon"})"),
       "conductor.json: kvevent_instance.e.ttl.disk: 'soon' is not a time "
       "(expected a time above zero: 90s, 10m, 1h; or leave the tier out)"},
      {WithEntry(R"("tp_size": 2)"),
       "conductor.json: kvevent_instance.e.tp_size: has no meaning for an engine (vLLM) "
       "(expected \"type\": \"Mooncake\" beside it)"},
      {WithEntry(R"("instance_id": "a|b")"),
       "conductor.json: kvevent_instance.e.instance_id: 'a|b' has a '|' in it "
       "(expected a name without '|', which separates the parts of a publisher's key)"},
      {WithEntry(R"("dp_rank": 1, "dp_rank": 2)"),
       "conductor.json: kvevent_instance.e.dp_rank: the key appears more than once "
       "(expected each key once in its object)"},
      {R"({"kvevent_instance": {"a.b": 5}})",
       "conductor.json: kvevent_instance[\"a.b\"]: 5 is not a publisher (expected an object)"},
  };
  for (const auto& [json, message] : cases) {
    const Config config = Parse(json);
    EXPECT_TRUE(IsOneWith(Messages(config.problems), message)) << json;
    EXPECT_TRUE(config.publishers.empty()) << json;
  }
}

TEST(Config, EveryWrongFieldOfAnEntryIsTold) {
  const Config config = Parse(WithEntry(R"("block_size": "x", "dp_rank": "y", "type": "z")"));
  EXPECT_EQ(config.problems.size(), 3u);
}

TEST(Config, OtherEntriesStandBesideABrokenOne) {
  const Config config = Parse(R"({"kvevent_instance": {
      "bad": {"endpoint": 5, "modelname": "m"}, "good": {"endpoint": "tcp://h:1", "modelname": "m"}}})");
  ASSERT_EQ(config.publishers.size(), 1u);
  EXPECT_EQ(config.publishers[0].instance_id, "good");
  EXPECT_EQ(config.problems.size(), 1u);
}

TEST(Config, AnEmptyTextForReplayMeansNoneAlsoForIpAndPort) {
  const Config config = Parse(R"({"kvevent_instance": {
      "e": {"ip": "h", "port": 1, "replay_endpoint": "", "modelname": "m"}}})");
  ASSERT_EQ(config.publishers.size(), 1u);
  EXPECT_EQ(config.publishers[0].replay_endpoint, "");
}

TEST(Config, APoolMaySayWhereItsReplayIs) {
  const Config config = Parse(R"({"kvevent_instance": {
      "p": {"ip": "h", "port": 1, "type": "mooncake", "replay_endpoint": "tcp://h:9",
            "modelname": "m"}}})");
  ASSERT_EQ(config.publishers.size(), 1u);
  EXPECT_EQ(config.publishers[0].replay_endpoint, "tcp://h:9");
}

TEST(Config, TheLastPortHasNoReplayBehindIt) {
  const Config config = Parse(R"({"kvevent_instance": {
      "e": {"ip": "h", "port": 65535, "modelname": "m"}}})");
  ASSERT_EQ(config.publishers.size(), 1u);
  EXPECT_EQ(config.publishers[0].replay_endpoint, "");
  EXPECT_TRUE(IsOneWith(config.notes, "kvevent_instance.e.port: there is no next"));
}

TEST(Config, BracketsAroundAnIpv6AddressDoNotMatter) {
  const Config config = Parse(R"({"kvevent_instance": {
      "e": {"ip": "[::1]", "port": 5557, "modelname": "m"}}})");
  ASSERT_EQ(config.publishers.size(), 1u);
  EXPECT_EQ(config.publishers[0].endpoint, "tcp://[::1]:5557");
}

TEST(Config, NullAtTheTopIsLikeAbsent) {
  // Go's encoder writes an empty map so.
  const Config config =
      Parse(R"({"http_server_port": null, "host": null, "kvevent_instance": null})");
  EXPECT_EQ(config.http_server_port, std::nullopt);
  EXPECT_EQ(config.host, std::nullopt);
  EXPECT_TRUE(config.publishers.empty());
  EXPECT_EQ(Messages(config.problems), NoLines());
  EXPECT_EQ(config.notes, NoLines());
}

TEST(Config, NullIsLikeAbsent) {
  const Config config = Parse(WithEntry(
      R"("block_size": null, "lora_id": null, "tenant_id": null, "replay_endpoint": null)"));
  EXPECT_EQ(Messages(config.problems), NoLines());
  EXPECT_EQ(config.publishers.size(), 1u);
}

TEST(Config, UnknownKeysAreNotedOnceForAllEntries) {
  const Config config = Parse(R"({"colour": 1, "kvevent_instance": {
      "a": {"endpoint": "tcp://h:1", "modelname": "m", "weight": 1},
      "b": {"endpoint": "tcp://h:2", "modelname": "m", "weight": 2}}})");
  EXPECT_EQ(Messages(config.problems), NoLines());
  EXPECT_EQ(config.notes,
            (std::vector<std::string>{
                "conductor.json: colour: unknown field, not used",
                "conductor.json: kvevent_instance.a.weight (and 1 more): unknown field, "
                "not used"}));
}

TEST(Config, OfTwoEntriesWithOneNameTheFirstStandsAndTheOtherIsTold) {
  const Config config = Parse(R"({"kvevent_instance": {
      "e": {"endpoint": "tcp://h:1", "modelname": "m"},
      "e": {"endpoint": "tcp://h:2", "modelname": "m"}}})");
  ASSERT_EQ(config.publishers.size(), 1u);
  EXPECT_EQ(config.publishers[0].endpoint, "tcp://h:1");
  EXPECT_EQ(Messages(config.problems),
            (std::vector<std::string>{
                "conductor.json: kvevent_instance.e: the key appears more than once "
                "(expected each key once in its object)"}));
}

TEST(Config, ARepeatedTopLevelKeyIsTold) {
  const Config config = Parse(R"({"http_server_port": 1, "http_server_port": 2})");
  EXPECT_EQ(config.http_server_port, 1);
  EXPECT_EQ(config.problems.size(), 1u);
}

TEST(Config, TwoEntriesOfOneRankAreAProblemThatNamesBoth) {
  const Config config = Parse(R"({"kvevent_instance": {
      "a": {"endpoint": "tcp://h:1", "modelname": "m", "instance_id": "x"},
      "b": {"endpoint": "tcp://h:2", "modelname": "m", "instance_id": "x"}}})");
  EXPECT_EQ(config.publishers.size(), 1u);
  EXPECT_EQ(Messages(config.problems),
            (std::vector<std::string>{
                "conductor.json: kvevent_instance.b: has the instance_id, tenant_id and "
                "dp_rank ('x|default|0') of kvevent_instance.a "
                "(expected one entry for each publisher)"}));
}

TEST(Config, TwoEntriesOfOneEndpointAreAProblemThatNamesBoth) {
  const Config config = Parse(R"({"kvevent_instance": {
      "a": {"endpoint": "tcp://h:1", "modelname": "m"},
      "b": {"ip": "h", "port": 1, "modelname": "m"}}})");
  EXPECT_EQ(config.publishers.size(), 1u);
  EXPECT_EQ(Messages(config.problems),
            (std::vector<std::string>{
                "conductor.json: kvevent_instance.b: has the endpoint 'tcp://h:1' of "
                "kvevent_instance.a (expected one entry for each publisher)"}));
}

TEST(Config, EndpointsAreComparedAsWhatTheyMean) {
  const Config config = Parse(R"({"kvevent_instance": {
      "a": {"endpoint": "tcp://h:5557", "modelname": "m"},
      "b": {"endpoint": "tcp://H:05557", "modelname": "m"}}})");
  EXPECT_EQ(config.publishers.size(), 1u);
  EXPECT_TRUE(IsOneWith(Messages(config.problems), "b: has the endpoint"));
}

// Two engines at consecutive ports of one host.
TEST(Config, ReplayIsNotAskedForAtTheNextPortWhenThatIsTheNextEngine) {
  const Config config = Parse(R"({"kvevent_instance": {
      "a": {"ip": "h", "port": 3337, "modelname": "m"},
      "b": {"ip": "h", "port": 3338, "modelname": "m"}}})");
  EXPECT_EQ(Messages(config.problems), NoLines());
  ASSERT_EQ(config.publishers.size(), 2u);
  EXPECT_EQ(config.publishers[0].replay_endpoint, "");
  EXPECT_EQ(config.publishers[1].replay_endpoint, "tcp://h:3339");
  EXPECT_EQ(config.notes,
            (std::vector<std::string>{
                "conductor.json: kvevent_instance.a.port: replay is not asked for at the next "
                "port: 'tcp://h:3338' is the event endpoint of kvevent_instance.b"}));
}

TEST(Config, ReplayIsNotAskedForAtTheNextPortWhenThatIsTheReplayOfAnother) {
  const Config config = Parse(R"({"kvevent_instance": {
      "a": {"ip": "h", "port": 3337, "modelname": "m"},
      "b": {"endpoint": "tcp://h:9", "replay_endpoint": "tcp://h:3338", "modelname": "m"}}})");
  ASSERT_EQ(config.publishers.size(), 2u);
  EXPECT_EQ(config.publishers[0].replay_endpoint, "");
  EXPECT_EQ(config.publishers[1].replay_endpoint, "tcp://h:3338");
  EXPECT_TRUE(IsOneWith(config.notes, "a.port: replay is not asked for"));
}

// What a file says explicitly is done, and told.
TEST(Config, AReplayEndpointThatIsAnothersSocketIsNoted) {
  const struct {
    const char* second;  // beside "a" with events at port 1 and replay at port 2
    const char* note;
  } cases[] = {
      {R"("endpoint": "tcp://h:2")",
       "b.endpoint: 'tcp://h:2' is the replay endpoint of kvevent_instance.a: one of the two is"},
      {R"("ip": "h", "port": 2)",
       "b.ip: 'tcp://h:2' is the replay endpoint of kvevent_instance.a: one of the two is wrong"},
      {R"("endpoint": "tcp://h:3", "replay_endpoint": "tcp://h:1")",
       "b.replay_endpoint: 'tcp://h:1' is the event endpoint of kvevent_instance.a: one of"},
      {R"("endpoint": "tcp://h:3", "replay_endpoint": "tcp://h:02")",
       "b.replay_endpoint: 'tcp://h:02' is the replay endpoint of kvevent_instance.a: one of"},
  };
  for (const auto& [second, note] : cases) {
    const Config config = Parse(fmt::format(
        R"({{"kvevent_instance": {{
            "a": {{"endpoint": "tcp://h:1", "replay_endpoint": "tcp://h:2", "modelname": "m"}},
            "b": {{{}, "modelname": "m"}}}}}})",
        second));
    EXPECT_EQ(Messages(config.problems), NoLines()) << second;
    EXPECT_EQ(config.publishers.size(), 2u) << second;
    EXPECT_TRUE(IsOneWith(config.notes, note)) << second;
  }
}

// The late Go generation had an instance_id in its files and answered by the entry's name.
TEST(Config, AnInstanceIdBesideAnotherNameIsNotedOnceForAllEntries) {
  const Config config = Parse(R"({"kvevent_instance": {
      "a": {"endpoint": "tcp://h:1", "modelname": "m", "instance_id": "x"},
      "b": {"endpoint": "tcp://h:2", "modelname": "m", "instance_id": "y"},
      "c": {"endpoint": "tcp://h:3", "modelname": "m", "instance_id": "c"},
      "d": {"endpoint": "tcp://h:4", "modelname": "m", "instance_id": "z",
            "hash_profile": {"algorithm": "sha256"}}}})");
  ASSERT_EQ(config.publishers.size(), 4u);
  EXPECT_EQ(config.publishers[0].instance_id, "x");
  EXPECT_TRUE(
      IsOneWith(config.notes, "kvevent_instance.a.instance_id (and 1 more): answers use it"));
}

TEST(Config, ABrokenEntryTakesNoEndpointFromAnother) {
  const Config config = Parse(R"({"kvevent_instance": {
      "a": {"endpoint": "tcp://h:1", "modelname": "m", "dp_rank": "x"},
      "b": {"endpoint": "tcp://h:1", "modelname": "m"}}})");
  EXPECT_EQ(config.publishers.size(), 1u);
  EXPECT_EQ(config.problems.size(), 1u);
}

TEST(Config, DpSizeIsAPublisherForEachRank) {
  const Config config = Parse(WithEntry(
      R"("dp_size": 3, "replay_endpoint": "tcp://h:5657", "instance_id": "i", "hash_profile": null)"));
  EXPECT_EQ(Messages(config.problems), NoLines());
  ASSERT_EQ(config.publishers.size(), 3u);
  EXPECT_EQ(config.publishers[2].Key(), "i|default|2");
  EXPECT_EQ(config.publishers[2].endpoint, "tcp://h:5559");
  EXPECT_EQ(config.publishers[2].replay_endpoint, "tcp://h:5659");
}

TEST(Config, RanksOfIpAndPortHaveNoReplayAtTheNextPort) {
  const Config config = Parse(R"({"kvevent_instance": {
      "e": {"ip": "h", "port": 5557, "modelname": "m", "dp_size": 2}}})");
  ASSERT_EQ(config.publishers.size(), 2u);
  EXPECT_EQ(config.publishers[0].replay_endpoint, "");
  EXPECT_TRUE(IsOneWith(config.notes, "e.port: replay is not asked for at the next port, which"));
}

TEST(Config, AnEntryOfWhichOneRankIsTakenIsLeftOutAsAWhole) {
  const Config config = Parse(R"({"kvevent_instance": {
      "a": {"endpoint": "tcp://h:5558", "modelname": "m"},
      "b": {"endpoint": "tcp://h:5557", "modelname": "m", "dp_size": 2},
      "c": {"endpoint": "tcp://h:5557", "modelname": "m"}}})");
  ASSERT_EQ(config.publishers.size(), 2u);
  EXPECT_EQ(config.publishers[1].instance_id, "c");
  EXPECT_TRUE(IsOneWith(Messages(config.problems), "b: has the endpoint 'tcp://h:5558' of"));
}

TEST(Config, PublishersThatConnectMayShareABoundEndpoint) {
  const Config config = Parse(R"({"kvevent_instance": {
      "a": {"endpoint": "tcp://*:5557", "mode": "bind", "peer": "10.0.0.1", "modelname": "m"},
      "b": {"endpoint": "tcp://*:5557", "mode": "bind", "peer": "10.0.0.2", "modelname": "m"},
      "c": {"endpoint": "tcp://*:5557", "mode": "bind", "peer": "10.0.0.2", "modelname": "m"}}})");
  EXPECT_EQ(config.publishers.size(), 2u);
  EXPECT_TRUE(IsOneWith(Messages(config.problems), "c: has the endpoint 'tcp://*:5557' of "));
}

TEST(Config, UnknownMembersOfAFieldAreNoted) {
  const Config config = Parse(WithEntry(
      R"("hash_profile": {"algorithm": "sha256", "root_digest": "00"}, "ttl": {"l2": 1})"));
  EXPECT_EQ(config.notes,
            (std::vector<std::string>{
                "conductor.json: kvevent_instance.e.hash_profile.root_digest: unknown field, not "
                "used",
                "conductor.json: kvevent_instance.e.ttl.l2: unknown field, not used"}));
}

TEST(Config, XxhashWithoutASeedIsNoted) {
  EXPECT_TRUE(IsOneWith(Parse(WithEntry(R"("hash_profile": {"algorithm": "xxhash_cbor"})")).notes,
                        "e.hash_profile.algorithm: without PYTHONHASHSEED vLLM begins its xxhash"));
}

TEST(HostileConfig, DeepNestingIsRefused) {
  const std::string deep = R"({"a": )" + std::string(2'000'000, '[');
  const auto config = ParseConfig(deep, "conductor.json");
  ASSERT_FALSE(config);
  EXPECT_TRUE(Has(config.error().Message(), "is nested too deep (expected at most 32 "));
}

TEST(HostileConfig, TwentyThousandBrokenEntriesMakeABoundedReport) {
  std::string json = R"({"kvevent_instance": {)";
  for (int i = 0; i < 20'000; ++i) json += fmt::format(R"("e{}": {{"k{}": 1}},)", i, i);
  json.back() = '}';
  json += '}';
  const Config config = Parse(json);
  EXPECT_TRUE(config.publishers.empty());
  ASSERT_EQ(config.problems.size(), 201u);
  EXPECT_EQ(config.problems.back().Message(), "conductor.json: 39800 more problems are not listed");
  ASSERT_EQ(config.notes.size(), 201u);
  EXPECT_EQ(config.notes.back(), "conductor.json: 19800 more notes are not listed");
}

TEST(HostileConfig, LongTextsAreCutInMessages) {
  const Config config =
      Parse(WithEntry(fmt::format(R"("dp_rank": "{}")", std::string(100'000, 'x'))));
  ASSERT_EQ(config.problems.size(), 1u);
  EXPECT_LT(config.problems[0].Message().size(), 300u);
  const auto broken = ParseConfig("{\"" + std::string(100'000, 'x'), "conductor.json");
  ASSERT_FALSE(broken);
  EXPECT_LT(broken.error().Message().size(), 300u);
}

class ConfigFile : public testing::Test {
 protected:
  ConfigFile() {
    std::string name = testing::TempDir() + "conductor-config-XXXXXX";
    directory_ = ::mkdtemp(name.data());
    path_ = directory_ + "/conductor.json";
  }
  ~ConfigFile() override { std::filesystem::remove_all(directory_); }
  void Write(const std::string& text) const { std::ofstream(path_, std::ios::binary) << text; }

  std::string directory_;
  std::string path_;
};

TEST_F(ConfigFile, IsNamedInErrors) {
  Write("{\n]");
  const auto config = LoadConfig(path_);
  ASSERT_FALSE(config);
  EXPECT_TRUE(Has(config.error().Message(), path_ + ": line 2, column 1: "));
}

TEST_F(ConfigFile, ThatIsMissingIsAnError) {
  const auto config = LoadConfig(path_);
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().Message(),
            path_ + ": cannot be read: No such file or directory (expected a JSON file)");
}

TEST_F(ConfigFile, ThatIsADirectoryIsAnError) {
  const auto config = LoadConfig(directory_);
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().Message(), directory_ + ": is a directory (expected a JSON file)");
}

TEST_F(ConfigFile, ThatIsHugeIsAnErrorAndIsNotRead) {
  const auto config = LoadConfig("/dev/zero");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().Message(), "/dev/zero: is too large (expected at most 4194304 bytes)");
}

}  // namespace
}  // namespace conductor::serve
