#include "base/temporaries.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <memory>
#include <mutex>
#include <set>
#include <string_view>

#include "base/random.hpp"
#include "m5/error.hpp"

namespace m5 {
namespace {

// Names of open temporaries, in static memory so that a signal handler may read them.
struct Slot {
  std::atomic<int> state{0};  // 0 free, 1 being filled, 2 in use
  char path[PATH_MAX];
};
std::array<Slot, 64> g_slots;

// -1 if the table is full or the path too long: then only its owner removes it.
int register_name(const std::string& path) {
  if (path.size() >= PATH_MAX) return -1;
  for (std::size_t i = 0; i < g_slots.size(); ++i) {
    int expected = 0;
    if (!g_slots[i].state.compare_exchange_strong(expected, 1)) continue;
    std::memcpy(g_slots[i].path, path.c_str(), path.size() + 1);
    g_slots[i].state.store(2);
    return static_cast<int>(i);
  }
  return -1;
}

void release_name(int& slot) {
  if (slot >= 0) g_slots[static_cast<std::size_t>(slot)].state.store(0);
  slot = -1;
}

std::atomic<int> g_deferring{0}, g_deferred_signal{0};

extern "C" void clean_up_and_die(int signal_number) {
  if (g_deferring.load() > 0) {
    g_deferred_signal.store(signal_number);
    return;
  }
  const int saved = errno;
  remove_temporaries();
  errno = saved;
  // SA_RESETHAND has restored the default action.
  raise(signal_number);
}

// Tells one machine, and one start of it, from others on a shared file system: the first part of
// the kernel's boot id, which is its own. Empty where the system does not say.
std::string read_boot_tag() {
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  const std::unique_ptr<std::FILE, Close> file(std::fopen("/proc/sys/kernel/random/boot_id", "re"));
  char tag[9] = "";
  if (!file || std::fread(tag, 1, 8, file.get()) != 8) return "";
  for (int i = 0; i < 8; ++i) {
    if (std::isxdigit(static_cast<unsigned char>(tag[i])) == 0) return "";
  }
  return tag;
}

const std::string& boot_tag() {
  static const std::string tag = read_boot_tag();
  return tag;
}

std::string new_name(const std::string& directory) {
  static std::atomic<std::uint64_t> counter{0};
  struct timespec now {};
  clock_gettime(CLOCK_REALTIME, &now);
  const std::uint64_t seed = static_cast<std::uint64_t>(now.tv_sec) * 1000000000ULL +
                             static_cast<std::uint64_t>(now.tv_nsec);
  return directory + "/.m5-" + (boot_tag().empty() ? "unknown" : boot_tag()) + "-" +
         std::to_string(getpid()) + "-" +
         std::to_string(random_bits(seed, counter++) & 0xffffffffULL) + ".tmp";
}

// Whether the open file still has a name.
bool has_name(int fd) {
  struct stat status {};
  return fstat(fd, &status) == 0 && status.st_nlink > 0;
}

constexpr int kAttempts = 100;  // at a name that nobody else has

void remove_if_dead(int directory, const char* name) {
  const int fd = openat(directory, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return;
  struct stat status {};
  // Where there are no locks nobody can be told to be dead.
  if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == geteuid() &&
      flock(fd, LOCK_EX | LOCK_NB) == 0) {
    unlinkat(directory, name, 0);
  }
  close(fd);
}

}  // namespace

bool lock_file(int fd) {
  while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return false;
    if (errno != EINTR) return true;
  }
  return true;
}

int Temporary::create(const std::string& directory) {
  discard();
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    path_ = new_name(directory);
    // Registered first: a signal between the two calls then leaves nothing behind.
    slot_ = register_name(path_);
    fd_ = open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    // Another run that cleans up may have come between the two calls: it took this for a file that
    // was left, and has the lock, or has removed it.
    if (fd_ >= 0 && lock_file(fd_) && has_name(fd_)) return 0;
    const int error = fd_ >= 0 ? EEXIST : errno;
    if (fd_ < 0) path_.clear();  // not ours to remove
    discard();
    if (error != EEXIST && error != EINTR) return error;
  }
  return EEXIST;
}

int Temporary::link(const std::string& directory, const std::string& file) {
  discard();
  fd_ = open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd_ < 0) return errno;
  flock(fd_, LOCK_SH | LOCK_NB);  // nobody takes it for left
  int error = EEXIST;
  for (int attempt = 0; attempt < kAttempts && error == EEXIST; ++attempt) {
    path_ = new_name(directory);
    slot_ = register_name(path_);
    if (::link(file.c_str(), path_.c_str()) == 0) return 0;
    error = errno;
    path_.clear();
    release_name(slot_);
  }
  discard();
  return error;
}

int Temporary::rename_to(const std::string& path) {
  if (rename(path_.c_str(), path.c_str()) != 0) return errno;
  path_.clear();
  release_name(slot_);
  return 0;
}

void Temporary::discard() noexcept {
  if (!path_.empty()) unlink(path_.c_str());  // while it is locked
  path_.clear();
  release_name(slot_);
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

void remove_dead_temporaries(const std::string& directory) {
  static std::mutex mutex;
  static std::set<std::string> done;
  const std::lock_guard lock(mutex);
  if (boot_tag().empty() || !done.insert(directory).second) return;
  DIR* const entries = opendir(directory.c_str());
  if (entries == nullptr) return;
  char prefix[16];
  std::snprintf(prefix, sizeof prefix, ".m5-%s-", boot_tag().c_str());
  while (const struct dirent* entry = readdir(entries)) {
    const std::string_view name = entry->d_name;
    if (name.starts_with(prefix) && name.ends_with(".tmp")) {
      remove_if_dead(dirfd(entries), entry->d_name);
    }
  }
  closedir(entries);
}

FileLock::FileLock(const std::string& path) : path_(path) {
  const auto fail = [this](const char* why, const char* reason = "") {
    if (fd_ >= 0) close(fd_);  // before the message, for which there may be no memory
    throw Error(ErrorKind::kIo, path_ + ": " + why + reason);
  };
  const DeferSignals defer;  // until the name is registered, which another run's must not be
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    fd_ = open(path_.c_str(), O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0666);
    if (fd_ < 0) fail("cannot create the lock: ", std::strerror(errno));
    struct stat status {};
    if (fstat(fd_, &status) != 0) fail("cannot create the lock: ", std::strerror(errno));
    if (!S_ISREG(status.st_mode) || status.st_size > 0) {
      fail("is in the way: m5 makes its lock under that name");
    }
    if (!lock_file(fd_)) fail("another run of m5 has the lock: it is at work on the same files");
    if (has_name(fd_)) {  // else the run before has just removed it
      slot_ = register_name(path_);
      return;
    }
    close(fd_);
    fd_ = -1;
  }
  fail("cannot create the lock");
}

FileLock::~FileLock() {
  const DeferSignals defer;  // a handler after the removal would remove the lock of the next run
  unlink(path_.c_str());     // while it is locked
  release_name(slot_);
  close(fd_);
}

void remove_temporaries() {
  for (Slot& slot : g_slots) {
    if (slot.state.load() == 2) unlink(slot.path);
  }
}

void remove_temporaries_on_signal() {
  for (int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGXCPU, SIGXFSZ, SIGUSR1, SIGUSR2,
                     SIGALRM, SIGVTALRM, SIGABRT}) {
    struct sigaction old {};
    // A signal that the caller told us to ignore (nohup) stays ignored.
    if (sigaction(number, nullptr, &old) == 0 && old.sa_handler == SIG_IGN) continue;
    struct sigaction action {};
    action.sa_handler = clean_up_and_die;
    action.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, nullptr);
  }
}

DeferSignals::DeferSignals() { ++g_deferring; }

DeferSignals::~DeferSignals() {
  if (--g_deferring > 0) return;
  if (const int signal_number = g_deferred_signal.exchange(0)) {
    remove_temporaries();
    raise(signal_number);
  }
}

}  // namespace m5
