#include "lib/store/written_runs.h"

#include <xxhash.h>

#include <algorithm>
#include <array>

namespace conductor::store {

size_t WrittenRuns::Common(uint32_t run, size_t first, std::span<const PrefixHash> blocks,
                           const Read& read) const {
  const Known& row = rows_[run - 1];
  const size_t most = std::min(blocks.size(), row.length - first);
  const uint8_t* marks = marks_.data() + marks_at_[run - 1] + first;
  size_t common = 0;
  while (common < most && marks[common] == Mark(blocks[common])) ++common;
  if (common == 0) return 0;
  // A hash stands for all blocks before it.
  if (first + common == row.length && blocks[common - 1] == row.last) return common;
  const std::vector<PrefixHash> written = read(run);
  if (written.size() != row.length) return 0;
  while (common > 0 && written[first + common - 1] != blocks[common - 1]) --common;
  return common;
}

std::vector<WrittenRuns::Piece> WrittenRuns::Add(uint32_t name_space, std::optional<Place> parent,
                                                 std::span<const PrefixHash> blocks,
                                                 const Write& write, const Read& read) {
  std::vector<Piece> pieces;
  while (!blocks.empty()) {
    Piece piece;
    // The row of its parent may go on with it.
    if (parent && parent->block + 1 < rows_[parent->run - 1].length) {
      const size_t common = Common(parent->run, parent->block + 1, blocks, read);
      if (common > 0) {
        piece = {parent->run, static_cast<uint8_t>(parent->block + 1),
                 static_cast<uint8_t>(common)};
      }
    }
    if (piece.length == 0) {
      const std::array<uint64_t, 4> what = {name_space, parent ? parent->run : 0,
                                            parent ? parent->block : 0,
                                            static_cast<uint64_t>(blocks.front())};
      const XXH128_hash_t key = XXH3_128bits(what.data(), sizeof what);
      const auto [known, fresh] = by_first_.try_emplace({key.low64, key.high64}, runs() + 1);
      if (fresh) {
        piece = {known->second, 0, static_cast<uint8_t>(blocks.size())};
        const uint32_t position = parent ? rows_[parent->run - 1].position + parent->block + 1 : 0;
        rows_.push_back({position, piece.length, blocks.back()});
        marks_at_.push_back(marks_.size());
        for (const PrefixHash hash : blocks) marks_.push_back(Mark(hash));
        write({piece.run, name_space, parent, position, blocks});
      } else {
        // At least its first block is the same, even if nobody can read it.
        const size_t common = std::max<size_t>(Common(known->second, 0, blocks, read), 1);
        piece = {known->second, 0, static_cast<uint8_t>(common)};
      }
    }
    pieces.push_back(piece);
    blocks = blocks.subspan(piece.length);
    parent = Place{piece.run, uint32_t{piece.first} + piece.length - 1};
  }
  return pieces;
}

}  // namespace conductor::store
