#include "tests/ingest/pool_history.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string_view>
#include <utility>
#include <variant>

namespace conductor::ingest {
namespace {

using wire::KeyFamily;
using wire::ObjectKey;

struct Prompt {
  std::string lora_name;
  PoolModel::Tokens tokens;
  [[nodiscard]] size_t blocks() const { return tokens.size() / kPoolBlock; }
};

// The form of one family's keys in one pool, and how many components its producer stores.
struct Form {
  enum class Kind : uint8_t {
    kVllm,
    kVllmWithoutGroup,
    kVllmContextParallel,
    kAscend,
    kAscendLayers,
    kAscendNew,
    kSglangMha,
    kSglangMhaPipeline,
    kSglangMla,
    kLmcache,
    kNumeric,
    kDescribed,
  };
  Kind kind = Kind::kVllm;
  uint32_t tp = 1;
  uint32_t pp = 1;
};

std::string Hex(EngineHash hash) { return fmt::format("{:016x}", static_cast<uint64_t>(hash)); }

// Where the family takes the last 8 bytes of a digest, and where the first.
std::string DigestEndingWith(EngineHash hash) { return std::string(48, 'a') + Hex(hash); }
std::string DigestBeginningWith(EngineHash hash) { return Hex(hash) + std::string(48, 'a'); }

struct NamedObject {
  std::string key;
  ObjectKey meaning;
};

// All objects of one block.
std::vector<NamedObject> ObjectsOf(const Form& form, EngineHash hash, uint32_t group,
                                   const std::string& model) {
  std::vector<NamedObject> objects;
  const auto add = [&](std::string key, ObjectKey meaning) {
    meaning.hash = hash;
    objects.push_back({std::move(key), std::move(meaning)});
  };
  for (uint32_t tp = 0; tp < form.tp; ++tp) {
    for (uint32_t pp = 0; pp < form.pp; ++pp) {
      switch (form.kind) {
        case Form::Kind::kVllm:
        case Form::Kind::kVllmWithoutGroup: {
          const bool grouped = form.kind == Form::Kind::kVllm;
          add(fmt::format("{}@tp_rank:{}@pcp0@dcp0@pp_rank:{}{}@{}", model, tp, pp,
                          grouped ? fmt::format("@group:{}", group) : "", DigestEndingWith(hash)),
              {.family = KeyFamily::kVllmStore,
               .model = model,
               .group = grouped ? group : 0,
               .tp_rank = tp,
               .pp_rank = pp,
               .pcp_rank = 0,
               .dcp_rank = 0});
          break;
        }
        case Form::Kind::kVllmContextParallel:
          add(fmt::format("{}@tp_rank:{}@pcp{}@dcp0@pp_rank:0@group:{}@{}", model, tp, pp, group,
                          DigestEndingWith(hash)),
              {.family = KeyFamily::kVllmStore,
               .model = model,
               .group = group,
               .tp_rank = tp,
               .pp_rank = 0,
               .pcp_rank = pp,
               .dcp_rank = 0});
          break;
        case Form::Kind::kAscend:
          add(fmt::format("{}@pcp0@dcp0@head_or_tp_rank:{}@pp_rank:{}@{}", model, tp, pp,
                          DigestEndingWith(hash)),
              {.family = KeyFamily::kAscend,
               .model = model,
               .tp_rank = tp,
               .pp_rank = pp,
               .pcp_rank = 0,
               .dcp_rank = 0});
          break;
        case Form::Kind::kAscendLayers:
          add(fmt::format("{}@pcp0@dcp0@head_or_tp_rank:{}@{}@{}", model, tp,
                          DigestEndingWith(hash), pp),
              {.family = KeyFamily::kAscend,
               .model = model,
               .tp_rank = tp,
               .pcp_rank = 0,
               .dcp_rank = 0,
               .layer = pp});
          break;
        case Form::Kind::kAscendNew:
          add(fmt::format("{}@dcp:0@head_or_tp_rank:{}@pp_rank:{}@group:{}@cache_role:kv@"
                          "cache_family:default@{}",
                          model, tp, pp, group, DigestEndingWith(hash)),
              {.family = KeyFamily::kAscend,
               .variant = "kv",
               .model = model,
               .group = group,
               .tp_rank = tp,
               .pp_rank = pp,
               .dcp_rank = 0});
          break;
        case Form::Kind::kSglangMha:
        case Form::Kind::kSglangMhaPipeline: {
          const bool piped = form.kind == Form::Kind::kSglangMhaPipeline;
          if (!piped && pp > 0) break;
          for (const bool v : {false, true}) {
            ObjectKey meaning = {.family = KeyFamily::kSglang, .tp_rank = tp};
            if (piped) meaning.pp_rank = pp;
            meaning.part = v ? ObjectKey::Part::kV : ObjectKey::Part::kK;
            add(fmt::format("{}_{}{}_{}", DigestBeginningWith(hash), tp,
                            piped ? fmt::format("_{}", pp) : "", v ? "v" : "k"),
                meaning);
          }
          break;
        }
        case Form::Kind::kSglangMla:
          if (tp + pp > 0) break;
          add(DigestBeginningWith(hash) + "_k",
              {.family = KeyFamily::kSglang, .part = ObjectKey::Part::kK});
          break;
        case Form::Kind::kLmcache:
          if (pp > 0) break;
          add(fmt::format("vllm@{}@{}@{}@{}@bfloat16", model, form.tp, tp, Hex(hash)),
              {.family = KeyFamily::kLmcache,
               .variant = "vllm",
               .model = model,
               .tp_rank = tp,
               .tp_size = form.tp});
          break;
        case Form::Kind::kNumeric:
          if (tp + pp > 0) break;
          add(fmt::format("{}", static_cast<uint64_t>(hash)), {.family = KeyFamily::kNumeric});
          break;
        case Form::Kind::kDescribed:
          add(fmt::format("object/{}/{}/{}/{}", Hex(hash), group, tp, pp),
              {.family = KeyFamily::kDescribed,
               .model = model,
               .group = group,
               .tp_rank = tp,
               .pp_rank = pp});
          break;
      }
    }
  }
  return objects;
}

struct Features {
  bool groups = false;
  bool loras = false;
  bool spans = false;
  bool ranks = false;
  bool lower_tiers = false;
  bool tenants = false;
  bool moved_names = false;
  bool lives = false;
  bool pool_lives = false;
  bool pools_leave = false;
  bool listings = false;
  bool clears = false;
  bool mistakes = false;
  bool unlike_names = false;  // the engines' hashes differ from one another
};

class Maker {
 public:
  explicit Maker(uint64_t seed) : random_(seed) {}

  PoolHistory Make() {
    for (bool* feature : {&has_.loras, &has_.ranks, &has_.lower_tiers, &has_.lives, &has_.listings,
                          &has_.mistakes}) {
      *feature = OneIn(2);
    }
    for (bool* feature : {&has_.groups, &has_.spans, &has_.tenants, &has_.moved_names,
                          &has_.pool_lives, &has_.pools_leave, &has_.clears, &has_.unlike_names}) {
      *feature = OneIn(4);
    }
    MakeEngines();
    MakePools();
    MakePrompts();
    const size_t steps = 5 + Below(40);
    for (size_t i = 0; i < steps; ++i) AddStep();
    MakeProbes();
    return std::move(history_);
  }

 private:
  size_t Below(size_t n) { return random_() % n; }
  bool OneIn(size_t n) { return Below(n) == 0; }
  template <typename T>
  const T& Any(const std::vector<T>& values) {
    return values[Below(values.size())];
  }

  void MakeEngines() {
    const size_t engines = 1 + Below(2);
    for (size_t i = 0; i < engines; ++i) {
      PublisherProfile profile;
      profile.instance_id = fmt::format("i{}", i);
      profile.model = "org/llama";
      profile.block_size = kPoolBlock;
      if (has_.tenants && OneIn(2)) profile.tenant = "other";
      if (has_.mistakes && OneIn(10)) profile.additional_salt = "unlike the pools'";
      if (OneIn(4)) profile.copies = index::CopyMode::kSet;
      history_.engines.push_back(profile);
      model_.AddEngine(static_cast<uint32_t>(i), profile);
    }
  }

  void MakePools() {
    const size_t pools = 1 + Below(2);
    for (size_t i = 0; i < pools; ++i) {
      PoolProfile profile;
      profile.name = fmt::format("p{}", i);
      profile.model = "org/llama";
      profile.lookup = OneIn(2) ? index::PoolLookup::kContinue : index::PoolLookup::kFromStart;
      const auto tp = static_cast<uint32_t>(1 + Below(3));
      const auto pp = static_cast<uint32_t>(1 + Below(2));
      if (OneIn(2)) {
        profile.tp_size = tp;
        if (OneIn(3)) {
          profile.kv_heads = tp;
          profile.tp_size = 2 * tp;
        }
      }
      if (OneIn(2)) profile.pp_size = pp;
      if (OneIn(4)) profile.layers = pp;
      if (OneIn(3)) profile.hash_profile.emplace();
      if (has_.mistakes && OneIn(8)) profile.tp_size = tp + 1;
      const std::string key_model = OneIn(2) ? "llama" : "org/llama";
      if (OneIn(4)) profile.key_models = {{key_model, "org/llama"}, {"", "org/llama"}};
      history_.pools.push_back(profile);
      key_models_.push_back(key_model);

      // Forms of one family in one pool would share what is learnt of its sizes.
      std::set<KeyFamily> families;
      std::vector<Form>& forms = forms_.emplace_back();
      const size_t count = 1 + Below(2);
      while (forms.size() < count) {
        const Form form = {static_cast<Form::Kind>(Below(12)), tp, pp};
        const auto family = ObjectsOf(form, EngineHash{1}, 0, key_model).front().meaning.family;
        if (families.insert(family).second) forms.push_back(form);
      }
      listing_.push_back(false);
      present_.push_back(true);
    }
  }

  void MakePrompts() {
    const size_t prompts = 1 + Below(4);
    for (size_t i = 0; i < prompts; ++i) {
      Prompt prompt;
      if (!prompts_.empty() && !OneIn(3)) {
        prompt = Any(prompts_);
        prompt.tokens.resize(kPoolBlock * Below(prompt.blocks() + 1));
      }
      size_t blocks = 1 + Below(6);
      if (has_.spans) blocks += blocks % 2;
      while (prompt.tokens.size() < blocks * kPoolBlock) {
        prompt.tokens.push_back(static_cast<TokenId>(1 + Below(2)));
      }
      prompt.tokens.resize(blocks * kPoolBlock);
      if (has_.loras) prompt.lora_name = Any<std::string>({"", "a"});
      prompts_.push_back(std::move(prompt));
    }
  }

  [[nodiscard]] size_t span() const { return has_.spans ? 2 : 1; }

  // What the engine calls the block, or span, that ends before block `end`.
  EngineHash NameOf(size_t engine, const Prompt& prompt, size_t end) {
    std::string text = prompt.lora_name;
    if (has_.unlike_names) text += fmt::format("/{}", engine);
    for (size_t i = 0; i < end * kPoolBlock; ++i) text += fmt::format("/{}", prompt.tokens[i]);
    const auto [at, fresh] = names_.try_emplace(text);
    if (fresh) at->second = EngineHash{names_.size() * 0x9e3779b97f4a7c15u};
    return at->second;
  }
  // Now and then that of another block.
  EngineHash NameOrMistaken(size_t engine, const Prompt& prompt, size_t end) {
    const Prompt& other = Any(prompts_);
    if (has_.moved_names && OneIn(12) && other.lora_name == prompt.lora_name) {
      return NameOf(engine, other, Ends(other));
    }
    return NameOf(engine, prompt, end);
  }
  // The end of any span of the prompt.
  size_t Ends(const Prompt& prompt) { return span() * (1 + Below(prompt.blocks() / span())); }

  wire::CacheGroup Group() {
    if (!has_.groups) return {};
    if (OneIn(3)) return {1, "mla_attention"};
    if (OneIn(3)) return {0, "full_attention"};
    return {};
  }

  std::optional<wire::KvEvent> MakeEngineEvent(uint32_t engine) {
    const Prompt& prompt = Any(prompts_);
    const wire::CacheGroup group = Group();
    const auto number = static_cast<uint32_t>(group.index.value_or(0));
    if (OneIn(25)) return wire::AllBlocksCleared{};
    const std::string lower = OneIn(2) ? "CPU" : "DISK";
    if (OneIn(3)) {
      wire::BlockRemoved event;
      event.group = group;
      event.medium = has_.lower_tiers && OneIn(3) ? lower : "GPU";
      const size_t count = 1 + Below(3);
      for (size_t i = 0; i < count; ++i) {
        event.hashes.push_back(NameOf(engine, prompt, Ends(prompt)));
      }
      return event;
    }
    wire::BlockStored event;
    event.group = group;
    if (has_.lower_tiers && OneIn(3)) {
      event.hashes = {NameOf(engine, prompt, Ends(prompt))};
      event.medium = lower;
      if (!model_.Knows(engine, number, event.hashes[0])) return std::nullopt;
      return event;
    }
    const size_t end = Ends(prompt);
    size_t begin = OneIn(2) ? 0 : end - span();
    if (begin > 0 && !model_.Knows(engine, number, NameOf(engine, prompt, begin))) begin = 0;
    if (begin > 0) event.parent = NameOf(engine, prompt, begin);
    event.medium = "GPU";
    event.block_size = static_cast<uint32_t>(span() * kPoolBlock);
    event.tokens = {prompt.tokens.begin() + static_cast<ptrdiff_t>(begin * kPoolBlock),
                    prompt.tokens.begin() + static_cast<ptrdiff_t>(end * kPoolBlock)};
    for (size_t i = begin + span(); i <= end; i += span()) {
      event.hashes.push_back(NameOrMistaken(engine, prompt, i));
    }
    if (!prompt.lora_name.empty()) event.lora_name = prompt.lora_name;
    return event;
  }

  std::optional<std::string> Tenant() {
    if (has_.tenants && OneIn(3)) return "other";
    if (OneIn(3)) return "default";
    return std::nullopt;
  }

  // A medium as masters say it.
  std::optional<std::string> Medium() {
    if (OneIn(8)) return std::nullopt;
    return OneIn(3) ? "disk" : "cpu";
  }

  // The objects of any block, as the pool's producers name them; those that make it up, or some.
  std::vector<NamedObject> SomeObjects(size_t pool) {
    const auto engine = Below(history_.engines.size());
    const Prompt& prompt = Any(prompts_);
    const auto group = static_cast<uint32_t>(has_.groups ? Below(2) : 0);
    auto objects = ObjectsOf(Any(forms_[pool]), NameOf(engine, prompt, Ends(prompt)), group,
                             key_models_[pool]);
    if (OneIn(3)) std::erase_if(objects, [this](const auto&) { return OneIn(2); });
    if (has_.mistakes && OneIn(10)) {
      objects.push_back({"warm up", {}});
    } else if (has_.mistakes && OneIn(10)) {
      objects = ObjectsOf(Any(forms_[pool]), EngineHash{5}, 0, "qwen");
    }
    for (const NamedObject& object : objects) {
      if (object.key == "warm up") continue;
      history_.book[object.key] = object.meaning;
      keys_[pool].insert(object.key);
    }
    return objects;
  }

  void AddPoolEvents(size_t pool, wire::EventBatch& batch) {
    if (has_.clears && OneIn(15)) {
      wire::ScopeCleared event;
      event.tenant = Tenant();
      if (OneIn(3)) event.backend = OneIn(2) ? "master" : "another";
      if (!listing_[pool] && OneIn(3)) event.medium = OneIn(2) ? "cpu" : "disk";
      batch.events.emplace_back(event);
      return;
    }
    const auto objects = SomeObjects(pool);
    const std::optional<std::string> tenant = Tenant();
    if (OneIn(3)) {
      // An eviction: of one component, or of some.
      for (const NamedObject& object : objects) {
        if (OneIn(2)) continue;
        batch.events.emplace_back(wire::ObjectRemoved{
            .key = object.key, .tenant = tenant, .backend = "master", .medium = Medium()});
      }
      return;
    }
    const auto medium = Medium();
    for (const NamedObject& object : objects) {
      wire::ObjectStored event;
      event.key = object.key;
      event.tenant = tenant;
      event.backend = "master";
      event.medium = OneIn(5) ? Medium() : medium;
      if (object.meaning.family == KeyFamily::kDescribed) event.described = object.meaning;
      batch.events.emplace_back(std::move(event));
    }
  }

  std::vector<ListedObject> MakeListing(size_t pool) {
    std::vector<ListedObject> listed;
    const bool with_tiers = OneIn(2);
    for (const std::string& key : keys_[pool]) {
      // Objects that events describe have keys that nobody can read.
      if (history_.book.at(key).family == KeyFamily::kDescribed || OneIn(4)) continue;
      ListedObject object = {key};
      if (with_tiers) {
        object.cpu = OneIn(2);
        object.disk = !object.cpu || OneIn(3);
      }
      listed.push_back(object);
    }
    if (has_.mistakes && OneIn(4)) listed.push_back({"warm up"});
    return listed;
  }

  void AddStep() {
    PoolStep step;
    if (OneIn(2)) {
      step.whose = static_cast<uint32_t>(Below(history_.engines.size()));
      if (has_.lives && OneIn(12)) {
        step.kind = PoolStep::Kind::kEngineNewLife;
        model_.NewLifeOfEngine(step.whose);
      } else {
        if (has_.ranks) step.batch.dp_rank = static_cast<int64_t>(Below(2));
        const size_t events = 1 + Below(2);
        for (size_t i = 0; i < events; ++i) {
          wire::EventBatch one;
          one.dp_rank = step.batch.dp_rank;
          auto event = MakeEngineEvent(step.whose);
          if (!event) continue;
          one.events = {*event};
          model_.ApplyToEngine(step.whose, one);
          step.batch.events.push_back(std::move(*event));
        }
      }
      history_.steps.push_back(std::move(step));
      return;
    }

    const size_t pool = Below(history_.pools.size());
    step.whose = static_cast<uint32_t>(pool);
    if (!present_[pool]) {
      step.kind = PoolStep::Kind::kPoolReturns;
      present_[pool] = true;
    } else if (has_.pools_leave && OneIn(10)) {
      step.kind = PoolStep::Kind::kPoolLeaves;
      present_[pool] = false;
      listing_[pool] = false;
    } else if (has_.pool_lives && OneIn(12)) {
      if (listing_[pool]) {
        step.kind = PoolStep::Kind::kAbandonListing;
        listing_[pool] = false;
      } else {
        step.kind = PoolStep::Kind::kPoolNewLife;
      }
    } else if (has_.listings && OneIn(4)) {
      if (!listing_[pool]) {
        step.kind = PoolStep::Kind::kBeginListing;
      } else if (OneIn(6)) {
        step.kind = PoolStep::Kind::kAbandonListing;
      } else {
        step.kind = PoolStep::Kind::kApplyListing;
        step.listed = MakeListing(pool);
      }
      listing_[pool] = step.kind == PoolStep::Kind::kBeginListing;
    } else if (has_.listings && OneIn(8)) {
      step.kind = PoolStep::Kind::kTiersLearnt;
      step.listed = MakeListing(pool);
      for (ListedObject& object : step.listed) {
        object.cpu = OneIn(2);
        object.disk = OneIn(2);
      }
    } else {
      step.kind = PoolStep::Kind::kPoolBatch;
      const size_t events = 1 + Below(3);
      for (size_t i = 0; i < events; ++i) AddPoolEvents(pool, step.batch);
    }
    history_.steps.push_back(std::move(step));
  }

  void MakeProbes() {
    for (const Prompt& prompt : prompts_) {
      PoolProbe probe = {prompt.lora_name, prompt.tokens, {}};
      for (size_t i = 1; i <= prompt.blocks(); ++i) probe.names.push_back(NameOf(0, prompt, i));
      if (OneIn(4)) probe.tokens.push_back(1);  // no whole block
      history_.probes.push_back(std::move(probe));
    }
  }

  std::mt19937_64 random_;
  Features has_;
  PoolHistory history_;
  PoolModel model_;  // of the engines alone
  std::vector<Prompt> prompts_;
  std::map<std::string, EngineHash> names_;
  std::vector<std::string> key_models_;           // by pool
  std::vector<std::vector<Form>> forms_;          // by pool
  std::vector<bool> listing_;                     // by pool
  std::vector<bool> present_;                     // by pool
  std::map<size_t, std::set<std::string>> keys_;  // by pool
};

std::string Names(const std::vector<EngineHash>& hashes) {
  std::string text;
  for (const EngineHash hash : hashes) text += (text.empty() ? "" : ",") + Hex(hash);
  return text;
}

std::string Describe(const wire::KvEvent& event) {
  const auto or_nil = [](const std::optional<std::string>& text) { return text.value_or("nil"); };
  if (const auto* stored = std::get_if<wire::BlockStored>(&event)) {
    std::string text = fmt::format(
        "stored [{}] {} group={} parent={} bs={} lora='{}' tokens=", Names(stored->hashes),
        or_nil(stored->medium), stored->group.index.value_or(0),
        stored->parent ? Hex(*stored->parent) : "nil", stored->block_size,
        stored->lora_name.value_or(""));
    for (const TokenId token : stored->tokens) text += std::to_string(token);
    return text;
  }
  if (const auto* removed = std::get_if<wire::BlockRemoved>(&event)) {
    return fmt::format("removed [{}] {} group={}", Names(removed->hashes), or_nil(removed->medium),
                       removed->group.index.value_or(0));
  }
  if (const auto* stored = std::get_if<wire::ObjectStored>(&event)) {
    return fmt::format("stored {} medium={} tenant={}{}", stored->key, or_nil(stored->medium),
                       or_nil(stored->tenant), stored->described ? " described" : "");
  }
  if (const auto* removed = std::get_if<wire::ObjectRemoved>(&event)) {
    return fmt::format("removed {} medium={} tenant={}", removed->key, or_nil(removed->medium),
                       or_nil(removed->tenant));
  }
  if (const auto* cleared = std::get_if<wire::ScopeCleared>(&event)) {
    return fmt::format("cleared tenant={} backend={} medium={}", or_nil(cleared->tenant),
                       or_nil(cleared->backend), or_nil(cleared->medium));
  }
  return "all blocks cleared";
}

std::string Size(const char* name, std::optional<uint32_t> size) {
  return size ? fmt::format(" {}={}", name, *size) : "";
}

}  // namespace

PoolHistory MakePoolHistory(uint64_t seed) { return Maker(seed).Make(); }

std::string Describe(const PoolProfile& profile) {
  return fmt::format("{} {}{}{}{}{}{}{}", profile.name,
                     profile.lookup == index::PoolLookup::kContinue ? "continue" : "from_start",
                     Size("tp_size", profile.tp_size), Size("kv_heads", profile.kv_heads),
                     Size("pp_size", profile.pp_size), Size("layers", profile.layers),
                     profile.hash_profile ? " with a hash profile" : "",
                     profile.key_models.empty() ? "" : " with key models");
}

std::string Describe(const PoolStep& step) {
  using Kind = PoolStep::Kind;
  static const std::map<Kind, std::string_view> kNames = {
      {Kind::kEngineBatch, "engine {}: batch"},
      {Kind::kEngineNewLife, "engine {}: new life"},
      {Kind::kPoolBatch, "pool {}: batch"},
      {Kind::kPoolNewLife, "pool {}: new life"},
      {Kind::kPoolLeaves, "pool {}: leaves"},
      {Kind::kPoolReturns, "pool {}: returns"},
      {Kind::kBeginListing, "pool {}: begin listing"},
      {Kind::kApplyListing, "pool {}: listing"},
      {Kind::kAbandonListing, "pool {}: abandon listing"},
      {Kind::kTiersLearnt, "pool {}: tiers learnt"},
  };
  std::string text = fmt::format(fmt::runtime(kNames.at(step.kind)), step.whose);
  if (step.batch.dp_rank) text += fmt::format(" dp={}", *step.batch.dp_rank);
  for (const wire::KvEvent& event : step.batch.events) text += "\n      " + Describe(event);
  for (const ListedObject& object : step.listed) {
    text += fmt::format("\n      {}{}{}", object.key, object.cpu ? " cpu" : "",
                        object.disk ? " disk" : "");
  }
  return text;
}

}  // namespace conductor::ingest
