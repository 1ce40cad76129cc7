#include "lib/wire/dialect.h"

namespace conductor::wire {

std::string_view DialectName(Dialect dialect) {
  switch (dialect) {
    case Dialect::kVllm:
      return "vLLM";
    case Dialect::kVllmAscend:
      return "vLLM-Ascend";
    case Dialect::kSglang:
      return "SGLang";
    case Dialect::kLmcache:
      return "LMCache";
    case Dialect::kTensorRtLlm:
      return "TensorRT-LLM";
    case Dialect::kRfc1527:
      return "RFC1527";
    case Dialect::kMooncake:
      return "Mooncake";
  }
  return "";
}

}  // namespace conductor::wire
