// Outputs and locks in which any call of the system or allocation fails, or brings a signal: the
// old files or the new ones, never some of each, and nothing beside them, open or on disk.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <string>
#include <vector>

#include "base/output.hpp"
#include "base/temporaries.hpp"
#include "io/byte_source.hpp"
#include "m5/error.hpp"
#include "tests/faults/injection.hpp"
#include "tests/unit/temp_dir.hpp"

namespace m5 {
namespace {

using faults::Call;
using faults::Effect;
using faults::Injection;
using faults::Watchdog;
using test::TempDir;

using Contents = std::map<std::string, std::string>;  // of the files of a folder, by name

constexpr const char* kNames[] = {"replaced.txt", "new.tsv", "packed.gz"};

Contents contents(const TempDir& dir) {
  Contents found;
  for (const auto& entry : std::filesystem::directory_iterator(dir.path())) {
    found[entry.path().filename().string()] = test::get(entry.path().string());
  }
  return found;
}

std::size_t open_files() {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

// A run's outputs, of which two replace a file.
struct Folder {
  TempDir dir;
  Folder() {
    test::put(dir / kNames[0], "old");
    test::put(dir / kNames[2], "old");
  }
  void write() const {
    const FileLock lock(dir / "lock");
    OutputFile replaced(dir / kNames[0]), fresh(dir / kNames[1]),
        packed(dir / kNames[2], OutputFile::Format::kBgzf);
    replaced.write("....");
    fresh.write("row\n");
    packed.write("packed");
    replaced.write_at(0, "new", 3);
    OutputFile* const all[] = {&replaced, &fresh, &packed};
    commit_all(all);
  }
};

struct Expected {
  Contents before, after;
  Expected() {
    const Folder folder;
    before = contents(folder.dir);
    folder.write();
    after = contents(folder.dir);
  }
};

// A run whose n-th call of the system fails.
struct Attempt {
  bool whole = true;
  ErrorKind kind{};
  std::string message;
  std::int64_t calls = 0;

  Attempt(const Folder& folder, std::int64_t n, Effect effect) {
    Injection injection(Call::kSystem, n, effect);
    try {
      folder.write();
    } catch (const Error& error) {
      injection.end();
      whole = false;
      kind = error.kind();
      message = error.what();
    }
    injection.end();
    calls = injection.calls();
  }
};

TEST(Faults, AnyCallOfTheSystemMayFail) {
  const Watchdog watchdog;
  const Expected expected;
  std::int64_t calls = 1;
  int failed = 0;
  for (std::int64_t n = 0; n <= calls; ++n) {
    const Folder folder;
    const std::size_t open = open_files();
    const Attempt attempt(folder, n, Effect::kFails);
    const bool whole = attempt.whole;
    if (!whole) {
      ++failed;
      EXPECT_TRUE(attempt.kind == ErrorKind::kIo || attempt.kind == ErrorKind::kResource);
      EXPECT_TRUE(test::contains(attempt.message, folder.dir.path())) << attempt.message;
    }
    if (n == 0) calls = attempt.calls;
    Contents found = contents(folder.dir);
    // One that cannot be looked at may be another run's. Empty, it is in nobody's way.
    if (!whole && found.contains("lock") && found["lock"].empty()) found.erase("lock");
    EXPECT_EQ(found, whole ? expected.after : expected.before) << n;
    EXPECT_EQ(open_files(), open) << n;
  }
  EXPECT_GT(failed, 20);
}

// Then what was named may have to stay so: the message says of which files that is true.
TEST(Faults, AllCallsOfTheSystemMayFailFromOneOn) {
  const Watchdog watchdog;
  const Expected expected;
  std::int64_t calls = 1;
  int stayed = 0;
  for (std::int64_t n = 0; n <= calls; ++n) {
    const Folder folder;
    const std::size_t open = open_files();
    const Attempt attempt(folder, n, Effect::kFailsFromThen);
    const bool whole = attempt.whole;
    const std::string& message = attempt.message;
    if (n == 0) calls = attempt.calls;
    const Contents found = contents(folder.dir);
    for (const std::string name : kNames) {
      const auto is = [&](const Contents& state) {
        return found.contains(name) == state.contains(name) &&
               (!found.contains(name) || found.at(name) == state.at(name));
      };
      const bool told = test::contains(message, "replaced all the same: ") &&
                        test::contains(message.substr(message.rfind(": ")), folder.dir / name);
      stayed += told;
      EXPECT_TRUE(is(whole || told ? expected.after : expected.before)) << name << " " << message;
    }
    EXPECT_EQ(open_files(), open) << n;
  }
  EXPECT_GT(stayed, 3);
}

TEST(Faults, AnyAllocationForAFileMayFail) {
  const Watchdog watchdog;
  const Expected expected;
  for (const Effect effect : {Effect::kFails, Effect::kFailsFromThen}) {
    bool failed = true;
    std::int64_t n = 0;
    while (failed) {
      const Folder folder;
      const std::size_t open = open_files();
      Injection injection(Call::kNew, ++n, effect);
      try {
        folder.write();
        failed = false;
      } catch (const std::bad_alloc&) {
      }
      injection.end();
      EXPECT_EQ(contents(folder.dir), failed ? expected.before : expected.after) << n;
      EXPECT_EQ(open_files(), open) << n;
    }
    EXPECT_GT(n, 40);
  }
}

// The same where the files cannot be written: the error keeps nothing open.
TEST(Faults, AnyAllocationForAnErrorMayFail) {
  const Watchdog watchdog;
  const TempDir dir;
  test::put(dir / "taken", "no lock");
  const FileLock other(dir / "other");
  const std::string gzip = test::put(dir / "cut.gz", test::gzip("ACGT").substr(0, 12));
  const std::vector<std::function<void()>> errors = {
      [&] { const FileLock lock(dir / "taken"); },
      [&] { const FileLock lock(dir / "other"); },
      [&] { const FileLock lock(dir / "no/such/folder"); },
      [&] { const OutputFile file(dir / "no/such/folder"); },
      [&] { OutputFile("/dev/full").commit(); },
      [&] {
        OutputFile full("/dev/full");
        full.write("x");
        full.commit();
      },
      [&] {
        ByteSource source(gzip);
        while (!source.read().empty()) {
        }
      },
  };
  const Contents before = contents(dir);
  for (std::size_t i = 0; i < errors.size(); ++i) {
    bool failed = true;
    for (std::int64_t n = 1; failed; ++n) {
      const std::size_t open = open_files();
      Injection injection(Call::kNew, n);
      try {
        errors[i]();
        failed = false;
      } catch (const std::bad_alloc&) {
      } catch (const Error&) {
        failed = false;
      }
      injection.end();
      EXPECT_EQ(open_files(), open) << i << " " << n;
      EXPECT_EQ(contents(dir), before) << i << " " << n;
    }
  }
}

TEST(Faults, ASignalMayComeAnywhere) {
  const Watchdog watchdog;
  const Expected expected;
  std::int64_t calls = 0;
  {
    const Folder folder;
    const Injection injection(Call::kSystem, 0);
    folder.write();
    calls = injection.calls();
  }
  ASSERT_GT(calls, 50);
  for (const Effect effect : {Effect::kSignalBefore, Effect::kSignalAfter}) {
    bool named = false;
    for (std::int64_t n = 1; n <= calls; ++n) {
      const Folder folder;
      const pid_t child = fork();
      if (child == 0) {
        remove_temporaries_on_signal();
        const Injection injection(Call::kSystem, n, effect);
        folder.write();
        _exit(0);
      }
      int status = 0;
      waitpid(child, &status, 0);
      EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM) << n;
      const Contents found = contents(folder.dir);
      named = named || found == expected.after;
      EXPECT_EQ(found, named ? expected.after : expected.before) << n;
    }
    EXPECT_TRUE(named);
  }
}

}  // namespace
}  // namespace m5
