#include "daemon/serve/explanation.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <tuple>
#include <utility>

#include "daemon/serve/explain_pools.h"
#include "daemon/serve/explain_verdicts.h"
#include "daemon/serve/nearest_name.h"

namespace conductor::serve {
namespace {

using index::NamespaceKey;

// Of a removed block those behind it are asked for as well: a span is remembered by its last block,
// and an entry may have been overwritten.
constexpr uint64_t kBehind = 64;

// Hashes from the start of a prompt are asked for in such pieces.
constexpr size_t kPiece = 1024;

// One explanation on its way.
class Explainer {
 public:
  Explainer(const Registry& registry, const ExplainRequest& request, const QueryBounds& bounds)
      : index_(registry.index()),
        query_(request.query),
        instance_id_(request.instance_id),
        bounds_(bounds),
        publishers_(registry.Publishers()),
        keys_(WithSalt(query_.extra_keys, query_.cache_salt)) {}

  Explanation Run() {
    std::vector<const PublisherStatus*> own;
    for (const PublisherStatus& publisher : publishers_) {
      const Registration& registration = publisher.registration;
      if (registration.instance_id != instance_id_ || IsPool(registration.type)) continue;
      own.push_back(&publisher);
    }
    if (own.empty()) {
      out_.verdict = Unknown();
      return std::move(out_);
    }
    TooLong(own);
    if (out_.too_many_blocks == 0) {
      Try();
      std::vector<const PublisherStatus*> asked;
      std::ranges::copy_if(own, std::back_inserter(asked), [this](const PublisherStatus* it) {
        return Differences(query_, NamespaceOf(*it, true)).empty();
      });
      if (asked.empty()) {
        OtherWords(own);
      } else {
        ExplainAll(asked);
      }
    }
    out_.cut_short = out_.too_many_blocks > 0 || bounds_.reached();
    return std::move(out_);
  }

 private:
  // Where the publisher's events go that name no adapter, or the query's.
  [[nodiscard]] NamespaceKey NamespaceOf(const PublisherStatus& publisher, bool of_query) const {
    const Registration& registration = publisher.registration;
    return {.tenant = registration.tenant,
            .model = registration.model,
            .lora_name = of_query ? query_.lora_name : registration.lora_name,
            .block_size = publisher.effective_block_size,
            .additional_salt = registration.additional_salt};
  }

  [[nodiscard]] uint64_t PromptBlocks(uint32_t block_size) const {
    return block_size == 0 ? 0 : query_.Blocks(block_size);
  }

  void TooLong(const std::vector<const PublisherStatus*>& own) {
    for (const PublisherStatus* publisher : own) {
      const uint32_t block_size = query_.block_size.value_or(publisher->effective_block_size);
      const uint64_t blocks = PromptBlocks(block_size);
      if (blocks > bounds_.max_blocks) out_.too_many_blocks = blocks;
    }
  }

  [[nodiscard]] PromptView Prompt(bool salted) const {
    return {query_.tokens, salted ? std::span<const hash::ExtraKeys>(keys_)
                                  : std::span<const hash::ExtraKeys>(query_.extra_keys)};
  }

  // Calls use(source of the prompt's hashes).
  template <typename Use>
  void WithSource(uint32_t block_size, bool salted, Use use) const {
    if (!query_.prefixes.empty()) {
      index::PrefixList prefixes(query_.prefixes);
      BoundedSource source(prefixes, bounds_);
      use(source);
      return;
    }
    PromptChain chain(Prompt(salted), block_size, index_.options().hash_seed);
    BoundedSource source(chain, bounds_);
    use(source);
  }

  [[nodiscard]] index::Matches Match(const NamespaceKey& key, bool salted) const {
    const index::Scope scope{key.tenant, key.model, key.lora_name, key.block_size,
                             key.additional_salt};
    index::Matches matches;
    WithSource(key.block_size, salted, [&](index::PrefixSource& source) {
      index::PrefixIndex::NameSource names_of;
      PromptNames names(Prompt(salted), key.block_size, key.lora_name);
      if (query_.prefixes.empty() && index_.HasPoolProfiles()) {
        names_of = [&names](const hash::HashProfile& profile, size_t block) {
          return names.At(profile, block);
        };
      }
      index_.Match(scope, source, {}, names_of, matches);
    });
    return matches;
  }

  // The hashes of the prompt's first `count` blocks, or of all that it has.
  [[nodiscard]] std::vector<PrefixHash> Chain(uint32_t block_size, uint64_t count) const {
    std::vector<PrefixHash> chain;
    WithSource(block_size, true, [&](index::PrefixSource& source) {
      while (chain.size() < count) {
        const size_t have = chain.size();
        chain.resize(std::min<uint64_t>(count, have + kPiece));
        const size_t got = source.Next(std::span(chain).subspan(have));
        chain.resize(have + got);
        if (got == 0) return;
      }
    });
    return chain;
  }

  [[nodiscard]] Verdict Unknown() const {
    std::set<std::string> instances;
    bool pool = false;
    for (const PublisherStatus& publisher : publishers_) {
      if (IsPool(publisher.registration.type)) {
        pool |= publisher.registration.instance_id == instance_id_;
      } else {
        instances.insert(publisher.registration.instance_id);
      }
    }
    Verdict verdict;
    verdict.cause = ExplainCause::kUnknownInstance;
    verdict.detail = pool ? fmt::format(
                                "'{}' is a pool, whose blocks count for the instances of "
                                "its model: ask for one of these",
                                instance_id_)
                          : fmt::format("no engine is registered as instance '{}'", instance_id_);
    if (const auto left = index_.LastLeft(instance_id_)) {
      verdict.detail += "; it was, and held blocks";
      verdict.removal = left;
    }
    std::string nearest = NearestName(instances, instance_id_);
    if (nearest.empty()) {
      return std::move(verdict).WithField(FieldOf::kRegistration, "instance_id", instance_id_);
    }
    return std::move(verdict).WithField(FieldOf::kRequest, "instance_id", std::move(nearest));
  }

  // The prompt in namespaces that are not the query's, and without its salt.
  void Try() {
    struct Trial {
      NamespaceKey key;
      bool without_salt;
      std::vector<std::string> differs;
    };
    std::vector<Trial> trials;
    const bool salt_can_go = !query_.cache_salt.empty() && query_.prefixes.empty();
    for (const index::NamespaceStats& stats : index_.Namespaces()) {
      if (stats.key.block_size == 0) continue;
      namespaces_.insert(stats.key);
      auto differs = Differences(query_, stats.key);
      // Hashes and extra keys are of blocks of one size.
      const bool of_one_size = !query_.prefixes.empty() || !query_.extra_keys.empty();
      if (of_one_size && std::ranges::find(differs, "block_size") != differs.end()) continue;
      trials.push_back({stats.key, false, std::move(differs)});
    }
    std::ranges::stable_sort(trials, {}, [](const Trial& trial) { return trial.differs.size(); });
    if (trials.size() > Explanation::kMostNamespaces) {
      out_.namespaces_left_out = trials.size() - Explanation::kMostNamespaces;
      trials.resize(Explanation::kMostNamespaces);
    }
    out_.namespaces_tried = trials.size();
    for (const Trial& trial : trials) {
      if (!trial.differs.empty()) TryOne(trial.key, false, trial.differs);
      if (!salt_can_go) continue;
      auto differs = trial.differs;
      differs.emplace_back("cache_salt");
      TryOne(trial.key, true, std::move(differs));
    }
    std::ranges::stable_sort(out_.elsewhere, [](const Elsewhere& a, const Elsewhere& b) {
      return std::tuple(b.matches.front().tokens, a.differs.size()) <
             std::tuple(a.matches.front().tokens, b.differs.size());
    });
  }

  void TryOne(const NamespaceKey& key, bool without_salt, std::vector<std::string> differs) {
    if (bounds_.reached() || PromptBlocks(key.block_size) > bounds_.max_blocks) return;
    std::map<std::string, uint64_t> tokens;
    const index::Matches matches = Match(key, !without_salt);
    for (const index::RankMatch& match : matches.ranks) {
      uint64_t& best = tokens[match.rank->instance_id];
      best = std::max(best, uint64_t{match.disk} * key.block_size);
    }
    if (tokens.empty()) return;
    Elsewhere& found = out_.elsewhere.emplace_back();
    found.name_space = key;
    found.without_cache_salt = without_salt;
    found.differs = std::move(differs);
    for (const auto& [instance_id, matched] : tokens)
      found.matches.push_back({instance_id, matched});
    // The instance that is asked for is told whatever the others match.
    std::ranges::stable_sort(found.matches, [this](const auto& a, const auto& b) {
      return std::tuple(b.tokens, a.instance_id != instance_id_) <
             std::tuple(a.tokens, b.instance_id != instance_id_);
    });
    const auto own = std::ranges::find(found.matches, instance_id_, &Elsewhere::Match::instance_id);
    if (found.matches.size() <= Explanation::kMostHolders) return;
    if (own != found.matches.end() &&
        own - found.matches.begin() >= static_cast<ptrdiff_t>(Explanation::kMostHolders)) {
      std::swap(*own, found.matches[Explanation::kMostHolders - 1]);
    }
    found.matches.resize(Explanation::kMostHolders);
  }

  // Where the instance matches most, and how much.
  [[nodiscard]] std::pair<const Elsewhere*, uint64_t> BestElsewhere() const {
    std::pair<const Elsewhere*, uint64_t> best{nullptr, 0};
    for (const Elsewhere& other : out_.elsewhere) {
      for (const Elsewhere::Match& match : other.matches) {
        if (match.instance_id != instance_id_ || match.tokens <= best.second) continue;
        best = {&other, match.tokens};
      }
    }
    return best;
  }

  // The instance serves nothing of what the query names.
  void OtherWords(const std::vector<const PublisherStatus*>& own) {
    const auto differences = [this](const PublisherStatus* publisher) {
      return Differences(query_, NamespaceOf(*publisher, true)).size();
    };
    const PublisherStatus& nearest = **std::ranges::min_element(own, {}, differences);
    const NamespaceKey name_space = NamespaceOf(nearest, true);
    const auto differs = Differences(query_, name_space);
    const std::string& field = differs.front();
    Verdict verdict;
    verdict.cause = ExplainCause::kOtherNamespace;
    verdict.detail =
        fmt::format("{} is registered with {}", instance_id_, Describe(differs, name_space));
    if (const auto [other, tokens] = BestElsewhere(); other != nullptr) {
      verdict.detail += fmt::format("; it matches {} tokens of this prompt with {}", tokens,
                                    Describe(other->differs, other->name_space));
    }
    verdict = std::move(verdict).WithField(FieldOf::kRequest, field, ValueOf(field, name_space));
    out_.verdict = verdict;
    out_.block_size = query_.block_size.value_or(name_space.block_size);
    out_.prompt_blocks = PromptBlocks(out_.block_size);
    for (const PublisherStatus* publisher : own) {
      if (NamespaceOf(*publisher, true) != name_space) continue;
      RankExplanation& rank = out_.ranks.emplace_back();
      rank.dp_rank = publisher->registration.dp_rank;
      rank.publisher = publisher->registration.Key();
      rank.name_space = name_space;
      rank.prompt_blocks = out_.prompt_blocks;
      rank.trust = publisher->trust;
      rank.notes = NotesOn(*publisher);
      rank.breaks.push_back({Tier::kGpu, 0, verdict, {}});
    }
  }

  void ExplainAll(const std::vector<const PublisherStatus*>& asked) {
    std::map<NamespaceKey, std::vector<const PublisherStatus*>> by_namespace;
    for (const PublisherStatus* publisher : asked) {
      by_namespace[NamespaceOf(*publisher, true)].push_back(publisher);
    }
    for (const auto& [key, publishers] : by_namespace) ExplainIn(key, publishers);
    const auto tokens = [](const RankExplanation& rank) {
      return rank.disk * rank.name_space.block_size;
    };
    const RankExplanation& best = *std::ranges::max_element(out_.ranks, {}, tokens);
    out_.verdict = best.breaks.back().verdict;
    out_.block_size = best.name_space.block_size;
    out_.prompt_blocks = best.prompt_blocks;
    out_.matched_blocks = best.disk;
    for (const PoolExplanation& pool : out_.pools) {
      out_.matched_blocks = std::max(out_.matched_blocks, pool.disk);
      const ExplainCause cause = pool.verdict.cause;
      const bool telling =
          cause == ExplainCause::kHashProfile || cause == ExplainCause::kPoolIncomplete;
      const bool done = cause == ExplainCause::kEndOfPrompt && pool.prompt_blocks > 0;
      if (out_.verdict.cause == ExplainCause::kNeverStored && (telling || done)) {
        out_.verdict = pool.verdict;
      }
    }
  }

  void ExplainIn(const NamespaceKey& key, const std::vector<const PublisherStatus*>& publishers) {
    // By rank; of several publishers the one that can be trusted least.
    std::map<uint32_t, const PublisherStatus*> ranks;
    for (const PublisherStatus* publisher : publishers) {
      const auto [slot, first] = ranks.emplace(publisher->registration.dp_rank, publisher);
      if (!first && stream::Worse(publisher->trust, slot->second->trust)) slot->second = publisher;
    }
    std::map<uint32_t, index::RankMatch> figures;
    index::Matches matches;
    if (key.block_size > 0) matches = Match(key, true);
    for (const index::RankMatch& match : matches.ranks) {
      if (match.rank->instance_id != instance_id_) continue;
      figures.emplace(match.rank->dp_rank, match);
      ranks.emplace(match.rank->dp_rank, publishers.front());  // a rank that only events name
    }
    const size_t first = out_.ranks.size();
    uint64_t longest = 0;
    for (const auto& [dp_rank, publisher] : ranks) {
      RankExplanation& rank = out_.ranks.emplace_back();
      rank.dp_rank = dp_rank;
      rank.publisher = publisher->registration.Key();
      rank.name_space = key;
      rank.prompt_blocks = PromptBlocks(key.block_size);
      rank.trust = publisher->trust;
      if (const auto found = figures.find(dp_rank); found != figures.end()) {
        rank.gpu = found->second.gpu;
        rank.cpu = found->second.cpu;
        rank.disk = found->second.disk;
      }
      longest = std::max(longest, rank.disk);
      rank.breaks.push_back({Tier::kGpu, rank.gpu, {}, {}});
      if (rank.cpu > rank.gpu) rank.breaks.push_back({Tier::kCpu, rank.cpu, {}, {}});
      if (rank.disk > rank.cpu) rank.breaks.push_back({Tier::kDisk, rank.disk, {}, {}});
      if (rank.disk < rank.prompt_blocks || rank.prompt_blocks == 0) {
        rank.notes = NotesOn(*publisher);
      }
    }
    std::vector<PrefixHash> chain;
    if (key.block_size > 0) chain = Chain(key.block_size, longest + 1 + kBehind);
    const auto removals = RemovalsBehind(key, chain, first);
    size_t at = first;
    for (const auto& [dp_rank, publisher] : ranks) {
      ExplainRank(*publisher, chain, removals, out_.ranks[at++]);
    }
    if (key.block_size > 0) ExplainPools(key, matches);
  }

  // What the history has of the blocks at which ranks from `first` on break, and of some behind.
  [[nodiscard]] std::vector<index::Removal> RemovalsBehind(const NamespaceKey& key,
                                                           const std::vector<PrefixHash>& chain,
                                                           size_t first) const {
    std::set<PrefixHash> wanted;
    for (size_t i = first; i < out_.ranks.size(); ++i) {
      for (const RankBreak& at : out_.ranks[i].breaks) {
        const uint64_t end = std::min<uint64_t>(chain.size(), at.block + kBehind);
        for (uint64_t block = at.block; block < end; ++block) wanted.insert(chain[block]);
      }
    }
    const std::vector<PrefixHash> blocks(wanted.begin(), wanted.end());
    return index_.Removals(key, instance_id_, blocks);
  }

  void ExplainRank(const PublisherStatus& publisher, const std::vector<PrefixHash>& chain,
                   const std::vector<index::Removal>& removals, RankExplanation& rank) const {
    const auto [elsewhere, elsewhere_tokens] = BestElsewhere();
    for (size_t i = 0; i < rank.breaks.size(); ++i) {
      RankBreak& at = rank.breaks[i];
      BreakEvidence evidence{.publisher = publisher,
                             .query = query_,
                             .instance_id = instance_id_,
                             .name_space = rank.name_space,
                             .dp_rank = rank.dp_rank,
                             .tier = at.tier,
                             .block = at.block,
                             .prompt_blocks = rank.prompt_blocks,
                             .last = i + 1 == rank.breaks.size(),
                             .namespace_known = namespaces_.contains(rank.name_space)};
      // Without a block size nothing came of it that could be matched.
      if (rank.name_space.block_size == 0) evidence.prompt_blocks = 1;
      if (at.block < chain.size()) {
        Look(rank, chain, at, evidence);
        FindRemovals(rank, chain, removals, evidence);
      }
      if (elsewhere_tokens > rank.disk * rank.name_space.block_size) {
        evidence.elsewhere = elsewhere;
        evidence.elsewhere_tokens = elsewhere_tokens;
      }
      at.verdict = JudgeBreak(evidence);
      at.held_by = std::move(evidence.held_by);
    }
  }

  // Who holds the block.
  void Look(const RankExplanation& rank, const std::vector<PrefixHash>& chain, const RankBreak& at,
            BreakEvidence& evidence) const {
    const index::BlockView view =
        index_.Look(rank.name_space, std::span(chain).first(at.block + 1));
    evidence.known = view.known;
    for (const index::BlockView::Holding& holding : view.holdings) {
      const auto& [name_space, instance_id, dp_rank] = *holding.rank;
      if (instance_id == instance_id_ && dp_rank == rank.dp_rank) {
        evidence.on_device = holding.on[static_cast<size_t>(Tier::kGpu)];
      } else if (evidence.held_by.size() < Explanation::kMostHolders) {
        evidence.held_by.push_back({instance_id, dp_rank, holding.on});
      }
    }
  }

  // Those of this rank that count for where it breaks. `removals` has the newest first.
  static void FindRemovals(const RankExplanation& rank, const std::vector<PrefixHash>& chain,
                           const std::vector<index::Removal>& removals, BreakEvidence& evidence) {
    for (const index::Removal& removal : removals) {
      if (removal.rank->dp_rank != rank.dp_rank) continue;
      if (!evidence.last && removal.tier != evidence.tier) continue;
      if (!removal.block) {
        if (!evidence.whole) evidence.whole = removal;
        continue;
      }
      const auto from = chain.begin() + static_cast<ptrdiff_t>(evidence.block);
      const auto block =
          static_cast<uint64_t>(std::find(from, chain.end(), *removal.block) - chain.begin());
      if (block == evidence.block) {
        if (!evidence.exact) evidence.exact = removal;
      } else if (block < chain.size() && block < evidence.block + kBehind &&
                 (!evidence.later || block < evidence.later_block)) {
        evidence.later = removal;
        evidence.later_block = block;
      }
    }
  }

  void ExplainPools(const NamespaceKey& key, const index::Matches& matches) {
    const PromptView prompt = Prompt(true);
    for (const PublisherStatus& publisher : publishers_) {
      const Registration& registration = publisher.registration;
      if (!IsPool(registration.type) || registration.tenant != key.tenant ||
          registration.model != key.model || registration.additional_salt != key.additional_salt) {
        continue;
      }
      PoolExplanation& pool = out_.pools.emplace_back();
      pool.publisher = registration.Key();
      pool.prompt_blocks = PromptBlocks(key.block_size);
      pool.trust = publisher.trust;
      for (const index::PoolMatch& match : matches.pools) {
        if (match.pool != pool.publisher) continue;
        pool.cpu = match.cpu;
        pool.disk = match.disk;
      }
      pool.verdict =
          JudgePool({publisher, index_, publishers_, key, prompt, pool.disk, pool.prompt_blocks});
    }
  }

  const index::PrefixIndex& index_;
  const Query& query_;
  const std::string& instance_id_;
  const QueryBounds& bounds_;
  const std::vector<PublisherStatus> publishers_;
  const std::vector<hash::ExtraKeys> keys_;  // of the prompt's first blocks, the salt among them
  std::set<NamespaceKey> namespaces_;        // in which something is known
  Explanation out_;
};

}  // namespace

Explanation Explain(const Registry& registry, const ExplainRequest& request,
                    const QueryBounds& bounds) {
  return Explainer(registry, request, bounds).Run();
}

}  // namespace conductor::serve
