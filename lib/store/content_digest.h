#ifndef CONDUCTOR_LIB_STORE_CONTENT_DIGEST_H_
#define CONDUCTOR_LIB_STORE_CONTENT_DIGEST_H_

#include <xxhash.h>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string_view>

namespace conductor::store {

// XXH3-64 over the rows of the tables that hold blocks, holdings and names, in the order of their
// row ids: SQLite itself does not notice a changed bit in a blob or a number.
class ContentDigest {
 public:
  enum Table : uint8_t { kRuns, kHoldings, kSpecial, kNames, kAliases, kSpans };

  ContentDigest() {
    for (auto& state : states_) {
      state.reset(XXH3_createState());
      XXH3_64bits_reset(state.get());
    }
  }

  void Add(Table table, std::initializer_list<int64_t> numbers, std::string_view bytes = {}) {
    XXH3_state_t* state = states_[table].get();
    XXH3_64bits_update(state, numbers.begin(), numbers.size() * sizeof(int64_t));
    XXH3_64bits_update(state, bytes.data(), bytes.size());
  }

  [[nodiscard]] uint64_t Total() const {
    std::array<uint64_t, kTables> digests{};
    for (size_t i = 0; i < kTables; ++i) digests[i] = XXH3_64bits_digest(states_[i].get());
    return XXH3_64bits(digests.data(), sizeof digests);
  }

 private:
  static constexpr size_t kTables = 6;
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::array<std::unique_ptr<XXH3_state_t, Free>, kTables> states_;
};

}  // namespace conductor::store

#endif  // CONDUCTOR_LIB_STORE_CONTENT_DIGEST_H_
