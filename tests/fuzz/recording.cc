// Any bytes as a recording. So that mutations reach what checksums guard, an input that does not
// begin as one is given a header, and one that begins with 'r' is the bodies of records, each
// behind its length in two bytes, that a block is made of.

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "fuzz_target.h"
#include "lib/trace/recording_format.h"
#include "lib/trace/recording_reader.h"

namespace {

void PutNumber(std::string& bytes, uint64_t value) {
  for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(value >> shift & 0xff);
}

std::string BlockOfBodies(conductor::fuzz::Decisions input) {
  namespace trace = conductor::trace;
  std::string block;
  uint32_t records = 0;
  while (!input.over()) {
    const size_t size = size_t{input.Byte()} << 8 | input.Byte();
    const std::string_view body = input.Bytes(size);
    PutNumber(block, body.size());
    PutNumber(block, trace::Checksum(body));
    block += body;
    ++records;
  }
  return *trace::EncodeBlock(block, records, 1);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using conductor::fuzz::Require;
  namespace trace = conductor::trace;
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (bytes.starts_with("r")) {
    bytes = trace::EncodeHeader({}) + BlockOfBodies({data + 1, size - 1});
  } else if (!bytes.starts_with("\x89KVR")) {
    bytes = trace::EncodeHeader({}) + bytes;
  }
  size_t at = 0;
  auto reader = trace::RecordingReader::From(
      [&](char* to, size_t most) {
        const size_t got = std::min(most, bytes.size() - at);
        std::memcpy(to, bytes.data() + at, got);
        at += got;
        return conductor::Result<size_t>(got);
      },
      "input");
  if (!reader) {
    Require(!reader.error().what.empty(), "an error says what is wrong");
    return 0;
  }
  uint64_t damages = 0;
  uint64_t lost = 0;
  uint64_t end_of_last = 0;
  while (const auto item = reader->Next()) {
    if (const auto* frame = std::get_if<trace::RecordedFrame>(&*item)) {
      Require(frame->publisher < reader->publishers().size(), "a frame's publisher is known");
      Require(frame->frames.size() <= trace::kMostFrames, "frames are bounded");
    } else if (const auto* damage = std::get_if<trace::Damage>(&*item)) {
      Require(!damage->what.empty(), "damage says what it is");
      Require(damage->offset + damage->bytes <= bytes.size(), "damage lies in the file");
      if (damage->bytes > 0) {
        Require(damage->offset >= end_of_last, "damages come in order");
        end_of_last = damage->offset + damage->bytes;
      }
      ++damages;
      lost += damage->bytes;
    }
  }
  Require(at == bytes.size(), "the file is read to its end");
  Require(damages == reader->counters().damages, "all damage is told");
  Require(lost == reader->counters().damaged_bytes && lost <= bytes.size(),
          "each byte is damaged once");
  Require(reader->whole_bytes() <= bytes.size(), "what is whole lies in the file");
  return 0;
}
