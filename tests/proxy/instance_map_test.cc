#include "daemon/proxy/instance_map.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

namespace conductor::proxy {
namespace {

using Ids = std::map<std::string, std::string>;

client::PublisherEntry Entry(const std::string& id, const std::string& endpoint,
                             const std::string& type = "vLLM") {
  client::PublisherEntry entry;
  entry.instance_id = id;
  entry.tenant_id = "default";
  entry.model = "m";
  entry.endpoint = endpoint;
  entry.type = type;
  return entry;
}

EngineSpec Spec(const std::string& address, const std::string& id = {}) {
  EngineSpec spec = *EngineSpec::Parse(address);
  spec.instance_id = id;
  return spec;
}

class InstanceMapTest : public testing::Test {
 protected:
  // Engine -> instance id.
  Ids Match(const std::vector<EngineSpec>& engines,
            const std::vector<client::PublisherEntry>& publishers) {
    map_ = MatchInstances(engines, publishers, [](const std::string& host) {
      return host == "node1" ? std::set<std::string>{"10.0.0.1"} : std::set<std::string>{host};
    });
    Ids ids;
    for (const auto& [engine, known] : map_.engines) ids[engine] = known.instance_id;
    return ids;
  }

  InstanceMap map_;
};

TEST_F(InstanceMapTest, TheHostOfTheEventEndpointDecides) {
  EXPECT_EQ(Match({Spec("10.0.0.1:8100"), Spec("10.0.0.2:8100")},
                  {Entry("b", "tcp://10.0.0.2:5557"), Entry("a", "tcp://10.0.0.1:5557"),
                   Entry("pool", "tcp://10.0.0.1:50001", "Mooncake")}),
            (Ids{{"10.0.0.1:8100", "a"}, {"10.0.0.2:8100", "b"}}));
  EXPECT_EQ(map_.engines["10.0.0.1:8100"].model, "m");
  EXPECT_TRUE(map_.warnings.empty());
}

TEST_F(InstanceMapTest, NamesAreLookedUp) {
  EXPECT_EQ(Match({Spec("node1:8100")}, {Entry("a", "tcp://10.0.0.1:5557")}),
            (Ids{{"node1:8100", "a"}}));
}

TEST_F(InstanceMapTest, RanksAreOneInstance) {
  EXPECT_EQ(Match({Spec("10.0.0.1:8100")},
                  {Entry("a", "tcp://10.0.0.1:5557"), Entry("a", "tcp://10.0.0.1:5558")}),
            (Ids{{"10.0.0.1:8100", "a"}}));
}

TEST_F(InstanceMapTest, AnIdOfItsOwnDecidesFirst) {
  EXPECT_EQ(Match({Spec("10.0.0.1:8100", "x"), Spec("10.0.0.1:8101")},
                  {Entry("y", "tcp://10.0.0.1:5557"), Entry("x", "tcp://10.9.9.9:5557")}),
            (Ids{{"10.0.0.1:8100", "x"}, {"10.0.0.1:8101", "y"}}));
}

TEST_F(InstanceMapTest, OnAHostWithSeveralThePortInTheIdDecides) {
  EXPECT_EQ(
      Match({Spec("10.0.0.1:8100"), Spec("10.0.0.1:8101")},
            {Entry("node-8101", "tcp://10.0.0.1:5557"), Entry("node-8100", "tcp://10.0.0.1:5657"),
             Entry("node-18100", "tcp://10.0.0.1:5757")}),
      (Ids{{"10.0.0.1:8100", "node-8100"}, {"10.0.0.1:8101", "node-8101"}}));
}

TEST_F(InstanceMapTest, OtherwiseAsManyArePairedInTheOrderOfTheirPorts) {
  EXPECT_EQ(Match({Spec("10.0.0.1:8101"), Spec("10.0.0.1:8100")},
                  {Entry("late", "tcp://10.0.0.1:5657"), Entry("early", "tcp://10.0.0.1:5557")}),
            (Ids{{"10.0.0.1:8100", "early"}, {"10.0.0.1:8101", "late"}}));
}

TEST_F(InstanceMapTest, WhoIsNotMatchedIsTold) {
  EXPECT_EQ(Match({Spec("10.0.0.1:8100"), Spec("10.0.0.9:8100"), Spec("10.0.0.3:1", "z")},
                  {Entry("a", "tcp://10.0.0.1:5557"), Entry("b", "tcp://10.0.0.1:5558")}),
            Ids{});
  ASSERT_EQ(map_.warnings.size(), 3u);
  EXPECT_NE(map_.warnings[0].find("10.0.0.3:1: the conductor knows no instance 'z'"),
            std::string::npos);
  EXPECT_NE(map_.warnings[1].find("2 instances at the conductor and 1 engines"), std::string::npos);
  EXPECT_NE(map_.warnings[2].find("10.0.0.9:8100: the conductor has no event endpoint"),
            std::string::npos);
}

}  // namespace
}  // namespace conductor::proxy
