#ifndef CONDUCTOR_LIB_STORE_SNAPSHOT_READER_IMPL_H_
#define CONDUCTOR_LIB_STORE_SNAPSHOT_READER_IMPL_H_

// Inside of SnapshotReader alone: snapshot_reader.cc has the file as a whole, snapshot_tables.cc
// publishers and what is theirs, snapshot_chains.cc what they hold.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/tier.h"
#include "lib/store/content_digest.h"
#include "lib/store/schema_check.h"
#include "lib/store/snapshot_reader.h"
#include "lib/store/snapshot_row.h"
#include "lib/store/sqlite.h"

namespace conductor::store {

struct SnapshotReader::Impl {
  Impl(Database opened, SchemaCheck check)
      : database(std::move(opened)), schema(std::move(check)) {}

  [[nodiscard]] Status ReadInfo();
  [[nodiscard]] Status ReadDigests();
  [[nodiscard]] Status ReadTiers();
  [[nodiscard]] Status ReadNamespaces();
  [[nodiscard]] Status ReadHolders();
  [[nodiscard]] Status ReadSpaces();
  [[nodiscard]] Status ReadPublishers();
  [[nodiscard]] Status ReadWaiting();
  [[nodiscard]] Status ReadDeadlines();
  [[nodiscard]] Status ReadPools();
  [[nodiscard]] Status ReadFamilies();
  [[nodiscard]] Status ReadObjects();
  [[nodiscard]] Status ReadAll();

  [[nodiscard]] Status VisitRuns(ChainVisitor& visitor);
  [[nodiscard]] Status VisitHoldings(ChainVisitor& visitor);
  [[nodiscard]] Status VisitSpecial(ChainVisitor& visitor);
  [[nodiscard]] Status CheckNames(ChainVisitor& visitor);
  [[nodiscard]] Status VisitNames(ChainVisitor& visitor, bool of_pools);
  [[nodiscard]] Status VisitSpans(ChainVisitor& visitor, bool of_pools);

  // `visit(row)` for each row of the table, whose columns are named in their order. All are
  // digested on the way; at the end they must be those that were written. What `visit` was told
  // before that may be anything that its checks let pass.
  template <typename Visit>
  [[nodiscard]] Status ForEach(std::string_view table, std::string_view columns, Visit visit,
                               uint64_t* digest = nullptr) {
    Scan scan(*this, table, columns);
    while (scan.Next()) {
      SnapshotRow row(scan.row());
      visit(row);
      scan.Take(row);
    }
    if (digest != nullptr) *digest = scan.digest();
    return scan.End();
  }

  // One pass over a table. It ends whatever the file is: row ids only grow, so no page is met
  // twice, and all values together are no longer than the file.
  class Scan {
   public:
    Scan(Impl& impl, std::string_view table, std::string_view columns);
    // False after the last row, or an error.
    [[nodiscard]] bool Next();
    [[nodiscard]] const Statement& row() const { return rows_; }
    [[nodiscard]] uint64_t digest() const { return digest_.Value(); }
    void Take(const SnapshotRow& row);
    [[nodiscard]] Status End();

   private:
    [[nodiscard]] bool Digest();
    [[nodiscard]] bool Refuse(std::string what, std::string expected);

    Impl& impl_;
    const std::string table_;
    Statement rows_;
    ContentDigest digest_;
    int columns_ = 0;
    int64_t row_id_ = -1;
    uint64_t bytes_ = 0;  // of all texts and blobs
    Status status_;
  };

  struct Run {
    uint32_t name_space = 0;  // position
    uint32_t position = 0;    // blocks of its chain before it
    uint8_t length = 0;
  };
  // Who holds something of a run: the first three columns of a row.
  struct Held {
    uint32_t run = 0;
    uint32_t holder = 0;
    Tier tier{};
    Run of;
  };
  // Nothing: the row is refused.
  [[nodiscard]] std::optional<Held> HeldAt(SnapshotRow& row) const;
  // The publisher that a row refers to; nothing, and the row is refused: there is none.
  [[nodiscard]] StoredPublisher* PublisherAt(SnapshotRow& row, int column);

  struct Space {
    size_t publisher = 0;
    uint32_t position = 0;  // among the publisher's
    bool of_pool = false;
  };
  struct Family {
    size_t publisher = 0;
    uint32_t position = 0;  // among the publisher's
  };
  struct Digest {
    uint64_t rows = 0;
    uint64_t digest = 0;
  };

  Database database;
  SchemaCheck schema;
  SnapshotInfo info;
  uint64_t digest_written = 0;                         // of `snapshot` and `digests`
  std::map<std::string, Digest, std::less<>> digests;  // as they were written, by table
  bool read = false;
  std::vector<index::NamespaceKey> namespaces;  // id - 1, as all that follow
  std::vector<StoredPublisher> publishers;
  std::vector<uint32_t> holders;  // positions of their namespaces
  std::vector<Space> spaces;
  std::vector<Family> families;
  std::vector<Run> runs;
};

}  // namespace conductor::store

#endif  // CONDUCTOR_LIB_STORE_SNAPSHOT_READER_IMPL_H_
