#ifndef CONDUCTOR_LIB_STREAM_BOUND_LINK_H_
#define CONDUCTOR_LIB_STREAM_BOUND_LINK_H_

#include <cstdint>
#include <optional>

#include "lib/stream/bound_endpoint.h"
#include "lib/stream/live_link.h"
#include "lib/stream/publisher_stream.h"

namespace conductor::stream {

// The live half of a publisher that connects to a bound endpoint.
//
// One with a replay endpoint is asked there as soon as the endpoint is bound, and again when
// somebody connects: it may be idle, and then nothing else tells what it holds. One without is
// connected from its first message on.
class BoundLink : public LiveLink {
 public:
  // `endpoint` and `stream` must outlive the link.
  BoundLink(BoundEndpoint& endpoint, BoundRouter::Name name, uint64_t task, size_t limit_bytes,
            bool has_replay, PublisherStream& stream);
  ~BoundLink() override;

  [[nodiscard]] Status Open() override { return {}; }
  void Begin() override;
  void Turn(bool monitor, MonoTime until) override;
  [[nodiscard]] bool HasMoreWork() const override {
    return !seat_.arrivals.empty() || seat_.dropped > 0;
  }
  [[nodiscard]] std::optional<MonoTime> Deadline() const override { return std::nullopt; }

 private:
  void Handle(BoundSeat::Arrival arrival);
  void Ask();

  BoundEndpoint& endpoint_;
  const BoundRouter::Name name_;
  const bool has_replay_;
  PublisherStream& stream_;
  BoundSeat seat_;
  bool joined_ = false;
  bool up_ = false;  // as the stream was told
};

}  // namespace conductor::stream

#endif  // CONDUCTOR_LIB_STREAM_BOUND_LINK_H_
