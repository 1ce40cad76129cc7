#ifndef CONDUCTOR_TESTS_WIRE_PAYLOADS_H_
#define CONDUCTOR_TESTS_WIRE_PAYLOADS_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/wire/dialect.h"

namespace conductor::wire {

// The bytes of testdata/wire/<name>.hex; lines that begin with # say where they come from.
inline std::string Golden(const std::string& name) {
  std::ifstream file(std::string(CONDUCTOR_TESTDATA) + "/wire/" + name + ".hex");
  EXPECT_TRUE(file) << name;
  std::string hex;
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with('#')) hex += line;
  }
  const auto bytes = FromHex(hex);
  EXPECT_TRUE(bytes.has_value()) << name;
  return bytes.value_or("");
}

struct GoldenPayload {
  std::string name;
  Dialect dialect;  // of the publisher that sends it
};

inline std::vector<GoldenPayload> Goldens() {
  return {{"vllm_v0_9_0", Dialect::kVllm},
          {"vllm_v0_11", Dialect::kVllm},
          {"vllm_v0_23", Dialect::kVllm},
          {"vllm_v0_24", Dialect::kVllm},
          {"vllm_v0_24_offload", Dialect::kVllm},
          {"ascend_store", Dialect::kVllmAscend},
          {"sglang_positional_salt", Dialect::kSglang},
          {"sglang_map_salt", Dialect::kSglang},
          {"sglang_bigram", Dialect::kSglang},
          {"lmcache", Dialect::kLmcache},
          {"tensorrt_llm", Dialect::kTensorRtLlm},
          {"rfc1527", Dialect::kRfc1527},
          {"mooncake_master", Dialect::kMooncake},
          {"mooncake_conductor", Dialect::kMooncake}};
}

inline constexpr Dialect kEveryDialect[] = {
    Dialect::kVllm,        Dialect::kVllmAscend, Dialect::kSglang,  Dialect::kLmcache,
    Dialect::kTensorRtLlm, Dialect::kRfc1527,    Dialect::kMooncake};

inline std::string Hex(std::string_view hex) {
  const auto bytes = FromHex(hex);
  EXPECT_TRUE(bytes.has_value()) << hex;
  return bytes.value_or("");
}

// A JSON value as MessagePack, by another encoder than ours.
inline std::string Msgpack(const nlohmann::json& value) {
  const std::vector<uint8_t> bytes = nlohmann::json::to_msgpack(value);
  return {bytes.begin(), bytes.end()};
}
inline std::string Msgpack(const char* json) { return Msgpack(nlohmann::json::parse(json)); }

inline nlohmann::json Binary(std::string_view bytes) {
  return nlohmann::json::binary(std::vector<uint8_t>(bytes.begin(), bytes.end()));
}

}  // namespace conductor::wire

#endif  // CONDUCTOR_TESTS_WIRE_PAYLOADS_H_
