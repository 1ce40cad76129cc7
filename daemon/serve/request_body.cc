#include "daemon/serve/request_body.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <charconv>

#include "daemon/serve/nearest_name.h"
#include "daemon/serve/registration_json.h"
#include "lib/base/unaligned_numbers.h"

namespace conductor::serve {
namespace {

constexpr uint64_t kMaxToken = std::numeric_limits<TokenId>::max();

// A 64-bit integer of either sign, or a decimal text of one.
std::optional<uint64_t> HashOf(Value value) {
  if (const auto number = value.AsUint64()) return number;
  if (const auto number = value.AsInt64()) return static_cast<uint64_t>(*number);
  const auto text = value.AsText();
  if (!text || text->empty()) return std::nullopt;
  const char* end = text->data() + text->size();
  if (text->front() == '-') {
    int64_t number = 0;
    const auto [stop, error] = std::from_chars(text->data(), end, number);
    if (error != std::errc() || stop != end) return std::nullopt;
    return static_cast<uint64_t>(number);
  }
  uint64_t number = 0;
  const auto [stop, error] = std::from_chars(text->data(), end, number);
  if (error != std::errc() || stop != end) return std::nullopt;
  return number;
}

}  // namespace

nlohmann::ordered_json Shallow(Value value) {
  switch (value.kind()) {
    case Value::Kind::kNil:
      return nullptr;
    case Value::Kind::kBool:
      return *value.AsBool();
    case Value::Kind::kInteger:
      if (const auto number = value.AsInt64()) return *number;
      return *value.AsUint64();
    case Value::Kind::kReal:
      return *value.AsReal();
    case Value::Kind::kText:
      return std::string(*value.AsText());
    case Value::Kind::kBytes:
    case Value::Kind::kExtension:
    case Value::Kind::kArray:
      return nlohmann::ordered_json::array();
    case Value::Kind::kMap:
      return nlohmann::ordered_json::object();
  }
  return nullptr;
}

std::optional<std::string> FromBase64(std::string_view text) {
  if (text.size() % 4 != 0 || text.size() > std::numeric_limits<int>::max()) return std::nullopt;
  const auto plain = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '/';
  };
  size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;
  // The library skips white space at both ends.
  if (!std::all_of(text.begin(), text.end() - static_cast<std::ptrdiff_t>(padding), plain)) {
    return std::nullopt;
  }
  std::string bytes(text.size() / 4 * 3, '\0');
  const int size = ::EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                     reinterpret_cast<const unsigned char*>(text.data()),
                                     static_cast<int>(text.size()));
  if (size < 0) return std::nullopt;
  bytes.resize(static_cast<size_t>(size) - padding);
  return bytes;
}

std::string Shown(std::string_view text) {
  constexpr size_t kMax = 64;
  if (text.size() <= kMax) return std::string(text);
  size_t end = kMax;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return std::string(text.substr(0, end)) + "...";
}

RequestBody::RequestBody(const BodyBytes& bytes, BodyForm form, Names known, Others others) {
  const bool json = form == BodyForm::kJson;
  const char* reason = json ? "invalid_json" : "invalid_msgpack";
  const char* invalid = json ? "Invalid JSON" : "Invalid msgpack object";
  auto document = Document::Parse(bytes, form);
  if (!document) {
    Fail(reason, "", fmt::format("{}: {}", invalid, document.error().Message()));
    return;
  }
  document_.emplace(std::move(*document));
  const Value root = document_->root();
  if (root.kind() != Value::Kind::kMap) {
    Fail(reason, "",
         fmt::format("{}: the body is {} (expected {})", invalid, root.KindName(),
                     json ? "an object" : "a map"));
    return;
  }
  Take(root, known, others);
}

RequestBody::RequestBody(Value map, std::string where, Names known, Others others)
    : where_(std::move(where)) {
  Take(map, known, others);
}

void RequestBody::Take(Value map, Names known, Others others) {
  map_ = map;
  map.ForEachEntry([&](std::optional<std::string_view> key, Value value) {
    if (!key) {
      Fail("invalid_msgpack", "", "map keys must be strings");
      return false;
    }
    const std::string_view name = *key;
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      if (others == Others::kIgnore) return true;
      std::string error = fmt::format("unsupported request field: {}{}", where_, Shown(name));
      const std::string_view likely = LikelyName({known.begin(), known.size()}, name);
      if (others == Others::kRefuse && !likely.empty())
        error += fmt::format(" (did you mean {}{}?)", where_, likely);
      Fail("unknown_field", Shown(name), std::move(error));
      return false;
    }
    if (std::any_of(members_.begin(), members_.end(),
                    [name](const auto& member) { return member.first == name; })) {
      Fail("duplicate_field", name, fmt::format("{}{} is given twice", where_, name));
      return false;
    }
    members_.emplace_back(name, value);
    return true;
  });
}

void RequestBody::Fail(std::string reason, std::string_view field, std::string error,
                       std::optional<uint64_t> index) {
  if (error_) return;
  std::string whole = field.empty() ? std::string() : where_ + std::string(field);
  error_ = RequestError{std::move(error), std::move(reason), std::move(whole), index};
}

void RequestBody::Fail(RequestError error) {
  if (!error_) error_ = std::move(error);
}

std::optional<Value> RequestBody::Get(std::string_view name) const {
  for (const auto& [known, value] : members_) {
    if (known == name && !value.is_nil()) return value;
  }
  return std::nullopt;
}

std::string RequestBody::Text(std::string_view name) {
  const auto value = Get(name);
  if (!value) return {};
  const auto text = value->AsText();
  if (!text) Fail("invalid_type", name, fmt::format("{}{} must be a string", where_, name));
  return std::string(text.value_or(""));
}

std::string RequestBody::RequiredText(std::string_view name) {
  if (!Get(name)) Fail("missing", name, fmt::format("{}{} is required", where_, name));
  std::string text = Text(name);
  if (text.empty()) {
    Fail("invalid_value", name, fmt::format("{}{} must not be empty", where_, name));
  }
  return text;
}

std::optional<int64_t> RequestBody::Integer(std::string_view name, int64_t min, int64_t max) {
  const auto value = Get(name);
  if (!value) return std::nullopt;
  if (value->kind() != Value::Kind::kInteger) {
    Fail("invalid_type", name, fmt::format("{}{} must be an integer", where_, name));
    return std::nullopt;
  }
  const auto number = value->AsInt64();
  if (!number || *number < min || *number > max) {
    Fail("out_of_range", name,
         fmt::format("{}{} is {} (expected an integer from {} to {})", where_, name, value->Show(),
                     min, max));
    return std::nullopt;
  }
  return number;
}

uint32_t RequestBody::Number(std::string_view name) {
  return static_cast<uint32_t>(Integer(name, 0, kMaxNumber).value_or(0));
}

std::optional<double> RequestBody::Real(std::string_view name, double min, double max) {
  const auto value = Get(name);
  if (!value) return std::nullopt;
  const auto number = value->AsReal();
  if (!number) {
    Fail("invalid_type", name, fmt::format("{}{} must be a number", where_, name));
    return std::nullopt;
  }
  if (!(*number >= min && *number <= max)) {
    Fail("out_of_range", name,
         fmt::format("{}{} is {} (expected a number from {} to {})", where_, name, *number, min,
                     max));
    return std::nullopt;
  }
  return number;
}

std::optional<bool> RequestBody::Bool(std::string_view name) {
  const auto value = Get(name);
  if (!value) return std::nullopt;
  const auto truth = value->AsBool();
  if (!truth) Fail("invalid_type", name, fmt::format("{}{} must be a boolean", where_, name));
  return truth;
}

std::optional<std::string_view> RequestBody::Unpack(std::string_view name, Value value, size_t each,
                                                    std::string& decoded) {
  std::optional<std::string_view> bytes = value.AsBytes();
  if (const auto text = value.AsText(); text && value.form() == BodyForm::kJson) {
    auto from_text = FromBase64(*text);
    if (!from_text) {
      Fail("invalid_value", name, fmt::format("{}{} is no base64 with padding", where_, name));
      return std::string_view();
    }
    decoded = *std::move(from_text);
    bytes = decoded;
  }
  if (bytes && bytes->size() % each != 0) {
    Fail("invalid_value", name,
         fmt::format("{}{} has {} bytes (expected a multiple of {})", where_, name, bytes->size(),
                     each));
    return std::string_view();
  }
  return bytes;
}

std::string RequestBody::Bytes(std::string_view name) {
  const auto value = Get(name);
  if (!value) {
    Fail("missing", name, fmt::format("{}{} is required", where_, name));
    return {};
  }
  std::string decoded;
  if (const auto bytes = Unpack(name, *value, 1, decoded)) return std::string(*bytes);
  Fail("invalid_type", name,
       fmt::format("{}{} is {} (expected {})", where_, name, value->KindName(),
                   value->form() == BodyForm::kJson ? "a string in base64" : "a bin"));
  return {};
}

std::vector<TokenId> RequestBody::Tokens(std::string_view name, Packed packed, int64_t least) {
  std::vector<TokenId> tokens;
  if (const auto value = Get(name); value && packed == Packed::kAllowed) {
    std::string decoded;
    if (const auto bytes = Unpack(name, *value, sizeof(TokenId), decoded)) {
      AssignNumbers(tokens, bytes->data(), bytes->size() / sizeof(TokenId));
      return tokens;
    }
  }
  const auto array = Array(name, "token ids");
  if (!array) return tokens;
  if (array->CopyTokens(tokens)) return tokens;
  tokens.resize(array->size());
  uint64_t index = 0;
  array->ForEachItem([&](Value token) {
    const auto id = token.AsInt64();
    if (id && *id >= least && *id <= int64_t{kMaxToken}) {
      tokens[index++] = static_cast<TokenId>(*id);
      return true;
    }
    const bool integer = token.kind() == Value::Kind::kInteger;
    Fail(integer ? "out_of_range" : "invalid_type", name,
         fmt::format("{}{}[{}] is {} (expected an integer from {} to {})", where_, name, index,
                     token.Show(), least, kMaxToken),
         index);
    return false;
  });
  return tokens;
}

std::vector<uint64_t> RequestBody::Hashes(std::string_view name, Packed packed) {
  std::vector<uint64_t> hashes;
  if (const auto value = Get(name); value && packed == Packed::kAllowed) {
    std::string decoded;
    if (const auto bytes = Unpack(name, *value, sizeof(uint64_t), decoded)) {
      AssignNumbers(hashes, bytes->data(), bytes->size() / sizeof(uint64_t));
      return hashes;
    }
  }
  const auto array = Array(name, "hashes");
  if (!array) return hashes;
  array->ForEachItem([&](Value item) {
    if (const auto hash = HashOf(item)) {
      hashes.push_back(*hash);
      return true;
    }
    Fail("invalid_type", name,
         fmt::format("{}{}[{}] is {} (expected a 64-bit integer, or its decimal digits)", where_,
                     name, hashes.size(), item.Show()),
         hashes.size());
    return false;
  });
  return hashes;
}

std::set<std::string> RequestBody::Texts(std::string_view name) {
  std::set<std::string> texts;
  const auto array = Array(name, "strings");
  if (!array) return texts;
  if (array->size() > kMaxTexts) {
    Fail("too_many", name,
         fmt::format("{}{} has {} entries (expected at most {})", where_, name, array->size(),
                     kMaxTexts));
    return texts;
  }
  uint64_t index = 0;
  array->ForEachItem([&](Value item) {
    const auto text = item.AsText();
    if (!text) {
      Fail("invalid_type", name, fmt::format("\"{}{}[{}]\" is not a string", where_, name, index),
           index);
      return false;
    }
    texts.emplace(*text);
    ++index;
    return true;
  });
  return texts;
}

std::optional<Value> RequestBody::Array(std::string_view name, std::string_view of) {
  const auto value = Get(name);
  if (!value) {
    Fail("missing", name, fmt::format("{}{} is required", where_, name));
  } else if (value->kind() != Value::Kind::kArray) {
    Fail("not_array", name,
         fmt::format("{}{} must be an array of {}, not {}", where_, name, of, value->KindName()));
  } else {
    return value;
  }
  return std::nullopt;
}

nlohmann::ordered_json RequestBody::Members() {
  nlohmann::ordered_json members = nlohmann::ordered_json::object();
  if (map_) TakeMembers("", *map_, members);
  return members;
}

// `parent`: the member of the body that `map` is; empty: the body itself.
void RequestBody::TakeMembers(const std::string& parent, Value map,
                              nlohmann::ordered_json& members) {
  map.ForEachEntry([&](std::optional<std::string_view> key, Value value) {
    if (!key) {
      Fail("invalid_msgpack", parent, "map keys must be strings");
      return false;
    }
    const FieldName field{parent, std::string(*key)};
    if (members.contains(field.name)) {
      Fail("duplicate_field", Shown(field.Dotted()),
           fmt::format("{} is given twice", Shown(field.Dotted())));
      return false;
    }
    if (members.size() == kMaxMembers) {
      Fail("too_many", parent,
           fmt::format("{} has more than {} members", parent.empty() ? "the body" : parent,
                       kMaxMembers));
      return false;
    }
    nlohmann::ordered_json& member = members[field.name];
    member = Shallow(value);
    if (parent.empty() && value.kind() == Value::Kind::kMap) {
      TakeMembers(field.name, value, member);
    }
    return !failed();
  });
}

}  // namespace conductor::serve
