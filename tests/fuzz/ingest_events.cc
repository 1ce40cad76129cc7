// Histories of well-formed events from a small alphabet, of two publishers of one engine, applied
// to the index and to the reference model: both must say the same. Where ingest_payloads asks what
// bytes can break, this asks which order of events can.
//
// The input: one byte of options, then decisions.

#include <array>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "fuzz_target.h"
#include "lib/ingest/reference_model.h"
#include "tests/ingest/index_subject.h"

namespace conductor::ingest {
namespace {

using fuzz::Require;

constexpr uint32_t kPublishers = 2;
constexpr uint32_t kBlockSize = 2;
constexpr unsigned kNames = 12;

PublisherProfile Profile(uint32_t publisher, uint8_t options) {
  return {.instance_id = "engine",
          .model = "m",
          .block_size = (options & 1) != 0 ? 0 : kBlockSize,
          .dp_rank = (options & 2) != 0 ? publisher : 0,
          .copies = (options & 4) != 0 ? index::CopyMode::kSet : index::CopyMode::kCount};
}

EngineHash Name(fuzz::Decisions& input) { return EngineHash{input.Below(kNames) + 1U}; }

// Prompts are told apart by few tokens, so that histories meet.
TokenId Token(unsigned draw) { return 7 + draw % 2; }

void ChooseGroup(uint8_t shape, wire::CacheGroup& group) {
  if (shape >= 16) return;
  group.index = shape % 2;
  if (shape >= 8) group.spec_kind = shape >= 12 ? "mamba" : "full_attention";
}

std::optional<std::string> Medium(fuzz::Decisions& input) {
  constexpr std::array<const char*, 8> kMedia = {"GPU",  "gpu", "CPU",  "CPU",
                                                 "DISK", "FS",  "tape", ""};
  const uint8_t draw = input.Below(kMedia.size());
  if (draw == 7) return std::nullopt;
  return kMedia[draw];
}

wire::BlockStored Stored(fuzz::Decisions& input) {
  wire::BlockStored event;
  const uint8_t shape = input.Byte();
  for (unsigned left = 1 + shape % 4U; left > 0; --left) event.hashes.push_back(Name(input));
  if ((shape & 4) != 0) event.parent = Name(input);
  event.medium = Medium(input);
  if ((shape & 8) != 0) event.lora_name = "adapter";
  if ((shape & 16) != 0) ChooseGroup(input.Below(64), event.group);
  if ((shape & 224) == 224) return event;  // without tokens
  // Whole spans of one or two blocks, seldom what does not fit.
  event.block_size = (shape & 224) == 192 ? 2 * kBlockSize : (shape & 224) == 160 ? 3 : kBlockSize;
  for (size_t i = 0; i < event.hashes.size() * event.block_size; i += 8) {
    const uint8_t draws = input.Byte();
    for (unsigned k = 0; k < 8 && i + k < event.hashes.size() * event.block_size; ++k) {
      event.tokens.push_back(Token(draws >> k));
    }
  }
  if ((shape & 32) != 0) {
    event.extra_keys.resize(event.hashes.size());
    event.extra_keys.front() = {hash::TextKey("adapter"), hash::TextKey("salt")};
  }
  return event;
}

wire::BlockRemoved Removed(fuzz::Decisions& input) {
  wire::BlockRemoved event;
  const uint8_t shape = input.Byte();
  for (unsigned left = 1 + shape % 4U; left > 0; --left) event.hashes.push_back(Name(input));
  event.medium = Medium(input);
  if ((shape & 16) != 0) ChooseGroup(input.Below(64), event.group);
  return event;
}

wire::EventBatch Batch(fuzz::Decisions& input) {
  wire::EventBatch batch;
  const uint8_t shape = input.Byte();
  if (shape >= 192) batch.dp_rank = shape % 3;
  for (unsigned left = 1 + shape % 3U; left > 0; --left) {
    const uint8_t kind = input.Below(16);
    if (kind == 0) {
      batch.events.emplace_back(wire::AllBlocksCleared{});
    } else if (kind < 6) {
      batch.events.emplace_back(Removed(input));
    } else {
      batch.events.emplace_back(Stored(input));
    }
  }
  return batch;
}

class Pair {
 public:
  explicit Pair(uint8_t options) : options_(options) {
    for (uint32_t id = 0; id < kPublishers; ++id) Arrive(id);
  }

  void Step(fuzz::Decisions& input) {
    const uint8_t what = input.Byte();
    const uint32_t id = what % kPublishers;
    const auto both = [&](auto call) {
      call(index_);
      call(model_);
    };
    switch (what / 2 % 16) {
      case 0:
        both([&](auto& side) { side.NewLife(id); });
        break;
      case 1:
        if (!rebuilding_.insert(id).second) return;
        both([&](auto& side) { side.BeginRebuild(id); });
        break;
      case 2:
        if (rebuilding_.erase(id) == 0) return;
        both([&](auto& side) { side.CommitRebuild(id); });
        break;
      case 3:
        if (rebuilding_.erase(id) == 0) return;
        both([&](auto& side) { side.AbandonRebuild(id); });
        break;
      case 4:
        both([&](auto& side) { side.RemovePublisher(id); });
        rebuilding_.erase(id);
        Arrive(id);
        break;
      default: {
        const wire::EventBatch batch = Batch(input);
        both([&](auto& side) { side.Apply(id, batch); });
      }
    }
  }

  void Compare() const {
    const Status valid = index_.index().Validate();
    Require(valid.has_value(), valid ? "" : valid.error().Message());
    const index::IndexStats stats = index_.index().Stats();
    Require(stats.holdings == model_.Holdings(), "the model has as many holdings");
    Require(stats.blocks == model_.Blocks(), "the model has as many blocks");
    Require(stats.released == model_.Released(), "the model has released as many blocks");
    for (uint32_t id = 0; id < kPublishers; ++id) {
      if (rebuilding_.contains(id)) continue;  // these then speak of the hidden life
      Require(index_.HoldsNothing(id) == model_.HoldsNothing(id), "the model holds nothing too");
      Require(index_.WaitingEvents(id) == model_.WaitingEvents(id), "as many wait in the model");
      Require(index_.BlockSize(id) == model_.BlockSize(id), "the model has learnt that size too");
    }
    for (const uint32_t block_size : {kBlockSize, 2 * kBlockSize}) {
      const auto wanted = [block_size](const index::NamespaceKey& key) {
        return key.block_size == block_size;
      };
      // Some of the prompts of eight tokens: a look at all of them takes longer than the history.
      for (unsigned draws = 0; draws < 256; draws += 13) {
        std::vector<PromptBlock> prompt(8 / block_size);
        for (unsigned i = 0; i < 8; ++i) {
          prompt[i / block_size].tokens.push_back(Token(draws >> i));
        }
        if (draws % 2 == 0) prompt.front().extra_keys = {hash::TextKey("salt")};
        Require(index_.Query(wanted, prompt) == model_.Query(wanted, prompt),
                "the model gives the same answer");
      }
    }
  }

 private:
  void Arrive(uint32_t id) {
    const PublisherProfile profile =
        Profile(id, id == 0 ? options_ : static_cast<uint8_t>(options_ >> 3));
    index_.AddPublisher(id, profile);
    model_.AddPublisher(id, profile);
  }

  uint8_t options_;
  // Nothing is forgotten: which of the blocks that a clear releases are the older is not laid down.
  IndexSubject index_{ReferenceModel::kUnlimited};
  ReferenceModel model_;
  std::set<uint32_t> rebuilding_;
};

}  // namespace
}  // namespace conductor::ingest

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Longer histories find little more, and the model looks at everything for every answer.
  constexpr int kMaxSteps = 100;
  conductor::fuzz::Decisions input(data, size);
  conductor::ingest::Pair pair(input.Byte());
  for (int i = 0; i < kMaxSteps && !input.over(); ++i) pair.Step(input);
  pair.Compare();
  return 0;
}
