#ifndef CONDUCTOR_DAEMON_TOOLKIT_REPLAY_INTO_H_
#define CONDUCTOR_DAEMON_TOOLKIT_REPLAY_INTO_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "daemon/toolkit/hand_in.h"
#include "daemon/toolkit/replay_sink.h"
#include "lib/base/clock.h"
#include "lib/client/conductor_url.h"
#include "lib/client/transport.h"

namespace conductor::toolkit {

// Feeds a running daemon: frames gather for each publisher and are handed in by POST /v1/ingest, in
// order and each exactly once. Where the daemon's queue is full (429) it waits and goes on after
// what was taken. A publisher's incarnation is made of its name and its first batch: handing the
// same source in again changes nothing, another one is a new life.
class IntoSink : public ReplaySink {
 public:
  struct Options {
    client::ConductorUrl url;
    std::string token;            // bearer token; empty: none
    std::string ca_file;          // https: PEM; empty: the system's
    size_t body_frames = 256;     // of one request, at most
    size_t body_bytes = 1 << 20;  // about
    HandInOptions hand_in;        // its URL is that above
  };

  // `transport`: nothing makes one to the URL.
  IntoSink(const Options& options, const std::vector<SourcePublisher>& publishers,
           std::unique_ptr<client::Transport> transport = nullptr);

  [[nodiscard]] Status Take(const SourceFrame& frame) override;
  // Hands in what has gathered, and waits until all of it is in the index.
  [[nodiscard]] Status Finish() override;
  [[nodiscard]] std::vector<std::string> Notes() const override;

 private:
  struct Frame {
    uint64_t sequence = 0;
    std::string topic;
    std::string payload;
  };
  struct Lane {
    SourcePublisher publisher;
    std::string incarnation;  // empty: nothing came yet
    std::vector<Frame> frames;
    size_t bytes = 0;
    HandedIn handed;
  };

  // Hands all of it in; with `wait` until it is applied.
  [[nodiscard]] Status HandIn(Lane& lane, bool wait);
  [[nodiscard]] static std::string Body(const Lane& lane, size_t from, bool wait);

  Options options_;
  std::unique_ptr<client::Transport> transport_;
  std::vector<Lane> lanes_;
  uint64_t malformed_ = 0;
};

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_REPLAY_INTO_H_
