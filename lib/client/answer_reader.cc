#include "lib/client/answer_reader.h"

#include <fmt/format.h>

#include <utility>

namespace conductor::client {
namespace {

using wire::MsgpackValue;

std::optional<double> AsReal(MsgpackValue value) {
  if (value.kind() == MsgpackValue::Kind::kFloat) return value.real();
  if (const auto number = value.AsInt64()) return static_cast<double>(*number);
  if (const auto number = value.AsUint64()) return static_cast<double>(*number);
  return std::nullopt;
}

}  // namespace

AnswerReader::AnswerReader(MsgpackValue map, std::string path, std::optional<Error>& error)
    : map_(map), path_(std::move(path)), error_(error) {
  if (map_.is_map()) return;
  if (!error_) error_ = Error{fmt::format("is {}", map_.KindName()), path_, "a map"};
  map_ = MsgpackValue();
}

std::optional<MsgpackValue> AnswerReader::Find(std::string_view name) const {
  if (!map_.is_map()) return std::nullopt;
  for (const auto& [key, value] : map_.entries()) {
    if (key.is_text() && key.bytes() == name) return value;
  }
  return std::nullopt;
}

std::string AnswerReader::PathOf(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

void AnswerReader::Fail(std::string_view name, std::string what, std::string expected) {
  if (!error_) error_ = Error{std::move(what), PathOf(name), std::move(expected)};
}

void AnswerReader::Mistyped(std::string_view name, MsgpackValue value, std::string_view expected) {
  Fail(name, fmt::format("is {}", value.KindName()), std::string(expected));
}

std::optional<MsgpackValue> AnswerReader::Get(std::string_view name, std::string_view expected) {
  const auto value = Find(name);
  if (!value) Fail(name, "is missing", std::string(expected));
  return value;
}

std::string AnswerReader::Text(std::string_view name) {
  const auto value = Get(name, "text");
  if (!value) return {};
  if (value->is_text()) return std::string(value->bytes());
  Mistyped(name, *value, "text");
  return {};
}

std::string AnswerReader::TextOr(std::string_view name, std::string absent) {
  return Find(name) ? Text(name) : absent;
}

uint64_t AnswerReader::Uint(std::string_view name, uint64_t max) {
  const auto value = Get(name, "an integer");
  if (!value) return 0;
  const auto number = value->AsUint64();
  if (number && *number <= max) return *number;
  if (value->is_integer()) {
    Fail(name, "is out of range", fmt::format("an integer from 0 to {}", max));
  } else {
    Mistyped(name, *value, "an integer");
  }
  return 0;
}

std::optional<uint64_t> AnswerReader::UintOrNil(std::string_view name) {
  const auto value = Get(name, "an integer or nil");
  if (!value || value->is_nil()) return std::nullopt;
  return Uint(name);
}

double AnswerReader::Real(std::string_view name) {
  const auto value = Get(name, "a number");
  if (!value) return 0;
  const auto number = AsReal(*value);
  if (!number) Mistyped(name, *value, "a number");
  return number.value_or(0);
}

std::optional<double> AnswerReader::RealOrNil(std::string_view name) {
  const auto value = Get(name, "a number or nil");
  if (!value || value->is_nil()) return std::nullopt;
  return Real(name);
}

bool AnswerReader::Bool(std::string_view name) {
  const auto value = Get(name, "a boolean");
  if (!value) return false;
  if (value->kind() == MsgpackValue::Kind::kBool) return value->boolean();
  Mistyped(name, *value, "a boolean");
  return false;
}

std::vector<std::string> AnswerReader::TextsOrNone(std::string_view name) {
  std::vector<std::string> texts;
  const auto value = Find(name);
  if (!value) return texts;
  if (!value->is_array()) {
    Mistyped(name, *value, "an array of texts");
    return texts;
  }
  for (const MsgpackValue item : value->items()) {
    if (!item.is_text()) {
      Mistyped(fmt::format("{}[{}]", name, texts.size()), item, "text");
      return texts;
    }
    texts.emplace_back(item.bytes());
  }
  return texts;
}

void AnswerReader::MapOrNone(std::string_view name,
                             const std::function<void(AnswerReader&)>& read) {
  const auto value = Find(name);
  if (!value) return;
  AnswerReader reader(*value, PathOf(name), error_);
  read(reader);
}

void AnswerReader::Maps(std::string_view name, const std::function<void(AnswerReader&)>& read) {
  const auto value = Get(name, "an array");
  if (!value) return;
  if (!value->is_array()) return Mistyped(name, *value, "an array");
  size_t index = 0;
  for (const MsgpackValue item : value->items()) {
    AnswerReader reader(item, fmt::format("{}[{}]", PathOf(name), index++), error_);
    read(reader);
    if (error_) return;
  }
}

void AnswerReader::Entries(std::string_view name,
                           const std::function<void(std::string_view, AnswerReader&)>& read) {
  const auto value = Get(name, "a map");
  if (!value) return;
  if (!value->is_map()) return Mistyped(name, *value, "a map");
  for (const auto& [key, entry] : value->entries()) {
    if (!key.is_text()) {
      return Fail(name, fmt::format("has a key that is {}", key.KindName()), "text");
    }
    AnswerReader reader(entry, fmt::format("{}.{}", PathOf(name), key.bytes()), error_);
    read(key.bytes(), reader);
    if (error_) return;
  }
}

}  // namespace conductor::client
