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

inline std::vector<std::string> GoldenNames() {
  return {"vllm_v0_9_0",    "vllm_v0_11",         "vllm_v0_23",
          "vllm_v0_24",     "vllm_v0_24_offload", "sglang_positional_salt",
          "sglang_map_salt"};
}

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
