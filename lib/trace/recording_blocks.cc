#include "lib/trace/recording_blocks.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace conductor::trace {
namespace {

// What is read at once; also bounds what a claim alone can make the buffer grow by.
constexpr size_t kPiece = 256 << 10;
// How far behind a damaged header the first block is looked for: the first one may be damaged, too.
constexpr uint64_t kMostBeforeFirst = 2 * kMostStoredBytes;

}  // namespace

bool RecordingBlocks::Fill(size_t size) {
  if (buffer_.size() - at_ >= size) return true;
  buffer_.erase(0, at_);
  offset_ += std::exchange(at_, 0);
  while (buffer_.size() < size && !over_) {
    const size_t had = buffer_.size();
    buffer_.resize(had + kPiece);
    const auto got = read_(buffer_.data() + had, kPiece);
    buffer_.resize(had + (got ? std::min(*got, kPiece) : 0));
    if (!got) read_failure_ = Error{got.error().what, file_, got.error().expected};
    over_ = !got || *got == 0;
  }
  return buffer_.size() >= size;
}

Result<RecordingHeader> RecordingBlocks::ReadHeader() {
  const auto failed = [this](Error error) -> Result<RecordingHeader> {
    if (read_failure_) return tl::unexpected(*read_failure_);
    return tl::unexpected(std::move(error).Within(file_));
  };
  Fill(kFixedHeaderBytes);
  auto size = HeaderSize(Ahead().substr(0, kFixedHeaderBytes));
  if (!size) return failed(std::move(size).error());
  Fill(*size);
  auto header = DecodeHeader(Ahead().substr(0, *size));
  if (!header) return failed(std::move(header).error());
  Pass(*size);
  whole_bytes_ = Offset();
  return header;
}

std::optional<Damage> RecordingBlocks::PassDamagedHeader() {
  Fill(kFixedHeaderBytes + kMostWriterBytes + kHeaderChecksumBytes);
  if (read_failure_ || Ahead().size() < kBlockHeadBytes || IsHeaderOfAnotherVersion(Ahead())) {
    return std::nullopt;
  }
  Piece piece = Search("the header is damaged", kMostBeforeFirst);
  if (!Fill(kBlockHeadBytes) || !DecodeBlockHead(Ahead())) return std::nullopt;
  whole_bytes_ = Offset();
  return std::move(piece.damage);
}

Damage RecordingBlocks::DamageFrom(uint64_t from, std::string what) {
  Damage damage{.file = file_, .offset = from, .bytes = Offset() - from, .what = std::move(what)};
  damage.to_end = !Fill(1);
  if (damage.to_end && read_failure_ && !std::exchange(failure_told_, true)) {
    damage.what = read_failure_->what;
  }
  return damage;
}

// Passes over bytes until a block's head stands ahead, or the end, or more than `most` are passed.
RecordingBlocks::Piece RecordingBlocks::Search(std::string what, uint64_t most) {
  const uint64_t from = Offset();
  Piece piece{.offset = from};
  Pass(1);
  while (Offset() - from <= most) {
    if (!Fill(kBlockHeadBytes)) {
      Pass(Ahead().size());
      break;
    }
    const size_t marker = Ahead().find(kBlockMarker);
    if (marker == std::string_view::npos) {
      Pass(Ahead().size() - (kBlockMarker.size() - 1));
      continue;
    }
    Pass(marker);
    if (!Fill(kBlockHeadBytes)) continue;
    if (DecodeBlockHead(Ahead())) break;
    Pass(1);
  }
  piece.damage = DamageFrom(from, std::move(what));
  return piece;
}

std::optional<RecordingBlocks::Piece> RecordingBlocks::Next() {
  if (!Fill(1)) {
    if (!read_failure_ || failure_told_) return std::nullopt;
    return Piece{.offset = Offset(), .damage = DamageFrom(Offset(), {})};
  }
  Piece piece{.offset = Offset()};
  if (!Fill(kBlockHeadBytes)) {
    Pass(Ahead().size());
    piece.damage = DamageFrom(piece.offset, "the file ends within the head of a block");
    return piece;
  }
  const auto head = DecodeBlockHead(Ahead());
  if (!head) return Search(head.error().Message());
  Pass(kBlockHeadBytes);
  piece.claimed = head->records;
  const bool cut = !Fill(head->stored_bytes);
  const std::string_view stored = Ahead().substr(0, head->stored_bytes);
  const bool damaged = cut || Checksum(stored) != head->checksum;
  // Records have checksums of their own: those before the damage are as good as any.
  records_.clear();
  Status decompressed;
  if (damaged || contents_ == Contents::kAll) {
    decompressed = DecompressBlock(stored, head->raw_bytes, records_);
  }
  Pass(stored.size());
  piece.records = records_;
  if (!damaged && decompressed) {
    piece.whole = true;
    whole_bytes_ = Offset();
    return piece;
  }
  std::string what = "a block is damaged: its checksum is another";
  if (cut) {
    what = fmt::format("the file ends within a block: {} of its {} bytes are there", stored.size(),
                       head->stored_bytes);
  } else if (!damaged) {
    what = decompressed.error().Message();
  }
  piece.damage = DamageFrom(piece.offset, std::move(what));
  return piece;
}

}  // namespace conductor::trace
