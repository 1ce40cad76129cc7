#ifndef CONDUCTOR_DAEMON_SERVE_QUERY_PEERS_H_
#define CONDUCTOR_DAEMON_SERVE_QUERY_PEERS_H_

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "lib/stream/peer_socket.h"

namespace conductor::serve {

// Who is connected to the ZeroMQ endpoint, and how much each has sent of a message that does not
// end.
//
// libzmq hands over whole messages and bounds neither the number of a message's frames nor their
// bytes together: a client that announces another frame with each one fills the memory of the
// process, at 64 bytes for two, and nobody is told before the last has come. So the kernel is
// asked: what a socket has received, less what still lies there unread, is what libzmq has taken.
// Whoever has had more taken since its last whole message than one message may have is cut off, and
// where all together have more than they may, whoever has most.
//
// Connections of other kinds than TCP are not looked at: the kernel does not count for them. Used
// by one thread.
class QueryPeers {
 public:
  // In bytes as they come over the wire.
  struct Limits {
    uint64_t each = 0;
    uint64_t together = 0;
  };

  explicit QueryPeers(const Limits& limits) : limits_(limits) {}

  // What the endpoint's monitor told, in order.
  void Heed(const std::vector<stream::SocketEvent>& events);
  [[nodiscard]] bool empty() const { return peers_.empty(); }

  // A look is two calls: ReadSizes(), then, when all that was whole by then has been taken from the
  // socket, CutOff() with the connections that it came through since the look before, as flags by
  // their file descriptors. How many were cut off.
  void ReadSizes();
  uint64_t CutOff(const std::vector<bool>& spoke);

 private:
  struct Peer {
    uint64_t cookie = 0;  // the kernel's own name of the connection: descriptors are used again
    uint64_t taken = 0;   // bytes, ever
    uint64_t begun = 0;   // of these, those before the message that is not whole

    [[nodiscard]] uint64_t unfinished() const { return taken - begun; }
  };

  const Limits limits_;
  std::unordered_map<int, Peer> peers_;  // by file descriptor, which is libzmq's
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_QUERY_PEERS_H_
