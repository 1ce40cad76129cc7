#ifndef CONDUCTOR_LIB_STORE_CONTENT_DIGEST_H_
#define CONDUCTOR_LIB_STORE_CONTENT_DIGEST_H_

#include <xxhash.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "lib/store/saved_publisher.h"

namespace conductor::store {

// XXH3-64 over all values of all rows of one table, in the order of their row ids, each with its
// type: SQLite itself does not notice a changed bit in a blob or a number, and whoever changes one
// by hand does not know what else says the same.
class ContentDigest {
 public:
  ContentDigest() : state_(XXH3_createState()) { XXH3_64bits_reset(state_.get()); }

  // The values of a row, column by column, then EndRow().
  void Null() { row_ += 'n'; }
  void Integer(int64_t value) { Add('i', &value, sizeof value); }
  void Real(double value) { Add('r', &value, sizeof value); }
  void Text(std::string_view text) { Add('t', text); }
  void Blob(std::string_view bytes) { Add('b', bytes); }
  void EndRow() {
    XXH3_64bits_update(state_.get(), row_.data(), row_.size());
    row_.clear();
    ++rows_;
  }

  [[nodiscard]] uint64_t rows() const { return rows_; }
  [[nodiscard]] uint64_t Value() const { return XXH3_64bits_digest(state_.get()); }

 private:
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };

  void Add(char type, const void* bytes, size_t size) {
    row_ += type;
    row_.append(static_cast<const char*>(bytes), size);
  }
  void Add(char type, std::string_view bytes) {
    const uint64_t size = bytes.size();
    Add(type, &size, sizeof size);
    row_.append(bytes);
  }

  std::unique_ptr<XXH3_state_t, Free> state_;
  std::string row_;
  uint64_t rows_ = 0;
};

// What the row of `snapshot` says, and by the digest of `digests` all the rest.
inline void DigestSnapshot(const SnapshotInfo& info, uint64_t digests, ContentDigest& digest) {
  digest.Text(info.conductor);
  digest.Real(info.saved_at + 0.0);
  for (const uint64_t number : {info.hash_seed, info.blocks, info.runs, info.holdings, digests}) {
    digest.Integer(static_cast<int64_t>(number));
  }
  digest.EndRow();
}

}  // namespace conductor::store

#endif  // CONDUCTOR_LIB_STORE_CONTENT_DIGEST_H_
