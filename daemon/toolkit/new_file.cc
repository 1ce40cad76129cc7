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
#include <ctime>
#include <filesystem>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/serve/file_descriptor.h"
#include "lib/store/snapshot_schema.h"
#include "lib/store/sqlite.h"

namespace conductor::toolkit {
namespace {

// What a signal removes: read by its handler, so it is neither moved nor freed. Set before the
// handler is there, and told by `begun`.
std::array<char, 4096> begun_name{};
std::atomic<bool> begun = false;
static_assert(std::atomic<bool>::is_always_lock_free);

// FILE.conductor-<process>.new: what somebody else has beside FILE is hardly called so.
constexpr std::string_view kMark = ".conductor-";
constexpr std::string_view kEnd = ".new";

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

// Whether it is a snapshot by what it says of itself, however damaged, or empty, or not there.
bool MayBeLost(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 || status.st_size == 0) return true;
  auto database = store::Database::Open(path, store::Database::Mode::kRead);
  if (!database) return false;
  const auto application = database->Number("PRAGMA application_id");
  return application && *application == store::kApplicationId;
}

// What processes left that were killed while they wrote the same file.
void RemoveLeftovers(const std::filesystem::path& path) {
  constexpr size_t kMostDigits = 7;
  constexpr pid_t kMostProcesses = 4194304;  // that Linux has numbers for
  const std::string begin = path.filename().string().append(kMark);
  std::error_code error;
  std::filesystem::directory_iterator entry(path.parent_path(), error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(begin) || !name.ends_with(kEnd) ||
        name.size() <= begin.size() + kEnd.size()) {
      continue;
    }
    const std::string number = name.substr(begin.size(), name.size() - begin.size() - kEnd.size());
    if (number.size() > kMostDigits ||
        number.find_first_not_of("0123456789") != std::string::npos) {
      continue;
    }
    const auto process = static_cast<pid_t>(std::stol(number));
    if (process > kMostProcesses) continue;
    // A process of another machine or container may write there; it would have of late.
    struct stat status {};
    const std::string left = entry->path().string();
    if (::lstat(left.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
    if (::time(nullptr) - status.st_mtime < 3600) continue;
    if (::kill(process, 0) == 0 || errno != ESRCH) continue;
    ::unlink(left.c_str());
    store::RemoveBeside(left);
  }
}

}  // namespace

Result<NewFile> NewFile::Begin(const std::string& path, Over over) {
  auto resolved = store::ResolveLinks(path);
  if (!resolved) return tl::unexpected(std::move(resolved.error()));
  if (auto regular = store::ExpectRegularFile(*resolved); !regular) {
    return tl::unexpected(std::move(regular.error()));
  }
  NewFile file;
  file.path_ = *std::move(resolved);
  if (IsThere(file.path_ + ".lock")) {
    auto lock = store::StateFile::Take(file.path_);
    if (!lock) return tl::unexpected<Error>(std::move(lock.error()));
    file.lock_ = *std::move(lock);
  }
  const std::filesystem::path directory = std::filesystem::path(file.path_).parent_path();
  if (::access(directory.c_str(), W_OK) != 0) {
    return tl::unexpected(Failure(path, "cannot be written"));
  }
  if (over == Over::kSnapshot && !MayBeLost(file.path_)) {
    return Fail("is there, is no snapshot, and would be lost", path,
                "another name, or --force of `snapshot save`");
  }
  RemoveLeftovers(file.path_);
  std::signal(SIGXFSZ, SIG_IGN);  // a file that is larger than it may be is an error
  file.temporary_ = fmt::format("{}{}{}{}", file.path_, kMark, ::getpid(), kEnd);
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
  store::RemoveBeside(temporary_);
  begun = false;
}

Status NewFile::Commit() {
  store::RemoveBeside(path_);
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    return tl::unexpected(Failure(path_, "cannot be written"));
  }
  auto synced = store::SyncDirectoryOf(path_);
  if (synced) return {};
  return tl::unexpected(std::move(synced.error())
                            .Within(path_ + ": is written, and may be lost when the power fails"));
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
