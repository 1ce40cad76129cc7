// docs/proxy.md names everything that there is: routes, metrics, settings of the file.

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>

#include "daemon/proxy/options.h"
#include "daemon/proxy/proxy_metrics.h"
#include "daemon/proxy/routes.h"

namespace conductor::proxy {
namespace {

std::string Page() {
  std::ifstream file(CONDUCTOR_DOCS "/proxy.md");
  EXPECT_TRUE(file.good());
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(ProxyPageTest, HasEveryRoute) {
  const std::string page = Page();
  for (const auto& [method, path] : OwnRoutes()) {
    EXPECT_NE(page.find("`" + std::string(method) + " " + std::string(path)), std::string::npos)
        << path;
  }
}

TEST(ProxyPageTest, HasEveryMetric) {
  ProxyMetrics metrics;
  metrics.Answered("other", 200);
  metrics.ClientLeft("other");
  metrics.FirstByte("client", std::chrono::seconds(1));
  metrics.Chosen("decode", "only");
  metrics.FellBack("batch");
  metrics.Retried("decode");
  metrics.UpstreamFailed("decode", "idle");
  std::string page = Page();
  // Several of one prefix stand together.
  page +=
      "conductor_proxy_engine_load conductor_proxy_engine_available "
      "conductor_proxy_engine_requests_total";
  const std::string text = metrics.Text({});
  const std::regex help("# HELP (\\S+)");
  size_t count = 0;
  for (std::sregex_iterator found(text.begin(), text.end(), help), end; found != end; ++found) {
    ++count;
    EXPECT_NE(page.find((*found)[1]), std::string::npos) << (*found)[1];
  }
  EXPECT_GT(count, 15u);
}

TEST(ProxyPageTest, HasEveryConnectorAndPolicy) {
  const std::string page = Page();
  for (const char* name :
       {"`nixl`", "`none`", "`store`", "`mooncake`", "`ascend`", "`ascend-layerwise`", "`sglang`",
        "`round-robin`", "`least-loaded`", "`longest-prefix`", "`score`"}) {
    EXPECT_NE(page.find(name), std::string::npos) << name;
  }
}

}  // namespace
}  // namespace conductor::proxy
