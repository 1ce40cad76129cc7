#ifndef CONDUCTOR_DAEMON_SERVE_FILE_DESCRIPTOR_H_
#define CONDUCTOR_DAEMON_SERVE_FILE_DESCRIPTOR_H_

#include <unistd.h>

#include <utility>

namespace conductor::serve {

// Owns a file descriptor; -1 is none.
class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) : fd_(fd) {}
  ~FileDescriptor() { Close(); }
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    if (this != &other) {
      Close();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  [[nodiscard]] int get() const { return fd_; }
  void Close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_FILE_DESCRIPTOR_H_
