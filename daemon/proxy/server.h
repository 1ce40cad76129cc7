#ifndef CONDUCTOR_DAEMON_PROXY_SERVER_H_
#define CONDUCTOR_DAEMON_PROXY_SERVER_H_

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "daemon/proxy/client_connection.h"
#include "daemon/proxy/lane.h"
#include "daemon/proxy/request.h"

namespace conductor::proxy {

// The proxy's HTTP server: takes connections and gives them to the lanes in turns. One socket
// listens for all, so that a port that somebody else has is an error.
class Server {
 public:
  Server(const ProxyOptions& options, const std::string& host, uint16_t port);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Binds; the port. Connections wait until Start().
  [[nodiscard]] Result<uint16_t> Bind();
  // Answers on threads of its own. `shared` must outlive this.
  void Start(Shared& shared);
  // Takes no connections any more, and no requests on idle ones: those that are left have one that
  // has begun, and end with it.
  void Drain();
  // Ends all that is left.
  void Stop();

 private:
  struct Strand {
    explicit Strand(const Upstreams::Options& options) : lane(options), sweep(lane.io) {}
    Lane lane;
    net::steady_timer sweep;
    std::set<std::shared_ptr<ClientConnection>> clients;  // on the lane's thread
    std::thread thread;
  };

  void Accept();
  void Take(Strand& strand, tcp::socket socket);
  void Sweep(Strand& strand);

  const ProxyOptions& options_;
  const std::string host_;
  const uint16_t port_;
  Shared* shared_ = nullptr;
  std::vector<std::unique_ptr<Strand>> strands_;
  std::vector<std::unique_ptr<net::executor_work_guard<net::io_context::executor_type>>> work_;
  std::unique_ptr<tcp::acceptor> acceptor_;  // on the first lane
  std::unique_ptr<net::steady_timer> pause_;
  size_t next_ = 0;
};

}  // namespace conductor::proxy

#endif  // CONDUCTOR_DAEMON_PROXY_SERVER_H_
