// Files that must not outlive the process that writes them, and locks between processes.
#pragma once

#include <string>

namespace m5 {

// A file under a hidden name, .m5-BOOT-PID-NUMBER.tmp, in the folder of what it will become. It
// goes with this object, or with a signal that ends the process; after SIGKILL with the next run
// that writes into the folder. The owner holds a lock (flock) on it for as long as it is open: that
// tells a file in use from one that was left.
class Temporary {
 public:
  Temporary() = default;
  ~Temporary() { discard(); }
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;

  // These return 0 or errno.
  int create(const std::string& directory);                         // a new file, open
  int link(const std::string& directory, const std::string& file);  // a second name of `file`
  int rename_to(const std::string& path);  // it stays open, and is no temporary any more

  void discard() noexcept;  // closes, and removes the name if it is still its own

  bool named() const { return !path_.empty(); }
  const std::string& path() const { return path_; }
  int fd() const { return fd_; }  // -1: not open

 private:
  std::string path_;
  int fd_ = -1;
  int slot_ = -1;  // in the registry that signal handlers read
};

// Removes what dead processes of this user left in the folder, of this machine since it was
// started; of others it cannot be known whether they live. Once for each folder; failures are not
// reported.
void remove_dead_temporaries(const std::string& directory);

// Keeps a second run away: an empty file, locked while this lives and removed with it. Throws
// Error(kIo) if another process has it, if it cannot be made, or if there is a file of that name
// which is no lock. On a file system that knows no locks nobody is kept away.
class FileLock {
 public:
  explicit FileLock(const std::string& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  std::string path_;
  int fd_ = -1, slot_ = -1;
};

// flock without waiting. False if another process has the file; true also where there are no locks.
bool lock_file(int fd);

// Unlinks all temporaries and locks. Async-signal-safe: a handler may call it.
void remove_temporaries();
// Installs handlers for the signals that end a process from outside (SIGINT, SIGTERM, SIGHUP,
// SIGQUIT, SIGPIPE, SIGXCPU, SIGXFSZ, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM), and for SIGABRT, by
// which a library gives up: they remove the temporaries and then let the signal end the process as
// usual (exit status 130, 143, ...). Call once, in main; a command that wants to end a signal's
// work in its own way installs its handler afterwards.
void remove_temporaries_on_signal();

// While one lives, on whatever thread, those handlers wait for its end: a set of files gets its
// names as a whole. (A second signal of the same number does not wait.)
class DeferSignals {
 public:
  DeferSignals();
  ~DeferSignals();
  DeferSignals(const DeferSignals&) = delete;
  DeferSignals& operator=(const DeferSignals&) = delete;
};

}  // namespace m5
