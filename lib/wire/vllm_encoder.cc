#include "lib/wire/vllm_encoder.h"

#include "lib/wire/event_writer.h"

namespace conductor::wire {
namespace {

// Writes one event as a map: fields in declaration order, first counted and then written.
class MapWriter {
 public:
  explicit MapWriter(MsgpackWriter& out) : out_(out) {}

  void operator()(const BlockStored& event) {
    out_.Map(8 + Count(!event.extra_keys.empty()) + Count(event.group.index.has_value()) +
             Count(event.group.spec_kind.has_value()) + Count(event.cache_salt.has_value()));
    Tag("BlockStored");
    Hashes(event.hashes);
    out_.Text("parent_block_hash");
    event.parent ? Hash(*event.parent) : out_.Nil();
    out_.Text("token_ids");
    WriteTokens(out_, event.tokens);
    out_.Text("block_size");
    out_.Uint(event.block_size);
    Field("lora_id", event.lora_id);
    Field("medium", event.medium);
    Field("lora_name", event.lora_name);
    if (!event.extra_keys.empty()) {
      out_.Text("extra_keys");
      WriteExtraKeys(out_, event.extra_keys);
    }
    if (event.group.index) Field("group_idx", event.group.index);
    if (event.group.spec_kind) Field("kv_cache_spec_kind", event.group.spec_kind);
    if (event.cache_salt) Field("cache_salt", event.cache_salt);
  }

  void operator()(const BlockRemoved& event) {
    out_.Map(3 + Count(event.group.index.has_value()));
    Tag("BlockRemoved");
    Hashes(event.hashes);
    Field("medium", event.medium);
    if (event.group.index) Field("group_idx", event.group.index);
  }

  void operator()(const AllBlocksCleared&) {
    out_.Map(1);
    Tag("AllBlocksCleared");
  }

  void operator()(const auto&) {}  // left out by WriteBatch

 private:
  static size_t Count(bool present) { return present ? 1 : 0; }

  void Tag(std::string_view name) {
    out_.Text("type");
    out_.Text(name);
  }
  void Hash(EngineHash hash) { out_.Uint(static_cast<uint64_t>(hash)); }
  void Hashes(const std::vector<EngineHash>& hashes) {
    out_.Text("block_hashes");
    out_.Array(hashes.size());
    for (const EngineHash hash : hashes) Hash(hash);
  }
  template <typename Value>
  void Field(std::string_view key, const std::optional<Value>& value) {
    out_.Text(key);
    WriteOptional(out_, value);
  }

  MsgpackWriter& out_;
};

// Writes one event as an array of the slots that a release has.
class SlotWriter {
 public:
  SlotWriter(MsgpackWriter& out, VllmSlots slots) : out_(out), slots_(slots) {}

  void operator()(const BlockStored& event) {
    out_.Array(Slots(6, 7, 12));
    out_.Text("BlockStored");
    Hashes(event.hashes);
    event.parent ? out_.Uint(static_cast<uint64_t>(*event.parent)) : out_.Nil();
    WriteTokens(out_, event.tokens);
    out_.Uint(event.block_size);
    WriteOptional(out_, event.lora_id);
    if (slots_ == VllmSlots::kV0_9_0) return;
    WriteOptional(out_, event.medium);
    if (slots_ == VllmSlots::kV0_11) return;
    WriteOptional(out_, event.lora_name);
    WriteExtraKeys(out_, event.extra_keys);
    WriteOptional(out_, event.group.index);
    WriteOptional(out_, event.group.spec_kind);
    out_.Nil();
  }

  void operator()(const BlockRemoved& event) {
    out_.Array(Slots(2, 3, 4));
    out_.Text("BlockRemoved");
    Hashes(event.hashes);
    if (slots_ == VllmSlots::kV0_9_0) return;
    WriteOptional(out_, event.medium);
    if (slots_ == VllmSlots::kV0_11) return;
    WriteOptional(out_, event.group.index);
  }

  void operator()(const AllBlocksCleared&) {
    out_.Array(1);
    out_.Text("AllBlocksCleared");
  }

  void operator()(const auto&) {}  // left out by WriteBatch

 private:
  [[nodiscard]] size_t Slots(size_t v0_9_0, size_t v0_11, size_t v0_23) const {
    if (slots_ == VllmSlots::kV0_9_0) return v0_9_0;
    return slots_ == VllmSlots::kV0_11 ? v0_11 : v0_23;
  }
  void Hashes(const std::vector<EngineHash>& hashes) {
    out_.Array(hashes.size());
    for (const EngineHash hash : hashes) out_.Uint(static_cast<uint64_t>(hash));
  }

  MsgpackWriter& out_;
  VllmSlots slots_;
};

}  // namespace

std::string EncodeVllmBatch(const EventBatch& batch) {
  MsgpackWriter out;
  return WriteBatch(batch, MapWriter(out), out);
}

std::string EncodeVllmPositionalBatch(const EventBatch& batch, VllmSlots slots) {
  MsgpackWriter out;
  return WriteBatch(batch, SlotWriter(out, slots), out, slots != VllmSlots::kV0_9_0);
}

}  // namespace conductor::wire
