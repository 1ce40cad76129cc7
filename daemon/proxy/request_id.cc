#include "daemon/proxy/request_id.h"

#include <fmt/format.h>

#include <random>

namespace conductor::proxy {

uint64_t Unguessable() {
  thread_local std::random_device source;
  return (uint64_t{source()} << 32) | source();
}

std::string NewRequestId() {
  const uint64_t a = Unguessable();
  const uint64_t b = Unguessable();
  // Version 4, variant 1.
  return fmt::format("{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}", a >> 32, (a >> 16) & 0xffff, a & 0xfff,
                     ((b >> 48) & 0x3fff) | 0x8000, b & 0xffffffffffff);
}

}  // namespace conductor::proxy
