#include "daemon/serve/document_writer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "daemon/serve/row_writer.h"

namespace conductor::serve {
namespace {

using Json = nlohmann::json;  // whose maps are quick, however long

// What `write` wrote, read by a library.
template <typename Write>
Json Written(BodyForm form, Write write) {
  DocumentWriter out(form, 1);
  write(out);
  const std::string bytes = out.Take();
  return form == BodyForm::kJson ? Json::parse(bytes) : Json::from_msgpack(bytes);
}

class DocumentWriterTest : public testing::TestWithParam<BodyForm> {};
INSTANTIATE_TEST_SUITE_P(Forms, DocumentWriterTest,
                         testing::Values(BodyForm::kJson, BodyForm::kMsgpack),
                         [](const auto& form) {
                           return form.param == BodyForm::kJson ? "Json" : "Msgpack";
                         });

TEST_P(DocumentWriterTest, EveryIntegerComesBack) {
  std::vector<uint64_t> numbers = {0};
  for (int bit = 0; bit < 64; ++bit) {
    for (const uint64_t near : {uint64_t{0}, uint64_t{1}, UINT64_MAX}) {
      numbers.push_back((uint64_t{1} << bit) + near);
    }
  }
  const Json read = Written(GetParam(), [&](DocumentWriter& out) {
    out.Array(2 * numbers.size());
    for (const uint64_t number : numbers) {
      out.Uint(number);
      out.Int(static_cast<int64_t>(number));
    }
  });
  for (size_t i = 0; i < numbers.size(); ++i) {
    EXPECT_EQ(read[2 * i].get<uint64_t>(), numbers[i]);
    EXPECT_EQ(read[2 * i + 1].get<int64_t>(), static_cast<int64_t>(numbers[i]));
  }
}

TEST_P(DocumentWriterTest, TextsOfAnyLengthAndContentComeBack) {
  std::vector<std::string> texts = {"", "\"", "\\", "a\nb\x1f\x7f", "é", std::string(1, '\0')};
  for (const size_t size : {31, 32, 255, 256, 65535, 65536, 70000}) texts.emplace_back(size, 'x');
  const Json read = Written(GetParam(), [&](DocumentWriter& out) {
    out.Map(2 * texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      out.Pair(std::to_string(i), texts[i]);
      out.Pair(texts[i] + "#" + std::to_string(i), uint64_t{i});
    }
  });
  for (size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(read.at(std::to_string(i)), texts[i]);
    EXPECT_EQ(read.at(texts[i] + "#" + std::to_string(i)), i);
  }
}

TEST_P(DocumentWriterTest, MapsAndArraysEndWithTheirLastValue) {
  const auto write = [](DocumentWriter& out) {
    out.Map(4);
    out.Key("empty");
    out.Array(0);
    out.Key("nested");
    out.Array(3);
    out.Map(0);
    out.Map(1);
    out.Key("a");
    out.Array(1);
    out.Array(1);
    out.Nil();
    out.Bool(true);
    out.Pair("last", false);
    out.Key("map");
    out.Map(0);
  };
  EXPECT_EQ(Written(GetParam(), write),
            Json::parse(R"({"empty":[],"nested":[{},{"a":[[null]]},true],"last":false,"map":{}})"));
}

TEST_P(DocumentWriterTest, LongMapsAndArraysSayTheirSizes) {
  for (const size_t size : {15, 16, 65535, 65536}) {
    const Json read = Written(GetParam(), [size](DocumentWriter& out) {
      out.Array(size);
      for (size_t i = 0; i < size; ++i) out.Uint(i);
    });
    EXPECT_EQ(read.size(), size);
    EXPECT_EQ(read.back(), size - 1);
    const Json map = Written(GetParam(), [size](DocumentWriter& out) {
      out.Map(size);
      for (size_t i = 0; i < size; ++i) out.Pair(std::to_string(i), i);
    });
    EXPECT_EQ(map.size(), size);
  }
}

TEST_P(DocumentWriterTest, RealsAreFinite) {
  const Json read = Written(GetParam(), [](DocumentWriter& out) {
    out.Array(3);
    out.Real(std::numeric_limits<double>::quiet_NaN(), 3);
    out.Real(-std::numeric_limits<double>::infinity(), 3);
    out.Real(0.5, 3);
  });
  EXPECT_EQ(read, Json::parse("[null,null,0.5]"));
}

std::string RealInJson(double number, int decimals) {
  DocumentWriter out(BodyForm::kJson);
  out.Real(number, decimals);
  return out.Take();
}

TEST(DocumentWriter, RealsHaveTheirDecimals) {
  EXPECT_EQ(RealInJson(0, 3), "0.000");
  EXPECT_EQ(RealInJson(-0.0, 3), "0.000");
  EXPECT_EQ(RealInJson(1.0005001, 3), "1.001");
  EXPECT_EQ(RealInJson(-12.3456, 2), "-12.35");
  EXPECT_EQ(RealInJson(-0.0004, 3), "0.000");
  EXPECT_EQ(RealInJson(999999999.9996, 3), "1000000000.000");
  EXPECT_EQ(RealInJson(2, 0), "2");
  EXPECT_EQ(RealInJson(0.123456789, 9), "0.123456789");
  EXPECT_EQ(RealInJson(1e300, 3).size(), 305U);
  EXPECT_EQ(std::stod(RealInJson(1e300, 3)), 1e300);
  EXPECT_EQ(std::stod(RealInJson(-std::numeric_limits<double>::max(), 3)),
            -std::numeric_limits<double>::max());
}

TEST(DocumentWriter, BytesThatAreNoUtf8AreReplacedInJson) {
  DocumentWriter out(BodyForm::kJson);
  out.Text("a\xff");
  EXPECT_EQ(out.Take(), "\"a\xef\xbf\xbd\"");
}

// The same document with its rows by a RowWriter and by the DocumentWriter itself.
template <BodyForm kForm>
void ExpectSameRows() {
  const std::vector<std::string> texts = {"",
                                          "plain",
                                          "12345678",
                                          "1234567 \"",
                                          "\\",
                                          "tab\t",
                                          "\x7f",
                                          "é",
                                          "\xff\xfe",
                                          "a\xc3",
                                          std::string(7, 'x') + '\x1f',
                                          std::string(300, 'y'),
                                          std::string(70000, 'z')};
  const std::vector<uint64_t> numbers = {
      0, 0, 7, 127, 128, 255, 256, 512, 65535, 65536, 4294967295, uint64_t{1} << 32, UINT64_MAX};
  const std::vector<double> seconds = {-1,
                                       -0.0,
                                       0,
                                       0.0004,
                                       0.0005,
                                       0.0015,
                                       1.25,
                                       59.9996,
                                       1e11,
                                       1e12,
                                       1e17,
                                       1e300,
                                       std::numeric_limits<double>::max(),
                                       std::numeric_limits<double>::infinity(),
                                       std::numeric_limits<double>::quiet_NaN()};
  constexpr size_t kRows = 200;
  DocumentWriter plain(kForm);
  DocumentWriter with_rows(kForm);
  for (DocumentWriter* out : {&plain, &with_rows}) {
    out->Map(2);
    out->Key("rows");
    out->Array(kRows);
  }
  NumberMemo memo;
  NumberMemo keys;
  for (size_t i = 0; i < kRows; ++i) {
    const std::string& text = texts[i % texts.size()];
    const uint64_t number = numbers[i / 3 % numbers.size()];
    const auto key = static_cast<uint32_t>(numbers[i % numbers.size()]);
    const double time = seconds[i % seconds.size()];
    const bool truth = i % 2 == 0;
    plain.Map(5);
    plain.Pair("text", text);
    plain.Pair("number", number);
    plain.Key("nested");
    plain.Map(truth ? 1 : 0);
    if (truth) plain.Pair(std::to_string(key), number);
    plain.Pair("truth", truth);
    plain.Key("time");
    time >= 0 ? plain.Real(time, 3) : plain.Nil();

    using Row = RowWriter<kForm>;
    Row row(with_rows.BeginRow(2 * Row::kMap + 6 * (Row::kAround + 16 + Row::kNumber) +
                               Row::MostOf(text) + Row::kSeconds));
    char* const map = row.BeginMap(5);
    row.Key("text");
    row.Text(text);
    row.Key("number");
    row.Number(number, memo);
    row.Key("nested");
    char* const nested = row.BeginMap(truth ? 1 : 0);
    if (truth) {
      row.Key(key, keys);
      row.Number(number, memo);
    }
    row.EndMap(nested);
    row.Key("truth");
    row.Bool(truth);
    row.Key("time");
    row.Seconds(time);
    row.EndMap(map);
    with_rows.EndRow(row.end());
  }
  plain.Pair("behind", true);
  with_rows.Pair("behind", true);
  EXPECT_EQ(with_rows.Take(), plain.Take());
}

TEST(RowWriter, WritesWhatTheDocumentWriterWould) {
  ExpectSameRows<BodyForm::kJson>();
  ExpectSameRows<BodyForm::kMsgpack>();
}

}  // namespace
}  // namespace conductor::serve
