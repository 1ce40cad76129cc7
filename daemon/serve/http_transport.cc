#include "daemon/serve/http_transport.h"

#include <sys/socket.h>
#include <sys/types.h>

#include <cerrno>

namespace conductor::serve {
namespace {

// What recv() and send() said; `wants` where they would have waited.
HttpTransport::Moved Result(ssize_t moved, HttpTransport::Io wants) {
  using Io = HttpTransport::Io;
  if (moved > 0) return {Io::kDone, static_cast<size_t>(moved)};
  if (moved < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return {wants};
  return {Io::kClosed};
}

}  // namespace

HttpTransport::Moved HttpTransport::Read(char* to, size_t size) {
  ssize_t got = 0;
  do {
    got = ::recv(fd(), to, size, 0);
  } while (got < 0 && errno == EINTR);
  return Result(got, Io::kWantsRead);
}

HttpTransport::Moved HttpTransport::Write(std::string_view bytes) {
  ssize_t sent = 0;
  do {
    sent = ::send(fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return Result(sent, Io::kWantsWrite);
}

void HttpTransport::EndWriting() { ::shutdown(fd(), SHUT_WR); }

}  // namespace conductor::serve
