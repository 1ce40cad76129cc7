#ifndef CONDUCTOR_LIB_TRACE_RECORDING_WRITER_H_
#define CONDUCTOR_LIB_TRACE_RECORDING_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/trace/recording_format.h"

namespace conductor::trace {

// Writes a recording to a file, or goes on with one that exists.
//
// Records gather in a block that is written when it is large enough, or old enough: call Tick()
// when Deadline() has come. The destructor writes what is gathered.
//
// A file has one writer at a time, held by a lock (flock) that ends with the process. Where it
// cannot write, as on a full disk, it takes back the part of a block that it wrote, so that the
// file ends with a whole one, and all calls from then on give that error. (Beyond a limit of the
// size of files the system sends SIGXFSZ, which ends a process that does not ignore it.)
//
// With `rotate_bytes` the file that is full becomes FILE.0001, FILE.0002 and so on, and FILE is
// begun anew with all publishers: the newest part is always FILE, and each can be read alone. No
// file that is there already is overwritten.
//
// Of one thread.
class RecordingWriter {
 public:
  struct Options {
    std::string path;
    uint64_t rotate_bytes = 0;  // 0: one file; otherwise no file grows beyond, but for one block
    size_t block_bytes = 256 << 10;                          // before compression
    Duration flush_after = std::chrono::milliseconds(1000);  // of the block's first record
    std::string written_by = "conductor " CONDUCTOR_VERSION;
    int level = 3;  // zstd's
    // Asked while Open() looks through a recording that exists, which takes as long as reading it:
    // true ends it with an error, and nothing is touched. Empty: never.
    std::function<bool()> stopped;
  };
  // What was found at `path`.
  struct Found {
    bool recording = false;        // there was one, and it is gone on with
    uint64_t truncated_bytes = 0;  // a torn end that was cut off
    uint64_t kept_records = 0;     // of it, which were whole and are written again
    std::string torn;              // what was wrong with it, and where
  };

  // An error when another writer has the file (and which process that is), when it is no recording
  // or one of another version, or cannot be opened, or be read to its end.
  [[nodiscard]] static Result<RecordingWriter> Open(const Options& options);
  RecordingWriter(RecordingWriter&& other) noexcept;
  RecordingWriter& operator=(RecordingWriter&& other) noexcept;
  ~RecordingWriter();

  [[nodiscard]] const Found& found() const;
  // Of the file now, and of all that this writer wrote or found.
  [[nodiscard]] uint64_t file_bytes() const;
  [[nodiscard]] uint64_t total_bytes() const;
  [[nodiscard]] uint64_t files() const;

  // The publisher's number in Frame() and Mark(); the same one again for the same publisher.
  [[nodiscard]] Result<uint32_t> AddPublisher(MonoTime now, const RecordedPublisher& publisher);
  // A message that is too large for a recording is marked as lost.
  [[nodiscard]] Status Frame(MonoTime now, int64_t received_ns, uint32_t publisher, bool replayed,
                             std::span<const std::string_view> frames);
  [[nodiscard]] Status Mark(MonoTime now, const RecordedMark& mark);

  // When Tick() has something to do; nothing while no record waits.
  [[nodiscard]] std::optional<MonoTime> Deadline() const;
  [[nodiscard]] Status Tick(MonoTime now);
  // Writes what is gathered, for all who read the file.
  [[nodiscard]] Status Flush();
  // The same, and that it survives a crash of the machine. Nothing can be written afterwards.
  [[nodiscard]] Status Close();

 private:
  struct Impl;
  explicit RecordingWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conductor::trace

#endif  // CONDUCTOR_LIB_TRACE_RECORDING_WRITER_H_
