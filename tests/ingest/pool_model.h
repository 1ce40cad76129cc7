#ifndef CONDUCTOR_TESTS_INGEST_POOL_MODEL_H_
#define CONDUCTOR_TESTS_INGEST_POOL_MODEL_H_

#include <cstdint>
#include <map>
#include <optional>
#include <ostream>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "lib/base/tier.h"
#include "lib/hash/block_hash.h"
#include "lib/index/prefix_index.h"
#include "lib/ingest/pool_ingest.h"
#include "lib/ingest/publisher_ingest.h"
#include "lib/wire/kv_event.h"
#include "lib/wire/object_key.h"

namespace conductor::ingest {

// What keys mean, told by whoever made them up: the model reads no key. Others are of no family.
using KeyBook = std::map<std::string, wire::ObjectKey>;

// What PoolIngest, PublisherIngest and PrefixIndex together must answer where pools take part,
// written from the rules and not from their code: plain maps, every question answered by looking at
// everything. A block is its namespace and the whole list of tokens from the prompt's begin to its
// own end. What engines alone do is the matter of ReferenceModel; here their events are simple:
// parents are known, extra keys do not occur, nothing waits (unsupported() tells when it would).
//
// Where the rules leave a choice, the model makes this one:
//
//   * The components of two objects are parts of one block when the keys are of the same tenant,
//     model, family, prefix, variant and KV-cache group, and of one hash. Sizes are learnt for each
//     of these but the hash, from what is stored or listed, and are forgotten with the life.
//   * An axis (tensor parallel, pipeline, layer, ...) exists for a family once one of its keys has
//     it; a registered size for what its keys never have asks for nothing.
//   * A name that whole blocks of several families have is on the best of their tiers.
//   * A name stands for a block as long as an engine that is there has announced it for it in its
//     present life; and on, though none does any more, as long as some pool has the name. It is
//     looked at event by event.
//   * An object that is heard of for the first time while a listing is on its way, or whose tiers
//     a listing did not tell, is on those announced since, and may be on others.
class PoolModel {
 public:
  struct Figures {
    uint32_t gpu = 0;
    uint32_t cpu = 0;
    uint32_t disk = 0;
    friend bool operator==(const Figures&, const Figures&) = default;
    friend void PrintTo(const Figures& figures, std::ostream* out) {
      *out << "gpu=" << figures.gpu << " cpu=" << figures.cpu << " disk=" << figures.disk;
    }
  };
  struct PoolFigures {
    uint32_t cpu = 0;
    uint32_t disk = 0;
    friend bool operator==(const PoolFigures&, const PoolFigures&) = default;
    friend void PrintTo(const PoolFigures& figures, std::ostream* out) {
      *out << "cpu=" << figures.cpu << " disk=" << figures.disk;
    }
  };
  using Tokens = std::vector<TokenId>;

  explicit PoolModel(KeyBook book = {}) : book_(std::move(book)) {}
  void Describe(const std::string& key, const wire::ObjectKey& meaning) { book_[key] = meaning; }

  void AddEngine(uint32_t id, const PublisherProfile& profile);
  void RemoveEngine(uint32_t id);
  void ApplyToEngine(uint32_t id, const wire::EventBatch& batch);
  void NewLifeOfEngine(uint32_t id);
  [[nodiscard]] bool Knows(uint32_t id, uint32_t group, EngineHash name) const;

  void AddPool(uint32_t id, const PoolProfile& profile);
  void RemovePool(uint32_t id);
  void ApplyToPool(uint32_t id, const wire::EventBatch& batch);
  void NewLifeOfPool(uint32_t id);
  void BeginListing(uint32_t id);
  void ApplyListing(uint32_t id, std::span<const ListedObject> objects);
  void AbandonListing(uint32_t id);
  void TiersLearnt(uint32_t id, std::span<const ListedObject> objects);

  // How far a rank that may load from pools has the prompt, with the best pool. `names` as of
  // PrefixIndex::Match.
  [[nodiscard]] Figures FiguresOf(const index::RankKey& rank, const Tokens& prompt,
                                  const index::PrefixIndex::NameSource& names) const;
  // What each pool has of the prompt by itself; pools that have none of it are left out.
  [[nodiscard]] std::map<std::string, PoolFigures> PoolsOf(
      const index::NamespaceKey& name_space, const Tokens& prompt,
      const index::PrefixIndex::NameSource& names) const;

  [[nodiscard]] uint64_t Objects(uint32_t pool) const { return pools_.at(pool).objects.size(); }
  // Of the registered tenant: of others nobody can be asked.
  [[nodiscard]] std::set<std::string> KeysWithoutTier(uint32_t pool) const;
  // Whether an event came that only ReferenceModel knows the rules for.
  [[nodiscard]] bool unsupported() const { return unsupported_; }

 private:
  struct Block {
    index::NamespaceKey name_space;
    Tokens path;
    auto operator<=>(const Block&) const = default;
  };
  using Name = std::pair<uint32_t, EngineHash>;  // with its group
  struct Span {
    Block last;
    uint32_t length = 1;  // blocks
  };
  struct Place {
    uint32_t dp_rank;
    Tier tier;
    Block block;
    auto operator<=>(const Place&) const = default;
  };
  struct Holding {
    uint64_t copies = 0;
    uint32_t length = 1;
  };
  struct Engine {
    PublisherProfile profile;
    bool said_other_rank = false;
    std::map<Name, Span> names;
    std::map<Place, Holding> held;
  };

  using ObjectId = std::pair<std::string, std::string>;  // tenant, key
  struct Object {
    wire::ObjectKey key;
    std::string model;  // as queries name it
    bool cpu = false;
    bool disk = false;
    bool tier_told = false;  // that is all; otherwise on disk at least
    std::string backend;     // empty: nobody told
  };
  // tenant, model, family, prefix, variant, group
  using Family =
      std::tuple<std::string, std::string, wire::KeyFamily, std::string, std::string, uint32_t>;
  // One place on each axis; 0 where the key does not say: tp, pp, pcp, dcp, layer, part.
  using Component = std::vector<uint32_t>;
  // tenant, model, additional salt, name
  using DomainName = std::tuple<std::string, std::string, std::string, Name>;
  struct Pool {
    PoolProfile profile;
    std::map<ObjectId, Object> objects;
    std::map<Family, Component> sizes;  // learnt, and told by keys; 0: no such axis
    std::set<Family> has_v;             // whose blocks have a V beside each K
    // During a listing: what events touched, and the tiers that they announced of it.
    std::optional<std::map<ObjectId, std::set<Tier>>> touched;
    bool cleared = false;            // during a listing, of the registered tenant
    std::map<DomainName, Tier> has;  // whole blocks, as Settle found them
  };

  void Stored(Engine& engine, uint32_t dp_rank, const wire::BlockStored& event);
  void Removed(Engine& engine, uint32_t dp_rank, const wire::BlockRemoved& event);
  void Hold(const Engine& engine, Holding& holding, Tier tier, uint32_t length) const;
  [[nodiscard]] static DomainName DomainOf(const Engine& engine, const Name& name);

  [[nodiscard]] std::optional<std::pair<ObjectId, Object>> Read(
      const Pool& pool, const std::string& key, const std::optional<std::string>& tenant,
      const std::optional<wire::ObjectKey>& described) const;
  void Put(Pool& pool, const ObjectId& id, const Object& object);
  [[nodiscard]] static Family FamilyOf(const ObjectId& id, const Object& object);
  [[nodiscard]] static Component ComponentOf(const wire::ObjectKey& key);
  [[nodiscard]] static std::set<Component> Required(const Pool& pool, const Family& family);
  // The names that the pool has whole, with their tiers.
  [[nodiscard]] static std::map<DomainName, Tier> Has(const Pool& pool);
  // After each event: what pools have, and which names stand for which blocks.
  void Settle();

  using Tiers = std::vector<std::set<Tier>>;  // of each block of a prompt
  [[nodiscard]] Tiers OwnTiers(const index::RankKey& rank, const Tokens& prompt) const;
  [[nodiscard]] Tiers PoolTiers(const Pool& pool, const index::NamespaceKey& name_space,
                                const Tokens& prompt,
                                const index::PrefixIndex::NameSource& names) const;

  KeyBook book_;
  std::map<uint32_t, Engine> engines_;
  std::map<uint32_t, Pool> pools_;
  std::map<DomainName, std::map<Block, uint32_t>> joined_;  // with the spans' lengths
  bool unsupported_ = false;
};

}  // namespace conductor::ingest

#endif  // CONDUCTOR_TESTS_INGEST_POOL_MODEL_H_
