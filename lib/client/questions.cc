#include "lib/client/questions.h"

#include <fmt/format.h>

#include <bit>
#include <nlohmann/json.hpp>
#include <type_traits>
#include <utility>

#include "lib/base/number.h"
#include "lib/client/answer_reader.h"
#include "lib/wire/msgpack_tape.h"
#include "lib/wire/msgpack_writer.h"

namespace conductor::client {
namespace {

using Json = nlohmann::json;

// A refusal's own words, and what they may be long at most in ours.
constexpr size_t kMostShown = 300;

// Integers as their bytes, little-endian.
template <typename T>
void WritePacked(wire::MsgpackWriter& out, std::span<const T> numbers) {
  static_assert(std::endian::native == std::endian::little);
  out.Bytes({reinterpret_cast<const char*>(numbers.data()), numbers.size_bytes()});
}

size_t Fields(const QuerySpec& spec) {
  size_t fields = 2;  // model and prompt
  for (const bool given :
       {!spec.tenant_id.empty(), !spec.lora_name.empty(), !spec.cache_salt.empty(),
        spec.additional_salt.has_value(), spec.block_size.has_value(), !spec.instances.empty(),
        spec.top.has_value()}) {
    fields += given ? 1 : 0;
  }
  return fields;
}

void WriteFields(wire::MsgpackWriter& out, const QuerySpec& spec) {
  const auto text = [&out](std::string_view name, std::string_view value) {
    out.Text(name);
    out.Text(value);
  };
  text("model", spec.model);
  if (spec.prefix_hashes.empty()) {
    out.Text("token_ids");
    WritePacked(out, spec.token_ids);
  } else {
    out.Text("prefix_hashes");
    WritePacked(out, spec.prefix_hashes);
  }
  if (!spec.tenant_id.empty()) text("tenant_id", spec.tenant_id);
  if (!spec.lora_name.empty()) text("lora_name", spec.lora_name);
  if (!spec.cache_salt.empty()) text("cache_salt", spec.cache_salt);
  if (spec.additional_salt) text("additional_salt", *spec.additional_salt);
  if (spec.block_size) {
    out.Text("block_size");
    out.Uint(*spec.block_size);
  }
  if (!spec.instances.empty()) {
    out.Text("instances");
    out.Array(spec.instances.size());
    for (const std::string& instance : spec.instances) out.Text(instance);
  }
  if (spec.top) {
    out.Text("top");
    out.Uint(*spec.top);
  }
}

TierTokens ReadTiers(AnswerReader& map) {
  TierTokens tiers;
  tiers.gpu = map.Uint("gpu");
  tiers.cpu = map.Uint("cpu");
  tiers.disk = map.Uint("disk");
  return tiers;
}

InstanceFigures ReadInstance(AnswerReader& map) {
  InstanceFigures instance;
  instance.instance_id = map.Text("instance_id");
  instance.serves_model = map.Bool("serves_model");
  instance.longest_matched = map.Uint("longest_matched");
  instance.tiers = ReadTiers(map);
  map.Entries("ranks", [&](std::string_view rank, AnswerReader& tiers) {
    const auto number = ParseNumber(rank, "a rank", 0, UINT32_MAX);
    if (!number) return map.Fail("ranks", number.error().what, number.error().expected);
    instance.ranks[static_cast<uint32_t>(*number)] = ReadTiers(tiers);
  });
  instance.block_size = static_cast<uint32_t>(map.Uint("block_size", UINT32_MAX));
  instance.prompt_blocks = map.Uint("prompt_blocks");
  instance.state = map.Text("state");
  instance.reason = map.Text("reason");
  instance.detail = map.TextOr("detail", "");
  instance.lag_seconds = map.RealOrNil("lag_seconds");
  return instance;
}

ScoreParts ReadParts(AnswerReader& map) {
  return {.saved_gpu = map.Real("saved_gpu"),
          .saved_cpu = map.Real("saved_cpu"),
          .saved_disk = map.Real("saved_disk"),
          .trust = map.Real("trust"),
          .queue = map.Real("queue"),
          .memory = map.Real("memory")};
}

RankedInstance ReadRanked(AnswerReader& map) {
  RankedInstance instance;
  instance.instance_id = map.Text("instance_id");
  instance.score = map.Real("score");
  map.MapOrNone("parts", [&](AnswerReader& parts) { instance.parts = ReadParts(parts); });
  instance.longest_matched = map.Uint("longest_matched");
  instance.tiers = ReadTiers(map);
  instance.block_size = static_cast<uint32_t>(map.Uint("block_size", UINT32_MAX));
  instance.state = map.Text("state");
  instance.reason = map.Text("reason");
  instance.lag_seconds = map.RealOrNil("lag_seconds");
  return instance;
}

// read(AnswerReader&) of the whole answer, whose common fields are read here.
template <typename Answer, typename Read>
Result<Answer> ReadAnswer(std::string_view msgpack, Read read) {
  wire::MsgpackTape tape;
  const auto value = tape.Parse(msgpack);
  if (!value) {
    return Fail(fmt::format("its answer is no MessagePack: {}", value.error().Message()));
  }
  std::optional<Error> error;
  AnswerReader map(*value, "", error);
  Answer answer;
  answer.prompt_tokens = map.UintOrNil("prompt_tokens");
  read(map, answer);
  answer.unknown_instances = map.TextsOrNone("unknown_instances");
  answer.reason = map.Text("reason");
  answer.reason_detail = map.Text("reason_detail");
  if (error) return tl::unexpected(std::move(*error).Within("its answer"));
  return answer;
}

// The fields of one publisher, strictly.
class PublisherReader {
 public:
  PublisherReader(const Json& json, size_t index) : json_(json), index_(index) {}

  [[nodiscard]] std::string Text(const char* name) {
    const Json* value = Find(name, "text");
    if (value == nullptr) return {};
    if (value->is_string()) return value->get<std::string>();
    Fail(name, "is no text", "text");
    return {};
  }
  [[nodiscard]] uint64_t Uint(const char* name, uint64_t max) {
    const Json* value = Find(name, "an integer");
    if (value == nullptr) return 0;
    if (value->is_number_unsigned() && value->get<uint64_t>() <= max) return value->get<uint64_t>();
    Fail(name, "is no such number", fmt::format("an integer from 0 to {}", max));
    return 0;
  }
  [[nodiscard]] std::optional<uint64_t> UintOrNull(const char* name) {
    const Json* value = Find(name, "an integer or null");
    if (value == nullptr || value->is_null()) return std::nullopt;
    return Uint(name, UINT64_MAX);
  }
  [[nodiscard]] std::optional<Error>& error() { return error_; }

 private:
  const Json* Find(const char* name, const char* expected) {
    const auto found = json_.find(name);
    if (found != json_.end()) return &*found;
    Fail(name, "is missing", expected);
    return nullptr;
  }
  void Fail(const char* name, std::string what, std::string expected) {
    if (error_) return;
    error_ =
        Error{std::move(what), fmt::format("publishers[{}].{}", index_, name), std::move(expected)};
  }

  const Json& json_;
  const size_t index_;
  std::optional<Error> error_;
};

}  // namespace

std::string QueryBody(const QuerySpec& spec) {
  wire::MsgpackWriter out;
  out.Map(Fields(spec));
  WriteFields(out, spec);
  return out.Take();
}

std::string ScoreBody(const ScoreSpec& spec) {
  wire::MsgpackWriter out;
  out.Map(Fields(spec.query) + (spec.load.empty() ? 0 : 1));
  WriteFields(out, spec.query);
  if (!spec.load.empty()) {
    out.Text("load");
    out.Map(spec.load.size());
    for (const auto& [instance, load] : spec.load) {
      out.Text(instance);
      out.Map((load.waiting ? 1U : 0U) + (load.kv_use ? 1U : 0U));
      if (load.waiting) {
        out.Text("waiting");
        out.Float(*load.waiting);
      }
      if (load.kv_use) {
        out.Text("kv_use");
        out.Float(*load.kv_use);
      }
    }
  }
  return out.Take();
}

Result<QueryAnswer> ReadQueryAnswer(std::string_view msgpack) {
  return ReadAnswer<QueryAnswer>(msgpack, [](AnswerReader& map, QueryAnswer& answer) {
    map.Maps("instances",
             [&](AnswerReader& instance) { answer.instances.push_back(ReadInstance(instance)); });
  });
}

Result<ScoreAnswer> ReadScoreAnswer(std::string_view msgpack) {
  return ReadAnswer<ScoreAnswer>(msgpack, [](AnswerReader& map, ScoreAnswer& answer) {
    map.Maps("ranking",
             [&](AnswerReader& instance) { answer.ranking.push_back(ReadRanked(instance)); });
    answer.nearest = map.TextOr("nearest", "");
  });
}

Result<std::vector<PublisherEntry>> ReadPublishers(std::string_view text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return Fail("its answer is no JSON");
  if (!json.is_object() || !json.contains("publishers") || !json["publishers"].is_array()) {
    return Fail("is missing", "its answer: publishers", "an array");
  }
  std::vector<PublisherEntry> publishers;
  for (const Json& item : json["publishers"]) {
    PublisherReader reader(item, publishers.size());
    PublisherEntry entry;
    entry.id = reader.Text("id");
    entry.type = reader.Text("type");
    entry.instance_id = reader.Text("instance_id");
    entry.tenant_id = reader.Text("tenant_id");
    entry.model = reader.Text("model");
    entry.dp_rank = static_cast<uint32_t>(reader.Uint("dp_rank", UINT32_MAX));
    entry.endpoint = reader.Text("endpoint");
    entry.block_size = static_cast<uint32_t>(reader.Uint("block_size", UINT32_MAX));
    entry.state = reader.Text("state");
    entry.reason = reader.Text("reason");
    entry.detail = reader.Text("detail");
    entry.cursor = reader.UintOrNull("cursor");
    if (reader.error()) return tl::unexpected(std::move(*reader.error()).Within("its answer"));
    publishers.push_back(std::move(entry));
  }
  return publishers;
}

namespace {

struct Refusal {
  std::string error;
  std::string reason;
};

Refusal ReadRefusal(const Reply& reply) {
  if (reply.form == Form::kMsgpack) {
    // Json::from_msgpack goes as deep as the reply says, by recursion.
    wire::MsgpackTape tape;
    const auto value = tape.Parse(reply.body);
    if (!value) return {};
    std::optional<Error> ignored;
    AnswerReader map(*value, "", ignored);
    return {map.TextOr("error", ""), map.TextOr("reason", "")};
  }
  const Json json = Json::parse(reply.body, nullptr, /*allow_exceptions=*/false);
  const auto text = [&json](const char* name) {
    if (!json.is_object() || !json.contains(name) || !json[name].is_string()) return std::string();
    return json[name].get<std::string>();
  };
  return {text("error"), text("reason")};
}

}  // namespace

std::string DescribeRefusal(const Reply& reply) {
  const Refusal refusal = ReadRefusal(reply);
  const std::string error = refusal.error.substr(0, kMostShown);
  const std::string reason = refusal.reason.substr(0, kMostShown);
  if (error.empty()) return fmt::format("status {}", reply.status);
  return reason.empty() ? fmt::format("status {}: {}", reply.status, error)
                        : fmt::format("status {}: {} ({})", reply.status, error, reason);
}

}  // namespace conductor::client
