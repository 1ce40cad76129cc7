#ifndef CONDUCTOR_DAEMON_SERVE_DOCUMENT_WRITER_H_
#define CONDUCTOR_DAEMON_SERVE_DOCUMENT_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "daemon/serve/document.h"

namespace conductor::serve {

// A body written value by value, in either form, without a tree of it: the answers that routers ask
// for with every prompt have thousands of numbers. The number of pairs or items must be known when
// a map or an array begins (MessagePack says it first), and must be right.
//
//   writer->Map(2); writer->Key("a"); writer->Uint(1); writer->Key("b"); writer->Array(0);
//
// Maps and arrays end by themselves with their last value.
class DocumentWriter {
 public:
  [[nodiscard]] static std::unique_ptr<DocumentWriter> Make(BodyForm form);
  virtual ~DocumentWriter() = default;

  virtual void Map(size_t pairs) = 0;
  virtual void Array(size_t items) = 0;
  virtual void Key(std::string_view key) = 0;
  virtual void Text(std::string_view text) = 0;  // not UTF-8: JSON has U+FFFD for such bytes
  virtual void Uint(uint64_t number) = 0;
  virtual void Int(int64_t number) = 0;
  // Not finite: nil. JSON has at most `decimals` digits behind the point.
  virtual void Real(double number, int decimals) = 0;
  virtual void Bool(bool truth) = 0;
  virtual void Nil() = 0;

  void Pair(std::string_view key, std::string_view text) { Key(key), Text(text); }
  void Pair(std::string_view key, const char* text) { Key(key), Text(text); }
  void Pair(std::string_view key, uint64_t number) { Key(key), Uint(number); }
  void Pair(std::string_view key, uint32_t number) { Key(key), Uint(number); }
  void Pair(std::string_view key, bool truth) { Key(key), Bool(truth); }

  // What was written; the writer is of no more use.
  [[nodiscard]] std::string Take() { return std::move(out_); }

 protected:
  std::string out_;
};

// `json` in either form, for answers that are rare. Texts that are not UTF-8 get U+FFFD in JSON.
[[nodiscard]] std::string Render(const nlohmann::ordered_json& json, BodyForm form);

}  // namespace conductor::serve

#endif  // CONDUCTOR_DAEMON_SERVE_DOCUMENT_WRITER_H_
