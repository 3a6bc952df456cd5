#include "tools/line_chart.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace m5 {
namespace {

constexpr double kWidth = 720, kHeight = 440;
constexpr double kLeft = 76, kRight = 24, kTop = 48, kBottom = 60;  // margins
// Told apart by colour-blind readers too (Okabe and Ito), and by their dashes.
constexpr std::array<const char*, 5> kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                 "#000000"};
constexpr std::array<const char*, 3> kDashes = {"none", "7 4", "2 3"};

std::string number(double value, int decimals) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
    }
  }
  return result;
}

std::string text_at(double x, double y, const std::string& more, const std::string& text) {
  return "<text x=\"" + number(x, 1) + "\" y=\"" + number(y, 1) + "\" " + more + ">" +
         escaped(text) + "</text>\n";
}

std::string stroke(double x1, double y1, double x2, double y2, const std::string& more) {
  return "<line x1=\"" + number(x1, 1) + "\" y1=\"" + number(y1, 1) + "\" x2=\"" + number(x2, 1) +
         "\" y2=\"" + number(y2, 1) + "\" " + more + "/>\n";
}

// 1000 -> 1k
std::string size_label(double x) {
  for (const auto& [unit, name] : {std::pair{1e9, "G"}, {1e6, "M"}, {1e3, "k"}}) {
    if (x >= unit) return number(x / unit, 0) + name;
  }
  return number(x, x < 1 ? 2 : 0);
}

}  // namespace

std::string line_chart(const std::string& title, const std::string& x_label,
                       const std::string& y_label, const std::vector<ChartLine>& lines) {
  double x_low = 1e300, x_high = 0, y_low = 1e300, y_high = -1e300;
  for (const ChartLine& line : lines) {
    for (const auto& [x, y] : line.points) {
      x_low = std::min(x_low, x);
      x_high = std::max(x_high, x);
      y_low = std::min(y_low, y);
      y_high = std::max(y_high, y);
    }
  }
  if (x_high == 0) x_low = x_high = y_low = y_high = 1;
  x_low = std::log10(x_low) - 0.1;
  x_high = std::log10(x_high) + 0.1;
  const double spread = std::max(y_high - y_low, 0.01);
  const double magnitude = std::pow(10, std::floor(std::log10(spread / 4)));
  double step = 10 * magnitude;
  for (const double s : {5.0, 2.0, 1.0}) {
    if (spread / (s * magnitude) <= 7) step = s * magnitude;
    if (spread / (s * magnitude) > 7) break;
  }
  y_low = std::floor(y_low / step) * step;
  y_high = std::max(std::ceil(y_high / step) * step, y_low + step);
  const int decimals = std::max(0, -static_cast<int>(std::floor(std::log10(step * 1.000001))));
  const auto across = [&](double log_x) {
    return kLeft + (log_x - x_low) / (x_high - x_low) * (kWidth - kLeft - kRight);
  };
  const auto down = [&](double y) {
    return kHeight - kBottom - (y - y_low) / (y_high - y_low) * (kHeight - kTop - kBottom);
  };

  std::string svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + number(kWidth, 0) +
                    "\" height=\"" + number(kHeight, 0) + "\" viewBox=\"0 0 " + number(kWidth, 0) +
                    " " + number(kHeight, 0) + "\" font-family=\"sans-serif\" font-size=\"13\">\n";
  svg += "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
  svg += text_at(kLeft, 20, "font-size=\"15\"", title);
  const double bottom = kHeight - kBottom, right = kWidth - kRight;
  const int steps = static_cast<int>(std::lround((y_high - y_low) / step));
  for (int i = 0; i <= steps; ++i) {
    const double y = y_low + i * step;
    svg += stroke(kLeft, down(y), right, down(y), "stroke=\"#dddddd\"");
    svg += text_at(kLeft - 8, down(y) + 4, "text-anchor=\"end\"", number(y, decimals));
  }
  for (int e = static_cast<int>(std::floor(x_low)); e <= x_high; ++e) {
    for (int m = 1; m < 10; ++m) {
      const double log_x = e + std::log10(m);
      if (log_x < x_low || log_x > x_high) continue;
      const double length = m == 1 ? 7 : 4;
      svg += stroke(across(log_x), bottom, across(log_x), bottom + length, "stroke=\"black\"");
      if (m == 1 || ((m == 2 || m == 5) && x_high - x_low < 2)) {
        svg += text_at(across(log_x), bottom + 22, "text-anchor=\"middle\"",
                       size_label(m * std::pow(10, e)));
      }
    }
  }
  svg += stroke(kLeft, bottom, right, bottom, "stroke=\"black\"");
  svg += stroke(kLeft, kTop, kLeft, bottom, "stroke=\"black\"");
  svg += text_at((kLeft + right) / 2, kHeight - 14, "text-anchor=\"middle\"", x_label);
  svg += text_at(0, 0,
                 "text-anchor=\"middle\" transform=\"translate(18 " +
                     number((kTop + bottom) / 2, 0) + ") rotate(-90)\"",
                 y_label);
  double legend = kLeft;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::string colour = kColours[i % kColours.size()];
    const std::string style = "stroke=\"" + colour + "\" stroke-width=\"2\" stroke-dasharray=\"" +
                              kDashes[i % kDashes.size()] + "\"";
    std::string path;
    for (const auto& [x, y] : lines[i].points) {
      const std::string at = number(across(std::log10(x)), 1) + "," + number(down(y), 1);
      path += (path.empty() ? "" : " ") + at;
    }
    svg += "<polyline fill=\"none\" " + style + " points=\"" + path + "\"/>\n";
    for (const auto& [x, y] : lines[i].points) {
      svg += "<circle r=\"3.5\" fill=\"" + colour + "\" cx=\"" + number(across(std::log10(x)), 1) +
             "\" cy=\"" + number(down(y), 1) + "\"/>\n";
    }
    svg += stroke(legend, 36, legend + 28, 36, style);
    svg += text_at(legend + 34, 40, "", lines[i].name);
    legend += 34 + 7.2 * static_cast<double>(lines[i].name.size()) + 24;
  }
  return svg + "</svg>\n";
}

}  // namespace m5
