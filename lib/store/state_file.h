#ifndef CONDUCTOR_LIB_STORE_STATE_FILE_H_
#define CONDUCTOR_LIB_STORE_STATE_FILE_H_

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

// What was renamed in the directory of `path` stays so when the power fails.
[[nodiscard]] Status SyncDirectoryOf(const std::string& path);

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

  // What is at temporary() becomes FILE. What SQLite keeps beside a database goes before that,
  // since it is of the one that was there, and would be taken for the new one's.
  [[nodiscard]] Status Replace() const;
  // And stays FILE when the power fails.
  [[nodiscard]] Status Sync() const { return SyncDirectoryOf(path_); }
  // What an attempt left at temporary() goes.
  void Discard() const;
  // FILE is kept under another name, which is returned: it cannot be used, and may be worth a look.
  // There are at most kMostAside of them: the one that was set aside first makes room.
  [[nodiscard]] static Result<std::string> SetAside(const std::string& path);
  static constexpr int kMostAside = 5;

 private:
  StateFile(std::string path, int lock) : path_(std::move(path)), lock_(lock) {}

  std::string path_;
  int lock_ = -1;
};

}  // namespace conductor::store

#endif  // CONDUCTOR_LIB_STORE_STATE_FILE_H_
