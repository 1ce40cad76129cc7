// What POST /v1/explain tells of each way in which a prompt can fail to match.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>
#include <zmq.hpp>
#include <zmq_addon.hpp>

#include "daemon/serve/explanation.h"
#include "daemon/serve/explanation_document.h"
#include "eventually.h"
#include "lib/base/bytes.h"
#include "lib/trace/simulated_engine.h"
#include "lib/trace/simulated_publisher.h"
#include "lib/wire/mooncake_encoder.h"

namespace conductor::serve {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::json;
using Expected = decltype(Verdict::expected);
using Batches = std::vector<std::vector<wire::KvEvent>>;

constexpr uint32_t kBlock = 16;

// The prompt of these tests: 0, 1, 2, ...
std::vector<TokenId> Prompt(size_t tokens, TokenId first = 0) {
  std::vector<TokenId> prompt(tokens);
  std::iota(prompt.begin(), prompt.end(), first);
  return prompt;
}

wire::BlockStored Stored(const std::vector<TokenId>& prompt, uint32_t block_size = kBlock) {
  trace::SimulatedEngine engine({.seed = 7, .block_size = block_size, .capacity_blocks = 100'000});
  return std::get<wire::BlockStored>(engine.Run(prompt).back());
}

ExplainRequest Ask(size_t blocks) {
  ExplainRequest request;
  request.query.model = "m";
  request.query.tokens = Prompt(blocks * kBlock);
  request.instance_id = "a";
  return request;
}

Registration Engine(const std::string& instance_id) {
  Registration registration;
  registration.model = "m";
  registration.instance_id = instance_id;
  registration.block_size = kBlock;
  return registration;
}

// A registry, and engines and pools that publish to it over ZeroMQ.
class Fleet {
 public:
  explicit Fleet(const Registry::Options& options = {}) : registry(options) {}

  static std::unique_ptr<trace::SimulatedPublisher> Publisher(
      const trace::SimulatedPublisher::Options& options = {}) {
    auto publisher = trace::SimulatedPublisher::Create(options);
    EXPECT_TRUE(publisher.has_value()) << publisher.error().Message();
    return std::move(*publisher);
  }

  void Add(const Registration& registration) {
    const auto added = registry.Add(registration);
    ASSERT_TRUE(added.has_value()) << added.error().Message();
  }

  // Registers an engine that has published `batches`, and waits until they are applied.
  void Publishing(Registration registration, Batches batches) {
    auto publisher = Publisher({.dp_rank = registration.dp_rank});
    const uint64_t last = batches.size() - 1;
    for (auto& events : batches) publisher->Publish(std::move(events));
    registration.endpoint = publisher->endpoint();
    registration.replay_endpoint = publisher->replay_endpoint();
    publishers.push_back(std::move(publisher));
    Add(registration);
    const std::string key = registration.Key();
    Until(key, [last](const PublisherStatus& status) {
      return status.stream.cursor == last && status.trust.state != stream::TrustState::kReplaying &&
             status.trust.state != stream::TrustState::kConnecting;
    });
  }

  // A pool of model "m" whose master has these blocks, by the hashes of `made_with`; of each
  // `parts` of its tensor-parallel ranks.
  void Pool(Registration registration, const hash::HashProfile& made_with, size_t blocks,
            uint32_t parts = 1) {
    registration.type = PublisherType::kMooncake;
    registration.instance_id = "pool";
    registration.model = "m";
    zmq::socket_t socket(context_, zmq::socket_type::pub);
    socket.set(zmq::sockopt::linger, 0);
    socket.bind("tcp://127.0.0.1:*");
    registration.endpoint = socket.get(zmq::sockopt::last_endpoint);
    Add(registration);
    hash::VllmHasher hasher(made_with);
    std::string digest = hasher.root();
    const std::vector<TokenId> prompt = Prompt(blocks * kBlock);
    wire::MasterBatch batch;
    for (size_t i = 0; i < blocks; ++i) {
      digest = hasher.Next(digest, std::span(prompt).subspan(i * kBlock, kBlock)).value();
      for (uint32_t part = 0; part < parts; ++part) {
        wire::MasterEvent event;
        event.key = fmt::format("m@tp_rank:{}@pcp0@dcp0@pp_rank:0@group:0@{:016x}", part,
                                static_cast<uint64_t>(hash::VllmHasher::NameOf(digest)));
        event.medium = "cpu";
        batch.events.push_back(std::move(event));
      }
    }
    // What comes before the subscription is lost, so all is told until some of it has come.
    uint64_t sequence = 0;
    Until(registration.Key(), [&](const PublisherStatus& status) {
      batch.timestamp_ms = 1'700'000'000'000;
      const std::string payload = wire::EncodeMooncakeBatch(batch);
      const auto number = StoreBigEndian64(++sequence);
      zmq::send_multipart(
          socket, std::array<zmq::const_buffer, 3>{zmq::const_buffer("", 0), zmq::buffer(number),
                                                   zmq::buffer(payload)});
      return status.ingest.objects == batch.events.size();
    });
    pools_.push_back(std::move(socket));
  }

  // Waits until the publisher is as it should be.
  void Until(const std::string& key, const std::function<bool(const PublisherStatus&)>& good) {
    std::optional<PublisherStatus> seen;
    const bool is_good = Eventually([&] {
      for (const PublisherStatus& status : registry.Publishers()) {
        if (status.registration.Key() != key) continue;
        if (good(status)) return true;
        seen = status;
      }
      return false;
    });
    if (is_good) return;
    ADD_FAILURE() << key << " stays "
                  << (seen ? stream::TrustStateName(seen->trust.state) : "unregistered") << ": "
                  << (seen ? seen->trust.detail : "");
  }

  void UntilReason(const std::string& key, const std::string& reason) {
    Until(key, [&](const PublisherStatus& status) { return status.trust.reason == reason; });
  }

  Registry registry;
  std::vector<std::unique_ptr<trace::SimulatedPublisher>> publishers;

 private:
  zmq::context_t context_;
  std::vector<zmq::socket_t> pools_;
};

// One way to fail, what is asked, and what has to be told.
struct Plant {
  const char* name;
  std::function<ExplainRequest(Fleet&)> plant;
  ExplainCause cause;
  FieldOf field_of = FieldOf::kNothing;
  const char* field = "";
  Expected expected = {};
  uint64_t matched_blocks = 0;
  uint64_t memory_limit = 0;
};

std::ostream& operator<<(std::ostream& out, const Plant& plant) { return out << plant.name; }

Batches Holding(size_t blocks) { return {{Stored(Prompt(blocks * kBlock))}}; }

const hash::HashProfile kEngines{hash::HashAlgorithm::kSha256Cbor, "0", 0};

ExplainRequest BesidePool(Fleet& fleet, const hash::HashProfile& declared) {
  fleet.Publishing(Engine("a"), {{Stored(Prompt(64, 5000))}});
  Registration pool;
  pool.pool.tp_size = 1;
  pool.hash_profile = declared;
  fleet.Pool(pool, kEngines, 4);
  return Ask(4);
}

const std::vector<Plant> kPlants = {
    {"end_of_prompt",
     [](Fleet& fleet) {
       fleet.Publishing(Engine("a"), Holding(4));
       return Ask(4);
     },
     ExplainCause::kEndOfPrompt,
     FieldOf::kNothing,
     "",
     {},
     4},

    {"never_stored",
     [](Fleet& fleet) {
       fleet.Publishing(Engine("a"), Holding(4));
       return Ask(6);
     },
     ExplainCause::kNeverStored,
     FieldOf::kNothing,
     "",
     {},
     4},

    {"block_size",
     [](Fleet& fleet) {
       fleet.Publishing(Engine("a"), Holding(4));
       ExplainRequest request = Ask(4);
       request.query.block_size = 64;
       return request;
     },
     ExplainCause::kOtherNamespace, FieldOf::kRequest, "block_size", uint64_t{kBlock}},

    {"registered_block_size",
     [](Fleet& fleet) {
       fleet.Publishing(Engine("a"), {{Stored(Prompt(48), 12)}});
       return Ask(3);
     },
     ExplainCause::kRefusedBlockSize, FieldOf::kRegistration, "block_size", uint64_t{12}},

    {"lora_name",
     [](Fleet& fleet) {
       auto stored = Stored(Prompt(64));
       stored.lora_name = "adapter";
       fleet.Publishing(Engine("a"), {{stored}});
       return Ask(4);
     },
     ExplainCause::kOtherNamespace, FieldOf::kRequest, "lora_name", "adapter"},

    {"registered_lora_name",
     [](Fleet& fleet) {
       Registration engine = Engine("a");
       engine.lora_name = "adapter";
       fleet.Publishing(engine, {{Stored(Prompt(64, 5000))}});
       return Ask(4);
     },
     ExplainCause::kOtherNamespace, FieldOf::kRequest, "lora_name", "adapter"},

    {"cache_salt",
     [](Fleet& fleet) {
       fleet.Publishing(Engine("a"), Holding(4));
       ExplainRequest request = Ask(4);
       request.query.cache_salt = "salt";
       return request;
     },
     ExplainCause::kOtherNamespace, FieldOf::kRequest, "cache_salt", ""},

    {"cache_salt_left_out",
     [](Fleet& fleet) {
       auto stored = Stored(Prompt(64));
       stored.cache_salt = "secret";
       fleet.Publishing(Engine("a"), {{stored}});
       return Ask(4);
     },
     ExplainCause::kNeverStored, FieldOf::kRequest, "cache_salt"},

    {"additional_salt",
     [](Fleet& fleet) {
       Registration engine = Engine("a");
       engine.additional_salt = "w8a8";
       fleet.Publishing(engine, Holding(4));
       ExplainRequest request = Ask(4);
       request.query.additional_salt = "w4a16";
       return request;
     },
     ExplainCause::kOtherNamespace, FieldOf::kRequest, "additional_salt", "w8a8"},

    {"tenant",
     [](Fleet& fleet) {
       Registration engine = Engine("a");
       engine.tenant = "acme";
       fleet.Publishing(engine, Holding(4));
       return Ask(4);
     },
     ExplainCause::kOtherNamespace, FieldOf::kRequest, "tenant_id", "acme"},

    {"model",
     [](Fleet& fleet) {
       fleet.Publishing(Engine("a"), Holding(4));
       ExplainRequest request = Ask(4);
       request.query.model = "org/m";
       return request;
     },
     ExplainCause::kOtherNamespace, FieldOf::kRequest, "model", "m"},

    {"unknown_instance",
     [](Fleet& fleet) {
       fleet.Publishing(Engine("engine-1"), Holding(4));
       ExplainRequest request = Ask(4);
       request.instance_id = "engine1";
       return request;
     },
     ExplainCause::kUnknownInstance, FieldOf::kRequest, "instance_id", "engine-1"},

    {"dead_publisher",
     [](Fleet& fleet) {
       fleet.Publishing(Engine("a"), Holding(4));
       fleet.publishers.clear();
       fleet.Until("a|default|0", [](const PublisherStatus& status) {
         return status.trust.state == stream::TrustState::kStale;
       });
       return Ask(6);
     },
     ExplainCause::kPublisherDead,
     FieldOf::kRegistration,
     "endpoint",
     {},
     4},

    {"wrong_port",
     [](Fleet& fleet) {
       Registration engine = Engine("a");
       engine.endpoint = "tcp://127.0.0.1:1";
       fleet.Add(engine);
       fleet.UntilReason("a|default|0", "unreachable");
       return Ask(4);
     },
     ExplainCause::kPublisherDead, FieldOf::kRegistration, "endpoint"},

    {"wrong_replay_port",
     [](Fleet& fleet) {
       Registration engine = Engine("a");
       fleet.publishers.push_back(Fleet::Publisher());
       fleet.publishers.back()->Publish(Holding(4).front());
       engine.endpoint = fleet.publishers.back()->endpoint();
       engine.replay_endpoint = "tcp://127.0.0.1:1";
       fleet.Add(engine);
       fleet.Until("a|default|0", [](const PublisherStatus& status) {
         return status.trust.reason == "no_events_yet" && status.stream.replays_failed > 0;
       });
       return Ask(4);
     },
     ExplainCause::kNeverHeard, FieldOf::kRegistration, "replay_endpoint"},

    {"gap",
     [](Fleet& fleet) {
       Registration engine = Engine("a");
       fleet.publishers.push_back(Fleet::Publisher({.replay_endpoint = ""}));
       trace::SimulatedPublisher& publisher = *fleet.publishers.back();
       publisher.Publish(Holding(4).front());
       engine.endpoint = publisher.endpoint();
       fleet.Add(engine);
       fleet.Until("a|default|0", [&](const PublisherStatus& status) {
         publisher.Publish({Stored(Prompt(64, 5000))});
         return status.trust.reason == "incomplete";
       });
       return Ask(4);
     },
     ExplainCause::kGap, FieldOf::kRegistration, "replay_endpoint"},

    {"eviction",
     [](Fleet& fleet) {
       const auto stored = Stored(Prompt(64));
       wire::BlockRemoved removed;
       removed.hashes = {stored.hashes[3], stored.hashes[2]};
       fleet.Publishing(Engine("a"), {{stored}, {removed}});
       return Ask(4);
     },
     ExplainCause::kRemoved,
     FieldOf::kNothing,
     "",
     {},
     2},

    {"clear",
     [](Fleet& fleet) {
       fleet.Publishing(Engine("a"), {Holding(4).front(), {wire::AllBlocksCleared{}}});
       return Ask(4);
     },
     ExplainCause::kCleared},

    {"operators_clear",
     [](Fleet& fleet) {
       fleet.Publishing(Engine("a"), Holding(4));
       EXPECT_TRUE(fleet.registry.Clear("a|default|0"));
       return Ask(4);
     },
     ExplainCause::kNewLife},

    {"new_life",
     [](Fleet& fleet) {
       fleet.Publishing(Engine("a"), Holding(4));
       const std::string endpoint = fleet.publishers.back()->endpoint();
       const std::string replay = fleet.publishers.back()->replay_endpoint();
       fleet.publishers.clear();
       fleet.publishers.push_back(
           Fleet::Publisher({.endpoint = endpoint, .replay_endpoint = replay}));
       fleet.publishers.back()->Publish({Stored(Prompt(64, 5000))});
       fleet.Until("a|default|0", [](const PublisherStatus& status) {
         return status.stream.lives == 2 && status.trust.state == stream::TrustState::kLive;
       });
       return Ask(4);
     },
     ExplainCause::kNewLife},

    {"hybrid_group",
     [](Fleet& fleet) {
       auto stored = Stored(Prompt(64));
       stored.group = {1, "sliding_window"};
       fleet.Publishing(Engine("a"), {{stored}});
       return Ask(4);
     },
     ExplainCause::kHybridGroup},

    {"trimmed",
     [](Fleet& fleet) {
       Batches batches = Holding(64);
       for (TokenId i = 1; i < 1500; ++i) {
         batches.push_back({Stored(Prompt(64 * kBlock, 10'000 * i))});
       }
       fleet.Publishing(Engine("a"), std::move(batches));
       return Ask(64);
     },
     ExplainCause::kTrimmed,
     FieldOf::kFlags,
     "memory-limit",
     {},
     0,
     1 << 20},

    {"pools_seed",
     [](Fleet& fleet) {
       return BesidePool(fleet, {hash::HashAlgorithm::kSha256Cbor, "7", 0});
     },
     ExplainCause::kHashProfile, FieldOf::kRegistration, "hash_profile.python_hash_seed", "0"},

    {"pools_algorithm",
     [](Fleet& fleet) {
       return BesidePool(fleet, {hash::HashAlgorithm::kSha256, "0", 0});
     },
     ExplainCause::kHashProfile, FieldOf::kRegistration, "hash_profile.algorithm", "sha256_cbor"},

    {"pools_profile_is_right",
     [](Fleet& fleet) { return BesidePool(fleet, kEngines); },
     ExplainCause::kEndOfPrompt,
     FieldOf::kNothing,
     "",
     {},
     4},

    {"pools_parts",
     [](Fleet& fleet) {
       fleet.Publishing(Engine("a"), {{Stored(Prompt(64, 5000))}});
       Registration pool;
       pool.pool.tp_size = 2;
       pool.hash_profile = kEngines;
       fleet.Pool(pool, kEngines, 4, 1);
       return Ask(4);
     },
     ExplainCause::kPoolIncomplete, FieldOf::kRegistration, "tp_size"},
};

class ExplainTest : public testing::TestWithParam<Plant> {};

TEST_P(ExplainTest, NamesTheCauseAndTheFieldToChange) {
  const Plant& plant = GetParam();
  Registry::Options options;
  options.index.memory_limit = plant.memory_limit;
  options.stream.replay_timeout = 500ms;
  Fleet fleet(options);
  const ExplainRequest request = plant.plant(fleet);
  const Explanation told = Explain(fleet.registry, request);
  const Verdict& verdict = told.verdict;
  EXPECT_EQ(ExplainCauseName(verdict.cause), ExplainCauseName(plant.cause)) << verdict.detail;
  EXPECT_EQ(FieldOfName(verdict.field_of), FieldOfName(plant.field_of)) << verdict.detail;
  EXPECT_EQ(verdict.field, plant.field) << verdict.detail;
  EXPECT_TRUE(verdict.expected == plant.expected) << verdict.detail;
  EXPECT_FALSE(verdict.detail.empty());
  EXPECT_EQ(told.matched_blocks, plant.matched_blocks) << verdict.detail;
  EXPECT_FALSE(told.cut_short);
  EXPECT_EQ(verdict.detail.find("secret"), std::string::npos) << "salts keep users apart";
}

INSTANTIATE_TEST_SUITE_P(Plants, ExplainTest, testing::ValuesIn(kPlants),
                         [](const auto& plant) { return std::string(plant.param.name); });

TEST(Explain, ARemovedBlockIsToldWithItsSequenceAndTime) {
  Fleet fleet;
  const auto stored = Stored(Prompt(64));
  wire::BlockRemoved removed;
  removed.hashes = {stored.hashes[3]};
  const double before = UnixNow();
  fleet.Publishing(Engine("a"), {{stored}, {removed}});
  const Explanation told = Explain(fleet.registry, Ask(4));
  ASSERT_TRUE(told.verdict.removal);
  EXPECT_EQ(told.verdict.removal->occasion.sequence, 1U);
  EXPECT_GE(told.verdict.removal->occasion.unix_time, before - 1);
  EXPECT_EQ(told.verdict.removal->publisher, "a|default|0");
  ASSERT_EQ(told.ranks.size(), 1U);
  ASSERT_EQ(told.ranks[0].breaks.size(), 1U);
  EXPECT_EQ(told.ranks[0].breaks[0].block, 3U);
}

TEST(Explain, WhatWasStoredAgainAndClearedIsToldByTheClear) {
  Fleet fleet;
  const auto stored = Stored(Prompt(64));
  wire::BlockRemoved removed;
  removed.hashes = {stored.hashes[0]};
  fleet.Publishing(Engine("a"), {{stored}, {removed}, {stored}, {wire::AllBlocksCleared{}}});
  const Explanation told = Explain(fleet.registry, Ask(4));
  EXPECT_EQ(told.verdict.cause, ExplainCause::kCleared) << told.verdict.detail;
  ASSERT_TRUE(told.verdict.removal);
  EXPECT_EQ(told.verdict.removal->occasion.sequence, 3U);
}

TEST(Explain, EachTierThatGoesFurtherHasAnEndOfItsOwn) {
  Fleet fleet;
  const auto stored = Stored(Prompt(64));
  wire::BlockStored offloaded = stored;
  offloaded.medium = "CPU";
  wire::BlockRemoved removed;
  removed.hashes = {stored.hashes[3], stored.hashes[2]};
  fleet.Publishing(Engine("a"), {{stored, offloaded}, {removed}});
  const Explanation told = Explain(fleet.registry, Ask(6));
  ASSERT_EQ(told.ranks.size(), 1U);
  const auto& breaks = told.ranks[0].breaks;
  ASSERT_EQ(breaks.size(), 2U);
  EXPECT_EQ(breaks[0].tier, Tier::kGpu);
  EXPECT_EQ(breaks[0].block, 2U);
  EXPECT_EQ(breaks[0].verdict.cause, ExplainCause::kRemoved);
  EXPECT_EQ(breaks[1].tier, Tier::kCpu);
  EXPECT_EQ(breaks[1].block, 4U);
  EXPECT_EQ(breaks[1].verdict.cause, ExplainCause::kNeverStored);
  EXPECT_EQ(told.verdict.cause, ExplainCause::kNeverStored);
}

TEST(Explain, TellsWhoElseHoldsTheBlock) {
  Fleet fleet;
  fleet.Publishing(Engine("a"), Holding(2));
  fleet.Publishing(Engine("b"), Holding(4));
  const Explanation told = Explain(fleet.registry, Ask(4));
  ASSERT_EQ(told.ranks.size(), 1U);
  const auto& held_by = told.ranks[0].breaks.back().held_by;
  ASSERT_EQ(held_by.size(), 1U);
  EXPECT_EQ(held_by[0].instance_id, "b");
  EXPECT_EQ(held_by[0].on, (std::array{true, false, false}));
  EXPECT_NE(told.verdict.detail.find("b (rank 0)"), std::string::npos) << told.verdict.detail;
}

TEST(Explain, TellsWhichNamespaceWouldHaveMatchedHowMuch) {
  Fleet fleet;
  fleet.Publishing(Engine("a"), Holding(4));
  Registration coarse = Engine("b");
  coarse.block_size = 32;
  fleet.Publishing(coarse, {{Stored(Prompt(64), 32)}});
  ExplainRequest request = Ask(4);
  request.query.block_size = 32;
  const Explanation told = Explain(fleet.registry, request);
  ASSERT_EQ(told.elsewhere.size(), 1U);
  EXPECT_EQ(told.elsewhere[0].name_space.block_size, kBlock);
  EXPECT_EQ(told.elsewhere[0].differs, std::vector<std::string>{"block_size"});
  ASSERT_EQ(told.elsewhere[0].matches.size(), 1U);
  EXPECT_EQ(told.elsewhere[0].matches[0].instance_id, "a");
  EXPECT_EQ(told.elsewhere[0].matches[0].tokens, 64U);
  EXPECT_EQ(told.namespaces_tried, 2U);
}

TEST(Explain, AnInstanceThatLeftIsRemembered) {
  Fleet fleet;
  fleet.Publishing(Engine("a"), Holding(4));
  ASSERT_EQ(fleet.registry.Remove("a|default|0"), Registry::Removed::kRemoved);
  const Explanation told = Explain(fleet.registry, Ask(4));
  EXPECT_EQ(told.verdict.cause, ExplainCause::kUnknownInstance);
  ASSERT_TRUE(told.verdict.removal);
  EXPECT_EQ(told.verdict.removal->cause, index::RemovalCause::kUnregistered);
  EXPECT_EQ(told.verdict.removal->blocks, 4U);
}

TEST(Explain, WithoutAHistoryTheCauseIsNotKnown) {
  Registry::Options options;
  options.index.history = 0;
  Fleet fleet(options);
  const auto stored = Stored(Prompt(64));
  wire::BlockRemoved removed;
  removed.hashes = {stored.hashes[3]};
  fleet.Publishing(Engine("a"), {{stored}, {removed}});
  EXPECT_EQ(Explain(fleet.registry, Ask(4)).verdict.cause, ExplainCause::kNeverStored);
}

TEST(Explain, APromptByItsHashesIsExplainedToo) {
  Fleet fleet;
  fleet.Publishing(Engine("a"), Holding(3));
  ExplainRequest request = Ask(4);
  const hash::ExtraKeys none;
  for (size_t i = 0; i < 4; ++i) {
    const LocalHash local =
        hash::HashBlock(std::span(request.query.tokens).subspan(i * kBlock, kBlock), none,
                        fleet.registry.index().options().hash_seed);
    auto& prefixes = request.query.prefixes;
    prefixes.push_back(
        prefixes.empty()
            ? hash::FirstPrefix(local)
            : hash::NextPrefix(prefixes.back(), local, fleet.registry.index().options().hash_seed));
  }
  request.query.tokens.clear();
  const Explanation told = Explain(fleet.registry, request);
  EXPECT_EQ(told.matched_blocks, 3U);
  EXPECT_EQ(told.prompt_blocks, 4U);
  EXPECT_EQ(told.verdict.cause, ExplainCause::kNeverStored);
}

TEST(Explain, ABoundThatIsReachedMakesNoAnswer) {
  Fleet fleet;
  fleet.Publishing(Engine("a"), Holding(4));
  const Explanation long_one = Explain(fleet.registry, Ask(4), {{}, MonoTime::max(), 3});
  EXPECT_TRUE(long_one.cut_short);
  EXPECT_EQ(long_one.too_many_blocks, 4U);
  std::stop_source source;
  source.request_stop();
  EXPECT_TRUE(Explain(fleet.registry, Ask(4), source.get_token()).cut_short);
}

TEST(Explain, JsonAndMessagePackSayTheSame) {
  Fleet fleet;
  fleet.Publishing(Engine("a"), Holding(2));
  const ExplainRequest request = Ask(4);
  const Explanation told = Explain(fleet.registry, request);
  const Json json = Json::parse(ExplanationDocument(request, told, BodyForm::kJson));
  EXPECT_EQ(Json::from_msgpack(ExplanationDocument(request, told, BodyForm::kMsgpack)), json);
  EXPECT_EQ(json["cause"], "never_stored");
  EXPECT_EQ(json["field"], nullptr);
  EXPECT_EQ(json["matched_blocks"], 2);
  EXPECT_EQ(json["ranks"][0]["breaks"][0]["tier"], "gpu");
}

}  // namespace
}  // namespace conductor::serve
