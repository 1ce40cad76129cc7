#include "daemon/toolkit/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "daemon/toolkit/json_text.h"
#include "daemon/toolkit/terminal.h"
#include "lib/base/number.h"
#include "lib/client/http_transport.h"

namespace conductor::toolkit {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kExpected = R"({"tokens": [...], "count": n}, as vLLM and SGLang answer)";
constexpr size_t kMostShown = 300;
constexpr Duration kToConnect = std::chrono::seconds(2);

bool NamesAPort(std::string_view authority) {
  const size_t colon = authority.rfind(':');
  const size_t bracket = authority.rfind(']');
  return colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket);
}

// What an engine says is wrong: {"message"}, {"error": {"message"}}, {"error"}, {"detail"}, or
// nothing of the kind.
std::string Complaint(const std::string& body) {
  const auto parsed = ParseJson(body);
  if (!parsed) return {};
  const Json& json = *parsed;
  const Json* at = json.is_object() && json.contains("error") ? &json["error"] : &json;
  if (at->is_string()) return at->get<std::string>();
  if (!at->is_object()) return {};
  for (const char* name : {"message", "detail"}) {
    if (at->contains(name) && (*at)[name].is_string()) return (*at)[name].get<std::string>();
  }
  return {};
}

// What a status means for whoever gave the URL.
std::string Advice(int status) {
  if (status == 404) return "an engine's /tokenize: is this the engine, and not a router?";
  if (status == 405) return "an engine's /tokenize, which takes POST";
  if (status == 401 || status == 403) return "an engine that answers without a token";
  return {};
}

}  // namespace

Result<TokenizerUrl> TokenizerUrl::Parse(std::string_view text) {
  constexpr const char* kShape = "http://HOST[:PORT][/PATH] or https://...";
  const size_t scheme_end = text.find("://");
  const std::string_view scheme = text.substr(0, scheme_end);
  if (scheme_end == std::string_view::npos || (scheme != "http" && scheme != "https")) {
    return Fail(fmt::format("'{}' is no address of a tokenizer", Printable(text)), {}, kShape);
  }
  const size_t path_begin = text.find('/', scheme_end + 3);
  std::string address(text.substr(0, path_begin));
  if (!NamesAPort(std::string_view(address).substr(scheme_end + 3))) {
    address += scheme == "https" ? ":443" : ":80";
  }
  auto parsed = client::ConductorUrl::Parse(address);
  if (!parsed) return tl::unexpected(std::move(parsed.error()));
  TokenizerUrl url{.address = *std::move(parsed), .path = "/tokenize", .text = std::string(text)};
  if (path_begin != std::string_view::npos && path_begin + 1 < text.size()) {
    url.path = text.substr(path_begin);
  }
  return url;
}

Tokenizer::Tokenizer(TokenizerUrl url, const Options& options)
    : Tokenizer(
          url,
          client::MakeHttpTransport(
              url.address, {.token = {}, .ca_file = options.ca_file, .verify_certificates = true}),
          options.time_limit) {}

Tokenizer::Tokenizer(TokenizerUrl url, std::unique_ptr<client::Transport> transport,
                     Duration time_limit)
    : url_(std::move(url)), transport_(std::move(transport)), time_limit_(time_limit) {}

Result<std::vector<TokenId>> Tokenizer::Tokenize(std::string_view request, std::string_view model) {
  auto body = ParseJson(request);
  if (!body) return tl::unexpected(std::move(body.error()).Within("what a tokenizer is sent"));
  if (!model.empty()) (*body)["model"] = model;
  const std::string bytes = DumpJson(*body);
  const MonoTime now = MonoNow();
  const MonoTime whole = now + time_limit_;
  const std::string where = fmt::format("tokenizer {}", Printable(url_.text));
  const auto reply =
      transport_->Exchange({.method = "POST", .path = url_.path, .body = bytes},
                           {.connect = std::min(now + kToConnect, whole), .whole = whole});
  if (!reply) {
    Error error = reply.error().error;
    if (!reply.error().asked) error.expected = "an engine there: --tokenizer names its HTTP port";
    return tl::unexpected(std::move(error).Within(where));
  }
  if (reply->status != 200) {
    const std::string complaint = Cut(Printable(Complaint(reply->body)), kMostShown);
    return Fail(
        fmt::format("status {}{}{}", reply->status, complaint.empty() ? "" : ": ", complaint),
        where, Advice(reply->status));
  }
  auto tokens = ReadTokenizerAnswer(reply->body);
  if (!tokens) return tl::unexpected(std::move(tokens.error()).Within(where));
  return tokens;
}

Result<std::vector<TokenId>> ReadTokenizerAnswer(std::string_view text) {
  const auto parsed = ParseJson(text);
  if (!parsed || !parsed->is_object()) {
    return Fail("its answer is no JSON object", {}, kExpected);
  }
  const Json& json = *parsed;
  const auto tokens = json.find("tokens");
  if (tokens == json.end() || !tokens->is_array()) {
    return Fail("its answer has no array of tokens", {}, kExpected);
  }
  auto ids = ReadTokenIds("its answer: tokens", *tokens);
  if (!ids) return ids;
  const auto count = json.find("count");
  if (count != json.end() && count->is_number_unsigned() && count->get<uint64_t>() != ids->size()) {
    return Fail(fmt::format("its answer has {} and says that they are {}",
                            Counted(ids->size(), "token"), count->get<uint64_t>()));
  }
  return ids;
}

}  // namespace conductor::toolkit
