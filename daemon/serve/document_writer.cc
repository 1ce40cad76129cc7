#include "daemon/serve/document_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <msgpack.hpp>
#include <nlohmann/json.hpp>

namespace conductor::serve {
namespace {

using Json = nlohmann::ordered_json;

class JsonWriter final : public DocumentWriter {
 public:
  void Map(size_t pairs) override { Open('{', '}', pairs); }
  void Array(size_t items) override { Open('[', ']', items); }
  void Key(std::string_view key) override {
    Comma();
    AppendText(key);
    out_ += ':';
    after_key_ = true;
  }
  void Text(std::string_view text) override {
    Comma();
    AppendText(text);
    Done();
  }
  void Uint(uint64_t number) override { Number(fmt::format_int(number)); }
  void Int(int64_t number) override { Number(fmt::format_int(number)); }
  void Real(double number, int decimals) override {
    Comma();
    if (std::isfinite(number)) {
      fmt::format_to(std::back_inserter(out_), "{:.{}f}", number, decimals);
    } else {
      out_ += "null";
    }
    Done();
  }
  void Bool(bool truth) override { Word(truth ? "true" : "false"); }
  void Nil() override { Word("null"); }

 private:
  struct Level {
    char end;
    size_t left;  // values, of maps without their keys
  };

  void Open(char begin, char end, size_t values) {
    Comma();
    out_ += begin;
    open_.push_back({end, values});
    first_ = true;
    if (values == 0) Close();
  }
  void Close() {
    while (!open_.empty() && open_.back().left == 0) {
      out_ += open_.back().end;
      open_.pop_back();
      first_ = false;
      if (!open_.empty()) --open_.back().left;
    }
  }
  // Before a key, and before a value that has none.
  void Comma() {
    if (!first_ && !after_key_ && !open_.empty()) out_ += ',';
    first_ = false;
    after_key_ = false;
  }
  // After a value that holds no others.
  void Done() {
    if (open_.empty()) return;
    --open_.back().left;
    Close();
  }
  void Number(const fmt::format_int& digits) {
    Comma();
    out_.append(digits.data(), digits.size());
    Done();
  }
  void Word(std::string_view word) {
    Comma();
    out_ += word;
    Done();
  }
  void AppendText(std::string_view text) {
    const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
      return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
    });
    if (plain) {
      out_.append("\"").append(text).append("\"");
    } else {
      out_.append(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace));
    }
  }

  std::vector<Level> open_;
  bool first_ = true;
  bool after_key_ = false;
};

class MsgpackBodyWriter final : public DocumentWriter {
 public:
  void Map(size_t pairs) override { packer_.pack_map(static_cast<uint32_t>(pairs)); }
  void Array(size_t items) override { packer_.pack_array(static_cast<uint32_t>(items)); }
  void Key(std::string_view key) override { Text(key); }
  void Text(std::string_view text) override {
    packer_.pack_str(static_cast<uint32_t>(text.size()));
    packer_.pack_str_body(text.data(), static_cast<uint32_t>(text.size()));
  }
  void Uint(uint64_t number) override { packer_.pack_uint64(number); }
  void Int(int64_t number) override { packer_.pack_int64(number); }
  void Real(double number, int) override {
    if (std::isfinite(number)) {
      packer_.pack_double(number);
    } else {
      packer_.pack_nil();
    }
  }
  void Bool(bool truth) override { truth ? packer_.pack_true() : packer_.pack_false(); }
  void Nil() override { packer_.pack_nil(); }

 private:
  // What the packer writes to.
  struct Sink {
    std::string& out;
    void write(const char* data, size_t size) { out.append(data, size); }
  };

  Sink sink_{out_};
  msgpack::packer<Sink> packer_{sink_};
};

}  // namespace

std::unique_ptr<DocumentWriter> DocumentWriter::Make(BodyForm form) {
  if (form == BodyForm::kMsgpack) return std::make_unique<MsgpackBodyWriter>();
  return std::make_unique<JsonWriter>();
}

std::string Render(const Json& json, BodyForm form) {
  if (form == BodyForm::kJson) return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string bytes;
  Json::to_msgpack(json, bytes);
  return bytes;
}

}  // namespace conductor::serve
