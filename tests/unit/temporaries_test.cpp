#include "base/temporaries.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <thread>

#include "base/output.hpp"
#include "tests/unit/temp_dir.hpp"

namespace m5 {
namespace {

using test::contains;
using test::error_of;
using test::get;
using test::put;
using test::TempDir;

constexpr int kEnding[] = {SIGINT,  SIGTERM, SIGHUP,  SIGQUIT, SIGPIPE,   SIGXCPU,
                           SIGXFSZ, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGABRT};

pid_t start_child(const std::function<void()>& body) {
  const pid_t child = fork();
  if (child != 0) return child;
  const struct rlimit no_core {};  // SIGQUIT and others
  setrlimit(RLIMIT_CORE, &no_core);
  try {
    body();
  } catch (const Error& error) {
    _exit(error.exit_code());
  } catch (...) {
    _exit(99);
  }
  _exit(0);
}

int status_of(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

int in_child(const std::function<void()>& body) { return status_of(start_child(body)); }

// The names in the folder that begin as a temporary's.
std::vector<std::string> temporaries(const TempDir& dir) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(dir.path())) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(".m5-")) names.push_back(name);
  }
  return names;
}

TEST(Temporaries, GoWithEverySignal) {
  for (const int number : kEnding) {
    TempDir dir;
    const int status = in_child([&] {
      remove_temporaries_on_signal();
      const FileLock lock(dir / "lock");
      OutputFile one(dir / "one"), two(dir / "two");
      one.write("x");
      two.write("y");
      two.commit();
      raise(number);
      pause();
    });
    EXPECT_TRUE(WIFSIGNALED(status)) << number;
    EXPECT_EQ(WTERMSIG(status), number);
    EXPECT_EQ(dir.entries(), 1U) << number;
    EXPECT_EQ(get(dir / "two"), "y");
  }
}

TEST(Temporaries, IgnoredSignalsStayIgnored) {
  for (const int number : kEnding) {
    EXPECT_EQ(in_child([&] {
                std::signal(number, SIG_IGN);
                remove_temporaries_on_signal();
                raise(number);
              }),
              0);
  }
}

// A limit on the size of a file, by its signal.
TEST(Temporaries, AFileTooLargeLeavesNothing) {
  TempDir dir;
  const int status = in_child([&] {
    remove_temporaries_on_signal();
    const struct rlimit limit { 100000, 100000 };
    setrlimit(RLIMIT_FSIZE, &limit);
    OutputFile file(dir / "out");
    file.write(std::string(1000000, 'x'));
  });
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGXFSZ);
  EXPECT_EQ(dir.entries(), 0U);
}

// The signal comes while names are given, on this thread or another: it ends the process after.
TEST(Temporaries, DeferredSignalsCome) {
  for (const bool other_thread : {false, true}) {
    TempDir dir;
    const int status = in_child([&] {
      remove_temporaries_on_signal();
      OutputFile left(dir / "left");
      {
        const DeferSignals defer;
        if (other_thread) {
          std::thread([] { pthread_kill(pthread_self(), SIGTERM); }).join();
        } else {
          raise(SIGTERM);
        }
        put(dir / "after", "x");
      }
      put(dir / "never", "x");
    });
    EXPECT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(WTERMSIG(status), SIGTERM);
    EXPECT_EQ(get(dir / "after"), "x");
    EXPECT_EQ(dir.entries(), 1U);
  }
}

TEST(Temporaries, OfKilledProcessesAreRemovedByTheNextRun) {
  TempDir dir;
  const int status = in_child([&] {
    remove_temporaries_on_signal();
    OutputFile one(dir / "one"), two(dir / "two");
    one.write("x");
    kill(getpid(), SIGKILL);
  });
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  const std::vector<std::string> left = temporaries(dir);
  ASSERT_EQ(left.size(), 2U);
  // What is not ours to judge stays: other names, another machine, no regular file.
  const std::string name = left[0];
  const std::size_t boot = name.find('-') + 1;
  std::string elsewhere = name;
  elsewhere[boot] = elsewhere[boot] == '0' ? '1' : '0';
  put(dir / elsewhere, "another machine");
  put(dir / (name + "x"), "another name");
  put(dir / name.substr(1), "not hidden");
  std::filesystem::create_directory(dir / (name.substr(0, name.size() - 4) + "1.tmp"));
  std::filesystem::create_symlink("one", dir / (name.substr(0, name.size() - 4) + "2.tmp"));
  EXPECT_EQ(in_child([&] {
              OutputFile three(dir / "three");
              three.commit();
            }),
            0);
  for (const std::string& gone : left) EXPECT_FALSE(std::filesystem::exists(dir / gone)) << gone;
  EXPECT_EQ(dir.entries(), 6U);  // those five, and three
  EXPECT_TRUE(std::filesystem::exists(dir / elsewhere));
}

TEST(Temporaries, OfLiveProcessesStay) {
  TempDir dir;
  int ready[2], go_on[2];
  ASSERT_EQ(pipe(ready), 0);
  ASSERT_EQ(pipe(go_on), 0);
  char byte = 0;
  const pid_t child = start_child([&] {
    OutputFile one(dir / "one");
    one.write("whole");
    if (write(ready[1], "x", 1) != 1 || read(go_on[0], &byte, 1) != 1) _exit(98);
    one.commit();
  });
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  EXPECT_EQ(in_child([&] { OutputFile(dir / "two").commit(); }), 0);
  EXPECT_EQ(temporaries(dir).size(), 1U);
  ASSERT_EQ(write(go_on[1], "x", 1), 1);
  EXPECT_EQ(status_of(child), 0);
  EXPECT_EQ(get(dir / "one"), "whole");
  for (const int fd : {ready[0], ready[1], go_on[0], go_on[1]}) close(fd);
}

// Many runs begin and end in one folder at once, each of them cleaning up: none loses its file.
TEST(Temporaries, RunsThatCleanUpDoNotTakeEachOthers) {
  TempDir dir;
  std::vector<pid_t> children;
  for (int i = 0; i < 8; ++i) {
    children.push_back(start_child([&dir, i] {
      for (int k = 0; k < 50; ++k) {
        // The folder is cleaned once by a process, but under each of its names.
        std::string folder = dir.path();
        for (int slashes = 0; slashes <= k; ++slashes) folder += '/';
        OutputFile file(folder + std::to_string(i) + "-" + std::to_string(k));
        file.write("x");
        file.commit();
      }
    }));
  }
  for (const pid_t child : children) EXPECT_EQ(status_of(child), 0);
  EXPECT_EQ(dir.entries(), 8U * 50U);
}

TEST(FileLock, KeepsASecondProcessAway) {
  TempDir dir;
  const std::string path = dir / "lock";
  {
    const FileLock lock(path);
    EXPECT_EQ(WEXITSTATUS(in_child([&] { const FileLock second(path); })),
              static_cast<int>(ErrorKind::kIo));
    EXPECT_EQ(dir.entries(), 1U);  // the one refused has not removed it
    EXPECT_TRUE(contains(error_of(ErrorKind::kIo, [&] { const FileLock second(path); }),
                         path + ": another run"));
  }
  EXPECT_EQ(dir.entries(), 0U);
  // What a killed process left keeps nobody away.
  in_child([&] {
    const FileLock lock(path);
    kill(getpid(), SIGKILL);
  });
  EXPECT_EQ(dir.entries(), 1U);
  { const FileLock lock(path); }
  EXPECT_EQ(dir.entries(), 0U);
}

TEST(FileLock, LeavesOtherFilesAlone) {
  TempDir dir;
  put(dir / "lock", "a text");
  EXPECT_TRUE(contains(error_of(ErrorKind::kIo, [&] { const FileLock lock(dir / "lock"); }),
                       "is in the way"));
  EXPECT_EQ(get(dir / "lock"), "a text");
  error_of(ErrorKind::kIo, [&] { const FileLock lock(dir / "no/such/lock"); });
  std::filesystem::create_directory(dir / "folder");
  error_of(ErrorKind::kIo, [&] { const FileLock lock(dir / "folder"); });
}

}  // namespace
}  // namespace m5
