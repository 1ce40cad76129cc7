#ifndef CONDUCTOR_TESTS_SERVE_API_FIXTURE_H_
#define CONDUCTOR_TESTS_SERVE_API_FIXTURE_H_

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "daemon/serve/http_api.h"
#include "tests/serve/http_client.h"

namespace conductor::serve {

// A server with an empty registry, asked in either form over one connection.
class ApiTest : public testing::Test {
 protected:
  using Json = nlohmann::json;
  enum class Form { kJson, kMsgpack };

  explicit ApiTest(const Registry::Options& options = {})
      : registry_(options), api_(registry_, {.port = 0}), client_(Start()) {}

  // The answer's body, null where it is empty; its status in status_ and its head in head_.
  Json Ask(const std::string& method, const std::string& path, const Json& body = nullptr,
           Form form = Form::kJson) {
    std::string bytes;
    if (!body.is_null()) bytes = form == Form::kJson ? body.dump() : Packed(body);
    const std::string type = form == Form::kJson ? "application/json" : "application/msgpack";
    const Reply reply = client_.Request(method, path, bytes,
                                        "Content-Type: " + type + "\r\nAccept: " + type + "\r\n");
    status_ = reply.status;
    head_ = reply.head;
    if (reply.body.empty()) return nullptr;
    return form == Form::kJson ? Json::parse(reply.body, nullptr, false)
                               : Json::from_msgpack(reply.body, true, false);
  }
  Json Get(const std::string& path, Form form = Form::kJson) {
    return Ask("GET", path, nullptr, form);
  }
  Json Post(const std::string& path, const Json& body, Form form = Form::kJson) {
    return Ask("POST", path, body, form);
  }

  static std::string Packed(const Json& json) {
    std::string bytes;
    Json::to_msgpack(json, bytes);
    return bytes;
  }

  // A registration whose publisher never comes.
  static Json Absent(const std::string& instance_id, int port, int dp_rank = 0) {
    return {{"endpoint", "tcp://127.0.0.1:" + std::to_string(port)},
            {"modelname", "m"},
            {"instance_id", instance_id},
            {"dp_rank", dp_rank},
            {"block_size", 4}};
  }

  [[nodiscard]] uint16_t port() const { return port_; }

 private:
  uint16_t port_ = 0;  // before client_

 protected:
  Registry registry_;
  HttpApi api_;
  HttpClient client_;
  int status_ = 0;
  std::string head_;

 private:
  uint16_t Start() {
    const auto port = api_.Start();
    EXPECT_TRUE(port.has_value()) << port.error().Message();
    return port_ = port.value_or(0);
  }
};

}  // namespace conductor::serve

#endif  // CONDUCTOR_TESTS_SERVE_API_FIXTURE_H_
