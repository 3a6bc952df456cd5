// A chart of lines against a logarithmic x axis, as SVG text.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace m5 {

struct ChartLine {
  std::string name;
  std::vector<std::pair<double, double>> points;  // (x > 0, y), x ascending
};

std::string line_chart(const std::string& title, const std::string& x_label,
                       const std::string& y_label, const std::vector<ChartLine>& lines);

}  // namespace m5
