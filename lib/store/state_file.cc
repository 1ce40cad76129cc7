#include "lib/store/state_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

namespace conductor::store {
namespace {

constexpr std::array<const char*, 3> kBesideDatabases = {"-journal", "-wal", "-shm"};

// So often a lock is taken whose name somebody removed meanwhile.
constexpr int kMostLocks = 5;

// Whether the open file is what has the name.
bool HasName(int opened, const std::string& name) {
  struct stat file {};
  struct stat named {};
  return ::fstat(opened, &file) == 0 && ::lstat(name.c_str(), &named) == 0 &&
         file.st_dev == named.st_dev && file.st_ino == named.st_ino;
}

// What a lock file says: the number of the process that has it, or had it. Nothing: it says
// something else, and is no lock of ours.
std::optional<std::string> OwnerOf(int lock) {
  std::array<char, 32> text{};
  const ssize_t got = ::pread(lock, text.data(), text.size(), 0);
  std::string owner(text.data(), got > 0 ? static_cast<size_t>(got) : 0);
  if (!owner.empty() && owner.back() == '\n') owner.pop_back();
  if (owner.size() > 20 || owner.find_first_not_of("0123456789") != std::string::npos) {
    return std::nullopt;
  }
  return owner;
}

// A descriptor of FILE.lock, opened or made.
tl::expected<int, StateFile::Refusal> OpenLock(const std::string& name) {
  using Refusal = StateFile::Refusal;
  // Nobody is led elsewhere by a link, nor kept waiting by what is no file.
  const int lock =
      ::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
  if (lock < 0) {
    const bool is_else = errno == ELOOP || errno == EISDIR || errno == ENXIO;
    return tl::unexpected(
        Refusal{{fmt::format("cannot be created: {}", std::strerror(errno)), name,
                 is_else ? "a regular file, or none" : "a directory that can be written"},
                !is_else});
  }
  struct stat status {};
  if (::fstat(lock, &status) != 0 || !S_ISREG(status.st_mode) || !OwnerOf(lock)) {
    ::close(lock);
    return tl::unexpected(Refusal{
        {"is no lock of Conductor's", name, "none, or another name for the snapshot"}, false});
  }
  return lock;
}

// Which of the names that are all taken was given first.
std::string OldestOf(const std::array<std::string, StateFile::kMostAside>& names) {
  const std::string* oldest = &names.front();
  timespec since{};
  for (const std::string& name : names) {
    struct stat status {};
    if (::lstat(name.c_str(), &status) != 0) return name;
    const timespec& given = status.st_ctim;
    const bool earlier = given.tv_sec < since.tv_sec ||
                         (given.tv_sec == since.tv_sec && given.tv_nsec < since.tv_nsec);
    if (&name == &names.front() || earlier) {
      oldest = &name;
      since = given;
    }
  }
  return *oldest;
}

}  // namespace

Result<std::string> ResolveLinks(const std::string& path) {
  constexpr int kMostLinks = 40;  // as the kernel's
  std::filesystem::path at = path;
  for (int links = 0; links < kMostLinks; ++links) {
    std::error_code error;
    const std::filesystem::path parent = at.has_parent_path() ? at.parent_path() : ".";
    const std::filesystem::path directory = std::filesystem::canonical(parent, error);
    if (error) {
      return Fail(fmt::format("its directory cannot be used: {}", error.message()), path,
                  "one that is there");
    }
    at = directory / at.filename();
    const auto status = std::filesystem::symlink_status(at, error);
    if (!std::filesystem::is_symlink(status)) return at.string();
    const std::filesystem::path target = std::filesystem::read_symlink(at, error);
    if (error) return Fail(fmt::format("cannot be followed: {}", error.message()), at.string());
    at = directory / target;  // which is `target` where that is absolute
  }
  return Fail("has too many links behind it", path);
}

Status ExpectRegularFile(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return {};
    return Fail(fmt::format("cannot be looked at: {}", std::strerror(errno)), path);
  }
  if (S_ISREG(status.st_mode)) return {};
  const char* what = S_ISDIR(status.st_mode)    ? "is a directory"
                     : S_ISFIFO(status.st_mode) ? "is a FIFO"
                     : S_ISSOCK(status.st_mode) ? "is a socket"
                                                : "is a device";
  return Fail(what, path, "a regular file");
}

void RemoveBeside(const std::string& path) {
  for (const char* suffix : kBesideDatabases) ::unlink((path + suffix).c_str());
}

std::optional<FileVersion> VersionOf(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return FileVersion{.device = status.st_dev,
                     .inode = status.st_ino,
                     .size = status.st_size,
                     .modified = {status.st_mtim.tv_sec, status.st_mtim.tv_nsec}};
}

Status SyncDirectoryOf(const std::string& path) {
  std::string directory = std::filesystem::path(path).parent_path().string();
  if (directory.empty()) directory = ".";
  const int opened = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (opened < 0 && errno == EACCES) return {};  // it may be written, and not be read
  if (opened < 0) return Fail(fmt::format("cannot be opened: {}", std::strerror(errno)), directory);
  const int synced = ::fsync(opened);
  const int error = errno;
  ::close(opened);
  if (synced == 0) return {};
  // Some file systems have no such thing, and each has a way of its own to say so.
  for (const int none : {EINVAL, ENOSYS, ENOTSUP, EBADF}) {
    if (error == none) return {};
  }
  return Fail(fmt::format("cannot be written to the disk: {}", std::strerror(error)), directory);
}

tl::expected<StateFile, StateFile::Refusal> StateFile::Take(const std::string& path) {
  const auto refuse = [](Error error) { return tl::unexpected(Refusal{std::move(error), false}); };
  auto resolved = ResolveLinks(path);
  if (!resolved) return refuse(std::move(resolved.error()));
  if (auto regular = ExpectRegularFile(*resolved); !regular) {
    return refuse(std::move(regular.error()));
  }
  const std::string name = *resolved + ".lock";
  for (int i = 0; i < kMostLocks; ++i) {
    const auto lock = OpenLock(name);
    if (!lock) return tl::unexpected(lock.error());
    StateFile file(*resolved, *lock);
    if (::flock(*lock, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) {
        return refuse({fmt::format("cannot be locked: {}", std::strerror(errno)), name,
                       "a file system with locks"});
      }
      const std::string owner = OwnerOf(*lock).value_or("");
      return refuse({fmt::format("another conductor uses it{}",
                                 owner.empty() ? "" : fmt::format(": process {}", owner)),
                     path, "a file of its own for each daemon"});
    }
    if (!file.Holds()) continue;  // it was removed between the two, and locks nobody out
    const std::string number = fmt::format("{}\n", ::getpid());
    if (::ftruncate(*lock, 0) == 0) {
      // Only told to whoever comes next.
      [[maybe_unused]] const ssize_t written = ::pwrite(*lock, number.data(), number.size(), 0);
    }
    file.Discard();
    return file;
  }
  return refuse({"is removed as often as it is made", name, "nobody who does"});
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

bool StateFile::Holds() const { return HasName(lock_, path_ + ".lock"); }

Status StateFile::ExpectHeld() const {
  if (Holds()) return {};
  return Fail("was removed or replaced meanwhile, so another conductor may use the file",
              path_ + ".lock", "the lock that was taken");
}

Status StateFile::Replace() const {
  if (auto held = ExpectHeld(); !held) return held;
  RemoveBeside(path_);
  if (std::rename(temporary().c_str(), path_.c_str()) == 0) return {};
  return Fail(fmt::format("cannot take the place of {}: {}", path_, std::strerror(errno)),
              temporary());
}

void StateFile::Discard() const {
  ::unlink(temporary().c_str());
  RemoveBeside(temporary());
}

Result<std::string> StateFile::SetAside() const {
  if (auto held = ExpectHeld(); !held) return tl::unexpected(std::move(held.error()));
  const std::string& path = path_;
  std::array<std::string, kMostAside> names;
  for (int i = 0; i < kMostAside; ++i) {
    names[static_cast<size_t>(i)] =
        i == 0 ? path + ".unusable" : fmt::format("{}.unusable.{}", path, i);
  }
  const auto with_what_is_beside = [&path](const std::string& aside) {
    for (const char* suffix : kBesideDatabases) {
      std::rename((path + suffix).c_str(), (aside + suffix).c_str());
    }
    return aside;
  };
  const auto failed = [&path] {
    return Fail(fmt::format("cannot be kept under another name: {}", std::strerror(errno)), path);
  };
  for (const std::string& aside : names) {
    // Unlike a rename it does not take the place of another.
    if (::link(path.c_str(), aside.c_str()) == 0) {
      if (::unlink(path.c_str()) != 0) return failed();
      return with_what_is_beside(aside);
    }
    if (errno == EEXIST) continue;
    if (errno != EPERM && errno != EOPNOTSUPP) return failed();  // else one without links
    struct stat status {};
    if (::lstat(aside.c_str(), &status) == 0) continue;
    if (std::rename(path.c_str(), aside.c_str()) != 0) return failed();
    return with_what_is_beside(aside);
  }
  const std::string oldest = OldestOf(names);
  if (std::rename(path.c_str(), oldest.c_str()) != 0) return failed();
  RemoveBeside(oldest);
  return with_what_is_beside(oldest);
}

}  // namespace conductor::store
