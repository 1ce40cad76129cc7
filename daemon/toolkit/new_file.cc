#include "daemon/toolkit/new_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "daemon/serve/file_descriptor.h"

namespace conductor::toolkit {
namespace {

// What a signal removes: read by its handler, so it is neither moved nor freed. Set before the
// handler is there, and told by `begun`.
std::array<char, 4096> begun_name{};
std::atomic<bool> begun = false;
static_assert(std::atomic<bool>::is_always_lock_free);

void RemoveAndEnd(int signal) {
  if (begun.load()) ::unlink(begun_name.data());
  std::signal(signal, SIG_DFL);
  ::raise(signal);
}

bool IsThere(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0;
}

Error Failure(const std::string& path, const char* what) {
  return {fmt::format("{}: {}", what, std::strerror(errno)), path, {}};
}

}  // namespace

Result<NewFile> NewFile::Begin(const std::string& path) {
  NewFile file;
  file.path_ = path;
  if (IsThere(path + ".lock")) {
    auto lock = store::StateFile::Take(path);
    if (!lock) return tl::unexpected(std::move(lock.error()));
    file.lock_ = *std::move(lock);
  }
  const std::filesystem::path directory = std::filesystem::path(path).parent_path();
  if (::access(directory.empty() ? "." : directory.c_str(), W_OK) != 0) {
    return tl::unexpected(Failure(path, "cannot be written"));
  }
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    return Fail("is a directory", path, "the name of a file");
  }
  file.temporary_ = fmt::format("{}.{}.new", path, ::getpid());
  if (file.temporary_.size() >= begun_name.size()) return Fail("is too long a name", path);
  ::unlink(file.temporary_.c_str());
  std::memcpy(begun_name.data(), file.temporary_.c_str(), file.temporary_.size() + 1);
  begun = true;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction present {};
    ::sigaction(signal, nullptr, &present);
    if (present.sa_handler == SIG_DFL) std::signal(signal, RemoveAndEnd);
  }
  return file;
}

NewFile::NewFile(NewFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      lock_(std::exchange(other.lock_, std::nullopt)) {}

NewFile::~NewFile() {
  if (temporary_.empty()) return;
  ::unlink(temporary_.c_str());
  ::unlink((temporary_ + "-journal").c_str());
  begun = false;
}

Status NewFile::Commit() {
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    return tl::unexpected(Failure(path_, "cannot be written"));
  }
  return {};
}

Status CopyFile(const std::string& from, const std::string& to) {
  const serve::FileDescriptor source(::open(from.c_str(), O_RDONLY | O_CLOEXEC));
  if (source.get() < 0) return tl::unexpected(Failure(from, "cannot be read"));
  const serve::FileDescriptor copy(
      ::open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (copy.get() < 0) return tl::unexpected(Failure(to, "cannot be written"));
  std::vector<char> buffer(1 << 20);
  for (;;) {
    const ssize_t got = ::read(source.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return tl::unexpected(Failure(from, "cannot be read"));
    if (got == 0) break;
    for (ssize_t done = 0; done < got;) {
      const ssize_t wrote =
          ::write(copy.get(), buffer.data() + done, static_cast<size_t>(got - done));
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) return tl::unexpected(Failure(to, "cannot be written"));
      done += wrote;
    }
  }
  if (::fsync(copy.get()) != 0) return tl::unexpected(Failure(to, "cannot be written"));
  return {};
}

}  // namespace conductor::toolkit
