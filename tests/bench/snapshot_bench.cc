// What a snapshot costs: how long saving and loading take, how large the file is, and what lookups
// notice of a save.
//
//   build/release/tests/bench/snapshot_bench [BLOCKS [PUBLISHERS [FILE]]]
//
// Each publisher holds chains of 1,000 blocks, each block with a name of its own; half of the
// chains are shared with the publisher before it.

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "daemon/serve/registration_json.h"
#include "daemon/serve/registry.h"
#include "lib/base/clock.h"
#include "lib/index/prefix_index.h"
#include "lib/ingest/publisher_ingest.h"
#include "lib/store/snapshot_reader.h"
#include "lib/store/snapshot_writer.h"

namespace conductor {
namespace {

constexpr uint64_t kChain = 1000;  // blocks
constexpr uint64_t kPrompt = 256;  // blocks of a lookup
constexpr uint32_t kBlockSize = 16;

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

// Of this process, all threads: what a busy machine does not stretch.
double CpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

// splitmix64: block i of chain c is known without being kept.
uint64_t HashOf(uint64_t chain, uint64_t block) {
  uint64_t bits = (chain * kChain + block + 1) * 0x9e3779b97f4a7c15;
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
  return bits ^ (bits >> 31);
}

serve::Registration RegistrationOf(uint32_t number) {
  serve::Registration registration;
  registration.mode = stream::ListenMode::kIngest;
  registration.model = "m";
  registration.instance_id = fmt::format("engine-{}", number);
  registration.block_size = kBlockSize;
  return registration;
}

void Store(ingest::PublisherIngest& publisher, uint64_t chain) {
  wire::EventBatch batch;
  wire::BlockStored stored;
  stored.block_size = kBlockSize;
  stored.standard_hashes = true;
  stored.medium = "GPU";
  for (uint64_t i = 0; i < kChain; ++i) stored.hashes.push_back(EngineHash{HashOf(chain, i)});
  batch.events.emplace_back(std::move(stored));
  publisher.Apply(batch);
}

// Looks random prompts up until told to stop: the times, in microseconds.
class Lookups {
 public:
  Lookups(const index::PrefixIndex& index, uint64_t chains) {
    thread_ = std::jthread([&index, chains, this](const std::stop_token& stop) {
      std::mt19937_64 random(1);
      std::vector<PrefixHash> prompt(kPrompt);
      index::Matches matches;
      while (!stop.stop_requested()) {
        const uint64_t chain = random() % chains;
        for (uint64_t i = 0; i < kPrompt; ++i) prompt[i] = PrefixHash{HashOf(chain, i)};
        index::PrefixList source(prompt);
        const MonoTime begin = MonoNow();
        index.Match({"default", "m", "", kBlockSize, ""}, source, {}, {}, matches);
        times_.push_back(Seconds(MonoNow() - begin) * 1e6);
        if (matches.ranks.empty()) std::abort();
      }
    });
  }

  std::vector<double> Stop() {
    thread_.request_stop();
    thread_.join();
    std::ranges::sort(times_);
    return std::move(times_);
  }

 private:
  std::vector<double> times_;
  std::jthread thread_;
};

double Percentile(const std::vector<double>& sorted, double share) {
  return sorted[static_cast<size_t>(static_cast<double>(sorted.size() - 1) * share)];
}

int Main(uint64_t blocks, uint32_t count, const std::string& path) {
  const auto fail = [](const Error& error) {
    fmt::print(stderr, "snapshot_bench: {}\n", error.Message());
    return 1;
  };
  index::PrefixIndex index{index::PrefixIndex::Options{}};
  std::vector<std::unique_ptr<ingest::PublisherIngest>> publishers;
  const uint64_t chains = std::max<uint64_t>(blocks / kChain, count);
  for (uint32_t i = 0; i < count; ++i) {
    publishers.push_back(std::make_unique<ingest::PublisherIngest>(
        index,
        ingest::PublisherProfile{.name = RegistrationOf(i).Key(),
                                 .instance_id = RegistrationOf(i).instance_id,
                                 .model = "m",
                                 .block_size = kBlockSize},
        ingest::IngestLimits{}, i));
  }
  const double events_begin = CpuSeconds();
  for (uint64_t chain = 0; chain < chains; ++chain) {
    Store(*publishers[chain % count], chain);
    if (chain % 2 == 0) Store(*publishers[(chain + 1) % count], chain);
  }
  const double events_cpu = CpuSeconds() - events_begin;
  const index::IndexStats stats = index.Stats();
  fmt::print("{} blocks, {} holdings, {} names, {} publishers, {:.1f} bytes of memory a block\n",
             stats.blocks, stats.holdings, stats.aliases, count,
             static_cast<double>(stats.bytes) / static_cast<double>(stats.blocks));

  Lookups quiet(index, chains);
  std::this_thread::sleep_for(std::chrono::seconds(3));
  const std::vector<double> alone = quiet.Stop();

  ::unlink(path.c_str());
  Lookups busy(index, chains);
  const MonoTime begin = MonoNow();
  timespec cpu_begin{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu_begin);
  Duration copying{};
  Duration longest{};  // that one publisher was held still
  auto writer = store::SnapshotWriter::Create(path, {.conductor = "bench",
                                                     .saved_at = UnixNow(),
                                                     .hash_seed = index.options().hash_seed,
                                                     .vfs = {}});
  if (!writer) return fail(writer.error());
  for (uint32_t i = 0; i < count; ++i) {
    const MonoTime copied = MonoNow();
    const auto copy = publishers[i]->BeginCopy(MonoNow());
    while (copy->Step()) {
    }
    store::SavedPublisher saved{.key = RegistrationOf(i).Key(),
                                .registration = serve::RegistrationJson(RegistrationOf(i)).dump()};
    saved.resume.emplace();
    saved.life = copy->Take();
    copying += MonoNow() - copied;
    longest = std::max<Duration>(longest, MonoNow() - copied);
    if (auto added = (*writer)->Add(saved); !added) return fail(added.error());
  }
  const auto info = (*writer)->Finish();
  if (!info) return fail(info.error());
  writer->reset();
  const double seconds = Seconds(MonoNow() - begin);
  timespec cpu_end{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu_end);
  const double cpu = static_cast<double>(cpu_end.tv_sec - cpu_begin.tv_sec) +
                     static_cast<double>(cpu_end.tv_nsec - cpu_begin.tv_nsec) / 1e9;
  const std::vector<double> beside = busy.Stop();
  fmt::print(
      "saved in {:.2f} s ({:.2f} s of a processor), copying {:.2f} s of it, one publisher at most "
      "{:.2f} s\n",
      seconds, cpu, Seconds(copying), Seconds(longest));
  fmt::print("{} bytes, {:.1f} a block\n", info->bytes,
             static_cast<double>(info->bytes) / static_cast<double>(info->blocks));
  for (const double share : {0.5, 0.99}) {
    fmt::print("lookups of {} blocks, p{:.0f}: {:.1f} us alone, {:.1f} us beside a save: {:.2f}\n",
               kPrompt, share * 100, Percentile(alone, share), Percentile(beside, share),
               Percentile(beside, share) / Percentile(alone, share));
  }

  // As each save is before it takes the place of another.
  {
    const MonoTime again = MonoNow();
    const double again_cpu = CpuSeconds();
    auto reader = store::SnapshotReader::Open(path);
    if (!reader) return fail(reader.error());
    store::ChainVisitor nobody;
    if (const auto done = reader->VisitChains(nobody); !done) return fail(done.error());
    fmt::print("read again in {:.2f} s ({:.2f} s of a processor)\n", Seconds(MonoNow() - again),
               CpuSeconds() - again_cpu);
  }

  const MonoTime load = MonoNow();
  const double load_cpu = CpuSeconds();
  auto reader = store::SnapshotReader::Open(path);
  if (!reader) return fail(reader.error());
  serve::Registry registry(serve::Registry::Options{});
  const auto restored = registry.Restore(*reader, {.configured = {}, .followed = false});
  if (!restored) return fail(restored.error());
  std::vector<PrefixHash> prompt;
  for (uint64_t i = 0; i < kPrompt; ++i) prompt.push_back(PrefixHash{HashOf(0, i)});
  index::PrefixList source(prompt);
  const auto matches = registry.index().Match({"default", "m", "", kBlockSize, ""}, source);
  const double load_seconds = Seconds(MonoNow() - load);
  const double loaded_cpu = CpuSeconds() - load_cpu;
  fmt::print(
      "loaded, and the first query answered, in {:.2f} s ({:.2f} s of a processor, {:.2f} of what "
      "the events took): {} holdings, {} of {} blocks\n",
      load_seconds, loaded_cpu, loaded_cpu / events_cpu, restored->holdings,
      matches.ranks.empty() ? 0 : matches.ranks[0].gpu, kPrompt);
  if (restored->holdings != stats.holdings) return 1;
  ::unlink(path.c_str());
  return 0;
}

}  // namespace
}  // namespace conductor

int main(int argc, char** argv) {
  const uint64_t blocks = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 10'000'000;
  const auto publishers = static_cast<uint32_t>(argc > 2 ? std::atoi(argv[2]) : 32);
  return conductor::Main(blocks, std::max(publishers, 1u),
                         argc > 3 ? argv[3] : "snapshot_bench.db");
}
