#ifndef CONDUCTOR_DAEMON_PROXY_REQUEST_ID_H_
#define CONDUCTOR_DAEMON_PROXY_REQUEST_ID_H_

#include <cstddef>
#include <cstdint>
#include <string>

// Names of requests that nobody can guess. Engines find each other's blocks, and the metaserver the
// request that a decoder calls for, by nothing else.
namespace conductor::proxy {

// From the system's source of randomness: what was drawn before tells nothing of what comes. Any
// thread.
[[nodiscard]] uint64_t Unguessable();

// 32 random hexadecimal digits in the form of a UUID (version 4 of RFC 9562).
[[nodiscard]] std::string NewRequestId();
inline constexpr size_t kRequestIdBytes = 36;  // of each of them

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_REQUEST_ID_H_
