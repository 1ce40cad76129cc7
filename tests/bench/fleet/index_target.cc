// The index in this process.

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "lib/index/prefix_index.h"
#include "lib/ingest/publisher_ingest.h"
#include "lib/wire/decoder.h"
#include "lib/wire/vllm_encoder.h"
#include "target.h"

namespace conductor::bench {
namespace {

class IndexTarget final : public Target {
 public:
  IndexTarget(const FleetOptions& options, uint32_t clients, uint64_t memory_limit)
      : options_(options),
        index_({.memory_limit = memory_limit}),
        decoder_(wire::Dialect::kVllm),
        matches_(clients) {
    for (uint32_t i = 0; i < options.engines; ++i) {
      ingest::PublisherProfile profile;
      profile.instance_id = fmt::format("engine-{}", i);
      profile.model = "fleet-bench";
      profile.block_size = options.block_size;
      engines_.push_back(
          std::make_unique<ingest::PublisherIngest>(index_, profile, ingest::IngestLimits{}, i));
    }
  }

  Status Prepare(const std::vector<Step>& steps) override {
    steps_ = &steps;
    for (const Step& step : steps) {
      wire::EventBatch batch;
      batch.timestamp = 1.7e9 + step.seconds;
      batch.events = step.events;
      payloads_.push_back(step.events.empty() ? std::string() : wire::EncodeVllmBatch(batch));
    }
    return {};
  }

  Result<Found> Ask(uint32_t client, size_t step) override {
    index::Matches& matches = matches_[client];
    index::TokenChain chain((*steps_)[step].prompt, options_.block_size, hash::kDefaultSeed);
    const index::Scope scope{.tenant = "default",
                             .model = "fleet-bench",
                             .lora_name = "",
                             .block_size = options_.block_size};
    index_.Match(scope, chain, {}, {}, matches);
    Found found{.holders = static_cast<uint32_t>(matches.ranks.size()), .walked = matches.walked};
    for (const index::RankMatch& match : matches.ranks) {
      found.longest = std::max(found.longest, match.disk);
    }
    return found;
  }

  Status Announce(size_t step) override {
    if (payloads_[step].empty()) return {};
    const auto batch = decoder_.Decode(payloads_[step]);
    if (!batch) return tl::unexpected(batch.error());
    engines_[(*steps_)[step].engine]->Apply(*batch);
    return {};
  }

  Status Drain() override { return {}; }

  uint64_t ResidentBytes() override {
    std::ifstream file("/proc/self/statm");
    uint64_t size = 0;
    uint64_t resident = 0;
    file >> size >> resident;
    return resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  }

 private:
  FleetOptions options_;
  index::PrefixIndex index_;
  std::vector<std::unique_ptr<ingest::PublisherIngest>> engines_;
  const std::vector<Step>* steps_ = nullptr;
  std::vector<std::string> payloads_;
  wire::Decoder decoder_;                // of the announcing thread
  std::vector<index::Matches> matches_;  // one for each client
};

}  // namespace

std::unique_ptr<Target> MakeIndexTarget(const FleetOptions& options, uint32_t clients,
                                        uint64_t memory_limit) {
  return std::make_unique<IndexTarget>(options, clients, memory_limit);
}

}  // namespace conductor::bench
