#ifndef CONDUCTOR_DAEMON_TOOLKIT_SVG_H_
#define CONDUCTOR_DAEMON_TOOLKIT_SVG_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace conductor::toolkit {

// A drawing, built piece by piece: an SVG document that needs no fonts, scripts or styles from
// elsewhere. Lengths are pixels, from the top left corner.
class Svg {
 public:
  enum class Anchor : uint8_t { kStart, kMiddle, kEnd };
  struct TextStyle {
    double size = 12;
    Anchor anchor = Anchor::kStart;
    std::string_view colour = "#333";
    bool bold = false;
    bool upwards = false;  // turned by a quarter, for the title of an upright axis
  };

  // `description` is what a reader who cannot see the drawing is told.
  Svg(double width, double height, std::string_view title, std::string_view description);

  void Text(double x, double y, std::string_view text, const TextStyle& style);
  void Rectangle(double x, double y, double width, double height, std::string_view fill,
                 std::string_view stroke = "none");
  void Line(double x1, double y1, double x2, double y2, std::string_view colour, double width = 1);
  void Curve(const std::vector<std::pair<double, double>>& points, std::string_view colour);
  // Outlines as SVG's path data has them, filled.
  void Filled(std::string_view path, std::string_view colour);

  // The whole document. The last call.
  [[nodiscard]] std::string Finish() &&;

 private:
  std::string text_;
};

// Round values from 0 to at most `most`, about `count` of them: 0, 50, 100. At least two where
// `most` is above 0.
[[nodiscard]] std::vector<double> RoundTicks(double most, int count);

}  // namespace conductor::toolkit

#endif  // CONDUCTOR_DAEMON_TOOLKIT_SVG_H_
