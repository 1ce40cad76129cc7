#ifndef CONDUCTOR_TESTS_TOOLKIT_SOURCE_FRAMES_H_
#define CONDUCTOR_TESTS_TOOLKIT_SOURCE_FRAMES_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "daemon/toolkit/replay_source.h"
#include "lib/base/bytes.h"
#include "lib/wire/kv_event.h"
#include "lib/wire/vllm_encoder.h"

namespace conductor::toolkit {

// Frames of sources as short as they can be read.

inline constexpr uint64_t kEnd = ~uint64_t{0};

inline std::string SequenceBytes(uint64_t sequence) {
  const auto bytes = StoreBigEndian64(sequence);
  return {bytes.data(), bytes.size()};
}

inline SourceFrame Live(uint64_t sequence, std::string payload, uint32_t publisher = 0) {
  return {.publisher = publisher,
          .at = 1000 + static_cast<double>(sequence),
          .frames = {"", SequenceBytes(sequence), std::move(payload)}};
}

inline SourceFrame Answer(uint64_t sequence, std::string payload) {
  return {.kind = SourceFrame::Kind::kAnswer,
          .at = 1000,
          .frames = {"", "", SequenceBytes(sequence), std::move(payload)}};
}

inline SourceFrame EndOfAnswer() { return Answer(kEnd, ""); }

inline SourceFrame Mark(SourceFrame::Kind kind, uint64_t count = 0) {
  return {.kind = kind, .at = 1000, .count = count};
}

inline std::string Payload(std::vector<wire::KvEvent> events, double at = 1000) {
  return wire::EncodeVllmBatch({.timestamp = at, .dp_rank = 0, .events = std::move(events)});
}

// Blocks of two tokens each, named from `first` on; the tokens are the names.
inline wire::BlockStored Stored(uint64_t first, uint64_t count, std::optional<uint64_t> parent = {},
                                std::string medium = "GPU") {
  wire::BlockStored event;
  if (parent) event.parent = EngineHash{*parent};
  for (uint64_t name = first; name < first + count; ++name) {
    event.hashes.push_back(EngineHash{name});
    event.tokens.insert(event.tokens.end(), 2, static_cast<TokenId>(name));
  }
  event.block_size = 2;
  event.medium = std::move(medium);
  return event;
}

inline wire::BlockRemoved Removed(uint64_t name, std::string medium = "GPU") {
  return {.hashes = {EngineHash{name}}, .medium = std::move(medium), .group = {}};
}

inline std::vector<SourcePublisher> Publishers(std::vector<std::string> names) {
  std::vector<SourcePublisher> publishers;
  for (std::string& name : names) {
    publishers.push_back(Described(std::move(name), {}));
    publishers.back().has_live = true;
  }
  return publishers;
}

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_TESTS_TOOLKIT_SOURCE_FRAMES_H_
