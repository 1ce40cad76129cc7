#ifndef CONDUCTOR_TESTS_FUZZ_REQUEST_BODIES_H_
#define CONDUCTOR_TESTS_FUZZ_REQUEST_BODIES_H_

#include <string>
#include <string_view>

#include "daemon/serve/answer_document.h"
#include "daemon/serve/http_router.h"
#include "daemon/serve/mooncake_hash_requests.h"
#include "daemon/serve/mooncake_requests.h"
#include "daemon/serve/registration.h"
#include "daemon/serve/requests.h"
#include "fuzz_target.h"

namespace conductor::serve {

// What must hold for any bytes as the body of any request, in one form.
class RequestBodies {
 public:
  RequestBodies(std::string_view bytes, BodyForm form) : form_(form), size_(bytes.size()) {
    body_.reserve(bytes.size() + HttpRequest::kBodyPadding);  // as connections have them
    body_ = bytes;
  }

  void ReadAll() const {
    if (const auto request = Read(ParseQueries(body_, form_, kMaxPrompts))) CheckQueries(*request);
    if (const auto request = Read(ParseScore(body_, form_, kMaxPrompts, {}))) {
      CheckQueries(*request);
    }
    if (const auto request = Read(ParseExplain(body_, form_))) CheckQuery(request->query);
    if (const auto query = Read(ParseMooncakeQuery(body_, form_))) CheckQuery(*query);
    if (form_ == BodyForm::kJson) (void)Read(ParseCacheQuery(body_));
    if (const auto request = Read(ParseRegister(body_, form_))) CheckRegistration(*request);
    if (const auto key = Read(ParseUnregister(body_, form_))) CheckKey(*key);
    ReadStrictly();
  }

 private:
  static constexpr uint32_t kMaxPrompts = 4;

  // As the C++ generations of the Mooncake Conductor and Dynamo's indexer do.
  void ReadStrictly() const {
    if (const auto strict = Read(ParseStrictQuery(body_, form_))) CheckQuery(strict->query);
    for (const auto others : {RequestBody::Others::kIgnore, RequestBody::Others::kRefuse}) {
      if (const auto query = Read(ParseHashQuery(body_, form_, others))) CheckQuery(*query);
    }
    if (const auto query = Read(ParseDynamoQuery(body_, form_))) CheckQuery(*query);
    if (const auto query = Read(ParseDynamoHashQuery(body_, form_, 1337))) CheckQuery(*query);
    // What is no JSON has a text alone there.
    const auto request = ParseStrictRegister(body_, form_);
    if (request || !request.error().reason.empty()) {
      if (Read(request)) CheckRegistration(*request);
    }
    const auto key = ParseStrictUnregister(body_, form_);
    if (key || !key.error().reason.empty()) {
      if (Read(key)) CheckKey(*key);
    }
  }

  // The request, or nothing where its error can be told.
  template <typename T>
  [[nodiscard]] std::optional<T> Read(Parsed<T> parsed) const {
    if (parsed) return *std::move(parsed);
    fuzz::Require(!parsed.error().error.empty() && !parsed.error().reason.empty(),
                  "an error says what is wrong");
    for (const BodyForm form : {BodyForm::kJson, BodyForm::kMsgpack}) {
      const std::string told = ErrorDocument(parsed.error(), form);
      fuzz::Require(Document::Parse(told, form).has_value(), "an error can be told in either form");
      // What a client sent comes back cut short.
      fuzz::Require(told.size() < 16 << 10, "an error is not large");
    }
    return std::nullopt;
  }

  void CheckQueries(const QueryRequest& request) const {
    fuzz::Require(request.batch || request.prompts.size() == 1, "one prompt, or a batch");
    fuzz::Require(request.prompts.size() <= kMaxPrompts, "no more prompts than are allowed");
    for (const Query& query : request.prompts) {
      fuzz::Require(!query.model.empty(), "a query names its model");
      CheckQuery(query);
    }
  }

  void CheckQuery(const Query& query) const {
    fuzz::Require(query.tokens.size() <= size_, "a token takes at least one byte");
    fuzz::Require(query.prefixes.size() <= size_, "a hash takes at least one byte");
    fuzz::Require(!query.block_size || *query.block_size > 0, "blocks have tokens");
  }

  static void CheckKey(const std::string& key) {
    fuzz::Require(key.find('|') != std::string::npos, "a key has its parts");
  }

  static void CheckRegistration(const RegisterRequest& request) {
    const auto ranks = ExpandRanks(request.registration, request.dp_size);
    if (!ranks) {
      fuzz::Require(!ranks.error().what.empty(), "a registration that is refused is told why");
      return;
    }
    fuzz::Require(ranks->size() == request.dp_size, "each rank is one publisher");
    for (const Registration& rank : *ranks) (void)Validate(rank);
  }

  const BodyForm form_;
  const size_t size_;
  std::string body_;
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_TESTS_FUZZ_REQUEST_BODIES_H_
