#include <array>
#include <nlohmann/json.hpp>

#include "daemon/proxy/choreographies.h"

namespace conductor::proxy {
namespace {

// How many prompts a body has, where it is a batch. Token ids of one prompt are no batch.
size_t BatchSize(const Asked& asked) {
  for (const char* name : {"prompt", "text", "input_ids"}) {
    const auto value = asked.members.Find(name);
    if (!value || !value->starts_with('[')) continue;
    const auto json = nlohmann::json::parse(*value, nullptr, false);
    if (!json.is_array() || json.empty() || json.front().is_number()) return 0;
    return json.size();
  }
  return 0;
}

// SGLang: the same body to both engines at once. They find each other by the prefiller's bootstrap
// server and the number of a room; a batch has one for each prompt.
class Sglang : public Choreography {
 public:
  [[nodiscard]] Order order() const override { return Order::kTogether; }
  // A decoder looks for the blocks at the rank that the room leads to, whatever a header says.
  [[nodiscard]] bool pins_rank_by_header() const override { return false; }
  [[nodiscard]] bool has_prompt_logprobs() const override { return true; }

  [[nodiscard]] Leg Prefill(const Asked& asked, const Prefiller& prefiller) const override {
    return {Body(asked, prefiller), {}};
  }
  [[nodiscard]] Leg Decode(const Asked& asked, const Prefiller& prefiller,
                           std::string_view) const override {
    return {Body(asked, prefiller), {}};
  }

 private:
  static std::string Body(const Asked& asked, const Prefiller& prefiller) {
    std::string host = JsonString(prefiller.host);
    // Without one the engines know it by themselves.
    std::string port =
        prefiller.bootstrap_port == 0 ? "null" : std::to_string(prefiller.bootstrap_port);
    std::string room = std::to_string(prefiller.room);
    if (const size_t batch = BatchSize(asked); batch > 0) {
      const std::array<std::string, 2> same = {host, port};
      host = port = room = "[";
      for (size_t i = 0; i < batch; ++i) {
        const std::string comma = i == 0 ? "" : ", ";
        host += comma + same[0];
        port += comma + same[1];
        room += comma + std::to_string((prefiller.room + i) & INT64_MAX);
      }
      host += "]";
      port += "]";
      room += "]";
    }
    const std::array<JsonMembers::Change, 3> changes = {
        {{"bootstrap_host", host}, {"bootstrap_port", port}, {"bootstrap_room", room}}};
    return asked.members.With(changes);
  }
};

}  // namespace

std::unique_ptr<Choreography> MakeSglang() { return std::make_unique<Sglang>(); }

}  // namespace conductor::proxy
