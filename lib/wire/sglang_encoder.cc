#include "lib/wire/sglang_encoder.h"

#include "lib/wire/event_writer.h"

namespace conductor::wire {
namespace {

constexpr std::string_view kSalt = "cache_salt";

// Writes one event: both forms have the same fields in the same order, as keys or as slots.
class EventWriter {
 public:
  EventWriter(MsgpackWriter& out, bool as_map) : out_(out), as_map_(as_map) {}

  void operator()(const BlockStored& event) {
    Begin("BlockStored", event.cache_salt ? 8 : 7);
    Hashes(event.hashes);
    Key("parent_block_hash");
    event.parent ? Hash(*event.parent) : out_.Nil();
    Key("token_ids");
    WriteTokens(out_, event.tokens);
    Key("block_size");
    out_.Uint(event.block_size);
    Key("lora_id");
    out_.Nil();
    Key("medium");
    WriteOptional(out_, event.medium);
    if (!event.cache_salt) return;
    if (!as_map_) out_.Map(1);
    out_.Text(kSalt);
    out_.Text(*event.cache_salt);
  }

  void operator()(const BlockRemoved& event) {
    Begin("BlockRemoved", 3);
    Hashes(event.hashes);
    Key("medium");
    WriteOptional(out_, event.medium);
  }

  void operator()(const AllBlocksCleared&) { Begin("AllBlocksCleared", 1); }

  void operator()(const auto&) {}  // left out by WriteBatch

 private:
  void Begin(std::string_view tag, size_t fields) {
    as_map_ ? out_.Map(fields) : out_.Array(fields);
    Key("type");
    out_.Text(tag);
  }
  void Key(std::string_view name) {
    if (as_map_) out_.Text(name);
  }
  void Hash(EngineHash hash) { out_.Int(static_cast<int64_t>(hash)); }
  void Hashes(const std::vector<EngineHash>& hashes) {
    Key("block_hashes");
    out_.Array(hashes.size());
    for (const EngineHash hash : hashes) Hash(hash);
  }

  MsgpackWriter& out_;
  bool as_map_;
};

}  // namespace

std::string EncodeSglangPositionalBatch(const EventBatch& batch) {
  MsgpackWriter out;
  return WriteBatch(batch, EventWriter(out, false), out);
}

std::string EncodeSglangBatch(const EventBatch& batch) {
  MsgpackWriter out;
  return WriteBatch(batch, EventWriter(out, true), out);
}

}  // namespace conductor::wire
