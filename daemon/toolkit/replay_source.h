#ifndef CONDUCTOR_DAEMON_TOOLKIT_REPLAY_SOURCE_H_
#define CONDUCTOR_DAEMON_TOOLKIT_REPLAY_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/serve/registration.h"
#include "daemon/toolkit/recorded_message.h"
#include "lib/base/result.h"

namespace conductor::toolkit {

// What one publisher's frames are read as, and what is known of where they came from.
struct SourcePublisher {
  std::string name;  // for people: its endpoint, or what the recording calls it
  // Instance, model, type, ...: as in a registration; its addresses mean nothing here.
  serve::Registration read_as;
  // The type is known, not only supposed: otherwise a stream of pool objects is taken for a pool's.
  bool type_known = false;
  bool model_known = false;  // and so is the model
  // What there is of it: messages as they were published; answers to replay requests, and how many
  // of their ends (end markers, and recorded marks of an end).
  bool has_live = false;
  bool has_answers = false;
  size_t answer_ends = 0;

  friend bool operator==(const SourcePublisher&, const SourcePublisher&) = default;
};

// One message of a publisher, verbatim, or something that happened to its connection.
struct SourceFrame {
  enum class Kind : uint8_t {
    kLive,    // topic, sequence, payload
    kAnswer,  // of an answer to a replay request: [delimiter] [topic] sequence payload
    kConnected,
    kDisconnected,
    kLost,       // `count` live messages that came could not be recorded
    kAnswerEnd,  // what was asked of its replay endpoint is complete
    kStopped,    // the recorder was, for all publishers: what it asked for comes no more
  };
  uint32_t publisher = 0;  // position in publishers(); of kStopped any
  Kind kind = Kind::kLive;
  double at = 0;  // Unix seconds at which it was received
  // It is a live message that FrameOrder made of an answer.
  bool answered = false;
  std::vector<std::string> frames;
  uint64_t count = 0;

  [[nodiscard]] bool IsMessage() const { return kind == Kind::kLive || kind == Kind::kAnswer; }
  // Its parts, which view its frames. The error says what it is instead.
  [[nodiscard]] Result<RecordedMessage> Message() const;
  // The last frame.
  [[nodiscard]] std::string_view Payload() const;
};

// Where the frames of a replay come from. One thread.
class ReplaySource {
 public:
  virtual ~ReplaySource() = default;

  // All that it has frames of, known before the first Next().
  [[nodiscard]] virtual const std::vector<SourcePublisher>& publishers() const = 0;

  // The next frame, in the order of the source; false at its end. An error ends the source too:
  // what came before it stands.
  [[nodiscard]] virtual Result<bool> Next(SourceFrame& frame) = 0;

  // How far it is, from 0 to 1; nothing where its length is not known.
  [[nodiscard]] virtual std::optional<double> Progress() const { return std::nullopt; }

  // The files that it reads while it goes on.
  [[nodiscard]] virtual std::vector<std::string> Files() const { return {}; }

  // What of it cannot be read.
  struct Lost {
    uint64_t damages = 0;        // places in files, and between them
    uint64_t missing_parts = 0;  // of a rotated recording: files that are not there
  };
  [[nodiscard]] virtual Lost lost() const { return {}; }

  // What is to be told of it, a sentence each: holes in an answer, a recording that ends in the
  // middle of a record. Complete at the end.
  [[nodiscard]] virtual std::vector<std::string> Notes() const { return {}; }
};

// What flags say of all publishers of a source, over what the source says itself.
struct ReadAs {
  std::optional<serve::PublisherType> type;
  std::optional<std::string> model;
  std::optional<std::string> instance;
  std::optional<std::string> tenant;
  std::optional<std::string> lora_name;
  std::optional<std::string> additional_salt;
  std::optional<uint32_t> block_size;
  bool copies_are_a_set = false;
};

// What a publisher is read as of which nothing but its name is known, under those flags: a vLLM
// engine, called as InstanceAt() of that name, serving "replayed", which learns its block size.
[[nodiscard]] SourcePublisher Described(std::string name, const ReadAs& as);
// From a message of it: a publisher whose type is not known is a pool's where it tells of objects.
void GuessType(SourcePublisher& publisher, const SourceFrame& frame);
// The flags over what is known already.
void Override(SourcePublisher& publisher, const ReadAs& as);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_REPLAY_SOURCE_H_
