#ifndef CONDUCTOR_DAEMON_SERVE_HTTP_TRANSPORT_H_
#define CONDUCTOR_DAEMON_SERVE_HTTP_TRANSPORT_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "daemon/serve/file_descriptor.h"

namespace conductor::serve {

// How a connection's bytes go over its socket, which does not block: as they are, here, or
// encrypted by TlsTransport. Nothing waits; who calls polls for what is wanted and calls again.
// Used by one thread.
class HttpTransport {
 public:
  enum class Io : uint8_t {
    kDone,        // some bytes were moved; the transport is open
    kClosed,      // the other side has ended it, or broken it
    kWantsRead,   // again, once the socket is readable
    kWantsWrite,  // again, once it is writable
  };
  struct Moved {
    Io io = Io::kClosed;
    size_t bytes = 0;  // more than 0 with kDone, and otherwise 0
  };

  explicit HttpTransport(FileDescriptor socket) : socket_(std::move(socket)) {}
  virtual ~HttpTransport() = default;
  HttpTransport(const HttpTransport&) = delete;
  HttpTransport& operator=(const HttpTransport&) = delete;

  [[nodiscard]] int fd() const { return socket_.get(); }

  // Until it is kDone nothing else may be called.
  [[nodiscard]] virtual Io Open() { return Io::kDone; }
  [[nodiscard]] virtual Moved Read(char* to, size_t size);
  // Writes the beginning of `bytes`, which are not empty.
  [[nodiscard]] virtual Moved Write(std::string_view bytes);
  // Says that nothing more will be written. What the other side still says can be read.
  virtual void EndWriting();

 private:
  FileDescriptor socket_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_HTTP_TRANSPORT_H_
