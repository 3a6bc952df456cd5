#include "tools/progress.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "base/log.hpp"

namespace m5 {

namespace {

// 1234567 -> "1.23 M".
std::string human(double value) {
  const char* suffix = " ";
  for (const char* next : {" k", " M", " G", " T"}) {
    if (value < 1000) break;
    value /= 1000;
    suffix = next;
  }
  char text[32];
  std::snprintf(text, sizeof text, "%.3g%s", value, suffix);
  return text;
}

}  // namespace

Progress::Progress(std::string label, std::string unit, std::int64_t total)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      enabled_(isatty(STDERR_FILENO) == 1 && log_enabled(LogLevel::kInfo)),
      start_(std::chrono::steady_clock::now()),
      last_(start_) {}

Progress::~Progress() {
  if (shown_) std::fputs("\r\033[K", stderr);
}

void Progress::note(const std::string& text) { note_ = text; }

void Progress::show(std::int64_t done) {
  done_ = done;
  if (!enabled_) return;
  const auto now = std::chrono::steady_clock::now();
  if (shown_ && now - last_ < std::chrono::milliseconds(200)) return;
  last_ = now;
  shown_ = true;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = seconds > 0 ? static_cast<double>(done_) / seconds : 0;
  std::string line = "m5 " + label_ + ": " + human(static_cast<double>(done_)) + unit_;
  if (total_ > 0) {
    line += " of " + human(static_cast<double>(total_)) + unit_;
    if (rate > 0) {
      const double left = static_cast<double>(std::max<std::int64_t>(0, total_ - done_)) / rate;
      line += ", " + std::to_string(std::llround(left)) + " s left";
    }
  }
  if (rate > 0) line += ", " + human(rate) + unit_ + "/s";
  if (!note_.empty()) line += ", " + note_;
  std::fprintf(stderr, "\r%s\033[K", line.c_str());
  std::fflush(stderr);
}

}  // namespace m5
