#ifndef CONDUCTOR_LIB_TRACE_RECORDING_BLOCKS_H_
#define CONDUCTOR_LIB_TRACE_RECORDING_BLOCKS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "lib/base/result.h"
#include "lib/trace/recording_format.h"
#include "lib/trace/recording_reader.h"

namespace conductor::trace {

// The blocks of one recording, in order; what is damaged is passed over and told. The inner half of
// RecordingReader, which knows of records.
class RecordingBlocks {
 public:
  // Whether blocks are decompressed: all, or only those that their checksums say are damaged.
  enum class Contents { kAll, kDamagedOnly };
  RecordingBlocks(ReadBytes read, std::string file, Contents contents = Contents::kAll)
      : read_(std::move(read)), file_(std::move(file)), contents_(contents) {}

  [[nodiscard]] Result<RecordingHeader> ReadHeader();

  // After ReadHeader() gave an error: whether the header is damaged and a block follows, with which
  // Next() begins then. Nothing for what is no recording, or of another version.
  [[nodiscard]] std::optional<Damage> PassDamagedHeader();

  struct Piece {
    // Decompressed records, valid until the next call; of a damaged block, those before the damage,
    // of which the last may be cut off.
    std::string_view records;
    uint64_t offset = 0;   // of the block in the file
    uint32_t claimed = 0;  // records that the block says it has
    bool whole = false;
    std::optional<Damage> damage;  // what comes behind `records`
  };
  // Nothing at the end.
  [[nodiscard]] std::optional<Piece> Next();

  // Where the last whole block, or the header, ended.
  [[nodiscard]] uint64_t whole_bytes() const { return whole_bytes_; }
  [[nodiscard]] uint64_t bytes_read() const { return offset_ + buffer_.size(); }
  // Why the file could not be read further; nothing when its end was reached, or not yet. The last
  // piece's damage says it, too, but what stands there may be as good as any.
  [[nodiscard]] const std::optional<Error>& read_failure() const { return read_failure_; }

 private:
  // Whether `size` bytes stand in Ahead(), after reading what is missing of them.
  bool Fill(size_t size);
  [[nodiscard]] std::string_view Ahead() const { return std::string_view(buffer_).substr(at_); }
  [[nodiscard]] uint64_t Offset() const { return offset_ + at_; }
  void Pass(size_t size) { at_ += size; }
  // The damage from `from` to where reading stands.
  [[nodiscard]] Damage DamageFrom(uint64_t from, std::string what);
  [[nodiscard]] Piece Search(std::string what, uint64_t most = UINT64_MAX);

  ReadBytes read_;
  const std::string file_;
  const Contents contents_;
  std::string buffer_;  // bytes of the file from offset_ on
  size_t at_ = 0;       // those before were used
  uint64_t offset_ = 0;
  uint64_t whole_bytes_ = 0;
  bool over_ = false;  // there is nothing more to read
  std::optional<Error> read_failure_;
  bool failure_told_ = false;  // in a damage
  std::string records_;
};

}  // namespace conductor::trace

#endif  // CONDUCTOR_LIB_TRACE_RECORDING_BLOCKS_H_
