#ifndef CONDUCTOR_LIB_INGEST_POOL_OBJECTS_H_
#define CONDUCTOR_LIB_INGEST_POOL_OBJECTS_H_

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "lib/base/tier.h"
#include "lib/hash/block_hash.h"
#include "lib/ingest/block_shape.h"
#include "lib/ingest/saved_life.h"
#include "lib/wire/object_key.h"

namespace conductor::ingest {

// What a pool calls an object.
struct ObjectId {
  std::string tenant;
  std::string key;

  friend bool operator==(const ObjectId&, const ObjectId&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const ObjectId& id) {
    return H::combine(std::move(state), id.tenant, id.key);
  }
};

struct ObjectTiers {
  bool cpu = false;
  bool disk = false;

  [[nodiscard]] bool any() const { return cpu || disk; }
  friend bool operator==(const ObjectTiers&, const ObjectTiers&) = default;
};

// The objects of one pool and the blocks that they are components of: which blocks are whole, and
// on which tier. PoolIngest has the rules. Pure.
//
//   objects_    what the pool calls it -> component of a block
//   families_   keys of one form, tenant, model and group -> BlockShape and blocks by hash
//   scopes_     tenant, model and group -> of each hash, in how many families its block is whole
//
// An object costs its key and about 200 bytes. When a family's shape grows, all its blocks are
// looked at again; sizes grow a few times in the life of a pool.
class PoolObjects {
 public:
  struct Options {
    BlockShape::Declared declared;
    size_t max_bytes = 0;     // about
    size_t max_families = 0;  // their names come from outside
  };

  // Where a hash names one block.
  struct Scope {
    std::string tenant;
    std::string model;
    uint32_t group = 0;

    auto operator<=>(const Scope&) const = default;
  };

  // The block of `hash` is whole on `tier` now and on no better one; nothing: it is not whole.
  struct Change {
    const Scope* scope;  // lives as long as the PoolObjects
    EngineHash hash;
    std::optional<Tier> tier;
  };
  using Changes = std::vector<Change>;

  explicit PoolObjects(const Options& options) : options_(options) {}

  [[nodiscard]] size_t size() const { return objects_.size(); }
  [[nodiscard]] bool Contains(const ObjectId& id) const { return objects_.contains(id); }

  // What follows appends what it changes to `changes`, in order.

  // Requires that it is not there and BlockShape::Fits(key). `settled`: it is on these tiers, of
  // which there is one, and on no other; otherwise on these at least, and on disk, the weakest
  // claim, where there is none. False, and nothing is done, when it does not fit the limits.
  [[nodiscard]] bool Add(const ObjectId& id, const wire::ObjectKey& key, const std::string& model,
                         const std::string& backend, ObjectTiers tiers, bool settled,
                         Changes& changes);
  // These require that it is there. AddTiers: besides those it is known to be on; of an object that
  // is not settled more may still be unknown. SetTiers: on these and no other.
  void AddTiers(const ObjectId& id, ObjectTiers tiers, Changes& changes);
  void SetTiers(const ObjectId& id, ObjectTiers tiers, Changes& changes);
  // What was known of its tiers is no longer: on these at least.
  void Unsettle(const ObjectId& id, ObjectTiers tiers, Changes& changes);
  // Of which backend the object is; nothing is done where the limits have no room for another.
  void SetBackend(const ObjectId& id, const std::string& backend);
  // With the last tier that it is known to be on it goes. Nothing is done when it is not there.
  void RemoveTiers(const ObjectId& id, ObjectTiers tiers, Changes& changes);
  // False when it is not there.
  bool Remove(const ObjectId& id, Changes& changes);
  // Forgets what was learnt, too.
  void Clear(Changes& changes);

  // Adds what PoolCopy told, and what was learnt of it. Requires that nothing is there. The number
  // of objects that do not fit the limits, and so are not kept.
  size_t Restore(const SavedPool& saved, Changes& changes);

  // Objects of the tenant that are not settled, at most so many. AskForTiers: that they are being
  // asked for is remembered until anything is told of them.
  [[nodiscard]] std::vector<std::string> KeysWithoutTier(const std::string& tenant,
                                                         size_t most) const;
  [[nodiscard]] std::vector<std::string> AskForTiers(const std::string& tenant, size_t most);
  // Whether nothing was told of it since it was asked for.
  [[nodiscard]] bool Asked(const ObjectId& id) const;
  [[nodiscard]] size_t unsettled() const { return unsettled_.size(); }

  void ForEach(const std::function<void(const ObjectId&, const std::string& backend,
                                        const ObjectTiers&)>& visit) const;

  // Blocks of which a component is there and another is not.
  [[nodiscard]] uint64_t partial_blocks() const { return blocks_ - whole_blocks_; }

  // What is learnt and not yet to be believed, see BlockShape::unsettled, of some family; empty:
  // nothing.
  [[nodiscard]] std::string Unsettled(uint64_t enough) const;

 private:
  friend class PoolCopy;

  struct Component {
    ComponentId id;
    uint32_t on_cpu = 0;  // objects of this component
    uint32_t on_any = 0;
  };
  struct Family;
  struct Block {
    Family* family;
    EngineHash hash;
    std::vector<Component> components;
    uint64_t on_cpu = 0;  // components
    uint64_t on_any = 0;
    std::optional<Tier> tier;  // whole on it
  };
  // In how many families the block of a hash is whole.
  struct Whole {
    uint32_t on_cpu = 0;
    uint32_t on_disk = 0;  // and not on the host

    [[nodiscard]] std::optional<Tier> best() const {
      if (on_cpu > 0) return Tier::kCpu;
      if (on_disk > 0) return Tier::kDisk;
      return std::nullopt;
    }
  };
  struct Names {
    absl::flat_hash_map<EngineHash, Whole> whole;
  };
  struct Family {
    const Scope* scope;
    Names* names;
    BlockShape shape;
    absl::flat_hash_map<EngineHash, std::unique_ptr<Block>> blocks;
  };
  // Tenant, model, form, prefix, variant, group.
  using FamilyKey =
      std::tuple<std::string, std::string, wire::KeyFamily, std::string, std::string, uint32_t>;
  struct Object {
    Block* block;
    ComponentId component;
    ObjectTiers known;  // that it is on
    ObjectTiers tiers;  // that it counts as on
    bool settled;       // what is known is all
    bool asked;
    uint32_t backend;  // in backends_
  };

  [[nodiscard]] Family* FamilyOf(const ObjectId& id, const wire::ObjectKey& key,
                                 const std::string& model);
  [[nodiscard]] uint32_t BackendOf(const std::string& backend);
  void Know(const ObjectId& id, Object& object, ObjectTiers known, bool settled, Changes& changes);
  // The object counts as on `to` from here on.
  void Move(Object& object, ObjectTiers to, Changes& changes);
  // Takes notice of what the block has now.
  void Judge(Block& block, Changes& changes);

  const Options options_;
  size_t bytes_ = 0;
  uint64_t blocks_ = 0;
  uint64_t whole_blocks_ = 0;
  absl::flat_hash_map<ObjectId, Object> objects_;
  absl::flat_hash_set<ObjectId> unsettled_;
  std::map<FamilyKey, Family> families_;
  std::map<Scope, Names> scopes_;
  std::vector<std::string> backends_;
};

}  // namespace conductor::ingest

#endif  // CONDUCTOR_LIB_INGEST_POOL_OBJECTS_H_
