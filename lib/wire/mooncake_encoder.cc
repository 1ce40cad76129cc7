#include "lib/wire/mooncake_encoder.h"

#include <algorithm>

#include "lib/wire/event_writer.h"

namespace conductor::wire {
namespace {

class MasterWriter {
 public:
  MasterWriter(MsgpackWriter& out, const MasterBatch& batch) : out_(out), batch_(batch) {}

  void Write(const MasterEvent& event, uint64_t event_id) {
    const bool legacy = batch_.emit_legacy_compat;
    const size_t always = event.is_stored ? 16 : 14;
    const size_t aliases = event.is_stored ? 3 : 2;
    out_.Map(always + (legacy ? aliases : 0) + (batch_.emit_object_key ? 1 : 0));
    Uint("event_id", event_id);
    Uint("timestamp", batch_.timestamp_ms);
    Text("event_type", event.is_stored ? "stored" : "removed");
    if (legacy) Text("type", event.is_stored ? "BlockStored" : "BlockRemoved");
    for (const auto* name : {"model_name", "block_size", "additional_salt", "lora_name"}) Nil(name);
    Text("tenant_id", event.tenant);
    Text("backend_id", event.backend);
    Text("group_id", event.group_id);
    Text("medium", event.medium);
    Nil("dp_rank");
    if (batch_.emit_object_key) Text("object_key", event.key);
    out_.Text("seq_hashes");
    out_.Array(event.hashes.size());
    for (const EngineHash hash : event.hashes) out_.Uint(static_cast<uint64_t>(hash));
    if (legacy) {
      out_.Text("block_hashes");
      out_.Array(event.hashes.size());
      for (const EngineHash hash : event.hashes) out_.Int(static_cast<int64_t>(hash));
    }
    if (!event.is_stored) return Nil("base_block_idx");
    Uint("base_block_idx", 0);
    Nil("parent_hash");
    Nil("token_ids");
    if (legacy) Nil("parent_block_hash");
  }

 private:
  void Nil(std::string_view key) {
    out_.Text(key);
    out_.Nil();
  }
  void Uint(std::string_view key, uint64_t value) {
    out_.Text(key);
    out_.Uint(value);
  }
  void Text(std::string_view key, const std::optional<std::string>& value) {
    out_.Text(key);
    WriteOptional(out_, value);
  }

  MsgpackWriter& out_;
  const MasterBatch& batch_;
};

}  // namespace

std::string EncodeMooncakeBatch(const MasterBatch& batch) {
  const auto is_sent = [&](const MasterEvent& event) {
    return batch.emit_object_key || !event.hashes.empty();
  };
  MsgpackWriter out;
  MasterWriter writer(out, batch);
  out.Array(3);
  out.Uint(batch.timestamp_ms);
  out.Array(static_cast<size_t>(std::ranges::count_if(batch.events, is_sent)));
  uint64_t event_id = batch.first_event_id;
  for (const MasterEvent& event : batch.events) {
    if (is_sent(event)) writer.Write(event, event_id++);
  }
  out.Uint(0);
  return out.Take();
}

}  // namespace conductor::wire
