#include "daemon/serve/answers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <span>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "eventually.h"
#include "lib/trace/simulated_engine.h"
#include "lib/trace/simulated_publisher.h"

namespace conductor::serve {
namespace {

using Names = std::vector<std::string>;
using Figures = std::vector<uint64_t>;  // gpu, cpu, disk
using Hits = std::map<std::string, int>;

Names NamesOf(const Answer& answer) {
  Names names;
  for (const InstanceAnswer& instance : answer.instances) names.emplace_back(instance.instance_id);
  return names;
}

Figures FiguresOf(const TierFigures& figures) { return {figures.gpu, figures.cpu, figures.disk}; }

TierFigures RankOf(const InstanceAnswer& instance, uint32_t dp_rank) {
  for (const auto& [rank, figures] : instance.ranks) {
    if (rank == dp_rank) return figures;
  }
  ADD_FAILURE() << "there is no rank " << dp_rank;
  return {};
}

// 0, 1, 2, ...: the prompt of these tests; engines hold the beginning of it.
std::vector<TokenId> Prompt(size_t tokens) {
  std::vector<TokenId> prompt(tokens);
  std::iota(prompt.begin(), prompt.end(), 0);
  return prompt;
}

Query Ask(size_t tokens) {
  Query query;
  query.model = "m";
  query.tokens = Prompt(tokens);
  return query;
}

CacheQuery AskHosts(size_t tokens, std::set<std::string> hosts) {
  return CacheQuery{.model = "m", .lora_name = "", .tokens = Prompt(tokens), .hosts = hosts};
}

// A registry, and engines that publish to it over ZeroMQ.
class AnswersTest : public testing::Test {
 protected:
  static Registration Engine(const std::string& instance_id) {
    Registration registration;
    registration.model = "m";
    registration.instance_id = instance_id;
    registration.block_size = 16;
    return registration;
  }

  // Registers an engine that is not there.
  void Absent(Registration registration) {
    registration.endpoint = "tcp://127.0.0.1:" + std::to_string(++absent_port_);
    const auto added = registry_.Add(registration);
    ASSERT_TRUE(added.has_value()) << added.error().Message();
  }

  // Registers an engine at `host` that has published `events`, and waits until they are applied.
  void Publishing(Registration registration, std::vector<wire::KvEvent> events,
                  const std::string& host = "127.0.0.1") {
    auto publisher = trace::SimulatedPublisher::Create({.endpoint = "tcp://" + host + ":*",
                                                        .replay_endpoint = "tcp://" + host + ":*",
                                                        .topic = "",
                                                        .dp_rank = registration.dp_rank});
    ASSERT_TRUE(publisher.has_value()) << publisher.error().Message();
    (*publisher)->Publish(std::move(events));
    registration.endpoint = (*publisher)->endpoint();
    registration.replay_endpoint = (*publisher)->replay_endpoint();
    publishers_.push_back(std::move(*publisher));
    const auto added = registry_.Add(registration);
    ASSERT_TRUE(added.has_value()) << added.error().Message();
    ASSERT_TRUE(BecomesLive(registration.Key()));
  }

  // The same for an engine that holds the first `tokens` of the prompt on the device.
  void Holding(const Registration& registration, size_t tokens,
               const std::string& host = "127.0.0.1") {
    Publishing(registration, Stored(registration.block_size, tokens), host);
  }

  static std::vector<wire::KvEvent> Stored(uint32_t block_size, size_t tokens) {
    trace::SimulatedEngine engine(
        {.seed = 7, .block_size = block_size, .capacity_blocks = 1'000'000});
    return engine.Run(Prompt(tokens));
  }

  bool BecomesLive(const std::string& key) {
    return Eventually([&] {
      const auto engines = registry_.Engines();
      return std::ranges::any_of(engines, [&](const EngineView& engine) {
        return engine.registration->Key() == key && engine.trust.state == stream::TrustState::kLive;
      });
    });
  }

  static const InstanceAnswer& Of(const Answer& answer, const std::string& instance_id) {
    const auto found =
        std::ranges::find(answer.instances, instance_id, &InstanceAnswer::instance_id);
    if (found != answer.instances.end()) return *found;
    ADD_FAILURE() << instance_id << " is not answered";
    static const InstanceAnswer nothing;
    return nothing;
  }

  Registry registry_{Registry::Options{}};
  std::vector<std::unique_ptr<trace::SimulatedPublisher>> publishers_;
  int absent_port_ = 0;
};

TEST_F(AnswersTest, EveryEngineOfTheTenantIsThereWithZeros) {
  Absent(Engine("a"));
  Registration other_model = Engine("b");
  other_model.model = "other";
  Absent(other_model);
  Registration other_tenant = Engine("c");
  other_tenant.tenant = "t";
  Absent(other_tenant);
  Registration pool = Engine("pool");
  pool.type = PublisherType::kMooncake;
  Absent(pool);

  const Answer answer = AnswerQuery(registry_, Ask(40));
  EXPECT_EQ(NamesOf(answer), (Names{"a", "b"}));
  EXPECT_EQ(answer.reason, QueryReason::kOk);
  const InstanceAnswer& a = Of(answer, "a");
  EXPECT_TRUE(a.serves_model);
  EXPECT_FALSE(Of(answer, "b").serves_model);
  EXPECT_EQ(FiguresOf(a.best), (Figures{0, 0, 0}));
  EXPECT_EQ(FiguresOf(a.ranks.at(0).second), (Figures{0, 0, 0}));
  EXPECT_EQ(a.block_size, 16U);
  EXPECT_EQ(a.prompt_blocks, 2U);
  EXPECT_EQ(a.trust->state, stream::TrustState::kConnecting);
  EXPECT_EQ(a.lag_seconds, -1);
  EXPECT_EQ(Of(answer, "b").block_size, 0U) << "it has no namespace of that model";
}

TEST_F(AnswersTest, WithoutAHitThoseThatServeTheModelAreFirst) {
  Registration other_model = Engine("a");
  other_model.model = "other";
  Absent(other_model);
  Absent(Engine("b"));
  Absent(Engine("c"));
  EXPECT_EQ(NamesOf(AnswerQuery(registry_, Ask(40))), (Names{"b", "c", "a"}));
  EXPECT_EQ(NamesOf(AnswerQuery(registry_, Ask(40), {}, 1)), (Names{"b"}));
}

TEST_F(AnswersTest, CandidatesNarrowTheAnswer) {
  for (const char* name : {"a", "b", "c"}) Absent(Engine(name));
  Query query = Ask(16);
  query.instances = {"c", "a", "nobody"};
  EXPECT_EQ(NamesOf(AnswerQuery(registry_, query)), (Names{"a", "c"}));
}

TEST_F(AnswersTest, SaysWhyNothingCanMatch) {
  Query query = Ask(16);
  EXPECT_EQ(AnswerQuery(registry_, query).reason, QueryReason::kUnknownTenant);
  Absent(Engine("a"));

  Query tenant = query;
  tenant.tenant = "t";
  const Answer no_tenant = AnswerQuery(registry_, tenant);
  EXPECT_EQ(no_tenant.reason, QueryReason::kUnknownTenant);
  EXPECT_EQ(no_tenant.reason_detail, "no engine is registered for tenant 't'; there are: default");
  EXPECT_TRUE(no_tenant.instances.empty());

  Query model = query;
  model.model = "x";
  const Answer no_model = AnswerQuery(registry_, model);
  EXPECT_EQ(no_model.reason, QueryReason::kUnknownModel);
  EXPECT_EQ(no_model.reason_detail, "no engine is registered for model 'x'; there are: m");
  EXPECT_EQ(NamesOf(no_model), (Names{"a"}));

  Query size = query;
  size.block_size = 32;
  const Answer no_size = AnswerQuery(registry_, size);
  EXPECT_EQ(no_size.reason, QueryReason::kUnknownBlockSize);
  EXPECT_EQ(no_size.reason_detail,
            "model 'm' has no engine with blocks of 32 tokens; there are: 16");

  Registration unsized = Engine("b");
  unsized.block_size = 0;
  Absent(unsized);
  EXPECT_EQ(AnswerQuery(registry_, size).reason, QueryReason::kOk) << "b's may yet be 32";
}

TEST_F(AnswersTest, CountsWholeBlocksAndListsTheBestFirst) {
  Holding(Engine("a"), 16);
  Holding(Engine("b"), 64);
  Holding(Engine("c"), 16);
  const Answer answer = AnswerQuery(registry_, Ask(50));
  EXPECT_EQ(NamesOf(answer), (Names{"b", "a", "c"}));
  EXPECT_EQ(FiguresOf(Of(answer, "b").best), (Figures{48, 48, 48}));
  EXPECT_EQ(Of(answer, "b").longest_matched(), 48U);
  EXPECT_EQ(Of(answer, "b").prompt_blocks, 3U);
  EXPECT_GE(Of(answer, "b").lag_seconds, 0);
  EXPECT_EQ(Of(answer, "a").longest_matched(), 16U);
}

TEST_F(AnswersTest, LooksInEveryBlockSizeOfTheModelUnlessOneIsNamed) {
  Holding(Engine("a"), 48);
  Registration coarse = Engine("b");
  coarse.block_size = 32;
  Holding(coarse, 96);

  const Answer both = AnswerQuery(registry_, Ask(80));
  EXPECT_EQ(NamesOf(both), (Names{"b", "a"}));
  EXPECT_EQ(Of(both, "a").longest_matched(), 48U);
  EXPECT_EQ(Of(both, "a").block_size, 16U);
  EXPECT_EQ(Of(both, "a").prompt_blocks, 5U);
  EXPECT_EQ(Of(both, "b").longest_matched(), 64U);
  EXPECT_EQ(Of(both, "b").block_size, 32U);
  EXPECT_EQ(Of(both, "b").prompt_blocks, 2U);

  Query fine = Ask(80);
  fine.block_size = 16;
  const Answer one = AnswerQuery(registry_, fine);
  EXPECT_EQ(Of(one, "a").longest_matched(), 48U);
  EXPECT_EQ(Of(one, "b").longest_matched(), 0U);
}

TEST_F(AnswersTest, AnInstanceIsTheBestOfItsRanksFigureByFigureAndItsWorstTrust) {
  Holding(Engine("a"), 48);
  Registration rank1 = Engine("a");
  rank1.dp_rank = 1;
  // Four blocks on the host, of which the device keeps one.
  std::vector<wire::KvEvent> events = Stored(16, 64);
  auto offloaded = std::get<wire::BlockStored>(events.back());
  offloaded.medium = "CPU";
  wire::BlockRemoved evicted;
  evicted.hashes.assign(offloaded.hashes.begin() + 1, offloaded.hashes.end());
  evicted.medium = "GPU";
  events.insert(events.end(), {offloaded, evicted});
  Publishing(rank1, events);

  const Answer live = AnswerQuery(registry_, Ask(80));
  const InstanceAnswer& a = Of(live, "a");
  EXPECT_EQ(FiguresOf(a.ranks.at(0).second), (Figures{48, 48, 48}));
  EXPECT_EQ(FiguresOf(a.ranks.at(1).second), (Figures{16, 64, 64}));
  EXPECT_EQ(FiguresOf(a.best), (Figures{48, 64, 64}));
  EXPECT_EQ(a.trust->state, stream::TrustState::kLive);

  Registration rank2 = Engine("a");
  rank2.dp_rank = 2;
  Absent(rank2);
  const Answer degraded = AnswerQuery(registry_, Ask(80));
  EXPECT_EQ(FiguresOf(RankOf(Of(degraded, "a"), 2)), (Figures{0, 0, 0}));
  EXPECT_EQ(Of(degraded, "a").trust->state, stream::TrustState::kConnecting);
}

TEST_F(AnswersTest, TenantModelAdapterAndSaltsKeepPromptsApart) {
  Registration salted = Engine("a");
  salted.additional_salt = "s";
  Holding(salted, 32);
  const auto longest = [this](const Query& query) {
    const Answer answer = AnswerQuery(registry_, query);
    return answer.instances.empty() ? 0 : answer.instances[0].longest_matched();
  };
  EXPECT_EQ(longest(Ask(32)), 32U) << "any additional salt";
  Query query = Ask(32);
  query.additional_salt = "s";
  EXPECT_EQ(longest(query), 32U);
  query.additional_salt = "other";
  EXPECT_EQ(longest(query), 0U);
  query = Ask(32);
  query.cache_salt = "x";
  EXPECT_EQ(longest(query), 0U);
  query = Ask(32);
  query.lora_name = "x";
  EXPECT_EQ(longest(query), 0U);
  query = Ask(32);
  query.tenant = "x";
  EXPECT_EQ(longest(query), 0U);
}

TEST_F(AnswersTest, APromptMayBeAskedForByItsPrefixHashes) {
  Holding(Engine("a"), 48);
  Registration coarse = Engine("b");
  coarse.block_size = 32;
  Holding(coarse, 96);
  Query query;
  query.model = "m";
  query.prefixes.resize(5);
  hash::HashChain(Prompt(80), 16, nullptr, hash::kDefaultSeed, query.prefixes);

  const Answer answer = AnswerQuery(registry_, query);
  EXPECT_EQ(FiguresOf(Of(answer, "a").best), (Figures{48, 48, 48}));
  EXPECT_EQ(Of(answer, "a").prompt_blocks, 5U);
  EXPECT_EQ(Of(answer, "b").longest_matched(), 0U) << "its hashes are of other blocks";

  query.block_size = 16;
  EXPECT_EQ(Of(AnswerQuery(registry_, query), "a").longest_matched(), 48U);
  query.block_size = 32;
  EXPECT_EQ(Of(AnswerQuery(registry_, query), "a").longest_matched(), 0U);
}

TEST_F(AnswersTest, AWalkEndsWhenAStopIsRequested) {
  Registration tiny = Engine("a");
  tiny.block_size = 1;
  Absent(tiny);
  std::stop_source source;
  source.request_stop();
  Query query = Ask(32);
  Holding(Engine("b"), 32);
  ASSERT_EQ(Of(AnswerQuery(registry_, query), "b").longest_matched(), 32U);
  EXPECT_EQ(Of(AnswerQuery(registry_, query, source.get_token()), "b").longest_matched(), 0U);
  ASSERT_EQ(AnswerCacheQuery(registry_, AskHosts(32, {"b"})).hits.size(), 1U);
  EXPECT_TRUE(AnswerCacheQuery(registry_, AskHosts(32, {"b"}), source.get_token()).hits.empty());
}

TEST_F(AnswersTest, CacheHitsArePercentOfThePromptsWholeBlocks) {
  Holding(Engine("a"), 32);
  EXPECT_EQ(AnswerCacheQuery(registry_, AskHosts(32, {"a"})).hits, (Hits{{"a", 100}}));
  EXPECT_EQ(AnswerCacheQuery(registry_, AskHosts(63, {"a"})).hits, (Hits{{"a", 66}}));
  EXPECT_EQ(AnswerCacheQuery(registry_, AskHosts(64, {"a"})).hits, (Hits{{"a", 50}}));
  EXPECT_EQ(AnswerCacheQuery(registry_, AskHosts(16 * 1000, {"a"})).hits, (Hits{{"a", 1}}))
      << "a hit is never rounded to none";
  EXPECT_EQ(AnswerCacheQuery(registry_, AskHosts(15, {"a"})).hits, Hits{}) << "no whole block";
}

TEST_F(AnswersTest, CacheCandidatesAreNamedByHostOrInstance) {
  Holding(Engine("a"), 16);
  Holding(Engine("b"), 32);
  Holding(Engine("c"), 48, "127.0.0.2");
  EXPECT_EQ(AnswerCacheQuery(registry_, AskHosts(64, {"127.0.0.1", "127.0.0.2", "127.0.0.3"})).hits,
            (Hits{{"127.0.0.1", 50}, {"127.0.0.2", 75}}))
      << "a host is the best of its engines";
  EXPECT_EQ(AnswerCacheQuery(registry_, AskHosts(64, {"a", "127.0.0.1", "c"})).hits,
            (Hits{{"a", 25}, {"127.0.0.1", 50}, {"c", 75}}));
  EXPECT_EQ(AnswerCacheQuery(registry_, AskHosts(64, {})).hits, Hits{});
}

TEST_F(AnswersTest, CacheCandidatesOfAnotherModelAreAskedInTheirOwnWhereNoneServesTheModel) {
  Holding(Engine("a"), 16);
  Registration other = Engine("b");
  other.model = "other";
  Holding(other, 32, "127.0.0.2");
  CacheQuery query = AskHosts(64, {"127.0.0.2"});
  EXPECT_EQ(AnswerCacheQuery(registry_, query).hits, (Hits{{"127.0.0.2", 50}}));
  query.hosts.insert("127.0.0.1");
  EXPECT_EQ(AnswerCacheQuery(registry_, query).hits, (Hits{{"127.0.0.1", 25}}))
      << "a serves it, so b does not count";
  query.model = "nobody's";
  EXPECT_EQ(AnswerCacheQuery(registry_, query).hits, (Hits{{"127.0.0.1", 25}, {"127.0.0.2", 50}}));
}

// Of this thread: on a busy machine the time of day would tell of others.
Duration CpuTime() {
  timespec used{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

// Engines of one namespace are answered by one walk over the prompt, not by one for each of them.
TEST_F(AnswersTest, ManyHostsAndEnginesCostOneWalk) {
  for (int i = 0; i < 400; ++i) {
    Registration tiny = Engine("e" + std::to_string(i));
    tiny.block_size = 1;
    Absent(tiny);
  }
  Registration holder = Engine("holder");
  holder.block_size = 1;
  Holding(holder, 100'000);
  const CacheQuery one = AskHosts(200'000, {"holder"});
  CacheQuery many = AskHosts(200'000, {"127.0.0.1", "holder"});
  for (int i = 0; i < 4000; ++i) many.hosts.insert("e" + std::to_string(i));

  const Duration begin = CpuTime();
  EXPECT_EQ(AnswerCacheQuery(registry_, one).hits, (Hits{{"holder", 50}}));
  const Duration one_walk = CpuTime() - begin;
  EXPECT_EQ(AnswerCacheQuery(registry_, many).hits, (Hits{{"127.0.0.1", 50}, {"holder", 50}}));
  EXPECT_LT(CpuTime() - begin, 50 * one_walk) << "401 engines";
}

}  // namespace
}  // namespace conductor::serve
