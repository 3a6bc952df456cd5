// m5 bench: the word after it chooses what is measured.
#include <cstdio>
#include <string>

#include "m5/error.hpp"
#include "tools/bench_report.hpp"
#include "tools/commands.hpp"

namespace m5 {
namespace {

struct Subcommand {
  const char* word;
  int (*run)(int argc, char** argv);
  const char* summary;
};

constexpr Subcommand kSubcommands[] = {
    {"speed", bench_speed, "nt/s of inference and training against length and threads"},
    {"ops", bench_ops, "every operation on one thread, beside the measured peak"},
    {"attention", bench_attention, "error of the attention against exact softmax, and its bound"},
    {"loss", bench_loss, "loss against segment length, beside a two-sided k-mer baseline"},
};

void print_usage(std::FILE* to) {
  std::fprintf(to, "Usage:   m5 bench SUBCOMMAND [options]\n\nSubcommands:\n");
  for (const Subcommand& s : kSubcommands) std::fprintf(to, "  %-10s %s\n", s.word, s.summary);
  std::fprintf(to, "\nOptions of each: m5 bench SUBCOMMAND --help\n");
}

}  // namespace

int cmd_bench(int argc, char** argv) {
  if (argc < 2) {
    print_usage(stderr);
    throw Error(ErrorKind::kUsage, "no subcommand given: speed, ops, attention or loss");
  }
  const std::string word = argv[1];
  if (word == "-h" || word == "--help" || word == "help") {
    print_usage(stdout);
    return 0;
  }
  for (const Subcommand& s : kSubcommands) {
    if (word == s.word) return s.run(argc - 1, argv + 1);
  }
  throw Error(ErrorKind::kUsage,
              "unrecognized subcommand '" + word + "': speed, ops, attention or loss");
}

}  // namespace m5
