#ifndef CONDUCTOR_DAEMON_TOOLKIT_NEW_FILE_H_
#define CONDUCTOR_DAEMON_TOOLKIT_NEW_FILE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "lib/base/result.h"
#include "lib/store/state_file.h"

namespace conductor::toolkit {

// A file that a command makes: written under another name beside it, FILE.conductor-<process>.new,
// it takes the place of what was there once it is whole, and what SQLite kept beside that goes with
// it. Until then, and when a signal ends the process before, nothing changes. What was killed
// before it could remove its own is removed by whoever writes the same file an hour later.
//
// One at a time in a process: SIGINT, SIGTERM and SIGHUP, where nobody else handles them, remove
// what was begun.
class NewFile {
 public:
  // What may be lost.
  enum class Over : uint8_t {
    kSnapshot,  // a snapshot, or an empty file; anything else is an error
    kAnyFile,
  };
  // The file is the one that symbolic links at `path` lead to. Errors: the directory is not there
  // or cannot be written; a daemon keeps its snapshot there; what is there must not be lost, or is
  // no regular file.
  [[nodiscard]] static Result<NewFile> Begin(const std::string& path, Over over);
  NewFile(NewFile&& other) noexcept;
  NewFile& operator=(NewFile&&) = delete;
  ~NewFile();

  // Where to write it; nothing is there yet.
  [[nodiscard]] const std::string& temporary() const { return temporary_; }
  // It is whole, and becomes the file; it stays so when the power fails.
  [[nodiscard]] Status Commit();

 private:
  NewFile() = default;

  std::string path_;
  std::string temporary_;                 // empty: nothing is to be removed
  std::optional<store::StateFile> lock_;  // where a daemon had the file once
};

// Writes a copy of the file at `from` to `to`, which must not be there, for its owner alone.
[[nodiscard]] Status CopyFile(const std::string& from, const std::string& to);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_NEW_FILE_H_
