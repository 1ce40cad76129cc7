#include "daemon/proxy/server.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#include "daemon/proxy/advisor.h"

namespace conductor::proxy {
namespace {

// As a library may.
class Throwing : public Advisor {
 public:
  Awaitable<Advice> Advise(const Prompt& prompt, Lane& lane, Departure& departure) override {
    (void)prompt;
    (void)lane;
    (void)departure;
    throw std::length_error("too long");
    co_return Advice();
  }
};

ProxyOptions OptionsOf() {
  ProxyOptions options;
  options.threads = 1;
  options.port = 0;
  return options;
}

class ServerTest : public testing::Test {
 protected:
  ServerTest() {
    EXPECT_TRUE(fleet_.Add(Role::kUnified, *EngineSpec::Parse("127.0.0.1:1")));
    shared_.advisor = &advisor_;
    port_ = server_.Bind().value();
    server_.Start(shared_);
  }

  tcp::socket Connect() {
    tcp::socket socket(io_);
    socket.connect({net::ip::make_address("127.0.0.1"), port_});
    return socket;
  }

  const ProxyOptions options_ = OptionsOf();
  const std::unique_ptr<Choreography> choreography_ = MakeChoreography({});
  const std::unique_ptr<AccessLog> log_ = AccessLog::Open("").value();
  Fleet fleet_{Fleet::Options{}};
  ProxyMetrics metrics_;
  BodyBudget bodies_{1 << 20};
  Metaserver metaserver_;
  Throwing advisor_;
  Shared shared_{options_, *choreography_, fleet_, metrics_, *log_, bodies_, metaserver_};
  Server server_{options_, "127.0.0.1", 0};
  net::io_context io_;
  uint16_t port_ = 0;
};

// The whole answer, whose body ends with `end`.
std::string Ask(tcp::socket& socket, std::string_view request, std::string_view end) {
  net::write(socket, net::buffer(request));
  std::string answer;
  error_code error;
  while (!error && !answer.ends_with(end)) {
    std::array<char, 4096> bytes;
    answer.append(bytes.data(), socket.read_some(net::buffer(bytes), error));
  }
  return answer;
}

TEST_F(ServerTest, AnExceptionEndsItsRequestAndNothingElse) {
  constexpr std::string_view kPost =
      "POST /v1/completions HTTP/1.1\r\nContent-Length: 15\r\n\r\n{\"prompt\": \"a\"}";
  {
    tcp::socket socket = Connect();
    for (int i = 0; i < 2; ++i) {
      const std::string answer = Ask(socket, kPost, "}}");
      EXPECT_TRUE(answer.starts_with("HTTP/1.1 500 ")) << answer;
      EXPECT_NE(answer.find(R"("type": "internal_error")"), answer.npos) << answer;
    }
    const std::string health = Ask(socket, "GET /healthcheck HTTP/1.1\r\n\r\n", "}");
    EXPECT_TRUE(health.starts_with("HTTP/1.1 200 ")) << health;
    // The client closes while nobody works for it any more.
  }
  server_.Stop();
  EXPECT_EQ(shared_.requests, 0u);
  EXPECT_EQ(shared_.connections, 0u);
  EXPECT_EQ(bodies_.used(), 0u);
  EXPECT_NE(metrics_.Text({}).find("conductor_proxy_internal_errors_total 2"), std::string::npos);
}

}  // namespace
}  // namespace conductor::proxy
