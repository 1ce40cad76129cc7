#ifndef CONDUCTOR_DAEMON_TOOLKIT_TOKEN_FILE_H_
#define CONDUCTOR_DAEMON_TOOLKIT_TOKEN_FILE_H_

#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/hash/block_hash.h"

namespace conductor::toolkit {

// A prompt's token ids from a file of one of three forms:
//   text    integers from 0 to 4294967295 with white space or commas between them
//   JSON    an array of such integers: "[1, 2, 300]"
//   binary  4 bytes each, little-endian
// Text and JSON are told apart by the bracket. Bytes are binary where `binary` says so, and where
// one of them is 0, which is in no text and in every token id below 2^24. Errors say at which byte
// what stands.
[[nodiscard]] Result<std::vector<TokenId>> ParseTokens(std::string_view bytes, bool binary = false);

// Of a file, "-" being standard input; binary when its name ends in ".bin". Errors name it.
[[nodiscard]] Result<std::vector<TokenId>> ReadTokenFile(const std::string& path);

// All of a file, "-" being standard input; at most kMostFileBytes. Errors name it.
[[nodiscard]] Result<std::string> ReadWholeFile(const std::string& path);

// More is no prompt.
inline constexpr size_t kMostFileBytes = 256 << 20;

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_TOKEN_FILE_H_
