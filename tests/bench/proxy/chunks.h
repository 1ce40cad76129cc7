#ifndef CONDUCTOR_TESTS_BENCH_PROXY_CHUNKS_H_
#define CONDUCTOR_TESTS_BENCH_PROXY_CHUNKS_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace conductor::bench {

// Takes a body in chunks apart, wherever it is cut. Relays may cut it anew.
class Chunks {
 public:
  // Calls `take(std::string_view)` for each piece of the body in `bytes`. How many of them belong
  // to the body: fewer than all where it ended. Of a body in no such form, see `is_bad()`.
  template <typename Take>
  size_t Feed(std::string_view bytes, Take take) {
    size_t at = 0;
    while (at < bytes.size() && state_ != State::kEnded && state_ != State::kBad) {
      if (state_ == State::kData) {
        const std::string_view piece = bytes.substr(at, left_);
        take(piece);
        at += piece.size();
        left_ -= piece.size();
        if (left_ == 0) state_ = State::kDataEnd;
      } else {
        Read(bytes[at++]);
      }
    }
    return at;
  }

  [[nodiscard]] bool has_ended() const { return state_ == State::kEnded; }
  [[nodiscard]] bool is_bad() const { return state_ == State::kBad; }

 private:
  enum class State : uint8_t {
    kSize,     // in the digits of a chunk's size
    kSizeEnd,  // before their line's end
    kData,
    kDataEnd,     // the line's end behind data
    kTrailer,     // at the beginning of a line behind the last chunk
    kTrailerEnd,  // within that
    kEnded,
    kBad,
  };

  void Read(char byte) {
    switch (state_) {
      case State::kSize:
        if (byte == '\r') {
          state_ = State::kSizeEnd;
        } else if (const int digit = Digit(byte); digit >= 0 && left_ < SIZE_MAX >> 5) {
          left_ = left_ * 16 + static_cast<size_t>(digit);
        } else {
          state_ = State::kBad;
        }
        break;
      case State::kSizeEnd:
        if (byte != '\n') {
          state_ = State::kBad;
        } else {
          state_ = left_ == 0 ? State::kTrailer : State::kData;
        }
        break;
      case State::kDataEnd:
        if (byte == '\n') state_ = State::kSize;
        if (byte != '\n' && byte != '\r') state_ = State::kBad;
        break;
      case State::kTrailer:
        if (byte == '\n') state_ = State::kEnded;
        if (byte != '\n' && byte != '\r') state_ = State::kTrailerEnd;
        break;
      case State::kTrailerEnd:
        if (byte == '\n') state_ = State::kTrailer;
        break;
      case State::kData:
      case State::kEnded:
      case State::kBad:
        break;
    }
  }

  static int Digit(char byte) {
    if (byte >= '0' && byte <= '9') return byte - '0';
    if (byte >= 'a' && byte <= 'f') return byte - 'a' + 10;
    if (byte >= 'A' && byte <= 'F') return byte - 'A' + 10;
    return -1;
  }

  State state_ = State::kSize;
  size_t left_ = 0;  // of the chunk
};

}  // namespace conductor::bench

#endif  // CONDUCTOR_TESTS_BENCH_PROXY_CHUNKS_H_
