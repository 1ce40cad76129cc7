#ifndef CONDUCTOR_DAEMON_TOOLKIT_SCRATCH_FILE_H_
#define CONDUCTOR_DAEMON_TOOLKIT_SCRATCH_FILE_H_

#include <string>

#include "lib/base/result.h"

namespace conductor::toolkit {

// A file that a command needs for a while, in a new directory of its own in that for temporary
// files ($TMPDIR, or /tmp): that is everybody's, so a name there that others can guess may be
// theirs, or lead elsewhere.
//
// One at a time in a process: SIGINT, SIGTERM and SIGHUP, where nobody else handles them, remove
// it.
class ScratchFile {
 public:
  // Errors: no such directory, or nothing can be made there.
  [[nodiscard]] static Result<ScratchFile> Make();
  ScratchFile(ScratchFile&& other) noexcept;
  ScratchFile& operator=(ScratchFile&&) = delete;
  // Removes it.
  ~ScratchFile();

  // Where to write it; nothing is there yet.
  [[nodiscard]] std::string path() const;

 private:
  explicit ScratchFile(std::string directory) : directory_(std::move(directory)) {}

  std::string directory_;  // empty: nothing is to be removed
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_SCRATCH_FILE_H_
