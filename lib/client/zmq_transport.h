#ifndef CONDUCTOR_LIB_CLIENT_ZMQ_TRANSPORT_H_
#define CONDUCTOR_LIB_CLIENT_ZMQ_TRANSPORT_H_

#include <memory>

#include "lib/client/conductor_url.h"
#include "lib/client/transport.h"

namespace conductor::client {

// A conductor's --query-endpoint (docs/zeromq-api.md): POST /v1/query and /v1/score, in
// MessagePack. One request at a time; an answer that comes after its deadline is thrown away. A
// host name is resolved by libzmq, which knows no deadline.
[[nodiscard]] std::unique_ptr<Transport> MakeZmqTransport(const ConductorUrl& url);

}  // namespace conductor::client

#endif  // CONDUCTOR_LIB_CLIENT_ZMQ_TRANSPORT_H_
