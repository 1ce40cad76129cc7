#ifndef CONDUCTOR_LIB_STORE_STATE_FILE_H_
#define CONDUCTOR_LIB_STORE_STATE_FILE_H_

#include <string>

#include "lib/base/result.h"

namespace conductor::store {

// Where a process keeps its snapshot: FILE, with FILE.lock and FILE.writing beside it. As long as
// one lives no other process has one of the same FILE, on this machine; the lock ends with the
// process, however that ends.
//
// A snapshot is written to temporary() and then takes the place of FILE at once: whatever happens
// before that leaves the last good one where it is.
class StateFile {
 public:
  // Takes the lock, and removes what an interrupted save left. Errors: the directory is not there
  // or cannot be written; another process has the file, with its number where it can be told.
  [[nodiscard]] static Result<StateFile> Take(const std::string& path);
  StateFile(StateFile&& other) noexcept;
  StateFile& operator=(StateFile&& other) noexcept;
  ~StateFile();

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string temporary() const { return path_ + ".writing"; }

  // What is at temporary() becomes FILE, and stays so when the power fails.
  [[nodiscard]] Status Replace() const;
  // What an attempt left at temporary() goes.
  void Discard() const;
  // FILE is kept under another name, which is returned: it cannot be used, and may be worth a look.
  [[nodiscard]] static Result<std::string> SetAside(const std::string& path);

 private:
  StateFile(std::string path, int lock) : path_(std::move(path)), lock_(lock) {}

  std::string path_;
  int lock_ = -1;
};

}  // namespace conductor::store

#endif  // CONDUCTOR_LIB_STORE_STATE_FILE_H_
