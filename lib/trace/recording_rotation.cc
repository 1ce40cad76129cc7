#include "lib/trace/recording_rotation.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "lib/trace/recording_reader.h"

namespace conductor::trace {
namespace {

constexpr uint64_t kMostParts = 9'999'999;
constexpr int kMostNamesTried = 100;

std::string NameOf(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

// 0, or why not: as of a file of that name, whatever the file system can do.
int RenameToFree(const std::string& from, const std::string& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return errno;
  // It cannot look and rename at once. Nobody else makes parts of a file that is locked.
  struct stat there {};
  if (::lstat(to.c_str(), &there) == 0) return EEXIST;
  return ::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
}

int LinkOrRename(const std::string& from, const std::string& to) {
  if (::link(from.c_str(), to.c_str()) == 0) return 0;
  const bool no_links = errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS || errno == EMLINK;
  return no_links ? RenameToFree(from, to) : errno;
}

bool SameFile(const struct stat& one, const std::string& path) {
  struct stat other {};
  return ::stat(path.c_str(), &other) == 0 && other.st_dev == one.st_dev &&
         other.st_ino == one.st_ino;
}

}  // namespace

Result<std::string> NameAsPart(const std::string& path) {
  const auto failed = [&path](int error, const std::string& part) {
    return Fail(fmt::format("cannot be rotated to {}: {}", part, std::strerror(error)), path);
  };
  struct stat newest {};
  if (::stat(path.c_str(), &newest) != 0) return failed(errno, path + ".NNNN");
  uint64_t last = 0;
  for (const std::string& file : RecordingFiles(path)) {
    const auto number = PartNumber(NameOf(path), NameOf(file));
    if (!number) continue;
    if (SameFile(newest, file)) return file;
    last = std::max(last, *number);
  }
  for (uint64_t number = last + 1; number <= kMostParts; ++number) {
    const std::string part = fmt::format("{}.{:04}", path, number);
    const int error = LinkOrRename(path, part);
    if (error == 0) return part;
    if (error != EEXIST) return failed(error, part);
  }
  return Fail(fmt::format("has {} parts", kMostParts), path, "no more, of one recording");
}

Result<std::string> FreeNameBeside(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  for (int tried = 0; tried < kMostNamesTried; ++tried) {
    const std::string name =
        fmt::format(".{}.rotating{}", NameOf(path), tried == 0 ? "" : fmt::format(".{}", tried));
    const std::string made = (folder / name).string();
    struct stat there {};
    if (::lstat(made.c_str(), &there) != 0) {
      if (errno == ENOENT) return made;
      return Fail(fmt::format("cannot be looked at: {}", std::strerror(errno)), made);
    }
    const bool ours = S_ISREG(there.st_mode) && (there.st_size == 0 || IsRecording(made));
    if (ours && ::unlink(made.c_str()) == 0) return made;
  }
  return Fail("cannot be rotated: all names for what takes its place are taken", path,
              fmt::format("no files named .{}.rotating", NameOf(path)));
}

}  // namespace conductor::trace
