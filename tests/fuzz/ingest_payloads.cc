// The whole way of payloads into the index, for two publishers and a pool that share it: any bytes
// decoded, applied, among restarts, rebuilds and listings; then the index checked by a full walk.
//
// The input: one byte of options, then steps of one byte that says what happens to which
// publisher, two of a length, and so many of a payload.

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz_target.h"
#include "lib/index/prefix_index.h"
#include "lib/ingest/pool_ingest.h"
#include "lib/ingest/publisher_ingest.h"
#include "lib/wire/decoder.h"

namespace conductor::ingest {
namespace {

using fuzz::Require;

constexpr size_t kMaxWaitingBytes = 4096;

PublisherProfile Profile(uint32_t publisher, uint8_t options) {
  constexpr std::array<uint32_t, 4> kBlockSizes = {0, 1, 2, 16};
  return {.instance_id = "engine " + std::to_string(publisher % 2),
          .model = "m",
          .lora_name = (options & 1) != 0 ? "adapter" : "",
          .block_size = kBlockSizes[options >> 1 & 3],
          .dp_rank = publisher,
          .copies = (options & 8) != 0 ? index::CopyMode::kSet : index::CopyMode::kCount};
}

class World {
 public:
  explicit World(uint8_t options)
      : index_({.released_limit = (options & 16) != 0 ? 4U : 64U}),
        pool_(std::make_unique<PoolIngest>(
            index_,
            PoolProfile{.name = "pool",
                        .model = "m",
                        .lookup = (options & 32) != 0 ? index::PoolLookup::kContinue
                                                      : index::PoolLookup::kFromStart},
            IngestLimits{.max_holders = 4, .max_pool_bytes = 4096})) {
    for (uint32_t i = 0; i < publishers_.size(); ++i) {
      publishers_[i].ingest = std::make_unique<PublisherIngest>(
          index_, Profile(i, i == 0 ? options : static_cast<uint8_t>(options >> 4)),
          IngestLimits{.max_waiting_bytes = kMaxWaitingBytes,
                       .max_holders = 4,
                       .max_groups = 2,
                       .max_name_bytes = 16},
          i);
    }
  }

  void Step(fuzz::Decisions& input) {
    const uint8_t what = input.Byte();
    Publisher& publisher = publishers_[what & 1];
    switch (what >> 1 & 15) {
      case 1:
        publisher.ingest->NewLife();
        break;
      case 2:
        if (!publisher.rebuilding) publisher.ingest->BeginRebuild();
        publisher.rebuilding = true;
        break;
      case 3:
        if (publisher.rebuilding) publisher.ingest->CommitRebuild();
        publisher.rebuilding = false;
        break;
      case 4:
        if (publisher.rebuilding) publisher.ingest->AbandonRebuild();
        publisher.rebuilding = false;
        break;
      case 6:
        pool_->NewLife();
        break;
      case 7:
        pool_->BeginListing();
        break;
      case 8:
        pool_->AbandonListing();
        break;
      case 9:
        List(input);
        break;
      case 10:
        if (const auto batch = Decode(pool_decoder_, input)) pool_->Apply(*batch);
        break;
      default:
        if (const auto batch = Decode(decoder_, input)) publisher.ingest->Apply(*batch);
    }
    const IngestCounters counters = publisher.ingest->Counters();
    Require(counters.waiting_bytes <= kMaxWaitingBytes, "what waits is bounded");
    Require(counters.joined + counters.waiting_dropped <= counters.orphaned,
            "only what waited joins or is dropped");
  }

  void End() {
    Validate();
    for (Publisher& publisher : publishers_) {
      publisher.ingest.reset();
      Validate();
    }
    pool_.reset();
    Validate();
    Require(index_.Stats().holdings == 0, "nothing is held by a publisher that is gone");
    Require(index_.Stats().holders == 0, "no holder outlives its publisher");
  }

 private:
  struct Publisher {
    std::unique_ptr<PublisherIngest> ingest;
    bool rebuilding = false;
  };

  static std::string_view Bytes(fuzz::Decisions& input) {
    const size_t high = input.Byte();
    const size_t size = high << 8 | input.Byte();
    return input.Bytes(size);
  }

  static Result<wire::EventBatch> Decode(wire::Decoder& decoder, fuzz::Decisions& input) {
    return decoder.Decode(Bytes(input));
  }

  // A listing of one key, or of none.
  void List(fuzz::Decisions& input) {
    std::vector<ListedObject> objects;
    const uint8_t tiers = input.Byte();
    const std::string_view key = Bytes(input);
    if (!key.empty()) {
      objects.push_back(
          {.key = std::string(key), .cpu = (tiers & 1) != 0, .disk = (tiers & 2) != 0});
    }
    if ((tiers & 4) != 0) {
      pool_->TiersLearnt(objects);
    } else {
      pool_->ApplyListing(objects);
    }
  }

  void Validate() const {
    const Status status = index_.Validate();
    Require(status.has_value(), status ? "" : status.error().Message());
  }

  index::PrefixIndex index_;
  wire::Decoder decoder_{wire::Dialect::kVllm};
  wire::Decoder pool_decoder_{wire::Dialect::kMooncake};
  std::unique_ptr<PoolIngest> pool_;
  std::array<Publisher, 2> publishers_;
};

}  // namespace
}  // namespace conductor::ingest

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  conductor::fuzz::Decisions input(data, size);
  conductor::ingest::World world(input.Byte());
  while (!input.over()) world.Step(input);
  world.End();
  return 0;
}
