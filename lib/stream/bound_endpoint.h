#ifndef CONDUCTOR_LIB_STREAM_BOUND_ENDPOINT_H_
#define CONDUCTOR_LIB_STREAM_BOUND_ENDPOINT_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/stream/bound_router.h"
#include "lib/stream/peer_socket.h"
#include "lib/stream/transport.h"
#include "lib/stream/unfinished_messages.h"
#include "lib/stream/zmq_socket.h"

namespace conductor::stream {

// One publisher's place at a bound endpoint: what came for it and waits for its turn.
struct BoundSeat {
  struct Arrival {
    enum class Kind : uint8_t {
      kListening,     // the endpoint is bound; `detail` says that nothing has come yet
      kNotListening,  // it cannot be bound now, why
      kSomebody,      // a connection that nobody knows yet: perhaps the publisher's
      kConnected,     // the messages that follow are of another connection than those before
      kMessage,
      kGone,    // its connection was lost
      kShared,  // its messages cannot be told apart, why; empty: they can again
    };
    Kind kind = Kind::kMessage;
    std::string detail;
    ZmqMessage message;
  };

  uint64_t task = 0;       // takes a turn when something came
  size_t limit_bytes = 1;  // of messages
  std::deque<Arrival> arrivals;
  size_t bytes = 0;
  // Messages that came after the last arrival and were dropped for the limit. As long as it is not
  // zero all are.
  uint64_t dropped = 0;
};

// A SUB socket that is bound, and the publishers that share it: vLLM connects where its endpoint
// has no '*'. A task of one ingest thread, like those of its publishers.
//
// One publisher that is slow must not hold up the others, so what comes is taken from the socket at
// once and waits in its publisher's seat; what does not fit there is dropped and said to be.
//
// Who connected is known by the frames only: libzmq's monitor names a connection by its file
// descriptor, each frame knows the descriptor that it came through, and its peer's address. So a
// publisher is connected from its first frame on.
class BoundEndpoint : public Task {
 public:
  // All references must outlive the endpoint. `task` is what `watcher` is told.
  BoundEndpoint(void* context, Watcher& watcher, uint64_t task, const Transport::Options& options,
                std::string endpoint);
  ~BoundEndpoint() override;

  // One name for all spellings of an endpoint that can only be bound once.
  [[nodiscard]] static std::string KeyOf(const std::string& endpoint);
  // An error when nothing could ever be bound to `endpoint`: a host that is neither '*' nor an
  // address of some machine.
  [[nodiscard]] static Status Check(const std::string& endpoint);

  // An error for what can never work. An address that is in use is waited for.
  [[nodiscard]] Status Open();

  // `seat` must stay where it is until Leave.
  void Join(BoundSeat& seat, BoundRouter::Name name);
  void Leave(BoundSeat& seat);
  [[nodiscard]] bool empty() const { return seats_.empty(); }

  // Messages that fit no publisher, or several. Readable from any thread.
  [[nodiscard]] std::shared_ptr<const std::atomic<uint64_t>> unrouted() const { return unrouted_; }

  bool Turn(bool monitor) override;
  [[nodiscard]] std::optional<MonoTime> Deadline() const override {
    return socket_ ? look_at_ : bind_at_;
  }

 private:
  struct Connection {
    uint64_t number = 0;
    int fd = -1;
    std::string peer;
    ZmqFrame frame;  // keeps what identifies the connection alive
  };

  void Bind();
  // Cuts off whoever sends a message without an end. Begun when it is due, and ended when all has
  // been taken that was whole by then.
  void BeginLook(MonoTime now);
  void EndLook(MonoTime now);
  void HandleEvents(size_t count);
  void Handle(ZmqMessage message);
  [[nodiscard]] Connection* ConnectionOf(const ZmqMessage& message);
  void Forget(uint64_t number);
  // Whether somebody is connected of whom no frame has come yet.
  [[nodiscard]] bool HasUnknownConnection() const;
  void TellShared();
  void TellAll(BoundSeat::Arrival::Kind kind, const std::string& detail);
  void Put(BoundSeat& seat, BoundSeat::Arrival::Kind kind, std::string detail = {});
  [[nodiscard]] std::string Waiting() const;

  void* const context_;
  Watcher& watcher_;
  const uint64_t task_;
  const Transport::Options& options_;
  const std::string endpoint_;

  BoundRouter router_;
  std::map<uint64_t, BoundSeat*> seats_;  // by task
  std::map<uint64_t, std::string> topics_;

  MonitoredSocket socket_;  // null until it is bound
  std::optional<MonoTime> bind_at_;
  uint32_t failures_ = 0;            // to bind, in a row
  std::string problem_;              // why it is not bound
  std::vector<SocketEvent> events_;  // not handled yet, oldest first
  bool drained_ = true;

  UnfinishedMessages unfinished_;
  std::optional<MonoTime> look_at_;        // while somebody is connected
  std::optional<MonoTime> looking_since_;  // a look is begun
  std::vector<bool> spoke_;                // by file descriptor, since the last look

  std::unordered_map<const void*, Connection> connections_;
  std::set<int> open_fds_;
  uint64_t last_connection_ = 0;
  bool told_strangers_ = false;
  const std::shared_ptr<std::atomic<uint64_t>> unrouted_ =
      std::make_shared<std::atomic<uint64_t>>(0);
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_BOUND_ENDPOINT_H_
