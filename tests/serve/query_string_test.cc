#include "daemon/serve/query_string.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace conductor::serve {
namespace {

TEST(QueryString, ItsParametersAreDecodedInOrder) {
  using Parameters = std::vector<std::pair<std::string, std::string>>;
  const struct {
    const char* query;
    Parameters parameters;
  } cases[] = {
      {"", {}},
      {"&&", {}},
      {"a=1&b=2&a=3", {{"a", "1"}, {"b", "2"}, {"a", "3"}}},
      {"publisher=vllm-1%7Cdefault%7C0", {{"publisher", "vllm-1|default|0"}}},
      {"a+b=c+d%2Be", {{"a b", "c d+e"}}},
      {"a", {{"a", ""}}},
      {"a=", {{"a", ""}}},
      {"=b", {{"", "b"}}},
      {"a=b=c", {{"a", "b=c"}}},
      {"a=%4&b=%zz&c=%", {{"a", "%4"}, {"b", "%zz"}, {"c", "%"}}},
  };
  for (const auto& [query, parameters] : cases) {
    EXPECT_EQ(QueryParameters(query), parameters) << query;
  }
}

}  // namespace
}  // namespace conductor::serve
