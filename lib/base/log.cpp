#include "base/log.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>

#include "base/text.hpp"

namespace m5 {
namespace {

std::atomic<int> g_verbosity{kDefaultVerbosity};
std::mutex g_mutex;
std::string g_prefix = "m5: ";

}  // namespace

void set_log(int verbosity, const std::string& command) {
  g_verbosity = std::clamp(verbosity, 0, 5);
  std::lock_guard lock(g_mutex);
  g_prefix = command.empty() ? "m5: " : "m5 " + command + ": ";
}

QuietLog::QuietLog() : before_(g_verbosity) { g_verbosity = std::min(before_, 1); }
QuietLog::~QuietLog() { g_verbosity = before_; }

bool log_enabled(LogLevel level) { return static_cast<int>(level) <= g_verbosity; }

void log_line(LogLevel level, const std::string& message) {
  if (!log_enabled(level)) return;
  std::lock_guard lock(g_mutex);
  std::string line = g_prefix;
  if (level == LogLevel::kWarning) line += "warning: ";
  line += printable(message);
  line += '\n';
  // Nothing can be done about a failing stderr.
  [[maybe_unused]] const ssize_t n = write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace m5
