#include "lib/wire/kv_event.h"

namespace conductor::wire {

std::string_view SkipReasonName(SkipReason reason) {
  switch (reason) {
    case SkipReason::kUnknownEventType:
      return "unknown_event_type";
    case SkipReason::kMalformedEvent:
      return "malformed_event";
    case SkipReason::kUnknownField:
      return "unknown_field";
    case SkipReason::kNotLocal:
      return "not_local";
  }
  return "unknown";
}

std::string Skip::Describe() const {
  if (event_index == kNoEvent) return "batch: " + message;
  return "event " + std::to_string(event_index) + ": " + message;
}

}  // namespace conductor::wire
