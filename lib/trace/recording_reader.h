#ifndef CONDUCTOR_LIB_TRACE_RECORDING_READER_H_
#define CONDUCTOR_LIB_TRACE_RECORDING_READER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "lib/base/result.h"
#include "lib/trace/recording_format.h"

namespace conductor::trace {

// Reads up to `size` bytes, in order; 0 at the end.
using ReadBytes = std::function<Result<size_t>(char* to, size_t size)>;

// A part of a file that could not be read. What stands before and behind it was.
struct Damage {
  std::string file;
  uint64_t offset = 0;   // of its first byte in the file
  uint64_t bytes = 0;    // until reading went on
  uint64_t records = 0;  // lost with it, where that is known
  bool to_end = false;   // the file ends with it: torn by a crash, or still being written
  // Of a rotated recording so many parts are not there, `file` the first of them.
  uint64_t missing_parts = 0;
  std::string what;

  // "FILE: byte 1234: <what>; 56 bytes are passed over, 7 records with them", or
  // "FILE: <what>".
  [[nodiscard]] std::string Describe() const;
};

// Reads recordings from their beginning to their end, one after the other as if they were one, in
// bounded memory.
//
// Publishers are numbered by the reader: one that several files tell of, or that one file tells of
// several times, is one. So the numbers of frames and marks are those of publishers() and not those
// in the file.
//
// Whatever a file holds, reading goes on where it can: from a block that is damaged or cut off the
// records before the damage are read, then the next block is looked for. So it is behind a header
// that is damaged; only what has no block either is no recording.
class RecordingReader {
 public:
  // A publisher that no item told of before; its number.
  struct NewPublisher {
    uint32_t number = 0;
  };
  using Item = std::variant<NewPublisher, RecordedFrame, RecordedMark, Damage>;

  struct Counters {
    uint64_t blocks = 0;
    uint64_t records = 0;
    uint64_t unknown_records = 0;  // of types that a newer version writes; passed over
    uint64_t damages = 0;
    uint64_t damaged_bytes = 0;
    uint64_t missing_parts = 0;  // between parts of a rotated recording that were read
  };

  // Opens the first of `paths` and checks its header; the others when they are reached, where one
  // that cannot be opened, or is no recording, is an item Damage. So are parts that are missing
  // between two that follow each other there ("r.0002", "r.0004").
  [[nodiscard]] static Result<RecordingReader> Open(std::vector<std::string> paths);
  // From memory or anywhere; `name` is what damages call it.
  [[nodiscard]] static Result<RecordingReader> From(ReadBytes read, std::string name);
  RecordingReader(RecordingReader&& other) noexcept;
  RecordingReader& operator=(RecordingReader&& other) noexcept;
  ~RecordingReader();

  // The next item; nothing at the end. Frames view bytes that stay until the next call.
  [[nodiscard]] std::optional<Item> Next();

  // All that items told of so far, by number.
  [[nodiscard]] const std::vector<RecordedPublisher>& publishers() const;
  // Of the file that is being read; as made by default where it is damaged.
  [[nodiscard]] const RecordingHeader& header() const;
  [[nodiscard]] const Counters& counters() const;
  // In the file that is being read: where the last whole block ended. What stands behind it at the
  // end of the file is torn.
  [[nodiscard]] uint64_t whole_bytes() const;
  // Bytes read so far, of all files: for a progress bar.
  [[nodiscard]] uint64_t bytes_read() const;

 private:
  struct Impl;
  explicit RecordingReader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// `path` and what was rotated away from it (PATH.0001, PATH.0002, ...), oldest first. Of a path
// that is itself one of those, only that. No file twice, under whatever names it is there: a
// recorder that ends amid a rotation leaves FILE and its newest part as one.
[[nodiscard]] std::vector<std::string> RecordingFiles(const std::string& path);
// Those of several, in their order, and each once: where parts are named beside the path that they
// belong to ("FILE*"), they come where they come first.
[[nodiscard]] std::vector<std::string> RecordingFiles(std::span<const std::string> paths);

// What the parts that are there say of both ends of rotated recordings, a sentence each: that the
// oldest is not the first, and that FILE itself is not there. Neither need be a loss: somebody may
// have made room, and where there are no hard links a crash amid a rotation leaves no FILE. What is
// missing between parts is told by the reader.
[[nodiscard]] std::vector<std::string> MissingEnds(std::span<const std::string> paths);

// Which part of the recording `newest` a file in the same folder is, by its name: 2 for "r.0002" of
// "r". Nothing for any other file, as "r.20261126": parts have four digits, and up to seven where
// there are so many.
[[nodiscard]] std::optional<uint64_t> PartNumber(std::string_view newest, std::string_view other);

// Whether a file begins as a recording does.
[[nodiscard]] bool IsRecording(const std::string& path);

}  // namespace conductor::trace

#endif  // CONDUCTOR_LIB_TRACE_RECORDING_READER_H_
