#include "daemon/toolkit/table.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "lib/base/number.h"

namespace conductor::toolkit {
namespace {

TEST(TerminalTest, WhatIsNoTerminalHasNeitherColourNorWidth) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  unsetenv("COLUMNS");
  const Terminal terminal = TerminalOf(ends[1]);
  EXPECT_FALSE(terminal.interactive);
  EXPECT_FALSE(terminal.colour);
  EXPECT_EQ(terminal.width, 0u);
  EXPECT_EQ(terminal.Paint(Colour::kRed, "gap"), "gap");
  setenv("COLUMNS", "40", 1);
  EXPECT_EQ(TerminalOf(ends[1]).width, 40u);
  setenv("COLUMNS", "wide", 1);
  EXPECT_EQ(TerminalOf(ends[1]).width, 0u);
  unsetenv("COLUMNS");
  close(ends[0]);
  close(ends[1]);
}

TEST(TerminalTest, ColumnsAreCodePointsAndColoursAreNone) {
  EXPECT_EQ(WidthOf("Blöcke"), 6u);
  EXPECT_EQ(WidthOf("\x1b[31mgap\x1b[0m"), 3u);
  EXPECT_EQ(Cut("Blöcke", 6), "Blöcke");
  EXPECT_EQ(Cut("Blöcke", 4), "Blö…");
  EXPECT_EQ(Cut("\x1b[31mgaps\x1b[0m", 3), "\x1b[31mga…\x1b[0m");
  EXPECT_EQ(Cut("gaps", 1), "…");
  EXPECT_EQ(Cut("gaps", 0), "");
}

TEST(TerminalTest, NamesAreCutAtTheirBeginning) {
  EXPECT_EQ(CutBeginning("10.0.0.1:5557", 13), "10.0.0.1:5557");
  EXPECT_EQ(CutBeginning("10.0.0.1:5557", 7), "…1:5557");
  EXPECT_EQ(CutBeginning("Blöcke", 5), "…öcke");
  EXPECT_EQ(CutBeginning("Blöcke", 4), "…cke");
  EXPECT_EQ(CutBeginning("gaps", 1), "…");
  EXPECT_EQ(CutBeginning("gaps", 0), "");
}

TEST(TerminalTest, WhatMovesACursorIsShown) {
  EXPECT_EQ(Printable("a\x1b[2Jb\n\x7f é"), "a\\x1b[2Jb\\x0a\\x7f é");
}

TEST(TerminalTest, WhatIsNoTextIsShown) {
  // C1 controls, as code points and as bytes; what the least and the last code points are.
  EXPECT_EQ(Printable("a\xc2\x9b"
                      "2Jb\xc2\x80\xc2\x9f\xc2\xa0"),
            "a\\xc2\\x9b2Jb\\xc2\\x80\\xc2\\x9f\xc2\xa0");
  EXPECT_EQ(Printable("\x9b"
                      "2J"),
            "\\x9b2J");
  for (const std::string text : {"\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff", "\U00010000",
                                 "\U0010ffff", "日本 🙂"}) {
    EXPECT_EQ(Printable(text), text);
  }
  EXPECT_EQ(Printable("\xc3"), "\\xc3");                    // cut off
  EXPECT_EQ(Printable("\xc3("), "\\xc3(");                  // not continued
  EXPECT_EQ(Printable("\xc0\x9b"), "\\xc0\\x9b");           // overlong
  EXPECT_EQ(Printable("\xe0\x82\x9b"), "\\xe0\\x82\\x9b");  // overlong
  EXPECT_EQ(Printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // a surrogate
  EXPECT_EQ(Printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");
}

TEST(TableTest, ColumnsAreAlignedAndLinesEndWhereTheirTextDoes) {
  Table table({{"INSTANCE"}, {"MATCHED", Table::Align::kRight}, {"STATE"}});
  table.Add({"a", Grouped(8192), "live"});
  table.Add({"engine-17", "0", ""});
  EXPECT_EQ(table.Render({}),
            "INSTANCE   MATCHED  STATE\n"
            "a            8,192  live\n"
            "engine-17        0\n");
}

TEST(TableTest, InANarrowTerminalTheWidestTextIsCut) {
  Table table({{"ID"}, {"BLOCKS", Table::Align::kRight}, {"DETAIL"}});
  table.Add({"engine-17", "1,000,000", "nothing listens there"});
  EXPECT_EQ(table.Render({.width = 34}),
            "ID            BLOCKS  DETAIL\n"
            "engine-17  1,000,000  nothing lis…\n");
  EXPECT_EQ(table.Render({.width = 12}),
            "ID         …\n"
            "engine-…  1…\n")
      << "numbers are not shortened, lines are";
}

TEST(TableTest, NamesKeepTheirEnds) {
  Table table({{"PUBLISHER", Table::Align::kName}, {"GAPS", Table::Align::kRight}});
  table.Add({"10.20.30.40:5557", "0"});
  EXPECT_EQ(table.LeastWidth(), 14u);
  EXPECT_EQ(table.Render({.width = 14}),
            "PUBLISH…  GAPS\n"
            "…40:5557     0\n");
}

}  // namespace
}  // namespace conductor::toolkit
