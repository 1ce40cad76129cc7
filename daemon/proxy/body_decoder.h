#ifndef CONDUCTOR_DAEMON_PROXY_BODY_DECODER_H_
#define CONDUCTOR_DAEMON_PROXY_BODY_DECODER_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "daemon/proxy/http_head.h"

namespace conductor::proxy {

// Takes the framing off a message's body, piece by piece as it comes, in place: what a relay reads
// into its one buffer it sends on from there. Chunks are read strictly (http_head.h says why):
// lines end with CR LF, a size is hexadecimal digits with nothing behind them but extensions.
// Trailers are thrown away. Pure.
class BodyDecoder {
 public:
  BodyDecoder() = default;
  BodyDecoder(BodyEnd end, uint64_t length) : end_(end), left_(length) {
    done_ = end == BodyEnd::kNoBody || (end == BodyEnd::kLength && length == 0);
  }

  struct Step {
    size_t payload = 0;   // bytes of the body, now at the front of the buffer
    size_t consumed = 0;  // of what was given; less than all only when the body has ended
  };
  // Bytes behind the body's end are left where they are. After a mistake (`bad`) it takes no more.
  Step Decode(char* data, size_t size);

  // No bytes follow. True when that is how the body ends.
  [[nodiscard]] bool Closed() {
    if (end_ == BodyEnd::kClose) done_ = true;
    return done_;
  }

  [[nodiscard]] bool done() const { return done_; }
  [[nodiscard]] bool bad() const { return bad_; }

 private:
  enum class Place : uint8_t { kSize, kData, kDataEnd, kTrailer };

  Step DecodeChunks(char* data, size_t size);
  // A byte of a line; true at its end.
  bool TakeLine(char byte);
  void TakeSize();
  void Bad() { bad_ = true; }

  BodyEnd end_ = BodyEnd::kNoBody;
  uint64_t left_ = 0;  // of the body (kLength) or of the chunk
  bool done_ = true;
  bool bad_ = false;
  Place place_ = Place::kSize;
  std::string line_;    // as far as it has come; TakeLine() takes its end off
  size_t trailer_ = 0;  // bytes
};

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_BODY_DECODER_H_
