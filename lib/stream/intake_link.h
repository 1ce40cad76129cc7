#ifndef CONDUCTOR_LIB_STREAM_INTAKE_LINK_H_
#define CONDUCTOR_LIB_STREAM_INTAKE_LINK_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "lib/stream/intake.h"
#include "lib/stream/live_link.h"
#include "lib/stream/peer_socket.h"
#include "lib/stream/publisher_stream.h"

namespace conductor::stream {

// The live half of a publisher whose messages are handed in: connected from its beginning to its
// end, for nothing is lost on this way.
class IntakeLink : public LiveLink {
 public:
  // `watcher` and `stream` must outlive the link.
  IntakeLink(std::shared_ptr<Intake> intake, Watcher& watcher, uint64_t task,
             PublisherStream& stream);
  ~IntakeLink() override;

  [[nodiscard]] Status Open() override;
  void Begin() override;
  void Turn(bool monitor, MonoTime until) override;
  [[nodiscard]] bool HasMoreWork() const override { return !intake_->empty(); }
  [[nodiscard]] std::optional<MonoTime> Deadline() const override { return std::nullopt; }

 private:
  void Handle(const Intake::Item& item);

  const std::shared_ptr<Intake> intake_;
  Watcher& watcher_;
  const uint64_t task_;
  PublisherStream& stream_;
  int wakeup_ = -1;  // eventfd
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_INTAKE_LINK_H_
