#ifndef CONDUCTOR_LIB_TRACE_RECORDING_FORMAT_H_
#define CONDUCTOR_LIB_TRACE_RECORDING_FORMAT_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "lib/base/result.h"

namespace conductor::trace {

// A recording keeps what publishers sent, frame by frame as it came off the wire, for days if need
// be: thousands of messages a second of a few hundred bytes each, which compress to a tenth. So
// records are gathered into blocks that are compressed and written as one, at the latest a second
// after their first record: whatever ends the process, a second is lost and the rest is readable.
// Blocks do not refer to each other, so that one that is damaged costs no other. One stream of
// compressed data for the whole file would be smaller, and worth nothing behind a damaged byte.
//
// docs/recording-format.md is the format; here are its parts as pure functions over bytes.
// RecordingWriter and RecordingReader (recording_writer.h, recording_reader.h) are what to use.

inline constexpr std::string_view kRecordingMagic = "\x89KVR\r\n\x1a\n";  // a file's first bytes
inline constexpr uint16_t kRecordingMajor = 1;  // another one cannot be read
inline constexpr uint16_t kRecordingMinor = 0;  // a greater one can: what it adds is passed over

// What a reader takes. It never reserves memory for what a file only claims.
inline constexpr size_t kMostRecordBytes = 64 << 20;  // the body of one record
inline constexpr size_t kMostBlockBytes = kMostRecordBytes + 8;
inline constexpr size_t kMostStoredBytes = 65 << 20;  // a block, compressed
inline constexpr size_t kMostFrames = 65536;          // of one message
inline constexpr size_t kMostPublisherBytes = 64 << 10;
inline constexpr size_t kMostPublishers = 4096;
inline constexpr size_t kMostWriterBytes = 1024;
inline constexpr int kWindowLog = 20;  // zstd's window: at most 1 MiB

// One publisher whose messages are in the recording.
struct RecordedPublisher {
  std::string endpoint;         // as it was given: "tcp://10.0.0.1:5557"
  std::string replay_endpoint;  // empty: none
  std::string topic;            // subscription prefix; empty: everything
  // A JSON object of registration fields, as POST /v1/publishers takes them, that are needed to
  // read the payloads and to build an index of them: type, instance_id, model, tenant_id, dp_rank,
  // block_size and so on. Empty: nothing is known.
  std::string facts;

  friend bool operator==(const RecordedPublisher&, const RecordedPublisher&) = default;
};

// One ZeroMQ message of a publisher, malformed ones too.
struct RecordedFrame {
  int64_t received_ns = 0;  // Unix time
  uint32_t publisher = 0;
  // An answer of the publisher's replay endpoint, as a DEALER sees it: begins with an empty frame.
  bool replayed = false;
  std::vector<std::string_view> frames;  // all of them, in order
};

enum class MarkKind : uint8_t {
  kConnected = 1,
  kDisconnected = 2,
  kLost = 3,       // messages that the recorder had to let go, or could not keep: how many
  kReplayEnd = 4,  // what was asked of the replay endpoint is complete
  kEnd = 5,        // the recorder was stopped: nothing was lost behind this
};
// "connected", "disconnected", "lost", "replay_end", "end"; "unknown" for any other.
[[nodiscard]] std::string_view MarkName(MarkKind kind);

// Something that happened between messages.
struct RecordedMark {
  static constexpr uint32_t kAllPublishers = UINT32_MAX;

  int64_t time_ns = 0;  // Unix time
  uint32_t publisher = kAllPublishers;
  MarkKind kind = MarkKind::kEnd;
  uint64_t count = 0;
  std::string detail;  // for people

  friend bool operator==(const RecordedMark&, const RecordedMark&) = default;
};

// The beginning of a file.
struct RecordingHeader {
  uint16_t major = kRecordingMajor;
  uint16_t minor = kRecordingMinor;
  int64_t created_ns = 0;  // Unix time
  std::string written_by;  // at most kMostWriterBytes: "conductor 0.1.0"
};

inline constexpr size_t kFixedHeaderBytes = 24;  // before `written_by`
inline constexpr size_t kHeaderChecksumBytes = 8;

[[nodiscard]] std::string EncodeHeader(const RecordingHeader& header);
// The size of the header that begins with these kFixedHeaderBytes. An error for what is no
// recording, or of a version that is not known.
[[nodiscard]] Result<size_t> HeaderSize(std::string_view fixed);
// Whether it is whole, and of a version that HeaderSize() refuses.
[[nodiscard]] bool IsHeaderOfAnotherVersion(std::string_view bytes);
// `bytes`: a whole header.
[[nodiscard]] Result<RecordingHeader> DecodeHeader(std::string_view bytes);

// Appends one record, whole: length, checksum, body. What is too large for a reader is an error
// that leaves `block` as it was.
[[nodiscard]] Status AppendPublisher(std::string& block, uint32_t number,
                                     const RecordedPublisher& publisher);
[[nodiscard]] Status AppendFrame(std::string& block, int64_t received_ns, uint32_t publisher,
                                 bool replayed, std::span<const std::string_view> frames);
[[nodiscard]] Status AppendMark(std::string& block, const RecordedMark& mark);

struct NumberedPublisher {
  uint32_t number = 0;  // in its file
  RecordedPublisher publisher;
};
// Of a type that this version does not know.
struct UnknownRecord {
  uint8_t type = 0;
};
using Record = std::variant<NumberedPublisher, RecordedFrame, RecordedMark, UnknownRecord>;

// Takes the first record off `block`. Frames view its bytes. An error leaves the rest of the block
// unreadable when `block` did not shrink; otherwise only this record.
[[nodiscard]] Result<Record> TakeRecord(std::string_view& block);

// What stands before a block's compressed bytes.
struct BlockHead {
  uint32_t stored_bytes = 0;
  uint32_t raw_bytes = 0;
  uint32_t records = 0;
  uint64_t checksum = 0;  // of the stored bytes
};

inline constexpr size_t kBlockHeadBytes = 28;
inline constexpr std::string_view kBlockMarker = "\xc7KVB";

// `block` compressed, with its head.
[[nodiscard]] Result<std::string> EncodeBlock(std::string_view block, uint32_t records, int level);
// The head that begins with these kBlockHeadBytes. An error for what is none, or claims more than a
// reader takes.
[[nodiscard]] Result<BlockHead> DecodeBlockHead(std::string_view bytes);
// XXH3-64.
[[nodiscard]] uint64_t Checksum(std::string_view bytes);
// Decompresses `stored` into `block`: as much as there is before what is wrong, if anything is.
[[nodiscard]] Status DecompressBlock(std::string_view stored, size_t raw_bytes, std::string& block);

// Now, as recordings have it: nanoseconds since 1970.
[[nodiscard]] int64_t UnixNanos();

}  // namespace conductor::trace

#endif  // CONDUCTOR_LIB_TRACE_RECORDING_FORMAT_H_
