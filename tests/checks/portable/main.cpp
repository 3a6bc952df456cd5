// Prints what the calls say that have another form where Linux, glibc or the newest standard
// library is not (tests/checks/check_portable.sh builds it both ways).
#include <cstdio>
#include <cstring>
#include <string>

#include "base/numbers.hpp"
#include "base/system.hpp"
#include "m5/session.hpp"

namespace {

template <class T>
void read(const char* text, std::chars_format format) {
  T value = 7;
  const auto [end, error] = m5::parse_number(text, text + std::strlen(text), value, format);
  std::printf("'%s' %d: %td %d %.17g\n", text, static_cast<int>(format), end - text,
              static_cast<int>(error), static_cast<double>(value));
}

}  // namespace

int main(int argc, char**) {
  for (const char* text : {"",
                           "1",
                           "-1.5",
                           "+1",
                           " 1",
                           "1 ",
                           "1e3",
                           "1E-3x",
                           "1e",
                           ".5",
                           "5.",
                           ".",
                           "-",
                           "--1",
                           "0x10",
                           "-0x1p3",
                           "1e400",
                           "-1e400",
                           "1e-400",
                           "0e-999",
                           "0.000",
                           "1e39",
                           "inf",
                           "-inf",
                           "infinity",
                           "nan",
                           "nan(1)",
                           "1,5",
                           "1_000",
                           "123456789012345678901234567890",
                           "2.2250738585072014e-308",
                           "16777217",
                           "e5",
                           "0.1",
                           "\n1"}) {
    for (const auto format : {std::chars_format::general, std::chars_format::fixed}) {
      read<double>(text, format);
      read<float>(text, format);
    }
  }
  if (argc == 1) return 0;
  // Of this machine: there, and within what any machine has.
  const auto sane = [](const char* name, long long value, long long least, long long most) {
    std::printf("%s %s\n", name,
                value >= least && value <= most ? "sane" : std::to_string(value).c_str());
  };
  sane("cpus", m5::available_cpus(), 1, 1 << 20);
  sane("memory", m5::available_memory_bytes(), 1 << 24, 1LL << 50);
  sane("resident", m5::rss_bytes(), 1 << 16, 1 << 30);
  sane("peak", m5::peak_rss_bytes(), m5::rss_bytes() / 2, 1 << 30);
  return 0;
}
