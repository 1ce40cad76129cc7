#ifndef CONDUCTOR_DAEMON_SERVE_EVENT_DOCUMENT_H_
#define CONDUCTOR_DAEMON_SERVE_EVENT_DOCUMENT_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "daemon/serve/event_stream.h"
#include "daemon/serve/registration.h"
#include "lib/ingest/publisher_ingest.h"
#include "lib/stream/consumer.h"
#include "lib/wire/kv_event.h"

namespace conductor::serve {

// Tells what one publisher said to those who follow GET /v1/events, in the form that
// docs/http-api.md describes. Costs next to nothing while nobody does.
class EventTeller {
 public:
  // `stream` may be nullptr: nobody ever listens. It must outlive this.
  EventTeller(EventStream* stream, const Registration& registration);

  // After the batch was applied; `counters` as they are then.
  void Applied(stream::Sequence sequence, const wire::EventBatch& batch,
               const ingest::IngestCounters& counters) const;
  void NewLife() const;
  // "begun", "complete" or "abandoned".
  void Rebuild(std::string_view phase) const;
  void TrustChanged(const stream::Trust& trust) const;

 private:
  [[nodiscard]] bool wanted() const { return stream_ != nullptr && stream_->wanted(); }
  [[nodiscard]] EventFacts Facts(EventType type) const;

  EventStream* stream_;
  const std::string key_;
  const std::string instance_id_;
  const std::string tenant_;
  const std::string model_;
  const std::string lora_name_;
  const uint32_t dp_rank_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_EVENT_DOCUMENT_H_
