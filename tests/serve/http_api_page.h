#ifndef CONDUCTOR_TESTS_SERVE_HTTP_API_PAGE_H_
#define CONDUCTOR_TESTS_SERVE_HTTP_API_PAGE_H_

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

namespace conductor::serve {

// docs/http-api.md.
inline std::string HttpApiPage() {
  std::ifstream file(CONDUCTOR_DOCS "/http-api.md");
  EXPECT_TRUE(file.good());
  return {std::istreambuf_iterator<char>(file), {}};
}

// The first JSON object after `heading` in the document.
inline nlohmann::json ExampleAfter(const std::string& heading) {
  const std::string page = HttpApiPage();
  const size_t begin = page.find("\n    {", page.find(heading));
  const size_t end = page.find("\n    }\n", begin);
  EXPECT_NE(end, std::string::npos) << heading;
  return nlohmann::json::parse(page.substr(begin, end + 6 - begin), nullptr, false);
}

// `answer` with every value that is no object or list replaced by null: what is left are names.
inline nlohmann::json NamesIn(const nlohmann::json& answer) {
  if (!answer.is_structured()) return nullptr;
  nlohmann::json names = answer;
  for (nlohmann::json& value : names) value = NamesIn(value);
  return names;
}

}  // namespace conductor::serve

#endif  // CONDUCTOR_TESTS_SERVE_HTTP_API_PAGE_H_
