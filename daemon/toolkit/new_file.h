#ifndef CONDUCTOR_DAEMON_TOOLKIT_NEW_FILE_H_
#define CONDUCTOR_DAEMON_TOOLKIT_NEW_FILE_H_

#include <optional>
#include <string>

#include "lib/base/result.h"
#include "lib/store/state_file.h"

namespace conductor::toolkit {

// A file that a command makes: written under another name beside it, it takes the place of what was
// there once it is whole. Until then, and when a signal ends the process before, nothing changes.
//
// One at a time in a process: SIGINT, SIGTERM and SIGHUP, where nobody else handles them, remove
// what was begun.
class NewFile {
 public:
  // Errors: the directory is not there or cannot be written; a daemon keeps its snapshot there.
  [[nodiscard]] static Result<NewFile> Begin(const std::string& path);
  NewFile(NewFile&& other) noexcept;
  NewFile& operator=(NewFile&&) = delete;
  ~NewFile();

  // Where to write it; nothing is there yet.
  [[nodiscard]] const std::string& temporary() const { return temporary_; }
  // It is whole.
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
