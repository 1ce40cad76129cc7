#ifndef CONDUCTOR_LIB_CLIENT_ANSWER_READER_H_
#define CONDUCTOR_LIB_CLIENT_ANSWER_READER_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/wire/msgpack_tape.h"

namespace conductor::client {

// Reads one map of an answer, field by field and strictly. The first thing that is wrong is kept
// for all readers of the answer; after it, values are of no meaning.
class AnswerReader {
 public:
  // `error` outlives it. `path` is the map's place: "instances[3]", empty for the whole.
  AnswerReader(wire::MsgpackValue map, std::string path, std::optional<Error>& error);

  [[nodiscard]] std::string Text(std::string_view name);
  [[nodiscard]] std::string TextOr(std::string_view name, std::string absent);
  [[nodiscard]] uint64_t Uint(std::string_view name, uint64_t max = UINT64_MAX);
  [[nodiscard]] std::optional<uint64_t> UintOrNil(std::string_view name);
  [[nodiscard]] double Real(std::string_view name);
  [[nodiscard]] std::optional<double> RealOrNil(std::string_view name);
  [[nodiscard]] bool Bool(std::string_view name);
  // Nothing where the field is absent.
  [[nodiscard]] std::vector<std::string> TextsOrNone(std::string_view name);
  // read(AnswerReader&) of a map, where the field is there.
  void MapOrNone(std::string_view name, const std::function<void(AnswerReader&)>& read);
  // read(AnswerReader&) for each map in an array.
  void Maps(std::string_view name, const std::function<void(AnswerReader&)>& read);
  // read(key, AnswerReader&) for each map in a map.
  void Entries(std::string_view name,
               const std::function<void(std::string_view, AnswerReader&)>& read);

  // What is wrong with one of its fields.
  void Fail(std::string_view name, std::string what, std::string expected);

 private:
  [[nodiscard]] std::optional<wire::MsgpackValue> Find(std::string_view name) const;
  // With an error where there is none.
  [[nodiscard]] std::optional<wire::MsgpackValue> Get(std::string_view name,
                                                      std::string_view expected);
  void Mistyped(std::string_view name, wire::MsgpackValue value, std::string_view expected);
  [[nodiscard]] std::string PathOf(std::string_view name) const;

  wire::MsgpackValue map_;
  std::string path_;
  std::optional<Error>& error_;
};

}  // namespace conductor::client

#endif  // CONDUCTOR_LIB_CLIENT_ANSWER_READER_H_
