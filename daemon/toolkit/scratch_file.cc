#include "daemon/toolkit/scratch_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

namespace conductor::toolkit {
namespace {

constexpr const char* kName = "/scratch.db";

// What a signal removes: read by its handler, so it is neither moved nor freed. Set before the
// handler is there, and told by `made`.
std::array<char, 4096> made_directory{};
std::array<char, 4096> made_file{};
std::atomic<bool> made = false;
static_assert(std::atomic<bool>::is_always_lock_free);

void RemoveAndEnd(int signal) {
  if (made.load()) {
    ::unlink(made_file.data());
    ::rmdir(made_directory.data());
  }
  std::signal(signal, SIG_DFL);
  ::raise(signal);
}

}  // namespace

Result<ScratchFile> ScratchFile::Make() {
  std::error_code error;
  const std::filesystem::path everybodys = std::filesystem::temp_directory_path(error);
  if (error) {
    return Fail(fmt::format("there is no directory for temporary files: {}", error.message()),
                "TMPDIR", "a directory that can be written");
  }
  std::string directory = everybodys / "conductor-XXXXXX";
  if (directory.size() + std::strlen(kName) >= made_file.size()) {
    return Fail("is too long a name", everybodys);
  }
  // Whoever is killed between these lines leaves an empty directory.
  if (::mkdtemp(directory.data()) == nullptr) {
    return Fail(fmt::format("nothing can be made there: {}", std::strerror(errno)), everybodys,
                "a directory that can be written, or another in TMPDIR");
  }
  ScratchFile file(std::move(directory));
  std::memcpy(made_directory.data(), file.directory_.c_str(), file.directory_.size() + 1);
  std::memcpy(made_file.data(), file.path().c_str(), file.path().size() + 1);
  made = true;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction present {};
    ::sigaction(signal, nullptr, &present);
    if (present.sa_handler == SIG_DFL) std::signal(signal, RemoveAndEnd);
  }
  std::signal(SIGXFSZ, SIG_IGN);  // a file that is larger than it may be is an error
  return file;
}

ScratchFile::ScratchFile(ScratchFile&& other) noexcept
    : directory_(std::exchange(other.directory_, {})) {}

ScratchFile::~ScratchFile() {
  if (directory_.empty()) return;
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
  made = false;
}

std::string ScratchFile::path() const { return directory_ + kName; }

}  // namespace conductor::toolkit
