// The m5 program: finds the command, runs it, turns what it throws into one line and an exit code.
#include <dnnl.h>
#include <htslib/hts.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>

#include "base/log.hpp"
#include "base/memory.hpp"
#include "base/output.hpp"
#include "base/system.hpp"
#include "base/text.hpp"
#include "kernels/backend.hpp"
#include "kernels/cpu/simd.hpp"
#include "kernels/cuda_device.hpp"
#include "m5/config.hpp"
#include "m5/error.hpp"
#include "m5/version.hpp"
#include "tools/commands.hpp"

namespace {

struct Command {
  const char* word;
  int (*run)(int argc, char** argv);
  const char* summary;
};

constexpr Command kCommands[] = {
    {"train", m5::cmd_train, "train a model on sequences"},
    {"embed", m5::cmd_embed, "vectors for records, windows, bases or features"},
    {"score", m5::cmd_score, "per-base perplexity as bedGraph or table"},
    {"bench", m5::cmd_bench, "speed, attention error, loss against length"},
};

void print_usage(std::FILE* to) {
  std::fprintf(to,
               "Program: m5 (whole-genome bacterial encoder at single-nucleotide resolution)\n");
  std::fprintf(to, "Version: %s (using htslib %s)\n\n", m5::version(), hts_version());
  std::fprintf(to, "Usage:   m5 <command> [options]\n\nCommands:\n");
  for (const Command& command : kCommands) {
    std::fprintf(to, "  %-9s %s\n", command.word, command.summary);
  }
  std::fprintf(to, "  %-9s this text, or the options of a command: m5 help COMMAND\n", "help");
  std::fprintf(to, "  %-9s versions of m5 and of what it is built with\n", "version");
}

void print_version() {
  const dnnl_version_t* dnnl = dnnl_version();
  m5::kernels::make_cpu_backend({});  // reads M5_CPU_ISA
  const std::string simd = m5::kernels::simd::chosen_isa();
  std::printf("m5 %s\n", m5::version());
  std::printf("Using htslib %s\n", hts_version());
  std::printf("Using oneDNN %d.%d.%d\n", dnnl->major, dnnl->minor, dnnl->patch);
  std::printf("SIMD: %s\n", simd.c_str());
  const std::string cuda = m5::kernels::cuda_library();
  std::printf("CUDA: %s\n", cuda.empty() ? "libm5_cuda.so is not installed" : cuda.c_str());
  std::printf("Model format: %d\n", m5::kModelFormatVersion);
}

const Command* find_command(const char* word) {
  for (const Command& command : kCommands) {
    if (std::strcmp(word, command.word) == 0) return &command;
  }
  return nullptr;
}

// Where even what tells of an error finds no memory, exceptions end here. No memory is asked for.
[[noreturn]] void end_without_memory() {
  void* volatile trial = std::malloc(std::size_t{1} << 12);
  if (trial != nullptr && !std::current_exception()) std::abort();
  try {
    if (std::current_exception()) std::rethrow_exception(std::current_exception());
  } catch (const std::bad_alloc&) {
  } catch (...) {
    std::abort();
  }
  constexpr char kMessage[] = "m5: not enough memory (see --dry-run)\n";
  [[maybe_unused]] const auto n = write(STDERR_FILENO, kMessage, sizeof kMessage - 1);
  m5::remove_temporaries();
  _exit(static_cast<int>(m5::ErrorKind::kResource));
}

// One line, whatever the message holds.
int report(const std::string& prefix, const std::string& message, int code) {
  const std::string line = prefix + ": " + m5::printable(message);
  std::fflush(stdout);
  if (m5::log_enabled(m5::LogLevel::kError)) std::fprintf(stderr, "%s\n", line.c_str());
  return code;
}

int run_guarded(const std::string& prefix, int (*run)(int, char**), int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const m5::Error& error) {
    return report(prefix, error.what(), error.exit_code());
  } catch (const std::bad_alloc&) {
    return report(prefix, "not enough memory (see --dry-run)",
                  static_cast<int>(m5::ErrorKind::kResource));
  } catch (const std::exception& error) {
    return report(prefix, std::string("internal error: ") + error.what(),
                  static_cast<int>(m5::ErrorKind::kInternal));
  }
}

// What stdout still holds may fail to be written now (disk full): that is no success.
int close_stdout(const std::string& prefix, int code) {
  const bool failed = std::ferror(stdout) != 0;
  if (std::fclose(stdout) != 0 || failed) {
    if (code != 0) return code;
    std::fprintf(stderr, "%s: closing standard output failed\n", prefix.c_str());
    return static_cast<int>(m5::ErrorKind::kIo);
  }
  return code;
}

int top_level(int argc, char** argv) {
  if (argc < 2) {
    print_usage(stderr);
    return 1;
  }
  std::string word = argv[1];
  if (word == "--version" || word == "version") {
    print_version();
    return 0;
  }
  if (word == "--version-only") {
    std::printf("%s+htslib-%s\n", m5::version(), hts_version());
    return 0;
  }
  if (word == "help" || word == "--help" || word == "-h") {
    if (argc < 3) {
      print_usage(stdout);
      return 0;
    }
    const Command* command = find_command(argv[2]);
    if (command == nullptr) {
      return report("m5", std::string("unrecognized command '") + argv[2] + "'", 1);
    }
    char help[] = "--help";
    char* arguments[] = {argv[2], help, nullptr};
    return run_guarded(std::string("m5 ") + command->word, command->run, 2, arguments);
  }
  const Command* command = find_command(argv[1]);
  if (command == nullptr) return report("m5", "unrecognized command '" + word + "'", 1);
  return run_guarded("m5 " + word, command->run, argc - 1, argv + 1);
}

}  // namespace

int main(int argc, char** argv) {
  m5::keep_no_freed_memory();
  std::set_terminate(end_without_memory);
  m5::guard_standard_streams();
  m5::remove_temporaries_on_signal();
  std::string prefix = "m5";
  if (argc > 1 && find_command(argv[1]) != nullptr) prefix += std::string(" ") + argv[1];
  return close_stdout(prefix, run_guarded(prefix, top_level, argc, argv));
}
