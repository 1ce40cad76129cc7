// Files that people or disks have changed, and files that nobody would write.

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "lib/index/chain_restore.h"
#include "lib/store/snapshot_schema.h"
#include "saved_examples.h"
#include "snapshot_fixture.h"
#include "told.h"

namespace conductor::store {
namespace {

class DamagedSnapshot : public SnapshotTest {
 protected:
  // One of everything that is restored.
  void WriteAll() {
    SavedPublisher pool = SavedPoolOf(index_);
    pool.pool->objects[0].cpu_left = std::chrono::seconds(30);
    Write({SavedEngine(index_, "a", 0), SavedEngine(index_, "b", 1), std::move(pool)});
  }
  [[nodiscard]] std::string Bytes() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }
  void SetBytes(const std::string& bytes) const { std::ofstream(path_, std::ios::binary) << bytes; }

  // The numbers, or the texts, that a query answers with.
  [[nodiscard]] std::vector<std::string> Texts(const std::string& sql) const {
    std::vector<std::string> texts;
    auto database = Database::Open(path_, Database::Mode::kRead);
    EXPECT_TRUE(database);
    auto rows = Statement::Prepare(*database, sql);
    EXPECT_TRUE(rows) << rows.error().Message();
    while (rows && rows->Next("reading").value_or(false)) texts.emplace_back(rows->Text(0));
    return texts;
  }
  // Whether a value is another now; SQLite itself does not let every change happen.
  [[nodiscard]] bool ChangeValue(const std::string& table, const std::string& column,
                                 const std::string& row, const std::string& value) const {
    auto database = Database::Open(path_, Database::Mode::kWrite);
    return database &&
           database->Execute(
               "PRAGMA ignore_check_constraints = ON; PRAGMA synchronous = OFF;"
               "PRAGMA journal_mode = MEMORY") &&
           database->Execute(
               fmt::format("UPDATE {0} SET {1} = {2} WHERE rowid = {3} AND {1} IS NOT "
                           "{2}",
                           table, column, value, row)) &&
           database->Number("SELECT changes()").value_or(0) == 1;
  }

  // Why the file is refused when only what is needed to go on from it is read.
  [[nodiscard]] std::string WhyRefused() const {
    const auto told = Told(path_);
    return told ? "" : told.error().Message();
  }
};

TEST_F(DamagedSnapshot, SaysWhichRowAndColumnIsWrong) {
  struct Case {
    const char* change;
    const char* what;
  };
  for (const auto& [change, what] : std::vector<Case>{
           {"DELETE FROM snapshot", "was never finished"},
           {"UPDATE runs SET parent_block = 64 WHERE id = 2",
            "state.db: row 2: runs: parent_block is 64 (expected 0 to 63 for a block of the "
            "parent)"},
           {"UPDATE runs SET length = 3 WHERE id = 1",
            "row 1: runs: prefixes is a blob of 512 bytes (expected 3 numbers of 8 bytes)"},
           {"UPDATE runs SET prefixes = zeroblob(length * 8)",
            "runs: its rows are not those that were written"},
           {"UPDATE holdings SET holder = 7", "holders that is not there"},
           {"UPDATE holdings SET blocks = 1, held = 1", "are not those that were written"},
           {"UPDATE names SET names = zeroblob(7)", "names: names is a blob of 7 bytes"},
           {"UPDATE aliases SET names = 99", "names that is not there"},
           {"UPDATE waiting SET gone = x'00'", "waiting: gone is a blob of 1 bytes"},
           {"UPDATE waiting SET locals = x'00'", "waiting: locals is a blob of 1 bytes"},
           {"UPDATE publishers SET digests = x'00'", "publishers: digests is a blob of 1 bytes"},
           {"UPDATE namespaces SET block_size = 0",
            "row 1: namespaces: block_size is 0 (expected 1 to 4294967295 tokens)"},
           {"UPDATE holders SET dp_rank = 'two'", "holders: dp_rank is 'two'"},
           {"UPDATE publishers SET first_sequence = 6",
            "publishers: first_sequence is 6 (expected 0 to 5 for a sequence)"},
           {"UPDATE special_holdings SET span = 6 WHERE span = 2",
            "special_holdings: span is 6 (expected 1 to 5 blocks of its chain)"},
           {"DROP TABLE waiting", "has no table 'waiting'"},
       }) {
    Write({SavedEngine(index_, "a", 0)});
    Change(std::string("PRAGMA foreign_keys = OFF;") + change);
    EXPECT_NE(WhyNot().find(what), std::string::npos) << change << ": " << WhyNot();
  }
}

// Each value of each row of each table, by what the daemon reads at its start.
TEST_F(DamagedSnapshot, IsRefusedWhateverValueWasChanged) {
  WriteAll();
  const std::string good = Bytes();
  ASSERT_EQ(WhyRefused(), "");
  size_t changes = 0;
  for (const std::string& table :
       Texts("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")) {
    const auto rows = Texts(fmt::format("SELECT rowid FROM {} ORDER BY rowid", table));
    EXPECT_FALSE(rows.empty()) << table << " has no row: this test says nothing of it";
    for (const std::string& column :
         Texts(fmt::format("SELECT name FROM pragma_table_info('{}')", table))) {
      for (const char* value :
           {"{0} + 1", "CAST({0} AS TEXT) || 'x'", "zeroblob(length({0}))", "NULL", "0", "9e999"}) {
        const std::string& row = changes % 2 == 0 ? rows.front() : rows.back();
        const std::string changed = fmt::format(fmt::runtime(value), column);
        SetBytes(good);
        if (!ChangeValue(table, column, row, changed)) continue;
        EXPECT_NE(WhyRefused(), "")
            << table << "." << column << " of row " << row << " = " << changed;
        ++changes;
      }
    }
  }
  EXPECT_GT(changes, 400u);
}

TEST_F(DamagedSnapshot, IsRefusedWhereRowsAreGoneTwiceThereOrInAnotherOrder) {
  WriteAll();
  const std::string good = Bytes();
  for (const std::string& table :
       Texts("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")) {
    SetBytes(good);
    Change(
        fmt::format("PRAGMA foreign_keys = OFF; DELETE FROM {0} WHERE rowid = "
                    "(SELECT max(rowid) FROM {0})",
                    table));
    EXPECT_NE(WhyRefused(), "") << table;
  }
  for (const char* change :
       {"INSERT INTO holdings SELECT * FROM holdings", "INSERT INTO aliases SELECT * FROM aliases",
        "INSERT INTO deadlines SELECT * FROM deadlines",
        "UPDATE holdings SET rowid = 100 WHERE rowid = 1", "UPDATE publishers SET id = id + 100"}) {
    SetBytes(good);
    Change(std::string("PRAGMA foreign_keys = OFF;") + change);
    EXPECT_NE(WhyRefused(), "") << change;
  }
}

// Of bytes that matter the file is refused, and of others it says what it said.
TEST_F(DamagedSnapshot, SaysTheSameOrIsRefusedWhateverByteWasChanged) {
  WriteAll();
  const std::string good = Bytes();
  const auto said = Told(path_);
  ASSERT_TRUE(said) << said.error().Message();
  std::mt19937_64 random(7);
  std::fstream file(path_, std::ios::binary | std::ios::in | std::ios::out);
  const auto put = [&file](size_t at, char byte) {
    file.seekp(static_cast<std::streamoff>(at));
    file.put(byte);
    file.flush();
  };
  size_t refused = 0;
  for (size_t at = 0; at < good.size(); ++at) {
    // Most are the empty ends of pages.
    if (random() % (good[at] == 0 ? 4000 : 40) != 0) continue;
    put(at, static_cast<char>(good[at] ^ (1 << random() % 8)));
    const auto told = Told(path_);
    if (told) {
      EXPECT_EQ(*told, *said) << "byte " << at;
    } else {
      ++refused;
    }
    put(at, good[at]);
  }
  EXPECT_GT(refused, 100u);
}

TEST_F(DamagedSnapshot, IsRefusedWhereATableIsSomethingElse) {
  WriteAll();
  const std::string good = Bytes();
  const std::string endless =
      " AS WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT ";
  struct Case {
    std::string change;
    const char* what;
  };
  for (const auto& [change, what] : std::vector<Case>{
           {"DROP TABLE deadlines; CREATE VIEW deadlines (space, tier, dp_rank, name, "
            "seconds_left)" +
                endless + "1, 0, 0, x, 1.0 FROM n",
            "'deadlines' is a view and no table"},
           {"DROP TABLE snapshot; CREATE VIEW snapshot (id)" + endless + "x FROM n",
            "'snapshot' is a view and no table"},
           {"ALTER TABLE runs ADD COLUMN more", "table 'runs' is another than Conductor makes"},
           {"CREATE TABLE mine (x)", "has a table 'mine'"},
           {"CREATE INDEX fast ON runs (parent)", "has a index 'fast'"},
           {"CREATE TRIGGER t AFTER INSERT ON runs BEGIN SELECT 1; END", "has a trigger 't'"},
           {"PRAGMA writable_schema = ON; UPDATE sqlite_master SET rootpage = (SELECT rootpage "
            "FROM sqlite_master WHERE name = 'holdings') WHERE name = 'aliases'",
            "are stored in one place"},
       }) {
    SetBytes(good);
    Change("PRAGMA foreign_keys = OFF;" + change);
    EXPECT_NE(WhyRefused().find(what), std::string::npos) << change << ": " << WhyRefused();
  }
  // What only people look at is for `verify`.
  SetBytes(good);
  Change("DROP VIEW blocks; CREATE VIEW blocks (run)" + endless + "x FROM n");
  EXPECT_EQ(WhyRefused(), "");
  EXPECT_NE(WhyNot().find("view 'blocks' is another"), std::string::npos) << WhyNot();
}

// A page of a table that points to one of its leaves again and again: a walk over it would take
// as long as its writer likes.
TEST_F(DamagedSnapshot, IsRefusedWhereAPageIsThereTwice) {
  Write({SavedEngine(index_, "a", 0, 40'000)});
  const size_t page = std::stoul(Texts("PRAGMA page_size").front());
  const size_t root =
      std::stoul(Texts("SELECT rootpage FROM sqlite_master WHERE name = 'runs'").front());
  std::string bytes = Bytes();
  const size_t at = (root - 1) * page;
  const auto two = [&bytes](size_t place) {
    return static_cast<size_t>(static_cast<unsigned char>(bytes[place])) << 8 |
           static_cast<unsigned char>(bytes[place + 1]);
  };
  ASSERT_EQ(bytes[at], 5) << "an inner page of a table";
  const size_t cells = two(at + 3);
  ASSERT_GT(cells, 3u);
  const size_t first = at + two(at + 12);
  for (size_t cell = 1; cell < cells; ++cell) {
    bytes.replace(at + two(at + 12 + 2 * cell), 4, bytes, first, 4);
  }
  SetBytes(bytes);
  EXPECT_NE(WhyRefused().find("runs: comes after row"), std::string::npos) << WhyRefused();
}

// A file of 4,096 bytes a page whose schema is what SQLite meets first, and reads by itself.
class SchemaPages {
 public:
  SchemaPages() {
    std::string head("SQLite format 3\0\x10\0\1\1\0\x40\x20\x20", 24);
    head.resize(100);
    PutNumber(head, 44, 4);  // the schema's format
    PutNumber(head, 56, 1);  // UTF-8
    PutNumber(head, 60, kFormatVersion);
    PutNumber(head, 68, kApplicationId);
    pages_.push_back(head);
  }
  // A leaf with these rows; each column is a text, or a page. The number of its page.
  uint32_t AddLeaf(const std::vector<std::vector<std::string>>& rows) {
    std::vector<std::string> cells;
    for (const auto& row : rows) {
      std::string types;
      std::string values;
      for (const std::string& value : row) {
        const bool is_page = value.size() == 1 && value[0] < ' ';
        types += static_cast<char>(is_page ? 1 : 13 + 2 * value.size());
        values += value;
      }
      const std::string record = static_cast<char>(types.size() + 1) + types + values;
      const char row_id = static_cast<char>(cells.size() + 1);
      cells.push_back(std::string{static_cast<char>(record.size()), row_id} + record);
    }
    pages_.push_back(Page(13, cells, 0, {}));
    return static_cast<uint32_t>(pages_.size());
  }
  // Inner pages over inner pages, each of which has 500 times the next: 500^4 times `leaf`.
  uint32_t AddMany(uint32_t leaf) {
    for (int level = 0; level < 4; ++level) {
      pages_.push_back(Page(5, std::vector<std::string>(500, Child(leaf)), leaf, {}));
      leaf = static_cast<uint32_t>(pages_.size());
    }
    return leaf;
  }
  // The first page leads to both, one after the other.
  std::string Under(uint32_t first, uint32_t second) {
    pages_[0] = Page(5, {Child(first)}, second, pages_[0]);
    return fmt::format("{}", fmt::join(pages_, ""));
  }

 private:
  static void PutNumber(std::string& page, size_t at, uint64_t number, size_t bytes = 4) {
    for (size_t i = 0; i < bytes; ++i) {
      page[at + i] = static_cast<char>(number >> 8 * (bytes - 1 - i));
    }
  }
  static std::string Child(uint32_t page) {
    std::string cell(4, '\0');
    PutNumber(cell, 0, page);
    return cell + '\1';
  }
  static std::string Page(char kind, const std::vector<std::string>& cells, uint32_t last,
                          std::string page) {
    const size_t head = page.size();
    page.resize(4096);
    page[head] = kind;
    PutNumber(page, head + 3, cells.size(), 2);
    if (kind == 5) PutNumber(page, head + 8, last);
    size_t end = page.size();
    for (size_t i = 0; i < cells.size(); ++i) {
      end -= cells[i].size();
      page.replace(end, cells[i].size(), cells[i]);
      PutNumber(page, head + (kind == 5 ? 12 : 8) + 2 * i, end, 2);
    }
    PutNumber(page, head + 5, end, 2);
    return page;
  }

  std::vector<std::string> pages_;
};

// The same of the schema itself.
TEST_F(DamagedSnapshot, IsRefusedWhereItsSchemaDoesNotEnd) {
  const std::vector<std::string> table = {"table", "t", "t", "\2", "CREATE TABLE t(a UNIQUE)"};
  const std::vector<std::string> index = {"index", "sqlite_autoindex_t_1", "t", "\3", ""};
  SchemaPages entries;
  const uint32_t tables = entries.AddLeaf({table, index});
  entries.AddLeaf({});
  SetBytes(entries.Under(tables, entries.AddMany(entries.AddLeaf({index}))));
  SnapshotReader::Blame blame{};
  const auto reader = SnapshotReader::Open(path_, &blame);
  ASSERT_FALSE(reader);
  EXPECT_NE(reader.error().Message().find("its schema does not end"), std::string::npos)
      << reader.error().Message();
  EXPECT_EQ(blame, SnapshotReader::Blame::kFile);
}

// Nor of what SQLite reads together with it, and no snapshot has.
TEST_F(DamagedSnapshot, IsRefusedWhereItsStatisticsDoNotEnd) {
  SchemaPages pages;
  const uint32_t many = pages.AddMany(pages.AddLeaf({{"t", "i", "1"}}));
  const std::string root(1, static_cast<char>(many));
  const uint32_t statistics = pages.AddLeaf(
      {{"table", "sqlite_stat1", "sqlite_stat1", root, "CREATE TABLE sqlite_stat1(tbl,idx,stat)"}});
  SetBytes(
      pages.Under(statistics, pages.AddLeaf({{"table", "u", "u", "\2", "CREATE TABLE u(a)"}})));
  SnapshotReader::Blame blame{};
  const auto reader = SnapshotReader::Open(path_, &blame);
  ASSERT_FALSE(reader);
  EXPECT_NE(reader.error().Message().find("has a table 'sqlite_stat1'"), std::string::npos)
      << reader.error().Message();
  EXPECT_EQ(blame, SnapshotReader::Blame::kFile);
}

// With digests that are right: numbers that nobody's publisher comes to.
TEST_F(DamagedSnapshot, IsRefusedWhereANumberCannotBe) {
  struct Case {
    std::function<void(SavedPublisher&, SavedPublisher&)> change;  // of an engine and a pool
    const char* what;
  };
  using Saved = SavedPublisher;
  for (const auto& [change, what] : std::vector<Case>{
           {[](Saved&engine, Saved&) { engine.life->chains.special[0].span = 1 << 20; },
            "special_holdings: span is 1048576"},
           {[](Saved&engine, Saved&) { engine.life->chains.special[0].copies = 0; },
            "special_holdings: copies is 0"},
           {[](Saved&engine, Saved&) { engine.life->chains.spans[0].span = ~0u; },
            "alias_spans: span is 4294967295"},
           {[](Saved&engine, Saved&) { engine.life->chains.name_spaces[0].block_size = 0; },
            "namespaces: block_size is 0"},
           {[](Saved&engine, Saved&) { engine.life->holders[0].dp_rank = ~0u; },
            "holders: dp_rank is 4294967295"},
           {[](Saved&engine, Saved&) { engine.life->waiting[0].span = 7; },
            "waiting: locals is a blob of 16 bytes (expected 14 numbers of 8 bytes)"},
           {[](Saved&engine, Saved&) { engine.life->waiting[0].gone[0] = 2; },
            "waiting: gone is a blob"},
           {[](Saved&engine, Saved&) { engine.resume->first = 17; },
            "publishers: first_sequence is 17"},
           {[](Saved&engine, Saved&) { engine.resume->cursor = ~uint64_t{0}; },
            "publishers: cursor is -1"},
           {[](Saved&engine, Saved&) { engine.resume->cursor = 2; },
            "publishers: digests is a blob of 32 bytes (expected 0 to 2 numbers of 8 bytes)"},
           {[](Saved&, Saved&pool) { pool.pool->families[0].shape.seen[0] = 4097; },
            "pool_families: tensor_ranks is 4097 (expected 1 to 4096 of a kind)"},
           {[](Saved&, Saved&pool) { pool.pool->families[0].shape.seen[1] = 0; },
            "pool_families: pipeline_ranks is 0"},
           {[](Saved&, Saved&pool) {
              pool.pool->objects[0].component = ingest::ComponentId{~uint64_t{0}};
            },
            "pool_objects: component is -1"},
       }) {
    SavedPublisher engine = SavedEngine(index_, "a", 0);
    SavedPublisher pool = SavedPoolOf(index_);
    change(engine, pool);
    Write({engine, pool});
    EXPECT_NE(WhyRefused().find(what), std::string::npos) << what << ": " << WhyRefused();
  }
}

// Whatever is in the file, reading it ends, with an error or with an index that is whole.
TEST_F(DamagedSnapshot, AnyBytesCanBeRead) {
  Write({SavedEngine(index_, "a", 0), SavedEngine(index_, "b", 1), SavedPoolOf(index_)});
  std::ifstream file(path_, std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::mt19937_64 random(1);
  class Into : public ChainVisitor {
   public:
    Into(index::ChainRestore& restore, index::HolderId holder, index::AliasSpace space)
        : restore_(restore), holder_(holder), space_(space) {}
    void OnRun(const Run& run) override {
      restore_.AddRun(*run.name_space, run.parent ? std::optional(*run.parent - 1) : std::nullopt,
                      run.parent_block, run.blocks);
    }
    void OnHolding(uint32_t run, uint32_t, Tier tier, uint64_t blocks) override {
      restore_.Hold(run - 1, holder_, tier, blocks);
    }
    void OnSpecial(uint32_t run, uint32_t, Tier tier, uint32_t block, uint32_t span,
                   uint32_t copies) override {
      restore_.HoldSpecial(run - 1, block, holder_, tier, span, copies);
    }
    void OnNames(uint32_t run, uint32_t, uint64_t blocks,
                 std::span<const EngineHash> names) override {
      restore_.Name(run - 1, space_, blocks, names);
    }

   private:
    index::ChainRestore& restore_;
    index::HolderId holder_;
    index::AliasSpace space_;
  };
  for (int i = 0; i < 150; ++i) {
    std::string bad = good;
    for (size_t flips = 1 + random() % 4; flips > 0; --flips) {
      bad[random() % bad.size()] = static_cast<char>(random());
    }
    if (i % 10 == 0) bad.resize(random() % bad.size());
    std::ofstream(path_, std::ios::binary) << bad;
    auto reader = SnapshotReader::Open(path_);
    if (!reader) continue;
    (void)reader->Publishers();
    index::PrefixIndex into{index::PrefixIndex::Options{}};
    {
      auto writer = into.Write();
      const auto holder = writer.AddHolder({{"default", "m", "", 4, ""}, "a", 0}, 0, true);
      const auto space = writer.AddSpace(0);
      index::ChainRestore restore(writer);
      Into visitor(restore, holder, space);
      (void)reader->VisitChains(visitor);
      restore.Finish();
    }
    const Status whole = into.Validate();
    ASSERT_TRUE(whole) << whole.error().Message();
  }
}

}  // namespace
}  // namespace conductor::store
