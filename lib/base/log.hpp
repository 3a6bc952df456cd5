// Talk to the user: lines on stderr, each with the prefix "m5 <command>: ".
#pragma once

#include <string>

namespace m5 {

// --verbosity 0 says nothing, 5 everything; the default is 3.
enum class LogLevel { kError = 1, kWarning = 2, kInfo = 3, kDetail = 4 };
inline constexpr int kDefaultVerbosity = 3;

// verbosity is clamped to 0..5; command may be empty (prefix "m5: ").
void set_log(int verbosity, const std::string& command);
bool log_enabled(LogLevel level);

// While one lives, errors alone are told: of work that is done a second time.
class QuietLog {
 public:
  QuietLog();
  ~QuietLog();
  QuietLog(const QuietLog&) = delete;
  QuietLog& operator=(const QuietLog&) = delete;

 private:
  int before_;
};
// One line, whatever the message holds (printable() of base/text.hpp), written with one system
// call; safe from several threads.
void log_line(LogLevel level, const std::string& message);

inline void log_warning(const std::string& message) { log_line(LogLevel::kWarning, message); }
inline void log_info(const std::string& message) { log_line(LogLevel::kInfo, message); }
inline void log_detail(const std::string& message) { log_line(LogLevel::kDetail, message); }

}  // namespace m5
