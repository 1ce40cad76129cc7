#include "lib/wire/object_key.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace conductor::wire {
namespace {

const std::string kDigest = "00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210";
constexpr EngineHash kLast{0xfedcba9876543210};
constexpr EngineHash kFirst{0x0011223344556677};

struct Case {
  std::string key;
  ObjectKey object;
};

void ExpectAll(const std::vector<Case>& cases) {
  for (const Case& test : cases) {
    const auto object = ParseObjectKey(test.key);
    ASSERT_TRUE(object) << object.error().Message();
    const ObjectKey& wanted = test.object;
    EXPECT_EQ(KeyFamilyName(object->family), KeyFamilyName(wanted.family)) << test.key;
    EXPECT_EQ(object->prefix, wanted.prefix) << test.key;
    EXPECT_EQ(object->variant, wanted.variant) << test.key;
    EXPECT_EQ(object->model, wanted.model) << test.key;
    EXPECT_EQ(object->hash, wanted.hash) << test.key;
    EXPECT_EQ(*object, wanted) << test.key;
  }
}

// Everything in the order of the fields, so that a case is a line.
ObjectKey Vllm(std::string prefix, std::string model, uint32_t group, uint32_t tp,
               std::optional<uint32_t> pp, std::optional<uint32_t> pcp, std::optional<uint32_t> dcp,
               EngineHash hash = kLast) {
  ObjectKey key;
  key.family = KeyFamily::kVllmStore;
  key.prefix = std::move(prefix);
  key.model = std::move(model);
  key.hash = hash;
  key.group = group;
  key.tp_rank = tp;
  key.pp_rank = pp;
  key.pcp_rank = pcp;
  key.dcp_rank = dcp;
  return key;
}

TEST(ObjectKey, ReadsVllmsStoreConnector) {
  const std::string x = kDigest;
  ExpectAll({
      {"m@tp_rank:3@pcp1@dcp2@pp_rank:4@group:5@" + x, Vllm("", "m", 5, 3, 4, 1, 2)},
      {"m@tp_rank:0@pcp0@dcp0@pp_rank:0@" + x, Vllm("", "m", 0, 0, 0, 0, 0)},
      {"blue@m@tp_rank:0@pcp0@dcp0@pp_rank:0@group:0@" + x, Vllm("blue", "m", 0, 0, 0, 0, 0)},
      {"a@b:c@m:7b@tp_rank:0@pcp0@dcp0@pp_rank:0@group:0@" + x,
       Vllm("a@b:c", "m:7b", 0, 0, 0, 0, 0)},
      {"@m@tp_rank:0@pcp0@dcp0@pp_rank:0@" + x, Vllm("", "m", 0, 0, 0, 0, 0)},
      // A prefix and a model that look like what follows them.
      {"tp_rank:1@dcp1@tp_rank:0@pcp0@dcp0@pp_rank:0@" + x,
       Vllm("tp_rank:1", "dcp1", 0, 0, 0, 0, 0)},
      {"m@tp_rank:0@pcp:0@dcp:1@pp_rank:0@" + x, Vllm("", "m", 0, 0, 0, 0, 1)},
      // An xxhash digest, capitals, and a hash that is short: the number itself.
      {"m@tp_rank:0@00000000000000000123456789ABCDEF",
       Vllm("", "m", 0, 0, std::nullopt, std::nullopt, std::nullopt,
            EngineHash{0x0123456789abcdef})},
      {"m@tp_rank:0@1d",
       Vllm("", "m", 0, 0, std::nullopt, std::nullopt, std::nullopt, EngineHash{0x1d})},
  });
}

ObjectKey Ascend(std::string model, std::string variant, uint32_t group, std::optional<uint32_t> tp,
                 std::optional<uint32_t> pp, std::optional<uint32_t> pcp,
                 std::optional<uint32_t> dcp, std::optional<uint32_t> layer) {
  ObjectKey key = Vllm("", std::move(model), group, 0, pp, pcp, dcp);
  key.family = KeyFamily::kAscend;
  key.variant = std::move(variant);
  key.tp_rank = tp;
  key.layer = layer;
  return key;
}

TEST(ObjectKey, ReadsEveryAscendStore) {
  const std::string x = kDigest;
  const auto none = std::nullopt;
  const std::string kv = "cache_role:kv@cache_family:default";
  ExpectAll({
      {"m@pcp1@dcp2@head_or_tp_rank:3@pp_rank:4@" + x, Ascend("m", "", 0, 3, 4, 1, 2, none)},
      {"m@pcp1@dcp2@head_or_tp_rank:3@" + x + "@17", Ascend("m", "", 0, 3, none, 1, 2, 17)},
      {"m@dcp:2@head_or_tp_rank:3@pp_rank:4@group:5@" + kv + "@" + x,
       Ascend("m", kv, 5, 3, 4, none, 2, none)},
      {"m@dcp:2@head_or_tp_rank:3@group:5@" + kv + "@layer_id:17@" + x,
       Ascend("m", kv, 5, 3, none, none, 2, 17)},
      {"org@tp_rank:0@pcp1@head_or_tp_rank:3@pp_rank:4@" + x,
       Ascend("org@tp_rank:0", "", 0, 3, 4, 1, none, none)},
      {"org@m:7b@dcp:0@head_or_tp_rank:0@pp_rank:0@group:0@cache_role:state@cache_family:swa@" + x,
       Ascend("org@m:7b", "cache_role:state@cache_family:swa", 0, 0, 0, none, 0, none)},
  });
}

TEST(ObjectKey, ReadsAscendsGlobalVirtualAddresses) {
  ObjectKey key;
  key.family = KeyFamily::kAscendGva;
  key.model = "m";
  key.hash = kLast;
  key.tp_rank = 3;
  ObjectKey grouped = key;
  grouped.group = 2;
  ObjectKey odd = key;
  odd.model = "org@m:7b";
  ObjectKey number = key;
  number.model = "7";
  ExpectAll({
      {"m@" + kDigest + "@3", key},
      {"m@2@" + kDigest + "@3", grouped},
      {"org@m:7b@" + kDigest + "@3", odd},
      {"7@" + kDigest + "@3", number},  // the model, for there is no other
  });
}

ObjectKey Sglang(std::string prefix, std::optional<uint32_t> tp, std::optional<uint32_t> pp,
                 ObjectKey::Part part) {
  ObjectKey key;
  key.family = KeyFamily::kSglang;
  key.prefix = std::move(prefix);
  key.hash = kFirst;
  key.tp_rank = tp;
  key.pp_rank = pp;
  key.part = part;
  return key;
}

TEST(ObjectKey, ReadsSglangsHostCache) {
  const auto none = std::nullopt;
  const auto k = ObjectKey::Part::kK;
  const auto v = ObjectKey::Part::kV;
  ExpectAll({
      {kDigest + "_0_k", Sglang("", 0, none, k)},
      {kDigest + "_3_v", Sglang("", 3, none, v)},
      {kDigest + "_3_1_k", Sglang("", 3, 1, k)},
      {kDigest + "_3_1_v", Sglang("", 3, 1, v)},
      {kDigest + "_k", Sglang("", none, none, k)},
      {kDigest + "__k", Sglang("", none, none, k)},  // an MLA model without pipeline stages
      {"tag_" + kDigest + "__k", Sglang("tag", none, none, k)},
      {"ns_" + kDigest + "_0_k", Sglang("ns", 0, none, k)},
      {"my_tag_7_org-Model-8B_" + kDigest + "_0_k", Sglang("my_tag_7_org-Model-8B", 0, none, k)},
      {"a@b:c_" + kDigest + "_0_1_v", Sglang("a@b:c", 0, 1, v)},
      {"x@tp_rank:0@1d_" + kDigest + "_0_k", Sglang("x@tp_rank:0@1d", 0, none, k)},
  });
}

ObjectKey Lmcache(std::string model, std::string variant, uint32_t world, uint32_t worker,
                  uint64_t hash, std::optional<uint32_t> layer = std::nullopt) {
  ObjectKey key;
  key.family = KeyFamily::kLmcache;
  key.model = std::move(model);
  key.variant = std::move(variant);
  key.hash = EngineHash{hash};
  key.tp_rank = worker;
  key.tp_size = world;
  key.layer = layer;
  return key;
}

TEST(ObjectKey, ReadsLmcache) {
  const std::string& x = kDigest;
  const auto first = static_cast<uint64_t>(kFirst);
  ExpectAll({
      {"vllm@m@2@1@" + x + "@half", Lmcache("m", "vllm@half", 2, 1, first)},
      {"m@2@1@" + x + "@half", Lmcache("m", "half", 2, 1, first)},
      {"vllm@org/m@2@1@1d@bfloat16", Lmcache("org/m", "vllm@bfloat16", 2, 1, 0x1d)},
      {"vllm@m@2@1@-1d@bfloat16", Lmcache("m", "vllm@bfloat16", 2, 1, ~uint64_t{0x1c})},
      {"vllm@m@2@1@fedcba9876543210@fp8_e4m3",
       Lmcache("m", "vllm@fp8_e4m3", 2, 1, 0xfedcba9876543210)},
      {"vllm@m@2@1@1d@half@17", Lmcache("m", "vllm@half", 2, 1, 0x1d, 17)},
      {"vllm@m@2@1@1d@half@a%1@b%x y", Lmcache("m", "vllm@half@a%1@b%x y", 2, 1, 0x1d)},
      {"m@2@1@1d@half@17@a%1", Lmcache("m", "half@a%1", 2, 1, 0x1d, 17)},
      {"vllm@a@b:c@2@1@1d@half", Lmcache("a@b:c", "vllm@half", 2, 1, 0x1d)},
      {"vllm@m@2@1@1d@half@a%v_k", Lmcache("m", "vllm@half@a%v_k", 2, 1, 0x1d)},
  });
}

ObjectKey Number(uint64_t hash) {
  ObjectKey key;
  key.family = KeyFamily::kNumeric;
  key.hash = EngineHash{hash};
  return key;
}

TEST(ObjectKey, ReadsNumbers) {
  ExpectAll({
      {"0", Number(0)},
      {"007", Number(7)},
      {"18446744073709551615", Number(~uint64_t{0})},
      {"0x1d", Number(0x1d)},
      {"0XFEDCBA9876543210", Number(0xfedcba9876543210)},
  });
}

TEST(ObjectKey, RefusesWhatIsOfNoFamily) {
  const std::string& x = kDigest;
  for (const std::string& key : std::vector<std::string>{
           "",
           "@",
           "m",
           "some file.bin",
           // Numbers are digits and nothing else.
           "-1",
           "+5",
           " 7",
           "7 ",
           "7_0",
           "1e3",
           "0x",
           "0x-1",
           "0x1 ",
           "18446744073709551616",
           "0x10000000000000000",
           // No rank, or one that is no number.
           "m@pcp0@dcp0@pp_rank:0@" + x,
           "m@tp_rank:x@" + x,
           "m@tp_rank:-1@" + x,
           "m@tp_rank:4294967296@" + x,
           "m@tp_rank:0@" + x + "g",
           "m@tp_rank:0@",
           "m@tp_rank:0@-1d",
           "tp_rank:0@" + x,
           "@tp_rank:0@" + x,
           "m@tp_rank:0@" + x + "@17",  // vLLM has no layer form
           "m@dcp:0@head_or_tp_rank:0@layer_id:1@" + x + "@17",
           // A rank behind something too short for a digest.
           "m@1d@3",
           "@" + x + "@3",
           // SGLang: no part, ranks that are none, a digest of another length or cut from a word,
           // and objects of its side pools.
           x,
           x + "_0",
           x + "_x_k",
           x + "_0_1_2_k",
           x.substr(1) + "_0_k",
           "a" + x + "_0_k",
           x + "_0_draft_k",
           x + "__indexer",
           x + "_0_conv_1",
           // LMCache: no worker, no dtype.
           "vllm@m@1d@half",
           "vllm@m@2@1@1d",
           "vllm@m@2@1@1d@1@2",
           "vllm@m@2@-1@1d@half",
           "vllm@m@2@1@xyz@half",
           "vllm@m@2@1@-" + x + "@half",
           "@2@1@1d@half",
           "2@1@1d@half",
       }) {
    const auto object = ParseObjectKey(key);
    EXPECT_FALSE(object) << "'" << key << "' is read as " << KeyFamilyName(object->family);
    if (object) continue;
    EXPECT_NE(object.error().what.find("no known family"), std::string::npos) << key;
  }
}

TEST(ObjectKey, RefusesWhatSglangWarmsUpWith) {
  for (const std::string prefix : {"", "tag_"}) {
    const auto object = ParseObjectKey(prefix + "sglang_mooncake_store_warmup_key0123456789abcdef");
    ASSERT_FALSE(object);
    EXPECT_NE(object.error().what.find("warms up"), std::string::npos);
  }
}

TEST(ObjectKey, SurvivesKeysThatNobodyShouldSend) {
  for (const std::string& key : std::vector<std::string>{
           std::string(100000, '@'), std::string(100000, '_') + "k", std::string("\0@\0_k", 5),
           "m" + std::string(100000, '%'), std::string(100000, 'a'),
           std::string(1000, '@') + kDigest + "@3"}) {
    const auto object = ParseObjectKey(key);
    if (object) continue;
    EXPECT_LT(object.error().what.size(), 512u);
  }
  // A whole key cut off anywhere.
  const std::string whole = "blue@m@tp_rank:0@pcp0@dcp0@pp_rank:0@group:0@" + kDigest;
  for (size_t size = 0; size < whole.size(); ++size) (void)ParseObjectKey(whole.substr(0, size));
}

}  // namespace
}  // namespace conductor::wire
