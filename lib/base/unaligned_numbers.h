#ifndef CONDUCTOR_LIB_BASE_UNALIGNED_NUMBERS_H_
#define CONDUCTOR_LIB_BASE_UNALIGNED_NUMBERS_H_

#include <cstddef>
#include <cstring>
#include <iterator>
#include <vector>

namespace conductor {

// An iterator over numbers in the processor's byte order that stand anywhere in some bytes.
template <typename Number>
class UnalignedNumbers {
 public:
  using iterator_category = std::random_access_iterator_tag;
  using value_type = Number;
  using difference_type = std::ptrdiff_t;
  using pointer = const Number*;
  using reference = Number;

  UnalignedNumbers() = default;
  explicit UnalignedNumbers(const char* at) : at_(at) {}

  Number operator*() const {
    Number number;
    std::memcpy(&number, at_, sizeof number);
    return number;
  }
  UnalignedNumbers& operator++() { return *this += 1; }
  UnalignedNumbers operator++(int) {
    const UnalignedNumbers before = *this;
    *this += 1;
    return before;
  }
  UnalignedNumbers& operator--() { return *this += -1; }
  UnalignedNumbers& operator+=(difference_type count) {
    at_ += count * static_cast<difference_type>(sizeof(Number));
    return *this;
  }
  friend difference_type operator-(UnalignedNumbers a, UnalignedNumbers b) {
    return (a.at_ - b.at_) / static_cast<difference_type>(sizeof(Number));
  }
  friend bool operator==(UnalignedNumbers, UnalignedNumbers) = default;

 private:
  const char* at_ = nullptr;
};

// Makes `out` the `count` numbers that stand at `bytes`, without writing zeros first as resize()
// would.
template <typename Number>
void AssignNumbers(std::vector<Number>& out, const char* bytes, size_t count) {
  const UnalignedNumbers<Number> begin(bytes);
  UnalignedNumbers<Number> end = begin;
  end += static_cast<std::ptrdiff_t>(count);
  out.assign(begin, end);
}

}  // namespace conductor

#endif  // CONDUCTOR_LIB_BASE_UNALIGNED_NUMBERS_H_
