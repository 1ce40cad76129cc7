#ifndef CONDUCTOR_DAEMON_PROXY_EMBEDDED_H_
#define CONDUCTOR_DAEMON_PROXY_EMBEDDED_H_

#include <memory>
#include <stop_token>
#include <string>

#include "daemon/serve/http_api.h"
#include "daemon/serve/registry.h"
#include "lib/base/result.h"
#include "lib/client/transport.h"

namespace conductor::proxy {

// A conductor inside the proxy: the daemon's registry and index, asked without a socket. Any
// thread.
class Embedded {
 public:
  Embedded();
  ~Embedded();
  Embedded(const Embedded&) = delete;
  Embedded& operator=(const Embedded&) = delete;

  // The publishers of a configuration file of `conductor serve`; what cannot be used is logged.
  [[nodiscard]] Status Load(const std::string& path);

  // The way to it for a client: POST /v1/query and /register, GET /v1/publishers. It answers at
  // once, whatever the deadlines.
  [[nodiscard]] std::unique_ptr<client::Transport> MakeTransport();

 private:
  serve::Registry registry_;
  const serve::HttpApi::Options options_;
  std::stop_source stopping_;
};

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_EMBEDDED_H_
