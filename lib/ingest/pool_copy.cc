#include "lib/ingest/pool_copy.h"

#include <utility>

namespace conductor::ingest {
namespace {

// A piece takes about a tenth of a millisecond.
constexpr size_t kObjectsAPiece = 500;
constexpr size_t kNamesAPiece = 256;

}  // namespace

PoolCopy::PoolCopy(const index::PrefixIndex& index, const PoolObjects& objects, SavedPool begun,
                   const std::string& additional_salt, Left left, Trimmed trimmed)
    : objects_(objects),
      pool_(std::move(begun)),
      additional_salt_(additional_salt),
      left_(std::move(left)),
      trimmed_(std::move(trimmed)),
      chains_(index, {}, {}),
      object_(objects.objects_.begin()),
      scope_(objects.scopes_.begin()) {
  CopyFamilies();
}

void PoolCopy::CopyFamilies() {
  pool_.backends = objects_.backends_;
  for (const auto& [key, family] : objects_.families_) {
    const auto& [tenant, model, form, prefix, variant, group] = key;
    family_numbers_.emplace(&family, static_cast<uint32_t>(pool_.families.size()));
    pool_.families.push_back({tenant, model, form, prefix, variant, group, family.shape.learnt()});
  }
}

bool PoolCopy::Step() {
  if (StepObjects() || StepJoined()) return true;
  // Room is made for others all the while, and what was given up since it began may be missing.
  pool_.dropped |= trimmed_();
  return false;
}

bool PoolCopy::StepObjects() {
  const auto end = objects_.objects_.end();
  if (object_ == end) return false;
  for (size_t i = 0; i < kObjectsAPiece && object_ != end; ++i, ++object_) {
    const auto& [id, object] = *object_;
    pool_.objects.push_back({.family = family_numbers_.at(object.block->family),
                             .key = id.key,
                             .hash = object.block->hash,
                             .component = object.component,
                             .backend = object.backend,
                             .cpu = object.known.cpu,
                             .disk = object.known.disk,
                             .settled = object.settled,
                             .cpu_left = left_(id, Tier::kCpu),
                             .disk_left = left_(id, Tier::kDisk)});
  }
  return true;
}

bool PoolCopy::StepJoined() {
  if (scope_ == objects_.scopes_.end()) return false;
  const auto& [scope, names] = *scope_;
  if (!name_) {
    name_ = names.whole.begin();
    pool_.spaces.push_back(
        {.domain = {scope.tenant, scope.model, additional_salt_}, .group = scope.group});
  }
  index::ChainCopy::PoolNames piece{.domain = pool_.spaces.back().domain,
                                    .space = static_cast<uint32_t>(pool_.spaces.size() - 1)};
  for (; piece.names.size() < kNamesAPiece && *name_ != names.whole.end(); ++*name_) {
    piece.names.push_back({scope.group, (*name_)->first});
  }
  chains_.CopyJoined(piece);
  if (*name_ == names.whole.end()) {
    name_.reset();
    ++scope_;
  }
  return true;
}

SavedPool PoolCopy::Take() {
  pool_.chains = chains_.Take();
  return std::move(pool_);
}

}  // namespace conductor::ingest
