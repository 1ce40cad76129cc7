#include "daemon/toolkit/svg.h"

#include <fmt/format.h>

#include <cmath>
#include <iterator>

namespace conductor::toolkit {
namespace {

std::string Escaped(std::string_view text) {
  std::string escaped;
  for (const char character : text) {
    switch (character) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:
        escaped += character;
    }
  }
  return escaped;
}

// A tenth of a pixel is finer than anyone sees; "12" and not "12.0".
std::string Length(double length) {
  std::string text = fmt::format("{:.1f}", length);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text == "-0" ? "0" : text;
}

constexpr std::string_view AnchorName(Svg::Anchor anchor) {
  switch (anchor) {
    case Svg::Anchor::kStart:
      return "start";
    case Svg::Anchor::kMiddle:
      return "middle";
    case Svg::Anchor::kEnd:
      return "end";
  }
  return "start";
}

}  // namespace

Svg::Svg(double width, double height, std::string_view title, std::string_view description) {
  text_ = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" "
      "viewBox=\"0 0 {0} {1}\" font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\" "
      "role=\"img\">\n<title>{2}</title>\n<desc>{3}</desc>\n",
      Length(width), Length(height), Escaped(title), Escaped(description));
  Rectangle(0, 0, width, height, "#fff");
}

void Svg::Text(double x, double y, std::string_view text, const TextStyle& style) {
  const std::string turn =
      style.upwards ? fmt::format(" transform=\"rotate(-90 {} {})\"", Length(x), Length(y)) : "";
  fmt::format_to(std::back_inserter(text_),
                 "<text x=\"{}\" y=\"{}\" font-size=\"{}\" text-anchor=\"{}\" fill=\"{}\"{}{}>{}"
                 "</text>\n",
                 Length(x), Length(y), Length(style.size), AnchorName(style.anchor), style.colour,
                 style.bold ? " font-weight=\"bold\"" : "", turn, Escaped(text));
}

void Svg::Rectangle(double x, double y, double width, double height, std::string_view fill,
                    std::string_view stroke) {
  fmt::format_to(std::back_inserter(text_),
                 "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\" stroke=\"{}\"/>\n",
                 Length(x), Length(y), Length(width), Length(height), fill, stroke);
}

void Svg::Line(double x1, double y1, double x2, double y2, std::string_view colour, double width) {
  fmt::format_to(std::back_inserter(text_),
                 "<path d=\"M{} {}L{} {}\" stroke=\"{}\" stroke-width=\"{}\"/>\n", Length(x1),
                 Length(y1), Length(x2), Length(y2), colour, Length(width));
}

void Svg::Curve(const std::vector<std::pair<double, double>>& points, std::string_view colour) {
  std::string path;
  for (const auto& [x, y] : points) {
    fmt::format_to(std::back_inserter(path), "{}{} {}", path.empty() ? "M" : "L", Length(x),
                   Length(y));
  }
  fmt::format_to(std::back_inserter(text_),
                 "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\" "
                 "stroke-linejoin=\"round\"/>\n",
                 path, colour);
}

void Svg::Filled(std::string_view path, std::string_view colour) {
  fmt::format_to(std::back_inserter(text_), "<path d=\"{}\" fill=\"{}\"/>\n", path, colour);
}

std::string Svg::Finish() && {
  text_ += "</svg>\n";
  return std::move(text_);
}

std::vector<double> RoundTicks(double most, int count) {
  if (!(most > 0)) return {0};
  const double rough = most / count;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  double step = power;
  for (const double factor : {1.0, 2.0, 5.0, 10.0}) {
    step = factor * power;
    if (step >= rough * 0.999) break;
  }
  while (step > most) step /= 2;
  std::vector<double> ticks;
  for (int i = 0; i * step <= most * 1.0001; ++i) ticks.push_back(i * step);
  return ticks;
}

}  // namespace conductor::toolkit
