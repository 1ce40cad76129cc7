#ifndef CONDUCTOR_LIB_CLIENT_HTTP_TRANSPORT_H_
#define CONDUCTOR_LIB_CLIENT_HTTP_TRANSPORT_H_

#include <memory>
#include <string>

#include "lib/client/conductor_url.h"
#include "lib/client/transport.h"

namespace conductor::client {

struct HttpTransportOptions {
  std::string token;    // "Authorization: Bearer TOKEN"; empty: none
  std::string ca_file;  // https: PEM; empty: the system's
  bool verify_certificates = true;
};

// HTTP/1.1 over one kept-alive connection, all paths. A host name is resolved by the system, which
// knows no deadline.
[[nodiscard]] std::unique_ptr<Transport> MakeHttpTransport(const ConductorUrl& url,
                                                           const HttpTransportOptions& options);

}  // namespace conductor::client

#endif  // CONDUCTOR_LIB_CLIENT_HTTP_TRANSPORT_H_
