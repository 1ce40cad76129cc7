#include "lib/trace/recording_format.h"

#include <fmt/format.h>
#include <xxhash.h>
#include <zstd.h>

#include <algorithm>
#include <chrono>
#include <concepts>
#include <memory>
#include <utility>

namespace conductor::trace {
namespace {

// As PNG's: a byte that is no text, a name, and line ends that a transfer as text would change.

enum class RecordType : uint8_t { kPublisher = 1, kFrame = 2, kMark = 3 };

constexpr size_t kRecordHeadBytes = 8;
constexpr uint8_t kReplayed = 1;  // flags of a frame

template <std::unsigned_integral T>
void Put(std::string& bytes, T value) {
  for (size_t i = 0; i < sizeof value; ++i) {
    bytes.push_back(static_cast<char>(value >> (8 * i) & 0xff));
  }
}

template <std::unsigned_integral T>
T Load(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) {
    value |= uint64_t{static_cast<uint8_t>(bytes[i])} << (8 * i);
  }
  return static_cast<T>(value);
}

void PutText(std::string& bytes, std::string_view text) {
  Put(bytes, static_cast<uint32_t>(text.size()));
  bytes += text;
}

// Reads the fields of a body one after the other. Past the end everything is zero and empty, and
// ok() is false.
class Fields {
 public:
  explicit Fields(std::string_view bytes) : left_(bytes) {}

  template <std::unsigned_integral T>
  T Number() {
    if (left_.size() < sizeof(T)) return Short<T>();
    const T value = Load<T>(left_);
    left_.remove_prefix(sizeof(T));
    return value;
  }
  std::string_view Text() {
    const auto size = Number<uint32_t>();
    if (left_.size() < size) return Short<std::string_view>();
    const std::string_view text = left_.substr(0, size);
    left_.remove_prefix(size);
    return text;
  }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] size_t left() const { return left_.size(); }

 private:
  template <typename T>
  T Short() {
    ok_ = false;
    left_ = {};
    return T{};
  }

  std::string_view left_;
  bool ok_ = true;
};

uint32_t ShortChecksum(std::string_view bytes) { return static_cast<uint32_t>(Checksum(bytes)); }

// The body of a record is appended by `body`, and its head filled in afterwards.
template <typename Body>
void AppendRecord(std::string& block, RecordType type, Body&& body) {
  const size_t head = block.size();
  block.append(kRecordHeadBytes, '\0');
  block.push_back(static_cast<char>(type));
  body();
  const std::string_view made = std::string_view(block).substr(head + kRecordHeadBytes);
  std::string filled;
  Put(filled, static_cast<uint32_t>(made.size()));
  Put(filled, ShortChecksum(made));
  block.replace(head, kRecordHeadBytes, filled);
}

Result<Record> ReadPublisher(Fields& fields) {
  NumberedPublisher record;
  record.number = fields.Number<uint32_t>();
  for (std::string* text : {&record.publisher.endpoint, &record.publisher.replay_endpoint,
                            &record.publisher.topic, &record.publisher.facts}) {
    *text = fields.Text();
  }
  return record;
}

Result<Record> ReadFrame(Fields& fields) {
  RecordedFrame record;
  record.received_ns = static_cast<int64_t>(fields.Number<uint64_t>());
  record.publisher = fields.Number<uint32_t>();
  record.replayed = (fields.Number<uint8_t>() & kReplayed) != 0;
  const auto count = fields.Number<uint32_t>();
  if (count > kMostFrames) {
    return Fail(fmt::format("a message of {} frames", count), {},
                fmt::format("at most {}", kMostFrames));
  }
  // Each frame has at least the four bytes of its length.
  record.frames.reserve(std::min<size_t>(count, fields.left() / 4));
  for (uint32_t i = 0; i < count && fields.ok(); ++i) record.frames.push_back(fields.Text());
  return record;
}

Result<Record> ReadMark(Fields& fields) {
  RecordedMark record;
  record.time_ns = static_cast<int64_t>(fields.Number<uint64_t>());
  record.publisher = fields.Number<uint32_t>();
  record.kind = static_cast<MarkKind>(fields.Number<uint8_t>());
  record.count = fields.Number<uint64_t>();
  record.detail = fields.Text();
  return record;
}

}  // namespace

std::string_view MarkName(MarkKind kind) {
  switch (kind) {
    case MarkKind::kConnected:
      return "connected";
    case MarkKind::kDisconnected:
      return "disconnected";
    case MarkKind::kLost:
      return "lost";
    case MarkKind::kReplayEnd:
      return "replay_end";
    case MarkKind::kEnd:
      return "end";
  }
  return "unknown";
}

uint64_t Checksum(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

std::string EncodeHeader(const RecordingHeader& header) {
  std::string bytes(kRecordingMagic);
  Put(bytes, header.major);
  Put(bytes, header.minor);
  Put(bytes, static_cast<uint64_t>(header.created_ns));
  PutText(bytes, std::string_view(header.written_by).substr(0, kMostWriterBytes));
  Put(bytes, Checksum(bytes));
  return bytes;
}

Result<size_t> HeaderSize(std::string_view fixed) {
  if (!fixed.starts_with(kRecordingMagic)) {
    return Fail("this is no recording", "byte 0", "what conductor tap --record writes");
  }
  if (fixed.size() < kFixedHeaderBytes) {
    return Fail("the file ends within its header", fmt::format("byte {}", fixed.size()));
  }
  const auto major = Load<uint16_t>(fixed.substr(8));
  if (major != kRecordingMajor) {
    return Fail(
        fmt::format("a recording of version {}.{}", major, Load<uint16_t>(fixed.substr(10))),
        "byte 8", fmt::format("version {}.x: a newer conductor reads it", kRecordingMajor));
  }
  const auto writer = Load<uint32_t>(fixed.substr(20));
  if (writer > kMostWriterBytes) {
    return Fail(fmt::format("the header names its writer with {} bytes", writer), "byte 20",
                fmt::format("at most {}", kMostWriterBytes));
  }
  return kFixedHeaderBytes + writer + kHeaderChecksumBytes;
}

bool IsHeaderOfAnotherVersion(std::string_view bytes) {
  if (bytes.size() < kFixedHeaderBytes || !bytes.starts_with(kRecordingMagic)) return false;
  const auto writer = Load<uint32_t>(bytes.substr(20));
  const size_t checked = kFixedHeaderBytes + std::min<size_t>(writer, kMostWriterBytes);
  return Load<uint16_t>(bytes.substr(8)) != kRecordingMajor &&
         bytes.size() >= checked + kHeaderChecksumBytes &&
         Checksum(bytes.substr(0, checked)) == Load<uint64_t>(bytes.substr(checked));
}

Result<RecordingHeader> DecodeHeader(std::string_view bytes) {
  const auto size = HeaderSize(bytes.substr(0, kFixedHeaderBytes));
  if (!size) return tl::unexpected(size.error());
  if (bytes.size() < *size) {
    return Fail("the file ends within its header", fmt::format("byte {}", bytes.size()));
  }
  const std::string_view checked = bytes.substr(0, *size - kHeaderChecksumBytes);
  if (Checksum(checked) != Load<uint64_t>(bytes.substr(checked.size()))) {
    return Fail("the header is damaged: its checksum is another", "byte 0");
  }
  RecordingHeader header;
  header.major = Load<uint16_t>(bytes.substr(8));
  header.minor = Load<uint16_t>(bytes.substr(10));
  header.created_ns = static_cast<int64_t>(Load<uint64_t>(bytes.substr(12)));
  header.written_by = checked.substr(kFixedHeaderBytes);
  return header;
}

Status AppendPublisher(std::string& block, uint32_t number, const RecordedPublisher& publisher) {
  const size_t bytes = publisher.endpoint.size() + publisher.replay_endpoint.size() +
                       publisher.topic.size() + publisher.facts.size();
  if (bytes > kMostPublisherBytes) {
    return Fail(fmt::format("{} bytes tell of one publisher", bytes),
                fmt::format("endpoint '{}'", publisher.endpoint.substr(0, 64)),
                fmt::format("at most {}", kMostPublisherBytes));
  }
  AppendRecord(block, RecordType::kPublisher, [&] {
    Put(block, number);
    PutText(block, publisher.endpoint);
    PutText(block, publisher.replay_endpoint);
    PutText(block, publisher.topic);
    PutText(block, publisher.facts);
  });
  return {};
}

Status AppendFrame(std::string& block, int64_t received_ns, uint32_t publisher, bool replayed,
                   std::span<const std::string_view> frames) {
  constexpr size_t kFields = 1 + 8 + 4 + 1 + 4;
  size_t bytes = kFields;
  for (const std::string_view frame : frames) bytes += 4 + frame.size();
  if (bytes > kMostRecordBytes || frames.size() > kMostFrames) {
    return Fail(fmt::format("a message of {} frames and {} bytes is too large for a recording",
                            frames.size(), bytes),
                {}, fmt::format("at most {} frames, {} bytes", kMostFrames, kMostRecordBytes));
  }
  AppendRecord(block, RecordType::kFrame, [&] {
    Put(block, static_cast<uint64_t>(received_ns));
    Put(block, publisher);
    Put(block, replayed ? kReplayed : uint8_t{0});
    Put(block, static_cast<uint32_t>(frames.size()));
    for (const std::string_view frame : frames) PutText(block, frame);
  });
  return {};
}

Status AppendMark(std::string& block, const RecordedMark& mark) {
  AppendRecord(block, RecordType::kMark, [&] {
    Put(block, static_cast<uint64_t>(mark.time_ns));
    Put(block, mark.publisher);
    Put(block, static_cast<uint8_t>(mark.kind));
    Put(block, mark.count);
    PutText(block, std::string_view(mark.detail).substr(0, kMostPublisherBytes));
  });
  return {};
}

Result<Record> TakeRecord(std::string_view& block) {
  if (block.size() < kRecordHeadBytes) return Fail("a record is cut off in its head");
  const size_t size = Load<uint32_t>(block);
  if (size == 0 || size > block.size() - kRecordHeadBytes) {
    return Fail(fmt::format("a record claims {} bytes", size), {},
                fmt::format("1 to the {} that there are", block.size() - kRecordHeadBytes));
  }
  const std::string_view body = block.substr(kRecordHeadBytes, size);
  if (ShortChecksum(body) != Load<uint32_t>(block.substr(4))) {
    return Fail("a record is damaged: its checksum is another");
  }
  block.remove_prefix(kRecordHeadBytes + size);
  const auto type = static_cast<uint8_t>(body.front());
  Fields fields(body.substr(1));
  Result<Record> record = UnknownRecord{type};
  switch (static_cast<RecordType>(type)) {
    case RecordType::kPublisher:
      if (size > kMostPublisherBytes + 64) return Fail("a publisher's record is too large");
      record = ReadPublisher(fields);
      break;
    case RecordType::kFrame:
      record = ReadFrame(fields);
      break;
    case RecordType::kMark:
      record = ReadMark(fields);
      break;
    default:
      return record;
  }
  if (record && !fields.ok()) {
    return Fail(fmt::format("a record of type {} is shorter than its fields", type));
  }
  return record;
}

Result<std::string> EncodeBlock(std::string_view block, uint32_t records, int level) {
  const std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(),
                                                                     ZSTD_freeCCtx);
  if (!context) return Fail("zstd has no memory");
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, level);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_windowLog, kWindowLog);
  std::string stored(ZSTD_compressBound(block.size()), '\0');
  const size_t size =
      ZSTD_compress2(context.get(), stored.data(), stored.size(), block.data(), block.size());
  if (ZSTD_isError(size) != 0) {
    return Fail(fmt::format("zstd cannot compress a block: {}", ZSTD_getErrorName(size)));
  }
  stored.resize(size);
  std::string bytes(kBlockMarker);
  Put(bytes, static_cast<uint32_t>(stored.size()));
  Put(bytes, static_cast<uint32_t>(block.size()));
  Put(bytes, records);
  Put(bytes, Checksum(stored));
  Put(bytes, ShortChecksum(bytes));
  return bytes + stored;
}

Result<BlockHead> DecodeBlockHead(std::string_view bytes) {
  if (bytes.size() < kBlockHeadBytes || !bytes.starts_with(kBlockMarker)) {
    return Fail("no block begins here");
  }
  if (ShortChecksum(bytes.substr(0, kBlockHeadBytes - 4)) !=
      Load<uint32_t>(bytes.substr(kBlockHeadBytes - 4))) {
    return Fail("the head of a block is damaged: its checksum is another");
  }
  BlockHead head;
  head.stored_bytes = Load<uint32_t>(bytes.substr(4));
  head.raw_bytes = Load<uint32_t>(bytes.substr(8));
  head.records = Load<uint32_t>(bytes.substr(12));
  head.checksum = Load<uint64_t>(bytes.substr(16));
  if (head.stored_bytes > kMostStoredBytes || head.raw_bytes > kMostBlockBytes) {
    return Fail(fmt::format("a block claims {} bytes, {} of them stored", head.raw_bytes,
                            head.stored_bytes),
                {}, fmt::format("at most {} and {}", kMostBlockBytes, kMostStoredBytes));
  }
  return head;
}

Status DecompressBlock(std::string_view stored, size_t raw_bytes, std::string& block) {
  block.clear();
  const std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context(ZSTD_createDCtx(),
                                                                     ZSTD_freeDCtx);
  if (!context) return Fail("zstd has no memory");
  ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, kWindowLog);
  ZSTD_inBuffer in{stored.data(), stored.size(), 0};
  std::string piece(ZSTD_DStreamOutSize(), '\0');
  for (size_t left = 1; left != 0;) {
    ZSTD_outBuffer out{piece.data(), piece.size(), 0};
    left = ZSTD_decompressStream(context.get(), &out, &in);
    if (out.pos > raw_bytes - block.size()) {
      return Fail(fmt::format("the block holds more bytes than the {} it claims", raw_bytes));
    }
    block.append(piece, 0, out.pos);
    if (ZSTD_isError(left) != 0) {
      return Fail(fmt::format("zstd cannot decompress the block: {}", ZSTD_getErrorName(left)));
    }
    if (left != 0 && in.pos == in.size && out.pos < out.size) return Fail("the block is cut off");
  }
  if (block.size() != raw_bytes || in.pos != in.size) {
    return Fail(fmt::format("the block holds {} bytes", block.size()), {},
                fmt::format("{}, and nothing behind them", raw_bytes));
  }
  return {};
}

int64_t UnixNanos() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace conductor::trace
