#include "lib/trace/recording_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>
#include <vector>

#include "lib/trace/recording_rotation.h"
#include "lib/trace/recording_survey.h"

namespace conductor::trace {
namespace {

tl::unexpected<Error> FailErrno(std::string_view what, const std::string& path,
                                std::string expected = {}) {
  return Fail(fmt::format("{}: {}", what, std::strerror(errno)), path, std::move(expected));
}

// Who holds a lock on that file, as far as this process may know: "process 123 (conductor)".
std::string HolderOf(const struct stat& file) {
  std::ifstream locks("/proc/locks");
  const std::string inode =
      fmt::format("{:02x}:{:02x}:{}", major(file.st_dev), minor(file.st_dev), file.st_ino);
  for (std::string line; std::getline(locks, line);) {
    std::istringstream words(line);
    std::string number;
    std::string kind;
    std::string advisory;
    std::string mode;
    std::string process;
    std::string where;
    words >> number >> kind >> advisory >> mode >> process >> where;
    if (kind != "FLOCK" || where != inode) continue;
    std::string name;
    std::getline(std::ifstream(fmt::format("/proc/{}/comm", process)), name);
    return fmt::format("process {}{}", process, name.empty() ? "" : fmt::format(" ({})", name));
  }
  return "another process";
}

// One open file of a recording, locked. Its end is always that of a whole block, or the header.
class LockedFile {
 public:
  LockedFile() = default;
  ~LockedFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  LockedFile(LockedFile&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)), bytes_(other.bytes_) {}
  LockedFile& operator=(LockedFile&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(path_, other.path_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  // Opens it for writing, or makes it.
  static Result<LockedFile> Open(const std::string& path) {
    for (;;) {
      LockedFile file;
      file.path_ = path;
      file.fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
      if (file.fd_ < 0) return FailErrno("cannot be opened for writing", path);
      struct stat opened {};
      if (::fstat(file.fd_, &opened) != 0) return FailErrno("cannot be looked at", path);
      if (!S_ISREG(opened.st_mode)) return Fail("is no regular file", path, "a file to record to");
      if (::flock(file.fd_, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) return FailErrno("cannot be locked", path);
        return Fail(fmt::format("{} is recording to it", HolderOf(opened)), path,
                    "one writer at a time");
      }
      // It may have been rotated away between the two.
      struct stat named {};
      if (::stat(path.c_str(), &named) == 0 && named.st_ino == opened.st_ino &&
          named.st_dev == opened.st_dev) {
        file.bytes_ = static_cast<uint64_t>(opened.st_size);
        return file;
      }
    }
  }

  // Whole, or not at all.
  Status Append(std::string_view bytes) {
    uint64_t written = 0;
    while (written < bytes.size()) {
      const ssize_t done = ::pwrite(fd_, bytes.data() + written, bytes.size() - written,
                                    static_cast<off_t>(bytes_ + written));
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) {
        auto failed = FailErrno("cannot be written", path_,
                                "room on the disk; what was recorded so far can be read");
        (void)!::ftruncate(fd_, static_cast<off_t>(bytes_));
        return failed;
      }
      written += static_cast<uint64_t>(done);
    }
    bytes_ += written;
    return {};
  }

  Status Truncate(uint64_t bytes) {
    if (::ftruncate(fd_, static_cast<off_t>(bytes)) != 0) {
      return FailErrno("its torn end cannot be cut off", path_);
    }
    bytes_ = bytes;
    return {};
  }

  Status Sync() {
    if (::fdatasync(fd_) != 0) return FailErrno("cannot be written", path_);
    return {};
  }

  // Its first bytes, through this very file.
  [[nodiscard]] ReadBytes Reading() const {
    return [fd = fd_, at = uint64_t{0}](char* to, size_t size) mutable -> Result<size_t> {
      ssize_t got = -1;
      do {
        got = ::pread(fd, to, size, static_cast<off_t>(at));
      } while (got < 0 && errno == EINTR);
      if (got < 0) return Fail(fmt::format("cannot be read: {}", std::strerror(errno)));
      at += static_cast<uint64_t>(got);
      return static_cast<size_t>(got);
    };
  }

  void Renamed(const std::string& path) { path_ = path; }
  [[nodiscard]] uint64_t bytes() const { return bytes_; }

 private:
  int fd_ = -1;
  std::string path_;
  uint64_t bytes_ = 0;
};

}  // namespace

struct RecordingWriter::Impl {
  Options options;
  Found found;
  LockedFile file;
  uint64_t bytes_of_others = 0;
  uint64_t files = 1;
  // By number, which is this writer's own: a file that is gone on with is told of them anew.
  std::vector<RecordedPublisher> publishers;

  std::string block;
  uint32_t records = 0;
  bool begun = false;  // the file has a block
  MonoTime first{};    // when the block's first record came
  std::optional<Error> failed;

  Status FailWith(Error error) {
    failed = error;
    return tl::unexpected(std::move(error));
  }

  Status Check() const {
    if (failed) return tl::unexpected(*failed);
    return {};
  }

  std::string Header() const {
    return EncodeHeader({.created_ns = UnixNanos(), .written_by = options.written_by});
  }

  // Goes on with what is in the file, or begins it.
  Status Begin() {
    if (file.bytes() == 0) return file.Append(Header());
    auto survey = SurveyRecording(file.Reading(), options.path, options.stopped);
    if (!survey) {
      const std::string header = Header();
      // A recorder that ended before the header was whole; of anything else nothing is touched.
      if (file.bytes() >= header.size() || !BeginsAsHeader(header)) {
        return tl::unexpected(std::move(survey).error());
      }
      found = {.truncated_bytes = file.bytes(), .torn = survey.error().Message()};
      if (auto cut = file.Truncate(0); !cut) return cut;
      return file.Append(header);
    }
    found.recording = true;
    begun = survey->has_blocks;
    found.truncated_bytes = file.bytes() - survey->whole_bytes;
    if (found.truncated_bytes == 0) return {};
    found.torn = std::move(survey->torn);
    found.kept_records = survey->record_count;
    std::string kept;
    if (survey->record_count > 0) {
      auto encoded = EncodeBlock(survey->records, survey->record_count, options.level);
      if (!encoded) return tl::unexpected(std::move(encoded).error());
      kept = *std::move(encoded);
      begun = true;
    }
    if (auto cut = file.Truncate(survey->whole_bytes); !cut) return cut;
    return file.Append(kept);
  }

  [[nodiscard]] bool BeginsAsHeader(std::string_view header) const {
    std::string there(file.bytes(), '\0');
    const auto got = file.Reading()(there.data(), there.size());
    const std::string_view fixed = header.substr(0, 12);  // its name and version
    return got && there.substr(0, fixed.size()) == fixed.substr(0, there.size());
  }

  Status Before(MonoTime now, size_t bytes) {
    if (auto ready = Check(); !ready) return ready;
    if (records > 0 && block.size() + bytes > options.block_bytes) {
      if (auto written = WriteBlock(); !written) return written;
    }
    if (records == 0) first = now;
    return {};
  }

  Status After(Status appended) {
    if (!appended) return appended;
    ++records;
    return {};
  }

  Status WriteBlock() {
    if (auto ready = Check(); !ready) return ready;
    if (records == 0) return {};
    auto encoded = EncodeBlock(block, records, options.level);
    if (!encoded) return FailWith(std::move(encoded).error());
    if (options.rotate_bytes > 0 && begun &&
        file.bytes() + encoded->size() > options.rotate_bytes) {
      if (auto rotated = Rotate(); !rotated) return FailWith(std::move(rotated).error());
    }
    if (auto written = file.Append(*encoded); !written) return FailWith(std::move(written).error());
    begun = true;
    block.clear();
    records = 0;
    return {};
  }

  // FILE exists and is locked by this process at every moment, so that no other can step in (but on
  // a file system without hard links).
  Status Rotate() {
    const auto made = FreeNameBeside(options.path);
    if (!made) return tl::unexpected(made.error());
    auto next = LockedFile::Open(*made);
    if (!next) return tl::unexpected(std::move(next).error());
    std::string publishers_block;
    uint32_t count = 0;
    for (const RecordedPublisher& publisher : publishers) {
      if (auto added = AppendPublisher(publishers_block, count++, publisher); !added) return added;
    }
    Status written = next->Append(Header());
    if (written && count > 0) {
      auto encoded = EncodeBlock(publishers_block, count, options.level);
      if (!encoded) return tl::unexpected(std::move(encoded).error());
      written = next->Append(*encoded);
    }
    if (written) written = NameAsPart(options.path).map([](const std::string&) {});
    if (!written) {
      ::unlink(made->c_str());
      return written;
    }
    if (::rename(made->c_str(), options.path.c_str()) != 0) {
      return FailErrno("cannot be begun anew", options.path);
    }
    (void)file.Sync();
    bytes_of_others += file.bytes();
    ++files;
    file = *std::move(next);
    file.Renamed(options.path);
    return {};
  }
};

RecordingWriter::RecordingWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RecordingWriter::RecordingWriter(RecordingWriter&&) noexcept = default;
RecordingWriter& RecordingWriter::operator=(RecordingWriter&&) noexcept = default;

RecordingWriter::~RecordingWriter() {
  if (impl_) (void)impl_->WriteBlock();
}

Result<RecordingWriter> RecordingWriter::Open(const Options& options) {
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  auto file = LockedFile::Open(options.path);
  if (!file) return tl::unexpected(std::move(file).error());
  impl->file = *std::move(file);
  if (auto begun = impl->Begin(); !begun) return tl::unexpected(std::move(begun).error());
  return RecordingWriter(std::move(impl));
}

const RecordingWriter::Found& RecordingWriter::found() const { return impl_->found; }
uint64_t RecordingWriter::file_bytes() const { return impl_->file.bytes(); }
uint64_t RecordingWriter::total_bytes() const {
  return impl_->bytes_of_others + impl_->file.bytes();
}
uint64_t RecordingWriter::files() const { return impl_->files; }

Result<uint32_t> RecordingWriter::AddPublisher(MonoTime now, const RecordedPublisher& publisher) {
  auto& known = impl_->publishers;
  const auto at = std::ranges::find(known, publisher);
  const auto number = static_cast<uint32_t>(at - known.begin());
  if (at != known.end()) return number;
  if (known.size() == kMostPublishers) {
    return Fail(fmt::format("tells of {} publishers", known.size()), impl_->options.path,
                "no more, in one recording");
  }
  if (auto ready = impl_->Before(now, 0); !ready) return tl::unexpected(ready.error());
  if (auto added = impl_->After(AppendPublisher(impl_->block, number, publisher)); !added) {
    return tl::unexpected(added.error());
  }
  known.push_back(publisher);
  return number;
}

Status RecordingWriter::Frame(MonoTime now, int64_t received_ns, uint32_t publisher, bool replayed,
                              std::span<const std::string_view> frames) {
  size_t bytes = 0;
  for (const std::string_view frame : frames) bytes += 4 + frame.size();
  if (auto ready = impl_->Before(now, bytes); !ready) return ready;
  const Status appended = AppendFrame(impl_->block, received_ns, publisher, replayed, frames);
  if (appended) return impl_->After(appended);
  return Mark(now, {.time_ns = received_ns,
                    .publisher = publisher,
                    .kind = MarkKind::kLost,
                    .count = 1,
                    .detail = appended.error().Message()});
}

Status RecordingWriter::Mark(MonoTime now, const RecordedMark& mark) {
  if (auto ready = impl_->Before(now, mark.detail.size()); !ready) return ready;
  return impl_->After(AppendMark(impl_->block, mark));
}

std::optional<MonoTime> RecordingWriter::Deadline() const {
  if (impl_->records == 0 || impl_->failed) return std::nullopt;
  return impl_->first + impl_->options.flush_after;
}

Status RecordingWriter::Tick(MonoTime now) {
  const auto due = Deadline();
  return due && now >= *due ? Flush() : impl_->Check();
}

Status RecordingWriter::Flush() { return impl_->WriteBlock(); }

Status RecordingWriter::Close() {
  if (auto written = impl_->WriteBlock(); !written) return written;
  const Status synced = impl_->file.Sync();
  impl_->failed = Error{"the recording is closed", impl_->options.path, {}};
  return synced;
}

}  // namespace conductor::trace
