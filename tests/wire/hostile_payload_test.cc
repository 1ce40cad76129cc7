// Payloads that nobody should send: each is decoded or refused, at a cost that its own size bounds.

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "allocation_count.h"
#include "lib/wire/decoder.h"
#include "lib/wire/timestamp.h"
#include "payloads.h"

namespace conductor::wire {
namespace {

// A byte on the wire is at most two words of tape, and a vector that grows asks for twice that
// and more; an event or a block of its own is at most some hundred bytes.
constexpr size_t kBytesPerByte = 1024;
constexpr size_t kBytesAlways = 64 << 10;

void Survives(std::string_view payload, Dialect dialect) {
  Decoder decoder(dialect);
  allocated_bytes = 0;
  {
    const auto batch = decoder.Decode(payload);
    const auto seconds = PeekTimestamp(payload);
    if (batch) {
      EXPECT_EQ(seconds, batch->timestamp) << ToHex(payload);
      EXPECT_LE(batch->skips.size(), EventBatch::kMaxSkips);
    } else {
      EXPECT_FALSE(batch.error().what.empty());
    }
  }
  EXPECT_LE(allocated_bytes, kBytesAlways + kBytesPerByte * payload.size()) << ToHex(payload);
}

void Survives(std::string_view payload) {
  for (const Dialect dialect : kEveryDialect) Survives(payload, dialect);
}

TEST(HostilePayload, CutOffAtEveryByteIsRefused) {
  for (const auto& [name, dialect] : Goldens()) {
    const std::string whole = Golden(name);
    for (size_t size = 0; size < whole.size(); ++size) {
      // Of its own, so that a sanitizer sees any read past the end.
      const std::string cut = whole.substr(0, size);
      Decoder decoder(dialect);
      EXPECT_FALSE(decoder.Decode(cut)) << name << " cut to " << size;
      allocated_bytes = 0;
      (void)PeekTimestamp(cut);
      EXPECT_LE(allocated_bytes, kBytesAlways);
    }
  }
}

TEST(HostilePayload, EveryByteFlippedIsReadOrRefused) {
  for (const auto& [name, dialect] : Goldens()) {
    const std::string whole = Golden(name);
    for (size_t at = 0; at < whole.size(); ++at) {
      for (const int mask : {0x01, 0x10, 0x40, 0x80, 0xff}) {
        std::string flipped = whole;
        flipped[at] = static_cast<char>(flipped[at] ^ mask);
        Survives(flipped, dialect);
      }
      if (HasFailure()) FAIL() << name << " at byte " << at;
    }
  }
}

TEST(HostilePayload, ClaimsOfHugeSizesReserveNothing) {
  for (const char* hex : {
           "ddffffffff",                                         // an array of 4 billion
           "dfffffffff",                                         // a map
           "dbffffffff",                                         // a text of 4 GiB
           "c6ffffffff",                                         // bytes
           "c9ffffffff05",                                       // an extension
           "93 01 ddffffffff",                                   // events
           "93 01 91 ddffffffff ab426c6f636b53746f726564",       // slots of an event
           "93 01 91 94 ab426c6f636b53746f726564 ddffffffff01",  // hashes
           "93 01 91 94 ab426c6f636b53746f726564 9101 c0 ddffffffff 01 02",  // tokens
           "93 01 91 dfffffffff a474797065",                                 // keys of an event
           "dd7fffffff dd7fffffff dd7fffffff dd7fffffff",                    // all of that at once
       }) {
    Survives(Hex(hex));
  }
}

TEST(HostilePayload, DeepNestingIsRefused) {
  Survives(std::string(100000, '\x91'));
  Survives(std::string(100000, '\x81'));
  Survives(Hex("9201") + std::string(100000, '\x91'));
  Survives(Hex("82 a161") + std::string(100000, '\x91'));
  // Inside an extra key: as deep as the tape goes, encoded again.
  for (size_t depth = 1; depth < 40; ++depth) {
    Survives(Hex("92 01 91 99 ab426c6f636b53746f726564 9101 c0 90 00 c0 c0 c0 91 91") +
             std::string(depth, '\x91') + Hex("01"));
  }
}

TEST(HostilePayload, ManySmallValuesCostInProportion) {
  Survives(Hex("92 01 dd000186a0") + std::string(100000, '\x80'));  // events that are empty maps
  Survives(Hex("92 01 dd000186a0") + std::string(100000, '\x90'));
  Survives(Hex("92 01 91 92 ab426c6f636b53746f726564 dd000186a0") + std::string(100000, '\x01'));
  // Objects that say nothing but their key, and envelopes that say nothing but their name.
  std::string objects = Hex("92 01 dc2710");
  std::string envelopes = objects;
  for (int i = 0; i < 10000; ++i) {
    objects += Hex("82 aa6576656e745f74797065 a673746f726564 aa6f626a6563745f6b6579 a16b");
    envelopes += Hex("82 aa6576656e745f74797065 a673746f726564 aa7365715f686173686573 90");
  }
  Survives(objects);
  Survives(envelopes);
  Survives(Hex("dd000186a0 01 90") + std::string(99998, '\xc0'));  // slots of the batch
}

TEST(HostilePayload, MutatedBatchesAreReadOrRefused) {
  std::mt19937_64 random(20240607);
  const auto below = [&](size_t bound) { return static_cast<size_t>(random() % bound); };
  std::vector<std::string> seeds;
  for (const GoldenPayload& golden : Goldens()) seeds.push_back(Golden(golden.name));

  size_t read = 0;
  constexpr int kRounds = 20000;
  for (int round = 0; round < kRounds; ++round) {
    std::string payload = seeds[below(seeds.size())];
    const size_t changes = 1 + below(4);
    for (size_t change = 0; change < changes && !payload.empty(); ++change) {
      const size_t at = below(payload.size());
      switch (below(5)) {
        case 0:
          payload[at] = static_cast<char>(random());
          break;
        case 1:
          payload[at] = static_cast<char>(payload[at] ^ (1 << below(8)));
          break;
        case 2:
          payload.erase(at, 1 + below(4));
          break;
        case 3:
          payload.insert(at, 1, static_cast<char>(random()));
          break;
        default: {
          const std::string& other = seeds[below(seeds.size())];
          const size_t from = below(other.size());
          payload.insert(at, other.substr(from, 1 + below(16)));
          break;
        }
      }
    }
    const Dialect dialect = kEveryDialect[below(std::size(kEveryDialect))];
    Survives(payload, dialect);
    if (HasFailure()) FAIL() << "round " << round;
    Decoder decoder(dialect);
    if (decoder.Decode(payload)) ++read;
  }
  // Mutations that never get past the parser would prove little.
  EXPECT_GT(read, kRounds / 20);
}

TEST(HostilePayload, RandomBytesAreReadOrRefused) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 20000; ++round) {
    std::string payload(random() % 64, '\0');
    std::ranges::generate(payload, [&] { return static_cast<char>(random()); });
    if (round % 2 == 0) payload = Hex("92 01 9f") + payload;
    Survives(payload, kEveryDialect[random() % std::size(kEveryDialect)]);
    if (HasFailure()) FAIL() << "round " << round;
  }
}

}  // namespace
}  // namespace conductor::wire
