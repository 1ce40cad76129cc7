#include "tests/ingest/random_history.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <random>
#include <utility>
#include <variant>

#include "lib/base/bytes.h"

namespace conductor::ingest {
namespace {

struct Prompt {
  std::string lora;
  std::vector<PromptBlock> units;
};

// What may happen in one history.
struct Features {
  bool spans = false;        // event block sizes that are multiples of the namespace's
  bool mixed_spans = false;  // one name for one block, whatever the span it is announced with
  bool extras = false;       // salts and multimodal items
  bool loras = false;
  bool shared_names = false;       // one name for the same tokens under several adapters
  bool two_adapter_names = false;  // one adapter told by name and by number
  bool ranks = false;
  bool groups = false;
  bool moved_names = false;
  bool host = false;
  bool disk = false;
  bool tokenless = false;
  bool learns = false;
  bool set_copies = false;
  bool clears = false;
  bool lives = false;
  bool rebuilds = false;
  bool leaves = false;
  bool mistakes = false;
  bool parents_last = false;  // mostly from the prompt's end to its beginning
  bool tiny_memory = false;   // few released blocks are remembered
  bool long_chains = false;   // of several runs of the index
  bool crowd = false;         // very many publishers
};

class Maker {
 public:
  explicit Maker(uint64_t seed) : random_(seed) {}

  History Make() {
    ChooseFeatures();
    MakePublishers();
    MakePrompts();
    const size_t steps = has_.crowd ? 100 + Below(200) : 5 + Below(60);
    for (size_t i = 0; i < steps; ++i) AddStep();
    return std::move(history_);
  }

 private:
  size_t Below(size_t n) { return random_() % n; }
  bool OneIn(size_t n) { return Below(n) == 0; }
  template <typename T>
  const T& Any(const std::vector<T>& values) {
    return values[Below(values.size())];
  }

  void ChooseFeatures() {
    for (bool* feature :
         {&has_.spans, &has_.extras, &has_.loras, &has_.ranks, &has_.groups, &has_.host,
          &has_.tokenless, &has_.clears, &has_.mistakes, &has_.parents_last}) {
      *feature = OneIn(2);
    }
    for (bool* feature :
         {&has_.mixed_spans, &has_.shared_names, &has_.two_adapter_names, &has_.moved_names,
          &has_.disk, &has_.learns, &has_.set_copies, &has_.lives, &has_.rebuilds, &has_.leaves}) {
      *feature = OneIn(4);
    }
    has_.tiny_memory = OneIn(5);
    has_.long_chains = OneIn(24);
    has_.crowd = OneIn(100);
    if (has_.tiny_memory) {
      // What is released together by these has no order among itself.
      has_.clears = has_.lives = has_.rebuilds = has_.leaves = has_.moved_names = has_.mixed_spans =
          has_.shared_names = false;
    }
    history_.released_limit = has_.tiny_memory ? Below(8) : 65536;
  }

  void MakePublishers() {
    const size_t count = has_.crowd ? 50 + Below(150) : 1 + Below(4);
    for (size_t i = 0; i < count; ++i) {
      PublisherProfile profile;
      profile.instance_id = fmt::format("i{}", Below(has_.crowd ? count : 3));
      profile.model = "m";
      if (has_.loras && OneIn(6)) profile.lora_name = "base";
      profile.block_size = has_.learns && OneIn(2) ? 0 : kUnit;
      if (has_.spans && OneIn(8)) profile.block_size = 2 * kUnit;
      profile.dp_rank = has_.ranks ? static_cast<uint32_t>(Below(3)) : 0;
      if (has_.set_copies && OneIn(2)) profile.copies = index::CopyMode::kSet;
      history_.publishers.push_back(profile);
      // Publishers of one scheme use the same names for the same blocks, of different schemes the
      // same names for different blocks.
      schemes_.push_back(Below(2));
    }
  }

  PromptBlock MakeUnit() {
    PromptBlock unit;
    for (uint32_t i = 0; i < kUnit; ++i) {
      unit.tokens.push_back(static_cast<TokenId>(1 + Below(2)));
    }
    if (has_.extras && OneIn(6)) unit.extra_keys.push_back(hash::ItemKey("img", 1));
    return unit;
  }

  void MakePrompts() {
    const size_t count = 1 + Below(6);
    for (size_t i = 0; i < count; ++i) {
      Prompt prompt;
      if (!prompts_.empty() && !OneIn(3)) {
        prompt = Any(prompts_);
        prompt.units.resize(Below(prompt.units.size() + 1));
      }
      const size_t units = has_.long_chains ? 50 + Below(150) : 1 + Below(8);
      while (prompt.units.size() < units) prompt.units.push_back(MakeUnit());
      if (has_.extras && OneIn(4)) {
        prompt.units[0].extra_keys.push_back(hash::TextKey(OneIn(2) ? "s" : "t"));
      }
      if (has_.loras) prompt.lora = Any<std::string>({"", "a", "a", "b"});
      history_.probes.push_back(prompt.units);
      prompts_.push_back(std::move(prompt));
    }
    // Two that nobody may ever store, and one without its extra keys.
    for (int i = 0; i < 2; ++i) {
      auto probe = Any(history_.probes);
      probe.back() = MakeUnit();
      probe.push_back(MakeUnit());
      history_.probes.push_back(std::move(probe));
    }
    auto plain = Any(history_.probes);
    for (PromptBlock& unit : plain) unit.extra_keys.clear();
    history_.probes.push_back(std::move(plain));
  }

  // What the publisher calls the span that ends before unit `end`.
  EngineHash NameOf(uint32_t publisher, const Prompt& prompt, size_t end, size_t span) {
    auto& names = names_[schemes_[publisher]];
    if (has_.moved_names && !names.empty() && OneIn(20)) {
      return std::next(names.begin(), static_cast<ptrdiff_t>(Below(names.size())))->second;
    }
    std::string key = has_.mixed_spans ? "" : std::to_string(span);
    if (!has_.shared_names) key += "/" + prompt.lora;
    for (size_t i = 0; i < end; ++i) {
      key += "|";
      for (const TokenId token : prompt.units[i].tokens) key += std::to_string(token);
      for (const std::string& extra : prompt.units[i].extra_keys) key += extra;
    }
    return names.try_emplace(key, EngineHash{100 + names.size()}).first->second;
  }

  std::optional<std::string> Medium() {
    if (has_.disk && OneIn(5)) return Any<std::string>({"DISK", "STORAGE", "cpu_tier2"});
    if (has_.host && OneIn(3)) return Any<std::string>({"CPU", "cpu", "CPU_PINNED"});
    if (has_.mistakes && OneIn(40)) return "TAPE";
    if (OneIn(3)) return std::nullopt;
    return Any<std::string>({"GPU", "gpu"});
  }

  wire::CacheGroup Group() {
    if (!has_.groups) return {};
    switch (Below(6)) {
      case 0:
        return {1, "mla_attention"};
      case 1:
        return {2, OneIn(2) ? "sliding_window" : "mamba"};
      case 2:
        return {};
      case 3:
        return {0, std::nullopt};
      default:
        return {0, OneIn(2) ? "full_attention" : "sink_full_attention"};
    }
  }

  wire::BlockStored MakeStored(uint32_t publisher) {
    const Prompt& prompt = Any(prompts_);
    wire::BlockStored event;
    event.medium = Medium();
    const auto tier = TierOfMedium(event.medium.value_or(""));
    size_t span = has_.spans && OneIn(3) ? 2 + Below(2) : 1;
    if (prompt.units.size() < span) span = 1;

    // Units [begin, end) in spans; begin may stand anywhere after the first span's parent.
    size_t begin = OneIn(2) ? 0 : Below(prompt.units.size());
    if (has_.parents_last) {
      size_t& next = descending_[publisher];
      begin = next == 0 ? prompt.units.size() - 1 : (next - 1) % prompt.units.size();
      next = begin;
    }
    if (span > 1 && !OneIn(4)) begin -= begin % span;
    size_t blocks = (prompt.units.size() - begin) / span;
    if (blocks == 0) {
      span = 1;
      blocks = prompt.units.size() - begin;
    }
    if (!OneIn(3)) blocks = 1 + Below(blocks);

    event.group = Group();
    event.block_size = static_cast<uint32_t>(span) * kUnit;
    if (begin > 0) {
      const size_t parent_span = has_.spans && OneIn(3) ? 2 : span;
      event.parent = NameOf(publisher, prompt, begin, parent_span);
    }
    bool any_extra = has_.extras && OneIn(4);
    for (size_t i = 0; i < blocks; ++i) {
      const size_t from = begin + i * span;
      event.hashes.push_back(NameOf(publisher, prompt, from + span, span));
      event.extra_keys.push_back(prompt.units[from].extra_keys);
      any_extra = any_extra || !event.extra_keys.back().empty();
      for (size_t k = from; k < from + span; ++k) {
        const auto& tokens = prompt.units[k].tokens;
        event.tokens.insert(event.tokens.end(), tokens.begin(), tokens.end());
      }
    }
    if (!prompt.lora.empty()) {
      if (has_.two_adapter_names && OneIn(4)) {
        event.lora_id = 7;
      } else {
        event.lora_name = prompt.lora;
      }
      if (any_extra || OneIn(2)) {
        any_extra = true;
        for (hash::ExtraKeys& keys : event.extra_keys) {
          keys.insert(keys.begin(), hash::TextKey(prompt.lora));
        }
      }
    }
    if (!any_extra) event.extra_keys.clear();
    if (any_extra && begin == 0 && event.extra_keys[0].size() == 1 && OneIn(3) &&
        event.extra_keys[0][0] == hash::TextKey("s")) {
      event.cache_salt = "s";  // the same salt in the other family's form
      event.extra_keys.clear();
    }

    if (has_.extras && begin > 0 && OneIn(4)) event.cache_salt = "s";  // to be ignored

    if (tier && *tier != Tier::kGpu) {
      if (OneIn(4)) event.parent.reset();
      if (OneIn(4)) event.extra_keys.clear();
    }
    if (has_.tokenless && ((tier && *tier != Tier::kGpu) ? OneIn(2) : OneIn(10))) {
      event.tokens.clear();
      event.extra_keys.clear();
      if (OneIn(2)) event.lora_name.reset();
      if (OneIn(2)) event.block_size = 0;
      if (OneIn(2)) event.parent.reset();
      if (OneIn(2)) event.hashes.resize(1);
    } else if (has_.mistakes) {
      MakeMistake(event);
    }
    return event;
  }

  void MakeMistake(wire::BlockStored& event) {
    switch (Below(30)) {
      case 0:
        event.tokens.pop_back();
        break;
      case 1:
        event.block_size = kUnit + 1;
        event.tokens.resize(event.hashes.size() * event.block_size, 1);
        break;
      case 2:
        event.block_size = 1;
        event.tokens.resize(event.hashes.size());
        break;
      case 3:
        event.block_size = 0;
        break;
      case 4:
        event.hashes.clear();
        event.extra_keys.clear();
        break;
      case 5:  // the same block twice in one event
        event.hashes.back() = event.hashes.front();
        break;
      case 6:
        event.parent = EngineHash{99};
        break;
      default:
        break;
    }
  }

  wire::BlockRemoved MakeRemoved(uint32_t publisher) {
    wire::BlockRemoved event;
    event.medium = Medium();
    event.group = Group();
    const Prompt& prompt = Any(prompts_);
    const size_t count = OneIn(3) ? 1 + Below(has_.long_chains ? 100 : 4) : 1;
    const bool from_the_end = has_.long_chains && OneIn(2);  // one after the other
    for (size_t i = 0; i < count; ++i) {
      if (from_the_end && i == prompt.units.size()) break;
      const size_t end = from_the_end ? prompt.units.size() - i : 1 + Below(prompt.units.size());
      const size_t span = has_.spans && OneIn(3) ? 2 : 1;
      event.hashes.push_back(NameOf(publisher, prompt, end, span));
    }
    if (has_.mistakes && OneIn(10)) event.hashes.push_back(EngineHash{98});
    return event;
  }

  wire::EventBatch MakeBatch(uint32_t publisher) {
    wire::EventBatch batch;
    if (OneIn(2)) batch.dp_rank = 0;
    if (has_.ranks && OneIn(3)) batch.dp_rank = static_cast<int64_t>(Below(3));
    const size_t events = 1 + Below(3);
    for (size_t i = 0; i < events; ++i) {
      if (has_.clears && OneIn(25)) {
        batch.events.emplace_back(wire::AllBlocksCleared{});
      } else if (OneIn(3)) {
        batch.events.emplace_back(MakeRemoved(publisher));
      } else {
        batch.events.emplace_back(MakeStored(publisher));
      }
    }
    // A duplicate of something said before.
    if (!history_.steps.empty() && OneIn(8)) {
      const Step& earlier = Any(history_.steps);
      if (earlier.publisher == publisher && !earlier.batch.events.empty()) {
        batch.events.push_back(Any(earlier.batch.events));
      }
    }
    return batch;
  }

  void AddStep() {
    Step step;
    step.publisher = static_cast<uint32_t>(Below(history_.publishers.size()));
    if (has_.lives && OneIn(20)) {
      step.kind = Step::Kind::kNewLife;
    } else if (has_.rebuilds && OneIn(6)) {
      step.kind = Any<Step::Kind>({Step::Kind::kBeginRebuild, Step::Kind::kCommitRebuild,
                                   Step::Kind::kCommitRebuild, Step::Kind::kAbandonRebuild});
    } else if (has_.leaves && OneIn(10)) {
      step.kind = Any<Step::Kind>({Step::Kind::kLeave, Step::Kind::kReturn, Step::Kind::kReturn});
    } else {
      step.batch = MakeBatch(step.publisher);
    }
    history_.steps.push_back(std::move(step));
  }

  std::mt19937_64 random_;
  Features has_;
  History history_;
  std::vector<Prompt> prompts_;
  std::vector<size_t> schemes_;
  std::map<size_t, std::map<std::string, EngineHash>> names_;
  std::map<uint32_t, size_t> descending_;
};

std::string Names(const std::vector<EngineHash>& hashes) {
  std::string text;
  for (const EngineHash hash : hashes) {
    text += fmt::format("{}{}", text.empty() ? "" : ",", static_cast<uint64_t>(hash));
  }
  return text;
}

std::string Describe(const wire::CacheGroup& group) {
  std::string text;
  if (group.index) text += fmt::format(" group={}", *group.index);
  if (group.spec_kind) text += " kind=" + *group.spec_kind;
  return text;
}

std::string Describe(const wire::KvEvent& event) {
  if (const auto* removed = std::get_if<wire::BlockRemoved>(&event)) {
    return fmt::format("removed [{}] {}{}", Names(removed->hashes), removed->medium.value_or("nil"),
                       Describe(removed->group));
  }
  const auto* stored = std::get_if<wire::BlockStored>(&event);
  if (stored == nullptr) return "cleared";
  std::string text =
      fmt::format("stored [{}] {} parent={} bs={} tokens=", Names(stored->hashes),
                  stored->medium.value_or("nil"),
                  stored->parent ? std::to_string(static_cast<uint64_t>(*stored->parent)) : "nil",
                  stored->block_size);
  for (const TokenId token : stored->tokens) text += std::to_string(token);
  if (stored->lora_name) text += " lora=" + *stored->lora_name;
  if (stored->lora_id) text += fmt::format(" lora_id={}", *stored->lora_id);
  if (stored->cache_salt) text += " salt=" + *stored->cache_salt;
  if (!stored->extra_keys.empty()) {
    text += " extra=";
    for (const hash::ExtraKeys& keys : stored->extra_keys) {
      text += "(";
      for (const std::string& key : keys) text += " " + ToHex(key);
      text += ")";
    }
  }
  return text + Describe(stored->group);
}

}  // namespace

History MakeHistory(uint64_t seed) { return Maker(seed).Make(); }

std::vector<PromptBlock> Regroup(const std::vector<PromptBlock>& prompt, uint32_t block_size) {
  const size_t units = block_size / kUnit;
  std::vector<PromptBlock> blocks;
  for (size_t i = 0; (i + 1) * units <= prompt.size(); ++i) {
    PromptBlock block = prompt[i * units];
    for (size_t k = 1; k < units; ++k) {
      const auto& tokens = prompt[i * units + k].tokens;
      block.tokens.insert(block.tokens.end(), tokens.begin(), tokens.end());
    }
    blocks.push_back(std::move(block));
  }
  return blocks;
}

std::string Describe(const PublisherProfile& profile) {
  return fmt::format("{} rank={} bs={} lora='{}' copies={}", profile.instance_id, profile.dp_rank,
                     profile.block_size, profile.lora_name,
                     profile.copies == index::CopyMode::kSet ? "set" : "count");
}

std::string Describe(const Step& step) {
  static const std::map<Step::Kind, std::string> kNames = {
      {Step::Kind::kBatch, "batch"},
      {Step::Kind::kNewLife, "new life"},
      {Step::Kind::kBeginRebuild, "begin rebuild"},
      {Step::Kind::kCommitRebuild, "commit rebuild"},
      {Step::Kind::kAbandonRebuild, "abandon rebuild"},
      {Step::Kind::kLeave, "leave"},
      {Step::Kind::kReturn, "return"},
  };
  std::string text = fmt::format("publisher {}: {}", step.publisher, kNames.at(step.kind));
  if (step.batch.dp_rank) text += fmt::format(" dp={}", *step.batch.dp_rank);
  for (const wire::KvEvent& event : step.batch.events) text += "\n      " + Describe(event);
  return text;
}

}  // namespace conductor::ingest
