#ifndef CONDUCTOR_LIB_STREAM_UNFINISHED_MESSAGES_H_
#define CONDUCTOR_LIB_STREAM_UNFINISHED_MESSAGES_H_

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "lib/stream/peer_socket.h"

namespace conductor::stream {

// Who is connected to a socket that is bound, and how much each has sent of a message that does not
// end.
//
// libzmq hands over whole messages and bounds neither the number of a message's frames nor their
// bytes together: a peer that announces another frame with each one fills the memory of the
// process, at 64 bytes for two, and nobody is told before the last has come. So the kernel is
// asked: what a socket has received, less what still lies there unread, is what libzmq has taken.
// Whoever has had more taken since its last whole message than one message may have is cut off, and
// where all together have more than they may, whoever has most.
//
// Connections of other kinds than TCP are not looked at: the kernel does not count for them. Used
// by one thread.
class UnfinishedMessages {
 public:
  // In bytes as they come over the wire.
  struct Limits {
    uint64_t each = 0;
    uint64_t together = 0;
  };

  // `where` is what the log calls the socket.
  UnfinishedMessages(std::string where, const Limits& limits)
      : where_(std::move(where)), limits_(limits) {}

  // What the socket's monitor told, in order: connections that are accepted, and those that end.
  void Heed(const std::vector<SocketEvent>& events);
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

  const std::string where_;
  const Limits limits_;
  std::unordered_map<int, Peer> peers_;  // by file descriptor, which is libzmq's
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_UNFINISHED_MESSAGES_H_
