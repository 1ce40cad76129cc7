// A publisher's batches beside questions. Run under the thread sanitizer too.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <thread>

#include "lib/ingest/publisher_ingest.h"
#include "tests/ingest/event_builders.h"
#include "tests/ingest/index_subject.h"

namespace conductor::ingest {
namespace {

// All that a reader finds was held at some moment while it looked: a prefix, the same on every tier
// that has it. A rebuild that tells the same blocks again is not seen at all.
TEST(PublisherIngestThreads, QueriesBesideAPublisherSeeWhatItHeld) {
  IndexSubject subject;
  subject.AddPublisher(0, {.instance_id = "i", .model = "m", .block_size = 2});
  std::atomic<bool> done = false;     // order does not matter: it only ends the reader
  std::atomic<uint64_t> stretch = 0;  // odd while all of the prompt is held
  std::atomic<uint64_t> uneven = 0;
  std::atomic<uint64_t> missing = 0;
  std::atomic<uint64_t> whole = 0;
  std::thread reader([&] {
    const auto prompt = Prompt("11 12 21 22");
    do {
      const uint64_t before = stretch;
      const auto found = subject.Query([](const index::NamespaceKey&) { return true; }, prompt);
      const bool held = before % 2 == 1 && stretch == before;
      if (held) ++whole;
      if (held && found.empty()) ++missing;
      for (const auto& [rank, figures] : found) {
        const auto blocks = figures.gpu;
        if (figures != ReferenceModel::Figures{blocks, blocks, blocks} || blocks > 4) ++uneven;
        if (held && blocks != 4) ++missing;
      }
    } while (!done);
  });
  for (int i = 0; i < 500 || whole == 0; ++i) {
    // An orphan and its parent.
    subject.Apply(0, Batch(Stored({3, 4}, "21 22", 2), Stored({1, 2}, "11 12")));
    ++stretch;
    subject.BeginRebuild(0);
    subject.Apply(0, Batch(Stored({1}, "11")));
    subject.Apply(0, Batch(Stored({2, 3, 4}, "12 21 22", 1)));
    subject.CommitRebuild(0);
    ++stretch;
    if (i % 2 == 0) {
      subject.Apply(0, Batch(Removed({4}), Removed({1}), Removed({2, 3})));
    } else {
      subject.NewLife(0);
    }
  }
  done = true;
  reader.join();
  EXPECT_EQ(uneven, 0U);
  EXPECT_EQ(missing, 0U) << "of " << whole;
}

}  // namespace
}  // namespace conductor::ingest
