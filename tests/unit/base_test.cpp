// Digests, random numbers, logs and limits of the system.
#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <set>

#include "base/log.hpp"
#include "base/random.hpp"
#include "base/sha256.hpp"
#include "base/system.hpp"
#include "m5/session.hpp"
#include "tests/unit/temp_dir.hpp"

namespace m5 {
namespace {

using test::contains;
using test::error_of;
using test::put;
using test::TempDir;

// FIPS 180-4 examples and NIST's test vectors.
TEST(Sha256, KnownDigestsHoweverTheBytesCome) {
  const auto hex = [](const std::string& text, std::size_t step) {
    Sha256 digest;
    for (std::size_t at = 0; at < text.size(); at += step) {
      digest.update(std::string_view(text).substr(at, step));
    }
    return digest.hex();
  };
  for (const std::size_t step : {1, 63, 64, 1000000}) {
    EXPECT_EQ(hex("", step), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(hex("abc", step), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(hex(std::string(1000000, 'a'), step),
              "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  }
}

TEST(Random, IsAFunctionOfSeedAndIndex) {
  static_assert(random_bits(1, 2) == random_bits(1, 2));
  // Pinned: changing these numbers changes every fresh model and every training run.
  EXPECT_EQ(mix_bits(0x9e3779b97f4a7c15ULL), 0xe220a8397b1dcdafULL);  // SplitMix64, seed 0
  EXPECT_EQ(random_bits(1, 0), 0x46c7144ab038643fULL);
  EXPECT_EQ(random_bits(1, 1), 0xb5c80dd1bf0db5f9ULL);
}

TEST(Random, NearbySeedsAndIndicesAreUnrelated) {
  std::set<std::uint64_t> seen;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    for (std::uint64_t index = 0; index < 100; ++index) seen.insert(random_bits(seed, index));
  }
  EXPECT_EQ(seen.size(), 10000U);
  for (int bit = 0; bit < 64; ++bit) {
    int ones = 0;
    for (std::uint64_t i = 0; i < 10000; ++i) ones += random_bits(i / 100, i % 100) >> bit & 1;
    EXPECT_NEAR(ones, 5000, 250) << bit;  // five standard deviations
  }
}

TEST(Random, Moments) {
  constexpr int kDraws = 200000;
  double sum = 0, squares = 0, below = 0;
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    const double u = uniform(7, i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    ASSERT_LT(uniform_below(7, i, 3), 3U);
    below += uniform_below(9, i, 3) == 0;
    const double z = normal(8, i);
    ASSERT_TRUE(std::isfinite(z));
    sum += z;
    squares += z * z;
  }
  EXPECT_NEAR(sum / kDraws, 0, 0.012);
  EXPECT_NEAR(squares / kDraws, 1, 0.016);
  EXPECT_NEAR(below / kDraws, 1.0 / 3, 0.006);
}

TEST(System, ParseSize) {
  EXPECT_EQ(parse_size("0", "-x"), 0);
  EXPECT_EQ(parse_size("196608", "-x"), 196608);
  EXPECT_EQ(parse_size("4k", "-x"), 4000);
  EXPECT_EQ(parse_size("196K", "-x"), 196000);
  EXPECT_EQ(parse_size("2M", "-x"), 2000000);
  EXPECT_EQ(parse_size("1.1k", "-x"), 1100);
  EXPECT_EQ(parse_size("1.5G", "-x"), 1500000000);
  for (const char* bad : {"", "k", "-1", "+1", "1.5", "4kb", "4 k", "0x10", "1e3", "nan", "inf",
                          "99999999999999999999", "10000000G", " 1", "1,000"}) {
    const std::string message =
        error_of(ErrorKind::kUsage, [&] { parse_size(bad, "--max-memory"); });
    EXPECT_TRUE(contains(message, "--max-memory")) << bad;
  }
}

TEST(System, CpusFollowTheAffinity) {
  EXPECT_GE(available_cpus(), 1);
  const pid_t child = fork();
  if (child == 0) {
    cpu_set_t old, one;
    sched_getaffinity(0, sizeof old, &old);
    int first = 0;
    while (!CPU_ISSET(first, &old)) ++first;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    sched_setaffinity(0, sizeof one, &one);
    _exit(available_cpus());
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 1);
}

TEST(System, ControlGroups) {
  TempDir dir;
  const std::int64_t none = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(cgroup_cpus("", dir.path()), none);
  EXPECT_EQ(cgroup_memory_left("0::/\n", dir.path()), none);
  for (const char* d : {"a/b", "cpu/job", "memory/job"}) {
    std::filesystem::create_directories(dir / d);
  }
  // v2: the parent's limit counts too.
  put(dir / "a/b/cpu.max", "max 100000\n");
  put(dir / "a/cpu.max", "250000 100000\n");
  EXPECT_EQ(cgroup_cpus("0::/a/b\n", dir.path()), 3);
  put(dir / "a/b/cpu.max", "50000 100000\n");
  EXPECT_EQ(cgroup_cpus("0::/a/b\n", dir.path()), 1);
  put(dir / "a/b/memory.max", "max\n");
  put(dir / "a/memory.max", "1000000\n");
  put(dir / "a/memory.current", "400000\n");
  put(dir / "a/memory.stat", "anon 1\ninactive_file 100000\n");
  EXPECT_EQ(cgroup_memory_left("0::/a/b\n", dir.path()), 700000);
  put(dir / "a/memory.current", "2000000\n");
  EXPECT_EQ(cgroup_memory_left("0::/a/b\n", dir.path()), 0);
  // v1, with controllers mounted together.
  const std::string v1 = "5:memory:/job\n4:cpu,cpuacct:/job\n";
  put(dir / "cpu/job/cpu.cfs_quota_us", "-1\n");
  put(dir / "cpu/job/cpu.cfs_period_us", "100000\n");
  put(dir / "memory/job/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(cgroup_cpus(v1, dir.path()), none);
  EXPECT_EQ(cgroup_memory_left(v1, dir.path()), none);
  put(dir / "cpu/job/cpu.cfs_quota_us", "400000\n");
  put(dir / "memory/job/memory.limit_in_bytes", "5000\n");
  put(dir / "memory/job/memory.usage_in_bytes", "1000\n");
  EXPECT_EQ(cgroup_cpus(v1, dir.path()), 4);
  EXPECT_EQ(cgroup_memory_left(v1, dir.path()), 4000);
  // The group of the host is not visible in a container: the mount point counts.
  put(dir / "cpu.max", "200000 100000\n");
  EXPECT_EQ(cgroup_cpus("0::/docker/1234\n", dir.path()), 2);
}

TEST(System, Memory) {
  EXPECT_GT(available_memory_bytes(), 0);
  const std::int64_t before = peak_rss_bytes();
  EXPECT_GT(before, 1 << 20);
  EXPECT_GT(rss_bytes(), 1 << 20);
  EXPECT_LE(rss_bytes(), before + (1 << 20));
  std::vector<char> block(64 << 20, 'x');
  EXPECT_GE(rss_bytes(), 64 << 20);
  EXPECT_GE(peak_rss_bytes(), before + (32 << 20)) << block[1 << 20];
}

TEST(System, StandardStreamsAreGuarded) {
  TempDir dir;
  const pid_t child = fork();
  if (child == 0) {
    for (int fd = 0; fd <= 2; ++fd) close(fd);
    guard_standard_streams();
    const int fd = open((dir / "new").c_str(), O_WRONLY | O_CREAT, 0600);
    const bool refused = write(1, "x", 1) < 0 && errno == EBADF;
    _exit(fd > 2 && refused ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST(Log, LevelsAndPrefix) {
  testing::internal::CaptureStderr();
  set_log(3, "score");
  log_line(LogLevel::kError, "e");
  log_warning("w");
  log_warning("\x1b]0;name\x07\n");
  log_info("i");
  log_detail("d");
  set_log(1, "");
  log_warning("w");
  log_line(LogLevel::kError, "e");
  set_log(0, "train");
  log_line(LogLevel::kError, "e");
  set_log(9, "train");
  log_detail("b");
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "m5 score: e\nm5 score: warning: w\n"
            "m5 score: warning: \\x1b]0;name\\x07 \nm5 score: i\nm5: e\nm5 train: b\n");
  EXPECT_TRUE(log_enabled(LogLevel::kDetail));
  set_log(kDefaultVerbosity, "");
  EXPECT_FALSE(log_enabled(LogLevel::kDetail));
}

}  // namespace
}  // namespace m5
