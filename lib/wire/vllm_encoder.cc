#include "lib/wire/vllm_encoder.h"

#include "lib/wire/msgpack_writer.h"

namespace conductor::wire {
namespace {

// Writes one event: fields in declaration order, first counted and then written.
class EventWriter {
 public:
  explicit EventWriter(MsgpackWriter& out) : out_(out) {}

  void operator()(const BlockStored& event) {
    out_.Map(8 + Count(!event.extra_keys.empty()) + Count(event.group.index.has_value()) +
             Count(event.group.spec_kind.has_value()) + Count(event.cache_salt.has_value()));
    Tag("BlockStored");
    Hashes(event.hashes);
    out_.Text("parent_block_hash");
    event.parent ? Hash(*event.parent) : out_.Nil();
    out_.Text("token_ids");
    out_.Array(event.tokens.size());
    for (const TokenId token : event.tokens) out_.Uint(token);
    out_.Text("block_size");
    out_.Uint(event.block_size);
    Int("lora_id", event.lora_id);
    Text("medium", event.medium);
    Text("lora_name", event.lora_name);
    if (!event.extra_keys.empty()) ExtraKeys(event.extra_keys);
    Group(event.group.index);
    if (event.group.spec_kind) Text("kv_cache_spec_kind", event.group.spec_kind);
    if (event.cache_salt) Text("cache_salt", event.cache_salt);
  }

  void operator()(const BlockRemoved& event) {
    out_.Map(3 + Count(event.group.index.has_value()));
    Tag("BlockRemoved");
    Hashes(event.hashes);
    Text("medium", event.medium);
    Group(event.group.index);
  }

  void operator()(const AllBlocksCleared&) {
    out_.Map(1);
    Tag("AllBlocksCleared");
  }

  // What no vLLM sends: a pool's objects, RFC 1527's clearing of a scope.
  void operator()(const auto&) { out_.Nil(); }

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
  void Int(std::string_view key, const std::optional<int64_t>& value) {
    out_.Text(key);
    value ? out_.Int(*value) : out_.Nil();
  }
  void Text(std::string_view key, const std::optional<std::string>& value) {
    out_.Text(key);
    value ? out_.Text(*value) : out_.Nil();
  }
  void Group(const std::optional<int64_t>& index) {
    if (index) Int("group_idx", index);
  }
  void ExtraKeys(const std::vector<hash::ExtraKeys>& blocks) {
    out_.Text("extra_keys");
    out_.Array(blocks.size());
    for (const hash::ExtraKeys& keys : blocks) {
      if (keys.empty()) {
        out_.Nil();
        continue;
      }
      out_.Array(keys.size());
      for (const std::string& key : keys) out_.Raw(key);
    }
  }

  MsgpackWriter& out_;
};

}  // namespace

std::string EncodeVllmBatch(const EventBatch& batch) {
  MsgpackWriter out;
  EventWriter writer(out);
  out.Array(3);
  out.Float(batch.timestamp);
  out.Array(batch.events.size());
  for (const KvEvent& event : batch.events) std::visit(writer, event);
  batch.dp_rank ? out.Int(*batch.dp_rank) : out.Nil();
  return out.Take();
}

}  // namespace conductor::wire
