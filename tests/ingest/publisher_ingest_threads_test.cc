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

// A batch is one change: a reader beside the publisher finds all of a batch or nothing of it.
TEST(PublisherIngestThreads, QueriesBesideAPublisherSeeOnlyWholeBatches) {
  IndexSubject subject;
  subject.AddPublisher(0, {.instance_id = "i", .model = "m", .block_size = 2});
  std::atomic<bool> done = false;  // order does not matter: it only ends the reader
  std::atomic<uint64_t> torn = 0;
  std::thread reader([&] {
    const auto prompt = Prompt("11 12 21 22");
    do {
      for (const auto& [rank, figures] :
           subject.Query([](const index::NamespaceKey&) { return true; }, prompt)) {
        if (figures != ReferenceModel::Figures{4, 4, 4}) ++torn;
      }
    } while (!done);
  });
  for (int i = 0; i < 500; ++i) {
    switch (i % 4) {
      case 0:  // an orphan and its parent; whole when the batch ends
        subject.Apply(0, Batch(Stored({3, 4}, "21 22", 2), Stored({1, 2}, "11 12")));
        break;
      case 1:
        subject.Apply(0, Batch(Removed({4}), Removed({1}), Removed({2, 3})));
        break;
      case 2:
        subject.BeginRebuild(0);
        subject.Apply(0, Batch(Stored({1}, "11")));
        subject.Apply(0, Batch(Stored({2, 3, 4}, "12 21 22", 1)));
        subject.CommitRebuild(0);
        break;
      default:
        subject.NewLife(0);
        break;
    }
  }
  done = true;
  reader.join();
  EXPECT_EQ(torn, 0U);
}

}  // namespace
}  // namespace conductor::ingest
