#include "lib/store/state_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

namespace conductor::store {
namespace {

Status SyncDirectory(const std::string& path) {
  std::string directory = std::filesystem::path(path).parent_path().string();
  if (directory.empty()) directory = ".";
  const int opened = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (opened < 0) return Fail(fmt::format("cannot be opened: {}", std::strerror(errno)), directory);
  const int synced = ::fsync(opened);
  const int error = errno;
  ::close(opened);
  // Some file systems have no such thing.
  if (synced == 0 || error == EINVAL) return {};
  return Fail(fmt::format("cannot be written to the disk: {}", std::strerror(error)), directory);
}

// Who has the lock, as it wrote it down.
std::string OwnerOf(int lock) {
  std::array<char, 32> text{};
  const ssize_t got = ::pread(lock, text.data(), text.size() - 1, 0);
  std::string owner(text.data(), got > 0 ? static_cast<size_t>(got) : 0);
  owner.resize(owner.find_first_not_of("0123456789") == std::string::npos
                   ? owner.size()
                   : owner.find_first_not_of("0123456789"));
  return owner;
}

}  // namespace

Result<StateFile> StateFile::Take(const std::string& path) {
  const std::string name = path + ".lock";
  const int lock = ::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock < 0) {
    return Fail(fmt::format("cannot be created: {}", std::strerror(errno)), name,
                "a directory that is there and can be written");
  }
  StateFile file(path, lock);
  if (::flock(lock, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) {
      return Fail(fmt::format("cannot be locked: {}", std::strerror(errno)), name,
                  "a file system with locks");
    }
    const std::string owner = OwnerOf(lock);
    return Fail(fmt::format("another conductor uses it{}",
                            owner.empty() ? "" : fmt::format(": process {}", owner)),
                path, "a file of its own for each daemon");
  }
  const std::string number = fmt::format("{}\n", ::getpid());
  if (::ftruncate(lock, 0) == 0) {
    // Only told to whoever comes next.
    [[maybe_unused]] const ssize_t written = ::pwrite(lock, number.data(), number.size(), 0);
  }
  file.Discard();
  return file;
}

StateFile::StateFile(StateFile&& other) noexcept
    : path_(std::move(other.path_)), lock_(std::exchange(other.lock_, -1)) {}

StateFile& StateFile::operator=(StateFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(lock_, other.lock_);
  return *this;
}

StateFile::~StateFile() {
  if (lock_ >= 0) ::close(lock_);
}

Status StateFile::Replace() const {
  if (std::rename(temporary().c_str(), path_.c_str()) != 0) {
    return Fail(fmt::format("cannot take the place of {}: {}", path_, std::strerror(errno)),
                temporary());
  }
  return SyncDirectory(path_);
}

void StateFile::Discard() const {
  ::unlink(temporary().c_str());
  ::unlink((temporary() + "-journal").c_str());
}

Result<std::string> StateFile::SetAside(const std::string& path) {
  for (int i = 0; i < 1000; ++i) {
    const std::string aside = i == 0 ? path + ".unusable" : fmt::format("{}.unusable.{}", path, i);
    // Unlike a rename it does not take the place of another.
    if (::link(path.c_str(), aside.c_str()) == 0) {
      if (::unlink(path.c_str()) == 0) return aside;
      break;
    }
    if (errno == EEXIST) continue;
    if (errno == EPERM || errno == EOPNOTSUPP) {  // a file system without links
      if (std::rename(path.c_str(), aside.c_str()) == 0) return aside;
    }
    break;
  }
  return Fail(fmt::format("cannot be kept under another name: {}", std::strerror(errno)), path);
}

}  // namespace conductor::store
