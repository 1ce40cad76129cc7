#include "lib/wire/object_key.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "lib/wire/digest.h"
#include "lib/wire/numerals.h"
#include "lib/wire/skips.h"

namespace conductor::wire {
namespace {

// A digest that stands where other words might, told from them by its length; LMCache's builtin
// hash may have leading zeros dropped.
constexpr size_t kShortestDigest = 16;
constexpr size_t kSglangDigest = 64;

std::optional<uint32_t> Number(std::string_view text) { return WholeNumber<uint32_t>(text); }

// The parts of a key between '@', taken from the right.
class Parts {
 public:
  explicit Parts(std::string_view key) {
    for (size_t at = 0;;) {
      const size_t next = key.find('@', at);
      parts_.push_back(key.substr(at, next - at));
      if (next == std::string_view::npos) break;
      at = next + 1;
    }
  }

  [[nodiscard]] size_t size() const { return parts_.size(); }
  // FromRight(0) is the last. Empty beyond the first.
  [[nodiscard]] std::string_view FromRight(size_t i) const {
    return i < parts_.size() ? parts_[parts_.size() - 1 - i] : std::string_view();
  }
  void Drop(size_t count) { parts_.resize(parts_.size() - count); }
  // All that are left, with what separated them.
  [[nodiscard]] std::string_view Whole() const {
    const std::string_view last = parts_.back();
    return {parts_.front().data(), static_cast<size_t>(last.end() - parts_.front().begin())};
  }

 private:
  std::vector<std::string_view> parts_;
};

// A decimal without sign, space or separator, or "0x" and up to 16 hex digits.
std::optional<ObjectKey> ParseNumeric(std::string_view key) {
  const bool is_hex = key.starts_with("0x") || key.starts_with("0X");
  const auto value = WholeNumber<uint64_t>(key.substr(is_hex ? 2 : 0), is_hex ? 16 : 10);
  if (!value) return std::nullopt;
  ObjectKey object;
  object.family = KeyFamily::kNumeric;
  object.hash = EngineHash{*value};
  return object;
}

// [prefix_]<64 hex>_{tp}[_{pp}]_k or _v; of an MLA model <64 hex>_[{pp}]_k. The digest is found
// from the right, as the last thing but ranks before the part.
std::optional<ObjectKey> ParseSglang(std::string_view key) {
  ObjectKey object;
  object.family = KeyFamily::kSglang;
  if (key.ends_with("_k")) {
    object.part = ObjectKey::Part::kK;
  } else if (key.ends_with("_v")) {
    object.part = ObjectKey::Part::kV;
  } else {
    return std::nullopt;
  }
  key.remove_suffix(2);

  std::array<std::string_view, 2> ranks;  // from the right
  size_t count = 0;
  while (count < ranks.size()) {
    const size_t at = key.rfind('_');
    if (at == std::string_view::npos) break;
    const std::string_view word = key.substr(at + 1);
    if (!word.empty() && !Number(word)) break;
    ranks[count++] = word;
    key = key.substr(0, at);
    if (word.empty()) break;
  }
  if (count == 2) {
    object.tp_rank = Number(ranks[1]);
    object.pp_rank = Number(ranks[0]);
    if (!object.pp_rank) return std::nullopt;
  } else if (count == 1) {
    object.tp_rank = Number(ranks[0]);
  }

  if (key.size() < kSglangDigest) return std::nullopt;
  const auto hash = HashOfHex(key.substr(key.size() - kSglangDigest), DigestEnd::kFirst);
  if (!hash) return std::nullopt;
  object.hash = *hash;
  key.remove_suffix(kSglangDigest);
  if (!key.empty()) {
    if (key.back() != '_') return std::nullopt;
    key.remove_suffix(1);
  }
  object.prefix = key;
  return object;
}

// Reads one `name:N` or `nameN` part of a vLLM or Ascend key into `object`, each name once. The
// rank among the tensor-parallel ranks, which every such key has, tells the family. False when
// `part` is nothing of that.
bool ReadRankOrGroup(std::string_view part, ObjectKey& object) {
  const auto number_after = [part](std::string_view name) -> std::optional<uint32_t> {
    if (!part.starts_with(name)) return std::nullopt;
    return Number(part.substr(name.size()));
  };
  const auto into = [&](std::optional<uint32_t>& out, std::string_view name) {
    const auto value = number_after(name);
    if (!value || out) return false;
    out = value;
    return true;
  };
  if (into(object.tp_rank, "tp_rank:")) {
    object.family = KeyFamily::kVllmStore;
    return true;
  }
  if (into(object.tp_rank, "head_or_tp_rank:")) {
    object.family = KeyFamily::kAscend;
    return true;
  }
  if (const auto group = number_after("group:")) {
    object.group = *group;
    return true;
  }
  if (part.starts_with("cache_role:") || part.starts_with("cache_family:")) {
    // Kept as it is written, and read from the right.
    if (!object.variant.empty()) object.variant.insert(0, "@");
    object.variant.insert(0, part);
    return true;
  }
  return into(object.pp_rank, "pp_rank:") || into(object.pcp_rank, "pcp") ||
         into(object.pcp_rank, "pcp:") || into(object.dcp_rank, "dcp") ||
         into(object.dcp_rank, "dcp:") || into(object.layer, "layer_id:");
}

// `rest` of a vLLM or Ascend key, before its digest.
std::optional<ObjectKey> ParseTaggedRest(Parts rest, std::string_view digest) {
  const auto hash = HashOfHex(digest, DigestEnd::kLast);
  if (!hash) return std::nullopt;
  ObjectKey object;
  object.hash = *hash;
  while (rest.size() > 1 && ReadRankOrGroup(rest.FromRight(0), object)) rest.Drop(1);
  if (!object.tp_rank) return std::nullopt;
  // vLLM's model is one path component and what stands before it a prefix; Ascend knows none.
  object.model = rest.Whole();
  const size_t at = object.model.rfind('@');
  if (object.family == KeyFamily::kVllmStore && at != std::string::npos) {
    object.prefix = object.model.substr(0, at);
    object.model.erase(0, at + 1);
  }
  if (object.model.empty()) return std::nullopt;
  return object;
}

// ...@<ranks>@<hex>, or Ascend's earlier layer form ...@<ranks>@<hex>@<layer>.
std::optional<ObjectKey> ParseTagged(Parts parts) {
  const std::string_view last = parts.FromRight(0);
  const std::string_view last_but_one = parts.FromRight(1);
  if (parts.size() < 3) return std::nullopt;
  parts.Drop(1);
  if (auto object = ParseTaggedRest(parts, last)) return object;
  const auto layer = Number(last);
  if (!layer || parts.size() < 3) return std::nullopt;
  parts.Drop(1);
  auto object = ParseTaggedRest(parts, last_but_one);
  if (!object || object->family != KeyFamily::kAscend || object->layer) return std::nullopt;
  object->layer = layer;
  return object;
}

// model@<hex>@rank, model@group@<hex>@rank.
std::optional<ObjectKey> ParseGva(Parts parts) {
  const auto rank = Number(parts.FromRight(0));
  const std::string_view digest = parts.FromRight(1);
  if (!rank || digest.size() < kShortestDigest) return std::nullopt;
  const auto hash = HashOfHex(digest, DigestEnd::kLast);
  if (!hash || parts.size() < 3) return std::nullopt;
  parts.Drop(2);
  ObjectKey object;
  object.family = KeyFamily::kAscendGva;
  object.hash = *hash;
  object.tp_rank = rank;
  if (const auto group = Number(parts.FromRight(0)); group && parts.size() > 1) {
    object.group = *group;
    parts.Drop(1);
  }
  // Behind a rank with a name it is what is left of another key.
  ObjectKey other;
  if (parts.size() > 1 && ReadRankOrGroup(parts.FromRight(0), other)) return std::nullopt;
  object.model = parts.Whole();
  if (object.model.empty()) return std::nullopt;
  return object;
}

// Python prints a negative builtin hash with its sign.
std::optional<EngineHash> LmcacheHash(std::string_view digits) {
  const bool is_negative = digits.starts_with('-');
  if (is_negative) digits.remove_prefix(1);
  if (is_negative && digits.size() > kShortestDigest) return std::nullopt;
  const auto hash = HashOfHex(digits, DigestEnd::kFirst);
  if (!hash || !is_negative) return hash;
  return EngineHash{~static_cast<uint64_t>(*hash) + 1};
}

bool IsDtype(std::string_view word) {
  const bool is_word = std::ranges::all_of(word, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.';
  });
  return is_word && !word.empty() && !(word.front() >= '0' && word.front() <= '9');
}

// [fmt@]model@world@worker@<hex>@dtype[@layer][@tag%val...]
std::optional<ObjectKey> ParseLmcache(Parts parts) {
  ObjectKey object;
  object.family = KeyFamily::kLmcache;
  std::string tags;
  while (parts.size() > 1 && parts.FromRight(0).find('%') != std::string_view::npos) {
    tags = "@" + std::string(parts.FromRight(0)) + tags;
    parts.Drop(1);
  }
  if (const auto layer = Number(parts.FromRight(0)); layer && parts.size() > 1) {
    object.layer = layer;
    parts.Drop(1);
  }
  const std::string_view dtype = parts.FromRight(0);
  const auto hash = LmcacheHash(parts.FromRight(1));
  object.tp_rank = Number(parts.FromRight(2));
  object.tp_size = Number(parts.FromRight(3));
  if (!IsDtype(dtype) || !hash || !object.tp_rank || !object.tp_size || parts.size() < 5) {
    return std::nullopt;
  }
  object.hash = *hash;
  object.variant = std::string(dtype) + tags;
  parts.Drop(4);
  const std::string_view whole = parts.Whole();
  const size_t at = whole.find('@');
  if (at != std::string_view::npos) {
    object.variant = std::string(whole.substr(0, at)) + "@" + object.variant;
  }
  object.model = at == std::string_view::npos ? whole : whole.substr(at + 1);
  if (object.model.empty()) return std::nullopt;
  return object;
}

}  // namespace

std::string_view KeyFamilyName(KeyFamily family) {
  switch (family) {
    case KeyFamily::kVllmStore:
      return "vLLM";
    case KeyFamily::kAscend:
      return "vLLM-Ascend";
    case KeyFamily::kAscendGva:
      return "vLLM-Ascend GVA";
    case KeyFamily::kSglang:
      return "SGLang";
    case KeyFamily::kLmcache:
      return "LMCache";
    case KeyFamily::kNumeric:
      return "numeric";
    case KeyFamily::kDescribed:
      return "described";
  }
  return "";
}

Result<ObjectKey> ParseObjectKey(std::string_view key) {
  if (key.find("sglang_mooncake_store_warmup_key") != std::string_view::npos) {
    return Fail(fmt::format("{} is an object that SGLang only warms up with", Quoted(key)));
  }
  if (auto object = ParseNumeric(key)) return *std::move(object);
  if (auto object = ParseSglang(key)) return *std::move(object);
  const Parts parts(key);
  if (auto object = ParseTagged(parts)) return *std::move(object);
  if (auto object = ParseGva(parts)) return *std::move(object);
  if (auto object = ParseLmcache(parts)) return *std::move(object);
  return Fail(fmt::format("{} is of no known family", Quoted(key)), {},
              "a key of vLLM, vLLM-Ascend, SGLang or LMCache, or a number");
}

}  // namespace conductor::wire
