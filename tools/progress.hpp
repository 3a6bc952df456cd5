// A progress line on stderr, only when stderr is a terminal and the verbosity allows notes.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace m5 {

// Not for several threads at once.
class Progress {
 public:
  // total: units expected, 0 when unknown; unit: such as "nt".
  Progress(std::string label, std::string unit, std::int64_t total = 0);
  ~Progress();  // clears the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void add(std::int64_t units) { show(done_ + units); }
  // Free text behind the numbers, such as "loss 1.31".
  void note(const std::string& text);

 private:
  void show(std::int64_t done);

  std::string label_, unit_, note_;
  std::int64_t total_, done_ = 0;
  bool shown_ = false, enabled_;
  std::chrono::steady_clock::time_point start_, last_;
};

}  // namespace m5
