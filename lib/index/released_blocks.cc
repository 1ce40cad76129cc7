#include "lib/index/released_blocks.h"

#include <algorithm>

namespace conductor::index {
namespace {

constexpr size_t kPiecesKept = 4096;  // of a list that was longer

}  // namespace

void ReleasedBlocks::Add(uint32_t run, uint32_t begin, uint32_t end) {
  count_ += end - begin;
  Run& it = store_.run(run);
  const uint32_t newest = it.released;
  if (newest != kNone && newest == youngest_ && pieces_[newest].begin == end) {
    pieces_[newest].begin = static_cast<uint8_t>(begin);
    return;
  }
  uint32_t piece = free_;
  if (piece != kNone) {
    free_ = pieces_[piece].younger;
    --free_count_;
  } else {
    piece = static_cast<uint32_t>(pieces_.size());
    pieces_.emplace_back();
  }
  pieces_[piece] = {run,  static_cast<uint8_t>(begin), static_cast<uint8_t>(end), newest, youngest_,
                    kNone};
  it.released = piece;
  (youngest_ == kNone ? oldest_ : pieces_[youngest_].younger) = piece;
  youngest_ = piece;
}

void ReleasedBlocks::Drop(uint32_t piece) {
  const Piece& it = pieces_[piece];
  (it.older == kNone ? oldest_ : pieces_[it.older].younger) = it.younger;
  (it.younger == kNone ? youngest_ : pieces_[it.younger].older) = it.older;
  pieces_[piece].younger = free_;
  free_ = piece;
  ++free_count_;
}

void ReleasedBlocks::Tidy() {
  if (pieces_.size() <= kPiecesKept || free_count_ * 4 < pieces_.size() * 3) return;
  std::vector<Piece> pieces;
  pieces.reserve(2 * (pieces_.size() - free_count_));
  // Older ones come first, so what a piece names as older in its run has its new place already.
  std::vector<uint32_t> places(pieces_.size(), kNone);
  for (uint32_t at = oldest_; at != kNone; at = pieces_[at].younger) {
    Piece piece = pieces_[at];
    const auto place = places[at] = static_cast<uint32_t>(pieces.size());
    if (piece.older_in_run != kNone) piece.older_in_run = places[piece.older_in_run];
    piece.older = place == 0 ? kNone : place - 1;
    piece.younger = pieces_[at].younger == kNone ? kNone : place + 1;
    store_.run(piece.run).released = place;
    pieces.push_back(piece);
  }
  pieces_ = std::move(pieces);
  oldest_ = pieces_.empty() ? kNone : 0;
  youngest_ = pieces_.empty() ? kNone : static_cast<uint32_t>(pieces_.size()) - 1;
  free_ = kNone;
  free_count_ = 0;
}

void ReleasedBlocks::Remove(uint32_t run, uint32_t blocks) {
  Run& it = store_.run(run);
  while (it.released != kNone) {
    const uint32_t newest = it.released;
    Piece& piece = pieces_[newest];
    if (piece.begin >= blocks) return;
    const uint32_t until = std::min<uint32_t>(piece.end, blocks);
    count_ -= until - piece.begin;
    piece.begin = static_cast<uint8_t>(until);
    if (piece.begin < piece.end) return;
    it.released = piece.older_in_run;
    Drop(newest);
  }
}

uint32_t ReleasedBlocks::LastOf(uint32_t run) const {
  uint32_t piece = store_.run(run).released;
  while (piece != kNone && pieces_[piece].older_in_run != kNone) {
    piece = pieces_[piece].older_in_run;
  }
  return piece;
}

void ReleasedBlocks::RemoveLast(uint32_t run) {
  Run& it = store_.run(run);
  const uint32_t last = LastOf(run);
  if (last == kNone || pieces_[last].end != it.length) return;
  --count_;
  if (--pieces_[last].end > pieces_[last].begin) return;
  if (it.released == last) {
    it.released = kNone;
  } else {
    uint32_t piece = it.released;
    while (pieces_[piece].older_in_run != last) piece = pieces_[piece].older_in_run;
    pieces_[piece].older_in_run = kNone;
  }
  Drop(last);
}

BlockRef ReleasedBlocks::Oldest() const {
  return {pieces_[oldest_].run, uint32_t{pieces_[oldest_].end} - 1};
}

bool ReleasedBlocks::Check(uint32_t run, uint32_t& begin, uint32_t& end) const {
  const uint32_t newest = store_.run(run).released;
  begin = end = store_.run(run).length;
  if (newest == kNone) return true;
  begin = end = pieces_[newest].begin;
  for (uint32_t piece = newest; piece != kNone; piece = pieces_[piece].older_in_run) {
    const Piece& it = pieces_[piece];
    if (it.run != run || it.begin != end || it.end <= it.begin) return false;
    end = it.end;
  }
  return true;
}

}  // namespace conductor::index
