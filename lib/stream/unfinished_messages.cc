#include "lib/stream/unfinished_messages.h"

#include <linux/sockios.h>
#include <linux/tcp.h>  // glibc's own tcp_info has no byte counts
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <zmq.h>

#include <algorithm>
#include <cstddef>
#include <optional>

#include "lib/base/log.h"

namespace conductor::stream {
namespace {

// Nothing where the kernel does not count.
std::optional<uint64_t> TakenFrom(int fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  int unread = 0;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 ||
      size < offsetof(tcp_info, tcpi_bytes_received) + sizeof info.tcpi_bytes_received ||
      ::ioctl(fd, SIOCINQ, &unread) != 0) {
    return std::nullopt;
  }
  const uint64_t received = info.tcpi_bytes_received;
  return received - std::min<uint64_t>(received, static_cast<uint64_t>(std::max(unread, 0)));
}

uint64_t CookieOf(int fd) {
  uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  return ::getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

}  // namespace

void UnfinishedMessages::Heed(const std::vector<SocketEvent>& events) {
  for (const auto& [event, fd] : events) {
    const bool begins = event == ZMQ_EVENT_ACCEPTED;
    const bool ends = event == ZMQ_EVENT_CLOSED || event == ZMQ_EVENT_DISCONNECTED;
    if (begins || ends) peers_.erase(fd);
    if (begins && TakenFrom(fd)) peers_[fd] = Peer{.cookie = CookieOf(fd)};
  }
}

void UnfinishedMessages::ReadSizes() {
  for (auto& [fd, peer] : peers_) {
    // A new connection may have the descriptor before the end of the old one is told.
    if (const auto taken = TakenFrom(fd)) peer.taken = std::max(peer.taken, *taken);
  }
}

uint64_t UnfinishedMessages::CutOff(const std::vector<bool>& spoke) {
  uint64_t together = 0;
  for (auto& [fd, peer] : peers_) {
    const auto index = static_cast<size_t>(fd);
    if (index < spoke.size() && spoke[index]) peer.begun = peer.taken;
    together += peer.unfinished();
  }
  uint64_t cut = 0;
  const auto most = [this] {
    return std::ranges::max_element(peers_, {},
                                    [](const auto& entry) { return entry.second.unfinished(); });
  };
  for (auto worst = most(); worst != peers_.end(); worst = most()) {
    const auto& [fd, peer] = *worst;
    const uint64_t unfinished = peer.unfinished();
    if (unfinished <= limits_.each && together <= limits_.together) break;
    if (peer.cookie != 0 && CookieOf(fd) == peer.cookie) {
      log::Warn("{}: a connection was cut off: {} bytes came of a message that has no end", where_,
                unfinished);
      ::shutdown(fd, SHUT_RDWR);
      ++cut;
    }
    together -= unfinished;
    peers_.erase(worst);
  }
  return cut;
}

}  // namespace conductor::stream
