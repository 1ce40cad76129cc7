#ifndef CONDUCTOR_TESTS_FUZZ_FUZZ_TARGET_H_
#define CONDUCTOR_TESTS_FUZZ_FUZZ_TARGET_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

// What libFuzzer calls with every input, and replay_main.cc with every file. Whatever the input
// says, it returns 0: a fault is a crash, a report of a sanitizer, or a Require that fails.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace conductor::fuzz {

// Ends the process, so that the fuzzer keeps the input, unless `holds`. `rule` says what must hold.
inline void Require(bool holds, std::string_view rule) {
  if (holds) return;
  std::fprintf(stderr, "broken: %.*s\n", static_cast<int>(rule.size()), rule.data());
  std::abort();
}

// An input read as a sequence of decisions. Past its end all are zero, so every input is one.
class Decisions {
 public:
  Decisions(const uint8_t* data, size_t size) : left_(reinterpret_cast<const char*>(data), size) {}

  [[nodiscard]] bool over() const { return left_.empty(); }

  uint8_t Byte() {
    if (left_.empty()) return 0;
    const auto byte = static_cast<uint8_t>(left_.front());
    left_.remove_prefix(1);
    return byte;
  }
  // Below `bound`, which is at most 256.
  uint8_t Below(unsigned bound) { return static_cast<uint8_t>(Byte() % bound); }
  bool Coin() { return (Byte() & 1) != 0; }

  uint64_t Number() {
    uint64_t value = 0;
    for (int i = 0; i < 8; ++i) value = value << 8 | Byte();
    return value;
  }
  // The next `size` bytes, or what is left: views the input.
  std::string_view Bytes(size_t size) {
    const std::string_view bytes = left_.substr(0, size);
    left_.remove_prefix(bytes.size());
    return bytes;
  }
  std::string_view Rest() { return Bytes(left_.size()); }

 private:
  std::string_view left_;
};

}  // namespace conductor::fuzz

#endif  // CONDUCTOR_TESTS_FUZZ_FUZZ_TARGET_H_
