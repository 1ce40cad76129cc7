#include "lib/ingest/hash_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>
#include <vector>

#include "lib/base/tier.h"
#include "lib/ingest/event_rules.h"

namespace conductor::ingest {
namespace {

using hash::ExtraKeys;
using hash::HashAlgorithm;
using hash::HashProfile;
using hash::VllmHasher;

// What of an event's extra keys goes into its hashes.
enum class Extras : uint8_t {
  kAsAnnounced,
  kWithoutLora,
  kWithLora,  // on events that have other extra keys, but not this one
  kWithoutSalt,
  kNone,
};

bool IsTextKey(const std::string& key) {
  const auto first = static_cast<uint8_t>(key.empty() ? 0 : key[0]);
  return (first >= 0xa0 && first <= 0xbf) || (first >= 0xd9 && first <= 0xdb);
}

// The extra keys of one of the event's blocks, the LoRA name apart.
struct BlockExtras {
  bool lora = false;
  ExtraKeys others;
};

BlockExtras ExtrasOf(const wire::BlockStored& event, size_t block, const std::string& lora_key,
                     Extras which) {
  BlockExtras extras;
  if (which == Extras::kNone) return extras;
  const bool has_keys = !event.extra_keys.empty();
  if (has_keys) extras.others = event.extra_keys[block];
  if (!lora_key.empty()) {
    extras.lora = !has_keys;
    if (!extras.others.empty() && extras.others.front() == lora_key) {
      extras.lora = true;
      extras.others.erase(extras.others.begin());
    }
  }
  const bool first_of_prompt = block == 0 && !event.parent;
  if (first_of_prompt && event.cache_salt && !event.cache_salt->empty()) {
    extras.others.push_back(hash::TextKey(*event.cache_salt));
  }
  if (which == Extras::kWithoutLora) extras.lora = false;
  if (which == Extras::kWithLora) extras.lora = !lora_key.empty();
  if (which == Extras::kWithoutSalt && first_of_prompt) std::erase_if(extras.others, IsTextKey);
  return extras;
}

uint32_t PartSize(const HashProfile& profile, const wire::BlockStored& event) {
  return profile.hash_block_size == 0 ? event.block_size : profile.hash_block_size;
}

// The digest of one of the event's blocks after `parent`; nothing when its parts do not fill it, or
// when it has an extra key that no engine hashes.
std::optional<std::string> DigestOf(VllmHasher& hasher, std::string parent,
                                    const wire::BlockStored& event, size_t block, uint32_t part,
                                    const std::string& lora_key, Extras which) {
  if (event.block_size % part != 0) return std::nullopt;
  const BlockExtras extras = ExtrasOf(event, block, lora_key, which);
  const auto tokens =
      std::span<const TokenId>(event.tokens).subspan(block * event.block_size, event.block_size);
  ExtraKeys keys;
  for (uint32_t from = 0; from < event.block_size; from += part) {
    keys.clear();
    if (extras.lora) keys.push_back(lora_key);
    if (from == 0) keys.insert(keys.end(), extras.others.begin(), extras.others.end());
    auto next = hasher.Next(parent, tokens.subspan(from, part), keys);
    if (!next) return std::nullopt;
    parent = std::move(*next);
  }
  return parent;
}

std::string KeyOf(const std::string& lora_name) {
  return lora_name.empty() ? std::string() : hash::TextKey(lora_name);
}

// One way in which the announced hashes may have been made.
struct Candidate {
  HashProfile profile;
  Extras extras = Extras::kAsAnnounced;
  int differences = 0;  // from what is declared
};

template <typename T>
void AddNew(std::vector<T>& values, T value) {
  if (std::ranges::find(values, value) == values.end()) values.push_back(std::move(value));
}

// What is declared first, then from the least to the most different.
std::vector<Candidate> Candidates(const HashProfile& declared, const wire::BlockStored& event,
                                  const std::string& lora_name) {
  std::vector<HashAlgorithm> algorithms = {declared.algorithm};
  for (const auto algorithm : {HashAlgorithm::kSha256, HashAlgorithm::kSha256Cbor,
                               HashAlgorithm::kXxhash, HashAlgorithm::kXxhashCbor}) {
    AddNew(algorithms, algorithm);
  }
  std::vector<std::string> seeds = {declared.seed};
  for (const char* seed : {"vllm-none-hash", "0", "random", "42"}) {
    AddNew(seeds, std::string(seed));
  }
  std::vector<uint32_t> sizes = {PartSize(declared, event)};
  for (const uint32_t size : {event.block_size, 16u, 32u, 64u, 128u, event.block_size / 2,
                              event.block_size / 4, event.block_size / 8}) {
    if (size > 0 && event.block_size % size == 0) AddNew(sizes, size);
  }
  std::vector<Extras> extras = {Extras::kAsAnnounced};
  if (!lora_name.empty()) {
    extras.push_back(Extras::kWithoutLora);
    extras.push_back(Extras::kWithLora);
  }
  const bool has_keys =
      std::ranges::any_of(event.extra_keys, [](const auto& keys) { return !keys.empty(); });
  if (has_keys || event.cache_salt) {
    extras.push_back(Extras::kWithoutSalt);
    extras.push_back(Extras::kNone);
  }

  std::vector<Candidate> candidates;
  for (const HashAlgorithm algorithm : algorithms) {
    for (const std::string& seed : seeds) {
      for (const uint32_t size : sizes) {
        for (const Extras which : extras) {
          const int differences = int{algorithm != algorithms[0]} + int{seed != seeds[0]} +
                                  int{size != sizes[0]} + int{which != extras[0]};
          candidates.push_back({{algorithm, seed, size}, which, differences});
        }
      }
    }
  }
  std::ranges::stable_sort(candidates, {}, &Candidate::differences);
  return candidates;
}

// Whether the event's blocks 0 .. `last` are called as they would be.
bool Fits(const Candidate& candidate, const wire::BlockStored& event, const std::string& lora_key,
          size_t last) {
  VllmHasher hasher(candidate.profile);
  std::string digest = hasher.root();
  for (size_t i = 0; i <= last; ++i) {
    auto next = DigestOf(hasher, std::move(digest), event, i, candidate.profile.hash_block_size,
                         lora_key, candidate.extras);
    if (!next || VllmHasher::NameOf(*next) != event.hashes[i]) return false;
    digest = std::move(*next);
  }
  return true;
}

std::string Listed(const std::vector<std::string>& parts) {
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string Explain(const Candidate& fit, const HashProfile& declared, uint32_t declared_size,
                    const std::string& lora_name) {
  std::vector<std::string> is;
  std::vector<std::string> says;
  const auto add = [&](const char* format, const auto& actual, const auto& profile) {
    is.push_back(fmt::format(fmt::runtime(format), actual));
    says.push_back(fmt::format(fmt::runtime(format), profile));
  };
  if (fit.profile.algorithm != declared.algorithm) {
    add("algorithm {}", HashAlgorithmName(fit.profile.algorithm),
        HashAlgorithmName(declared.algorithm));
  }
  if (fit.profile.seed != declared.seed) add("seed '{}'", fit.profile.seed, declared.seed);
  if (fit.profile.hash_block_size != declared_size) {
    add("hash_block_size {}", fit.profile.hash_block_size, declared_size);
  }
  std::string text = "announced hashes are those of ";
  text += is.empty() ? "the declared profile" : Listed(is);
  switch (fit.extras) {
    case Extras::kAsAnnounced:
      break;
    case Extras::kWithoutLora:
      text += fmt::format(" without the LoRA name '{}'", lora_name);
      break;
    case Extras::kWithLora:
      text += fmt::format(" with the LoRA name '{}', which the events' extra keys leave out",
                          lora_name);
      break;
    case Extras::kWithoutSalt:
      text += " without the cache salt";
      break;
    case Extras::kNone:
      text += " without the events' extra keys";
      break;
  }
  if (!says.empty()) text += fmt::format("; the profile says {}", Listed(says));
  return text;
}

}  // namespace

HashCheck::HashCheck(HashProfile profile, uint32_t every)
    : profile_(std::move(profile)), every_(std::max(every, 1u)), hasher_(profile_) {}

void HashCheck::NewLife() {
  first_left_ = kFirst;
  credit_ = 0;
  trials_ = 0;
  cause_found_ = false;
  hint_.clear();
  fit_.reset();
  digests_.clear();
  kept_.clear();
}

uint64_t HashCheck::Due(uint64_t blocks) {
  if (first_left_ > 0) return std::min(blocks, first_left_);
  // Bounded, or a long time without anything that can be recomputed would be made up for at once.
  const auto most = static_cast<int64_t>(kMostOfEvent) * every_;
  credit_ = std::min(credit_ + static_cast<int64_t>(blocks), most);
  // An event is checked whole, and paid for by those that are passed over after it.
  return credit_ >= static_cast<int64_t>(every_) ? std::min(blocks, kMostOfEvent) : 0;
}

void HashCheck::Look(const wire::BlockStored& event, const std::string& lora_name) {
  if (TierOfMedium(event.medium.value_or("")) != Tier::kGpu || !HasWholeBlocks(event)) return;
  if (!event.extra_keys.empty() && event.extra_keys.size() != event.hashes.size()) return;
  if (!event.parent && event.base_block_idx.value_or(0) != 0) return;
  const uint64_t due = Due(event.hashes.size());
  if (due == 0) return;

  std::string digest;
  if (!event.parent) {
    digest = hasher_.root();
  } else {
    const auto parent = digests_.find(*event.parent);
    if (parent == digests_.end()) return;
    digest = parent->second;
  }

  const std::string lora_key = KeyOf(lora_name);
  const uint32_t part = PartSize(profile_, event);
  for (size_t i = 0; i < due; ++i) {
    auto next =
        DigestOf(hasher_, std::move(digest), event, i, part, lora_key, Extras::kAsAnnounced);
    if (!next && event.block_size % part == 0) return;
    ++checked_;
    if (first_left_ > 0) {
      --first_left_;
    } else {
      credit_ -= every_;
    }
    if (!next || VllmHasher::NameOf(*next) != event.hashes[i]) {
      if (!event.parent) FindCause(event, lora_name, i);
      return;
    }
    ++matched_;
    digest = std::move(*next);
    Keep(event.hashes[i], digest);
  }
}

void HashCheck::Keep(EngineHash name, std::string digest) {
  if (!digests_.insert_or_assign(name, std::move(digest)).second) return;
  kept_.push_back(name);
  if (kept_.size() <= kKept) return;
  digests_.erase(kept_.front());
  kept_.pop_front();
}

void HashCheck::FindCause(const wire::BlockStored& event, const std::string& lora_name,
                          size_t differs) {
  if (cause_found_ || trials_ == kTrials) return;
  ++trials_;
  const std::string lora_key = KeyOf(lora_name);
  for (const Candidate& candidate : Candidates(profile_, event, lora_name)) {
    if (!Fits(candidate, event, lora_key, differs)) continue;
    hint_ = Explain(candidate, profile_, PartSize(profile_, event), lora_name);
    fit_ = candidate.profile;
    cause_found_ = true;
    return;
  }
  hint_ =
      "none of the usual algorithms and seeds gives what is announced: is PYTHONHASHSEED set to "
      "something else, or random?";
}

}  // namespace conductor::ingest
