#include "base/output.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <memory>
#include <thread>

#include "base/system.hpp"
#include "io/byte_source.hpp"
#include "tests/unit/temp_dir.hpp"

namespace m5 {
namespace {

using test::contains;
using test::error_of;
using test::get;
using test::put;
using test::TempDir;

// The wait status of a child that runs `body`; a body that returns gives exit status 0, one that
// throws Error its exit code.
int in_child(const std::function<void()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    try {
      body();
    } catch (const Error& error) {
      _exit(error.exit_code());
    } catch (...) {
      _exit(99);
    }
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

std::string read_all(const std::string& path) {
  ByteSource source(path);
  std::string text;
  for (std::string_view chunk = source.read(); !chunk.empty(); chunk = source.read()) text += chunk;
  return text;
}

TEST(Output, AppearsWholeAndOnlyAtCommit) {
  TempDir dir;
  const std::string path = dir / "a b\xc3\xa9.txt";
  OutputFile file(path);
  file.write("hello ");
  file.flush();
  EXPECT_FALSE(std::filesystem::exists(path));
  file.write("world\n");
  file.commit();
  EXPECT_EQ(get(path), "hello world\n");
  EXPECT_EQ(file.bytes(), 12);
  EXPECT_EQ(dir.entries(), 1U);
  EXPECT_THROW(file.write("more"), Error);
}

TEST(Output, WithoutCommitNothingIsLeft) {
  TempDir dir;
  put(dir / "out", "old");
  {
    OutputFile file(dir / "out");
    file.write(std::string(1 << 20, 'x'));
    EXPECT_EQ(dir.entries(), 2U);
  }
  EXPECT_EQ(dir.entries(), 1U);
  EXPECT_EQ(get(dir / "out"), "old");
}

TEST(Output, PiecesOfEverySize) {
  TempDir dir;
  std::string text;
  OutputFile file(dir / "out"), packed(dir / "out.gz", OutputFile::Format::kBgzf);
  for (std::size_t n : {0, 1, 7, 65279, 65280, 65281, 262143, 262144, 262145, 1000000, 3}) {
    std::string piece(n, '\0');
    for (std::size_t i = 0; i < n; ++i) piece[i] = static_cast<char>('a' + (i * i + n) % 23);
    text += piece;
    file.write(piece);
    packed.write(piece);
  }
  file.commit();
  packed.commit();
  EXPECT_EQ(get(dir / "out"), text);
  // ByteSource insists on the end-of-file block, the checksums and the block sizes.
  EXPECT_EQ(read_all(dir / "out.gz"), text);
}

// Lines put in place are those written, also where the bytes of the file are cut to blocks.
TEST(Output, LinesPutInPlace) {
  TempDir dir;
  for (const auto format : {OutputFile::Format::kPlain, OutputFile::Format::kBgzf}) {
    OutputFile written(dir / "written", format), placed(dir / "placed", format);
    for (std::size_t i = 0; i < 4000; ++i) {
      const std::string line(i * 7919 % (OutputFile::kRoom + 1), static_cast<char>('a' + i % 23));
      written.write(line);
      if (i % 3 == 0) {
        placed.write(line);
      } else {
        placed.advance(std::copy(line.begin(), line.end(), placed.room()));
      }
      if (i % 1000 == 999) written.flush(), placed.flush();
      ASSERT_EQ(written.bytes(), placed.bytes());
    }
    written.commit();
    placed.commit();
    EXPECT_TRUE(get(dir / "written") == get(dir / "placed"));
    EXPECT_THROW(placed.room(), Error);
  }
}

TEST(Output, EmptyBgzfIsTheEndBlock) {
  TempDir dir;
  OutputFile file(dir / "e.gz", OutputFile::Format::kBgzf);
  file.commit();
  EXPECT_EQ(get(dir / "e.gz").size(), 28U);
  EXPECT_EQ(get(dir / "e.gz"), test::bgzf_block(""));
}

TEST(Output, BgzfSuffixes) {
  EXPECT_TRUE(has_bgzf_suffix("x.gz"));
  EXPECT_TRUE(has_bgzf_suffix("x.bgz"));
  EXPECT_TRUE(has_bgzf_suffix("x.bgzf"));
  EXPECT_FALSE(has_bgzf_suffix("x.bedgraph"));
  EXPECT_FALSE(has_bgzf_suffix("gz"));
}

TEST(Output, WriteAtPatches) {
  TempDir dir;
  OutputFile file(dir / "out");
  ASSERT_TRUE(file.seekable());
  file.write("0123456789");
  file.write_at(3, "abc", 3);
  file.write("!");
  EXPECT_THROW(file.write_at(9, "xyz", 3), Error);
  file.commit();
  EXPECT_EQ(get(dir / "out"), "012abc6789!");
}

TEST(Output, KeepsLinksAndModes) {
  TempDir dir;
  put(dir / "real", "old");
  chmod((dir / "real").c_str(), 0640);
  std::filesystem::create_symlink("real", dir / "link");
  OutputFile file(dir / "link");
  file.write("new");
  file.commit();
  EXPECT_TRUE(std::filesystem::is_symlink(dir / "link"));
  EXPECT_EQ(get(dir / "real"), "new");
  struct stat status {};
  stat((dir / "real").c_str(), &status);
  EXPECT_EQ(status.st_mode & 0777, 0640U);
}

// What a link names is written, whether it is there or not; the links stay. {path, link, ...}: each
// link is a new one to the path before it.
TEST(Output, WritesWhereLinksLead) {
  namespace fs = std::filesystem;
  for (const bool exists : {false, true}) {
    for (int links = 1; links <= 40; links += 13) {
      for (const bool absolute : {false, true}) {
        TempDir dir;
        fs::create_directory(dir / "sub");
        if (exists) put(dir / "sub/real", "old");
        std::string name = "sub/real";
        for (int i = 0; i < links; ++i) {
          const std::string next = "link" + std::to_string(i);
          fs::create_symlink(absolute ? std::string(dir / name) : name, dir / next);
          name = next;
        }
        {
          OutputFile file(dir / name);
          file.write("new");
          file.commit();
        }
        EXPECT_EQ(get(dir / "sub/real"), "new");
        for (int i = 0; i < links; ++i) {
          EXPECT_TRUE(fs::is_symlink(dir / ("link" + std::to_string(i))));
        }
        EXPECT_TRUE(same_file(dir / name, dir / "sub/real"));
      }
    }
  }
}

TEST(Output, LinksInACircle) {
  TempDir dir;
  std::filesystem::create_symlink("b", dir / "a");
  std::filesystem::create_symlink("a", dir / "b");
  EXPECT_TRUE(contains(error_of(ErrorKind::kIo, [&] { OutputFile(dir / "a"); }), "symbolic links"));
  EXPECT_TRUE(std::filesystem::is_symlink(dir / "a"));
  // Files that are not there yet, named directly and by a link.
  std::filesystem::create_symlink("later", dir / "c");
  EXPECT_TRUE(same_file(dir / "c", dir / "later"));
  EXPECT_FALSE(same_file(dir / "c", dir / "other"));
  EXPECT_FALSE(same_file(dir / "a", dir / "other"));
}

TEST(Output, NewFilesHonourTheUmask) {
  TempDir dir;
  EXPECT_EQ(in_child([&] {
              umask(027);
              OutputFile file(dir / "out");
              file.commit();
            }),
            0);
  struct stat status {};
  stat((dir / "out").c_str(), &status);
  EXPECT_EQ(status.st_mode & 0777, 0640U);
}

TEST(Output, PlacesThatCannotBeWritten) {
  TempDir dir;
  EXPECT_TRUE(
      contains(error_of(ErrorKind::kIo, [&] { OutputFile file(dir.path()); }), "Is a directory"));
  const std::string missing =
      error_of(ErrorKind::kIo, [&] { OutputFile file(dir / "no/such/out"); });
  EXPECT_TRUE(contains(missing, "no/such/out")) << missing;
  EXPECT_TRUE(contains(missing, "No such file or directory")) << missing;
  error_of(ErrorKind::kIo, [] { OutputFile file(""); });
  if (geteuid() != 0) {
    put(dir / "readonly", "old");
    chmod((dir / "readonly").c_str(), 0444);
    error_of(ErrorKind::kIo, [&] { OutputFile file(dir / "readonly"); });
    EXPECT_EQ(get(dir / "readonly"), "old");
  }
}

TEST(Output, FullDeviceIsAnError) {
  for (auto format : {OutputFile::Format::kPlain, OutputFile::Format::kBgzf}) {
    const std::string message = error_of(ErrorKind::kIo, [&] {
      OutputFile file("/dev/full", format);
      file.write("x");
      file.commit();
    });
    EXPECT_TRUE(contains(message, "/dev/full")) << message;
    EXPECT_TRUE(contains(message, "No space left")) << message;
    error_of(ErrorKind::kIo, [&] {
      OutputFile file("/dev/full", format);
      for (int i = 0; i < 100; ++i) file.write(std::string(100000, 'x'));
    });
  }
}

TEST(Output, DevicesAndFifosAreWrittenInPlace) {
  TempDir dir;
  OutputFile null("/dev/null");
  EXPECT_FALSE(null.seekable());
  null.write("x");
  null.commit();
  ASSERT_EQ(mkfifo((dir / "fifo").c_str(), 0600), 0);
  std::string seen;
  std::thread reader([&] { seen = get(dir / "fifo"); });
  OutputFile fifo(dir / "fifo");
  fifo.write("through");
  fifo.commit();
  // The writer's end is closed by commit, so the reader ends.
  reader.join();
  EXPECT_EQ(seen, "through");
  EXPECT_EQ(dir.entries(), 1U);
}

// A limit on the file size stands for a disk that fills up: the write comes back short, then fails.
TEST(Output, ShortWritesAndFullDiskLeaveNothing) {
  TempDir dir;
  put(dir / "out", "old");
  const int status = in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit { 100000, 100000 };
    setrlimit(RLIMIT_FSIZE, &limit);
    OutputFile file(dir / "out");
    file.write(std::string(1000000, 'x'));
    file.commit();
  });
  EXPECT_EQ(WEXITSTATUS(status), static_cast<int>(ErrorKind::kIo));
  EXPECT_EQ(dir.entries(), 1U);
  EXPECT_EQ(get(dir / "out"), "old");
}

// A set of files: one of them fails, at every place and in every way that can be brought about. The
// folder is then as it was.
TEST(Output, OneOfASetFails) {
  enum class Fault { kName, kLastBytes };
  constexpr std::size_t kFiles = 3;
  for (const Fault fault : {Fault::kName, Fault::kLastBytes}) {
    for (std::size_t bad = 0; bad < kFiles; ++bad) {
      for (unsigned old = 0; old < 8; ++old) {  // which of them replace a file
        TempDir dir;
        std::vector<std::string> names;
        std::vector<std::unique_ptr<OutputFile>> files;
        std::vector<OutputFile*> set;
        for (std::size_t i = 0; i < kFiles; ++i) {
          names.push_back(dir / std::to_string(i));
          const bool replaces = (old >> i & 1) != 0 && !(i == bad && fault == Fault::kName);
          if (replaces) put(names[i], "old " + std::to_string(i));
          const bool full = i == bad && fault == Fault::kLastBytes;
          files.push_back(std::make_unique<OutputFile>(full ? "/dev/full" : names[i]));
          files[i]->write("new");
          set.push_back(files[i].get());
        }
        // No file can take the name of a folder.
        if (fault == Fault::kName) std::filesystem::create_directory(names[bad]);
        error_of(ErrorKind::kIo, [&] { commit_all(set); });
        files.clear();
        std::size_t expected = fault == Fault::kName ? 1 : 0;
        for (std::size_t i = 0; i < kFiles; ++i) {
          if (i == bad && fault == Fault::kName) continue;
          if ((old >> i & 1) == 0) continue;
          ++expected;
          EXPECT_EQ(get(names[i]), "old " + std::to_string(i)) << bad << " " << old;
        }
        EXPECT_EQ(dir.entries(), expected) << bad << " " << old;
      }
    }
  }
}

TEST(Output, ASetIsNamed) {
  TempDir dir;
  put(dir / "a", "old");
  OutputFile a(dir / "a"), b(dir / "b"), null("/dev/null");
  a.write("A");
  b.write("B");
  OutputFile* const set[] = {&a, &b, &null};
  commit_all(set);
  EXPECT_EQ(get(dir / "a"), "A");
  EXPECT_EQ(get(dir / "b"), "B");
  EXPECT_EQ(dir.entries(), 2U);
  a.commit();  // once more does nothing
  EXPECT_EQ(get(dir / "a"), "A");
}

TEST(Output, NamesTooLongAreFoundAtOnce) {
  TempDir dir;
  for (const bool folder : {false, true}) {
    const std::string name = std::string(300, 'x') + (folder ? "/out" : "");
    const std::string message =
        error_of(ErrorKind::kIo, [&] { const OutputFile file(dir / name); });
    EXPECT_TRUE(contains(message, "too long")) << message;
  }
  EXPECT_EQ(dir.entries(), 0U);
}

TEST(Output, MoreOpenFilesThanTheRegistryHolds) {
  TempDir dir;
  {
    std::vector<std::unique_ptr<OutputFile>> files;
    for (int i = 0; i < 100; ++i) {
      files.push_back(std::make_unique<OutputFile>(dir / std::to_string(i)));
      files.back()->write("x");
    }
    for (int i = 0; i < 50; ++i) files[static_cast<std::size_t>(i)]->commit();
  }
  EXPECT_EQ(dir.entries(), 50U);
}

TEST(Output, StandardOutput) {
  TempDir dir;
  EXPECT_EQ(in_child([&] {
              dup2(open((dir / "captured").c_str(), O_WRONLY | O_CREAT, 0600), STDOUT_FILENO);
              OutputFile file("-");
              file.write("on stdout");
              file.commit();
            }),
            0);
  EXPECT_EQ(get(dir / "captured"), "on stdout");
  const int full = in_child([] {
    dup2(open("/dev/full", O_WRONLY), STDOUT_FILENO);
    OutputFile file("-");
    file.write("x");
    file.commit();
  });
  EXPECT_EQ(WEXITSTATUS(full), static_cast<int>(ErrorKind::kIo));
  const int closed = in_child([] {
    close(STDOUT_FILENO);
    OutputFile file("-");
    file.write("x");
    file.commit();
  });
  EXPECT_EQ(WEXITSTATUS(closed), static_cast<int>(ErrorKind::kIo));
}

TEST(Output, ClosedPipeEndsTheProcessQuietly) {
  for (bool handler : {false, true}) {
    TempDir dir;
    const int status = in_child([&] {
      if (handler) remove_temporaries_on_signal();
      int ends[2];
      if (pipe(ends) != 0) _exit(98);
      dup2(ends[1], STDOUT_FILENO);
      close(ends[0]);
      close(ends[1]);
      OutputFile summary(dir / "summary");
      OutputFile file("-");
      file.write("x");
      file.commit();
    });
    EXPECT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(WTERMSIG(status), SIGPIPE);
    EXPECT_EQ(dir.entries(), handler ? 0U : 1U);
  }
}

}  // namespace
}  // namespace m5
