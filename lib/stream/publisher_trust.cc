// What PublisherStream says of itself.

#include <fmt/format.h>

#include <utility>

#include "lib/stream/publisher_stream.h"

namespace conductor::stream {
namespace {

// Requests in a row without an answer after which a silent publisher is out of reach.
constexpr uint32_t kUnansweredIsStale = 3;

// Appends a sentence to what is told already.
void AlsoTell(const std::string& sentence, std::string& detail) {
  if (!detail.empty()) detail += detail.ends_with('?') ? " Also: " : ". Also: ";
  detail += sentence;
}

}  // namespace

// The state as it is to be told, the worst first.
Trust PublisherStream::Judge() const {
  const bool asks_in_earnest = request_ && request_->purpose == Purpose::kCatchUp;
  if (!shared_.empty()) return {TrustState::kDegraded, "shared_endpoint", shared_};
  if (!heard_ && !(connected_ && Listed())) {
    if (!connected_) {
      return {
          TrustState::kConnecting, link_reason_,
          link_detail_.empty() ? fmt::format("connecting to {}", options_.endpoint) : link_detail_};
    }
    std::string detail = fmt::format("connected to {}, no event yet", options_.endpoint);
    if (!options_.has_replay) {
      detail +=
          "; without a replay endpoint an idle engine cannot be told from one that does not "
          "publish. Does it run with KV events enabled?";
    } else if (unanswered_ == 0) {
      detail += fmt::format("; {} is asked for what it holds", options_.replay_endpoint);
    } else {
      detail += fmt::format(
          "; {} does not answer replay requests. Is that the engine's "
          "replay_endpoint, and is the port open?",
          options_.replay_endpoint);
    }
    return {TrustState::kConnecting, "no_events_yet", detail};
  }
  if (!connected_) {
    const bool tried = link_reason_ != "not_connected";
    return {TrustState::kStale, tried ? link_reason_ : "unconfirmed",
            tried ? link_detail_
                  : fmt::format("restored from a snapshot, not confirmed by {} yet",
                                options_.endpoint)};
  }
  if (unconfirmed_resume_ && (options_.has_replay || Listed())) {
    return {TrustState::kStale, "unconfirmed",
            fmt::format("restored from a snapshot; {} is asked whether it still holds",
                        options_.has_replay ? options_.replay_endpoint : options_.endpoint)};
  }
  if (unanswered_ >= kUnansweredIsStale && !ever_answered_) {
    return {TrustState::kStale, "no_answer",
            fmt::format("{} has never answered a replay request, so nothing tells whether {} is "
                        "still as it was. Is that the engine's replay_endpoint, and is the port "
                        "open?",
                        options_.replay_endpoint, options_.endpoint)};
  }
  if (unanswered_ >= kUnansweredIsStale) {
    return {TrustState::kStale, "no_answer",
            fmt::format("{} is silent and {} did not answer {} requests or more in a row. Does "
                        "the engine hang?",
                        options_.endpoint, options_.replay_endpoint, kUnansweredIsStale)};
  }
  if (life_.damage.kind == Damage::Kind::kDoubtful) {
    return {TrustState::kDegraded, "doubtful", life_.damage.detail};
  }
  if (unproven_ && options_.has_replay && !asks_in_earnest) {
    return {TrustState::kDegraded, "doubtful",
            fmt::format("after a reconnect to {} the replay endpoint {} did not answer whether it "
                        "is still the same engine; it is asked again",
                        options_.endpoint, options_.replay_endpoint)};
  }
  if (asks_in_earnest || hidden_) {
    return {TrustState::kReplaying, "",
            fmt::format("reading what was missed from {}", options_.replay_endpoint)};
  }
  const bool in_part = !life_.cursor || life_.damage.kind == Damage::Kind::kIncomplete;
  if (listing_ && !life_.listed && in_part && listing_failures_ == 0) {
    return {TrustState::kReplaying, "",
            fmt::format("all that {} holds is asked for", options_.endpoint)};
  }
  if (life_.damage.kind == Damage::Kind::kIncomplete) {
    return {TrustState::kDegraded, "incomplete", life_.damage.detail};
  }
  return {TrustState::kLive, "", ""};
}

void PublisherStream::Tell() {
  counters_.cursor = life_.cursor;
  Trust trust = Judge();
  if (!replay_problem_.empty() && trust.state != TrustState::kLive) {
    AlsoTell(replay_problem_, trust.detail);
  }
  if (!listing_problem_.empty() && trust.state != TrustState::kLive) {
    AlsoTell(listing_problem_, trust.detail);
  }
  if (!malformed_.empty()) {
    AlsoTell(fmt::format("{} was ignored. Does something else publish on {}?", malformed_,
                         options_.endpoint),
             trust.detail);
  }
  if (trust == trust_) return;
  trust_ = std::move(trust);
  consumer_.TrustChanged(trust_);
}

}  // namespace conductor::stream
