#include "daemon/toolkit/replay_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>
#include <variant>

#include "daemon/toolkit/endpoint_text.h"
#include "lib/wire/decoder.h"

namespace conductor::toolkit {
namespace {

constexpr size_t kMostFrames = 8;  // of what may be a message

bool IsOfPools(const wire::KvEvent& event) {
  return std::holds_alternative<wire::ObjectStored>(event) ||
         std::holds_alternative<wire::ObjectRemoved>(event);
}

}  // namespace

Result<RecordedMessage> SourceFrame::Message() const {
  std::array<std::string_view, kMostFrames> views;
  if (frames.size() > views.size()) {
    return Fail(fmt::format("a message of {} frames", frames.size()));
  }
  std::ranges::copy(frames, views.begin());
  return ReadMessage(std::span(views).first(frames.size()), kind == Kind::kAnswer);
}

std::string_view SourceFrame::Payload() const {
  return frames.empty() ? std::string_view() : std::string_view(frames.back());
}

SourcePublisher Described(std::string name, const ReadAs& as) {
  SourcePublisher publisher;
  publisher.read_as.instance_id = InstanceAt(name);
  publisher.read_as.model = "replayed";
  publisher.read_as.mode = stream::ListenMode::kIngest;
  publisher.name = std::move(name);
  Override(publisher, as);
  return publisher;
}

void GuessType(SourcePublisher& publisher, const SourceFrame& frame) {
  if (publisher.type_known) return;
  const auto batch = wire::Decoder(publisher.read_as.type).Decode(frame.Payload());
  if (batch && std::ranges::any_of(batch->events, IsOfPools)) {
    publisher.read_as.type = serve::PublisherType::kMooncake;
  }
}

void Override(SourcePublisher& publisher, const ReadAs& as) {
  serve::Registration& read_as = publisher.read_as;
  if (as.type) {
    read_as.type = *as.type;
    publisher.type_known = true;
  }
  if (as.model) {
    read_as.model = *as.model;
    publisher.model_known = true;
  }
  if (as.instance) read_as.instance_id = *as.instance;
  if (as.tenant) read_as.tenant = *as.tenant;
  if (as.lora_name) read_as.lora_name = *as.lora_name;
  if (as.additional_salt) read_as.additional_salt = *as.additional_salt;
  if (as.block_size) read_as.block_size = *as.block_size;
  if (as.copies_are_a_set) read_as.copies = index::CopyMode::kSet;
}

}  // namespace conductor::toolkit
