#include "lib/base/endpoint.h"

#include <gtest/gtest.h>

namespace conductor {
namespace {

TEST(Endpoint, ReadsTheAddressesOfZeroMq) {
  const struct {
    const char* text;
    Endpoint endpoint;
  } cases[] = {
      {"tcp://127.0.0.1:5557", {"tcp", "127.0.0.1", 5557}},
      {"tcp://engine-a.example:1", {"tcp", "engine-a.example", 1}},
      {"tcp://[fe80::1%eth0]:65535", {"tcp", "fe80::1%eth0", 65535}},
      {"tcp://*:5557", {"tcp", "*", 5557}},
      {"ipc:///run/kv.sock", {"ipc", "/run/kv.sock", 0}},
      {"inproc://events", {"inproc", "events", 0}},
  };
  for (const auto& [text, endpoint] : cases) {
    const auto parsed = Endpoint::Parse(text);
    ASSERT_TRUE(parsed) << parsed.error().Message();
    EXPECT_EQ(*parsed, endpoint) << text;
    EXPECT_EQ(parsed->ToString(), text);
  }
}

TEST(Endpoint, RefusesWhatZeroMqCannotTakeAndSaysWhatIsWrong) {
  const struct {
    const char* text;
    const char* message;
  } cases[] = {
      {"", "has no scheme"},
      {"127.0.0.1:5557", "has no scheme"},
      {"udp://h:1", "has an unknown scheme"},
      {"tcp://", "has no port"},
      {"tcp://h", "has no port"},
      {"tcp://:5557", "has no host"},
      {"tcp://[]:5557", "has no host"},
      {"tcp://::1:5557", "has an IPv6 address without brackets"},
      {"tcp://h:", "'' is not a port (expected 1 to 65535)"},
      {"tcp://h:0", "'0' is not a port (expected 1 to 65535)"},
      {"tcp://h:65536", "'65536' is not a port (expected 1 to 65535)"},
      {"tcp://h:5557x", "'5557x' is not a port (expected 1 to 65535)"},
      {"tcp://h:-1", "'-1' is not a port (expected 1 to 65535)"},
      {"tcp://h:99999999999999999999", "is not a port (expected 1 to 65535)"},
      {"ipc://", "has no path"},
  };
  for (const auto& [text, message] : cases) {
    const auto parsed = Endpoint::Parse(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_NE(parsed.error().Message().find(message), std::string::npos)
        << parsed.error().Message();
    EXPECT_NE(parsed.error().Message().find(text), std::string::npos) << parsed.error().Message();
  }
}

TEST(Endpoint, TheNextPortKeepsTheHost) {
  const Endpoint endpoint{"tcp", "::1", 5557};
  const auto next = endpoint.PortPlus(1);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->ToString(), "tcp://[::1]:5558");
  EXPECT_EQ(endpoint.PortPlus(0).value(), endpoint);
}

TEST(Endpoint, ThereIsNoPortAbove65535) {
  const Endpoint endpoint{"tcp", "h", 65535};
  EXPECT_TRUE(endpoint.PortPlus(0));
  const auto next = endpoint.PortPlus(1);
  ASSERT_FALSE(next);
  EXPECT_EQ(next.error().Message(), "tcp://h:65535: port 65535 + 1 is above 65535");
  EXPECT_FALSE(endpoint.PortPlus(4294967295u));
}

TEST(Endpoint, OnlyTcpHasPorts) { EXPECT_FALSE((Endpoint{"ipc", "/run/kv.sock", 0}.PortPlus(1))); }

}  // namespace
}  // namespace conductor
