#include "daemon/proxy/body_decoder.h"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace conductor::proxy {
namespace {

// Of a chunk's size with its extensions, or of a trailer field.
constexpr size_t kMaxLineBytes = 4096;
// Of all trailer fields.
constexpr size_t kMaxTrailerBytes = 16 << 10;

}  // namespace

BodyDecoder::Step BodyDecoder::Decode(char* data, size_t size) {
  if (done_ || bad_) return {};
  switch (end_) {
    case BodyEnd::kNoBody:
      return {};
    case BodyEnd::kClose:
      return {size, size};
    case BodyEnd::kLength: {
      const size_t taken = static_cast<size_t>(std::min<uint64_t>(size, left_));
      left_ -= taken;
      done_ = left_ == 0;
      return {taken, taken};
    }
    case BodyEnd::kChunked:
      return DecodeChunks(data, size);
  }
  return {};
}

BodyDecoder::Step BodyDecoder::DecodeChunks(char* data, size_t size) {
  Step step;
  while (step.consumed < size && !done_ && !bad_) {
    if (place_ == Place::kData) {
      const size_t taken = static_cast<size_t>(std::min<uint64_t>(size - step.consumed, left_));
      std::memmove(data + step.payload, data + step.consumed, taken);
      step.payload += taken;
      step.consumed += taken;
      left_ -= taken;
      if (left_ == 0) place_ = Place::kDataEnd;
      continue;
    }
    if (!TakeLine(data[step.consumed++])) continue;
    switch (place_) {
      case Place::kSize:
        TakeSize();
        break;
      case Place::kDataEnd:
        place_ = Place::kSize;
        break;
      case Place::kTrailer:
        done_ = line_.empty();
        trailer_ += line_.size() + 2;
        if (trailer_ > kMaxTrailerBytes) Bad();
        break;
      case Place::kData:
        break;
    }
    line_.clear();
  }
  return step;
}

bool BodyDecoder::TakeLine(char byte) {
  const bool is_end = line_.ends_with('\r');
  if (is_end != (byte == '\n')) {
    Bad();
  } else if (is_end) {
    line_.pop_back();
    return true;
  } else if (byte != '\r' && (place_ == Place::kDataEnd || IsControl(byte))) {
    Bad();
  } else if (line_.size() == kMaxLineBytes) {
    Bad();
  } else {
    line_.push_back(byte);
  }
  return false;
}

void BodyDecoder::TakeSize() {
  // At most 15 digits: what is added to it does not overflow.
  const auto [stop, error] = std::from_chars(line_.data(), line_.data() + line_.size(), left_, 16);
  const size_t digits = static_cast<size_t>(stop - line_.data());
  if (error != std::errc() || digits > 15) return Bad();
  const size_t next = line_.find_first_not_of(" \t", digits);
  if (next != std::string::npos && line_[next] != ';') return Bad();
  place_ = left_ == 0 ? Place::kTrailer : Place::kData;
}

}  // namespace conductor::proxy
