// Rows of the table that gpu.sh prints at its end, one a line, with tabs between its columns: what,
// value (- where there is none), unit, >= or <=, bar, note.
#pragma once

#include <cstdio>
#include <string>

#include "m5/error.hpp"

namespace m5::kernels::cuda {

class Table {
 public:
  // Appends to a file; empty: nowhere.
  explicit Table(const std::string& path) {
    if (path.empty()) return;
    file_ = std::fopen(path.c_str(), "a");
    if (!file_) throw Error(ErrorKind::kResource, path + " cannot be written");
  }
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;
  ~Table() {
    if (file_) std::fclose(file_);
  }

  void share(const std::string& what, double of_floor, double bar) {
    row(what + ": share of the floor", number(100 * of_floor), "%", ">=", bar, "");
  }
  void memory(const std::string& what, double bytes, double bar, const std::string& note) {
    row(what + ": memory of the GPU", number(1e-9 * bytes), "GB", "<=", bar, note);
  }
  // The same, of what was not measured.
  void no_share(const std::string& what, double bar, const std::string& why) {
    row(what + ": share of the floor", "-", "%", ">=", bar, why);
  }
  void no_memory(const std::string& what, double bar, const std::string& why) {
    row(what + ": memory of the GPU", "-", "GB", "<=", bar, why);
  }

 private:
  static std::string number(double value) {
    char text[40];
    std::snprintf(text, sizeof text, "%.2f", value);
    return text;
  }
  void row(const std::string& what, const std::string& value, const char* unit, const char* sense,
           double bar, const std::string& note) {
    if (!file_) return;
    std::fprintf(file_, "%s\t%s\t%s\t%s\t%g\t%s\n", what.c_str(), value.c_str(), unit, sense, bar,
                 note.c_str());
    std::fflush(file_);  // what there is stays if the time is over
  }
  std::FILE* file_ = nullptr;
};

}  // namespace m5::kernels::cuda
