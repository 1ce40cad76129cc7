#include "daemon/proxy/json_members.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace conductor::proxy {
namespace {

constexpr size_t kMaxDepth = 512;

// Goes over JSON text. Every step fails at the end of the text.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  void SkipSpace() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != text_.npos) ++at_;
  }
  [[nodiscard]] bool Take(char c) {
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  // A string with its quotes.
  [[nodiscard]] bool SkipString() {
    if (!Take('"')) return false;
    while (true) {
      at_ = text_.find_first_of("\"\\", at_);
      if (at_ == text_.npos) {
        at_ = text_.size();
        return false;
      }
      if (text_[at_] == '"') break;
      at_ = std::min(at_ + 2, text_.size());
    }
    ++at_;
    return true;
  }
  [[nodiscard]] bool SkipValue() {
    if (at_ == text_.size()) return false;
    if (text_[at_] == '"') return SkipString();
    if (text_[at_] == '{' || text_[at_] == '[') return SkipNested();
    const size_t begin = at_;
    at_ = std::min(text_.find_first_of(",}] \t\r\n", at_), text_.size());
    return at_ > begin;
  }
  [[nodiscard]] size_t at() const { return at_; }
  [[nodiscard]] bool at_end() const { return at_ == text_.size(); }

 private:
  [[nodiscard]] bool SkipNested() {
    std::string open;  // the brackets that close what is open
    do {
      at_ = text_.find_first_of("\"{}[]", at_);
      if (at_ == text_.npos) {
        at_ = text_.size();
        return false;
      }
      switch (const char c = text_[at_]) {
        case '"':
          if (!SkipString()) return false;
          continue;
        case '{':
        case '[':
          if (open.size() == kMaxDepth) return false;
          open.push_back(c == '{' ? '}' : ']');
          break;
        default:
          if (open.back() != c) return false;
          open.pop_back();
      }
      ++at_;
    } while (!open.empty());
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
};

std::optional<std::string> DecodeString(std::string_view text) {
  if (text.size() < 2 || text.front() != '"') return std::nullopt;
  if (text.find('\\') == text.npos) return std::string(text.substr(1, text.size() - 2));
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_string()) return std::nullopt;
  return json.get<std::string>();
}

tl::unexpected<Error> Broken(const Scanner& scanner, std::string_view expected) {
  return Fail(scanner.at_end() ? "the JSON ends too early" : "the JSON cannot be read",
              fmt::format("byte {}", scanner.at()), std::string(expected));
}

}  // namespace

Result<JsonMembers> JsonMembers::Parse(std::string_view object) {
  JsonMembers read;
  read.text_ = object;
  Scanner scanner(object);
  scanner.SkipSpace();
  if (!scanner.Take('{')) return Broken(scanner, "an object");
  scanner.SkipSpace();
  bool more = !scanner.Take('}');
  while (more) {
    Member member;
    scanner.SkipSpace();
    member.begin = scanner.at();
    if (!scanner.SkipString()) return Broken(scanner, "a member's name");
    auto name = DecodeString(object.substr(member.begin, scanner.at() - member.begin));
    if (!name) return Broken(scanner, "a member's name before it");
    member.name = *std::move(name);
    scanner.SkipSpace();
    if (!scanner.Take(':')) return Broken(scanner, "':'");
    scanner.SkipSpace();
    member.value_begin = scanner.at();
    if (!scanner.SkipValue()) return Broken(scanner, "a value");
    member.value_end = scanner.at();
    read.members_.push_back(std::move(member));
    scanner.SkipSpace();
    more = scanner.Take(',');
    if (!more && !scanner.Take('}')) return Broken(scanner, "',' or '}'");
  }
  read.close_ = scanner.at() - 1;
  scanner.SkipSpace();
  if (!scanner.at_end()) return Broken(scanner, "nothing behind the object");
  return read;
}

std::optional<std::string_view> JsonMembers::Find(std::string_view name) const {
  for (auto member = members_.rbegin(); member != members_.rend(); ++member) {
    if (member->name == name) {
      return text_.substr(member->value_begin, member->value_end - member->value_begin);
    }
  }
  return std::nullopt;
}

std::optional<std::string> JsonMembers::FindString(std::string_view name) const {
  const auto value = Find(name);
  return value ? DecodeString(*value) : std::nullopt;
}

std::string JsonMembers::With(std::span<const Change> changes) const {
  std::string made;
  size_t added = 0;
  for (const Change& change : changes) {
    if (change.value) added += change.name.size() + change.value->size() + 8;
  }
  made.reserve(text_.size() + added);
  // What stands between two members stays with the one behind it, but for a member that has become
  // the first.
  size_t copied = 0;
  bool has_members = false;
  for (size_t i = 0; i < members_.size(); ++i) {
    const Member& member = members_[i];
    const auto change = std::ranges::find(changes, std::string_view(member.name), &Change::name);
    if (change != changes.end() && !change->value) {
      // With the comma before it.
      if (i == 0) made.append(text_.substr(0, member.begin));
      copied = member.value_end;
      continue;
    }
    if (!has_members && i > 0) copied = member.begin;
    has_members = true;
    if (change == changes.end()) {
      made.append(text_.substr(copied, member.value_end - copied));
    } else {
      made.append(text_.substr(copied, member.value_begin - copied)).append(*change->value);
    }
    copied = member.value_end;
  }
  if (members_.empty()) {
    made.append(text_.substr(0, close_));
    copied = close_;
  }
  for (const Change& change : changes) {
    if (!change.value ||
        std::ranges::find(members_, change.name, &Member::name) != members_.end()) {
      continue;
    }
    if (has_members) made.append(", ");
    has_members = true;
    made.append(JsonString(change.name)).append(": ").append(*change.value);
  }
  return made.append(text_.substr(copied));
}

Result<std::vector<std::string_view>> JsonElements(std::string_view array, size_t most) {
  std::vector<std::string_view> elements;
  Scanner scanner(array);
  scanner.SkipSpace();
  if (!scanner.Take('[')) return Broken(scanner, "an array");
  scanner.SkipSpace();
  bool more = !scanner.Take(']');
  while (more) {
    scanner.SkipSpace();
    if (elements.size() == most) return Broken(scanner, fmt::format("at most {} elements", most));
    const size_t begin = scanner.at();
    if (!scanner.SkipValue()) return Broken(scanner, "a value");
    elements.push_back(array.substr(begin, scanner.at() - begin));
    scanner.SkipSpace();
    more = scanner.Take(',');
    if (!more && !scanner.Take(']')) return Broken(scanner, "',' or ']'");
  }
  scanner.SkipSpace();
  if (!scanner.at_end()) return Broken(scanner, "nothing behind the array");
  return elements;
}

std::string JsonString(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace conductor::proxy
