#ifndef CONDUCTOR_LIB_STORE_STATE_FILE_H_
#define CONDUCTOR_LIB_STORE_STATE_FILE_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <tl/expected.hpp>
#include <utility>

#include "lib/base/result.h"

namespace conductor::store {

// The file that `path` is, through symbolic links, as an absolute path; the file itself need not be
// there, its directory must.
[[nodiscard]] Result<std::string> ResolveLinks(const std::string& path);

// What is at `path` is a regular file, or nothing yet. A directory, a FIFO or a device is an error:
// to read one may take for ever, and a rename would put it away.
[[nodiscard]] Status ExpectRegularFile(const std::string& path);

// What was renamed in the directory of `path` stays so when the power fails. Where there is no way
// to ask for that (a file system without, a directory that may not be read) that is no error.
[[nodiscard]] Status SyncDirectoryOf(const std::string& path);

// Removes what SQLite keeps beside the database at `path`: of one that somebody has changed, or
// only looked at in the mode that keeps a log. Before another file takes its place: it would be
// taken for that one's, and be read in place of what is in it.
void RemoveBeside(const std::string& path);

// What tells a file from another one of the same name, and from itself once it was written to.
struct FileVersion {
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t size = 0;
  std::array<int64_t, 2> modified{};  // seconds, nanoseconds

  bool operator==(const FileVersion&) const = default;
};

// Nothing: there is no file.
[[nodiscard]] std::optional<FileVersion> VersionOf(const std::string& path);

// Where a process keeps its snapshot: FILE, with FILE.lock and FILE.writing beside it. As long as
// one lives no other process has one of the same FILE, on this machine, whichever symbolic links it
// comes by; the lock ends with the process, however that ends. A hard link is another FILE: the
// first save parts the two.
//
// A snapshot is written to temporary() and then takes the place of FILE at once: whatever happens
// before that leaves the last good one where it is.
class StateFile {
 public:
  struct Refusal : Error {
    // Nothing can be made beside FILE: rights, a disk that is read-only or full. FILE may be read.
    bool unwritable = false;
  };

  // Takes the lock, and removes what an interrupted save left. Errors: the directory is not there
  // or cannot be written; FILE is no regular file; FILE.lock is something else; another process has
  // the file, with its number where it can be told.
  [[nodiscard]] static tl::expected<StateFile, Refusal> Take(const std::string& path);
  StateFile(StateFile&& other) noexcept;
  StateFile& operator=(StateFile&& other) noexcept;
  ~StateFile();

  // Absolute, and no symbolic link.
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string temporary() const { return path_ + ".writing"; }
  // The lock that is at FILE.lock is the one that was taken. Else somebody removed that, or mounted
  // another directory over this one: who comes next gets a lock too, and this one is to be given
  // up.
  [[nodiscard]] bool Holds() const;

  // What is at temporary() becomes FILE, and RemoveBeside() before that. An error where the lock is
  // not held any more.
  [[nodiscard]] Status Replace() const;
  // And stays FILE when the power fails.
  [[nodiscard]] Status Sync() const { return SyncDirectoryOf(path_); }
  // What an attempt left at temporary() goes.
  void Discard() const;
  // FILE is kept under another name, which is returned: it cannot be used, and may be worth a look.
  // There are at most kMostAside of them: the one that was set aside first makes room. An error
  // where the lock is not held any more.
  [[nodiscard]] Result<std::string> SetAside() const;
  static constexpr int kMostAside = 5;

 private:
  StateFile(std::string path, int lock) : path_(std::move(path)), lock_(lock) {}
  [[nodiscard]] Status ExpectHeld() const;

  std::string path_;
  int lock_ = -1;
};

}  // namespace conductor::store

#endif  // CONDUCTOR_LIB_STORE_STATE_FILE_H_
