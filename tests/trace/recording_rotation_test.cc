#include "lib/trace/recording_rotation.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "recording_fixture.h"

namespace conductor::trace {
namespace {

namespace fs = std::filesystem;

std::string Recording() { return EncodeHeader({.written_by = "test"}); }

TEST(RecordingRotation, APartIsNamedBehindThoseThatAreThere) {
  const TemporaryFolder folder;
  for (const char* name : {"r", "r.0003", "r.20261126", "r.99999999999999999999999"}) {
    Write(folder.File(name), name);
  }
  EXPECT_EQ(NameAsPart(folder.File("r")), folder.File("r.0004"));
  EXPECT_TRUE(fs::equivalent(folder.File("r"), folder.File("r.0004")));
}

TEST(RecordingRotation, HoweverThePathIsWritten) {
  const TemporaryFolder folder;
  Write(folder.File("r"), "new");
  for (int number = 1; number <= 12; ++number) {
    Write(folder.File(number < 10 ? "r.000" + std::to_string(number)
                                  : "r.00" + std::to_string(number)),
          "old");
  }
  EXPECT_EQ(NameAsPart(folder.File("///r")), folder.File("///r.0013"));
  EXPECT_EQ(Contents(folder.File("r.0012")), "old");
}

TEST(RecordingRotation, ANameThatIsTakenIsPassedOver) {
  const TemporaryFolder folder;
  Write(folder.File("r"), "new");
  Write(folder.File("r.0001"), "old");
  // No reader sees it as a part of its own: it is the first one.
  fs::create_hard_link(folder.File("r.0001"), folder.File("r.0002"));
  fs::create_directory(folder.File("r.0003"));
  EXPECT_EQ(NameAsPart(folder.File("r")), folder.File("r.0004"));
  EXPECT_EQ(Contents(folder.File("r.0002")), "old");
}

TEST(RecordingRotation, WhereARecorderEndedBetweenItsStepsThePartHasItsNameAlready) {
  const TemporaryFolder folder;
  Write(folder.File("r.0001"), "old");
  Write(folder.File("r"), "new");
  fs::create_hard_link(folder.File("r"), folder.File("r.0002"));
  EXPECT_EQ(NameAsPart(folder.File("r")), folder.File("r.0002"));
  EXPECT_FALSE(fs::exists(folder.File("r.0003")));
}

TEST(RecordingRotation, AFolderThatCannotBeWrittenToIsAnError) {
  const TemporaryFolder folder;
  const auto part = NameAsPart(folder.File("none"));
  ASSERT_FALSE(part);
  EXPECT_TRUE(Has(part.error().Message(), "No such file or directory")) << part.error().Message();
}

TEST(RecordingRotation, WhatIsBegunIsHiddenAndNeverInTheWayOfAnother) {
  const TemporaryFolder folder;
  const std::string name = folder.File(".r.rotating");
  EXPECT_EQ(FreeNameBeside(folder.File("r")), name);
  // What a recorder left.
  Write(name, Recording());
  EXPECT_EQ(FreeNameBeside(folder.File("r")), name);
  EXPECT_FALSE(fs::exists(name));
  Write(name, "somebody's own");
  EXPECT_EQ(FreeNameBeside(folder.File("r")), name + ".1");
  EXPECT_EQ(Contents(name), "somebody's own");
  EXPECT_EQ(FreeNameBeside("r"), ".r.rotating");
}

}  // namespace
}  // namespace conductor::trace
