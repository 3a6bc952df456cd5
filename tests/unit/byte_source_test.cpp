#include "io/byte_source.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <stop_token>
#include <thread>

#include "tests/unit/temp_dir.hpp"

namespace m5 {
namespace {

using test::bgzf_block;
using test::contains;
using test::error_of;
using test::gzip;
using test::put;
using test::TempDir;

std::string read_all(const std::string& path, bool allow_no_eof = false) {
  ByteSource source(path, allow_no_eof);
  std::string text;
  for (std::string_view chunk = source.read(); !chunk.empty(); chunk = source.read()) text += chunk;
  EXPECT_TRUE(source.read().empty());
  return text;
}

std::string sample(std::size_t n) {
  std::string text;
  for (std::size_t i = 0; i < n; ++i) text += "ACGT"[(i * i + i / 7) % 4];
  return text;
}

TEST(ByteSource, PlainGzipAndBgzfAreTheSame) {
  TempDir dir;
  const std::string a = sample(300), b = sample(600000), end = bgzf_block("");
  EXPECT_EQ(read_all(put(dir / "plain", a + b)), a + b);
  EXPECT_EQ(read_all(put(dir / "gz", gzip(a + b))), a + b);
  EXPECT_EQ(read_all(put(dir / "members", gzip(a) + gzip("") + gzip(b))), a + b);
  EXPECT_EQ(read_all(put(dir / "bgzf", bgzf_block(a) + bgzf_block(a) + end)), a + a);
  // Concatenations: inner end-of-file blocks, and a plain member after BGZF.
  EXPECT_EQ(read_all(put(dir / "cat", bgzf_block(a) + end + bgzf_block(a) + end + end)), a + a);
  EXPECT_EQ(read_all(put(dir / "mixed", bgzf_block(a) + end + gzip(b))), a + b);
  EXPECT_EQ(read_all(put(dir / "empty", "")), "");
  EXPECT_EQ(read_all(put(dir / "empty.gz", gzip(""))), "");
  EXPECT_EQ(read_all(put(dir / "one", "x")), "x");
}

// A cut between two plain gzip members is a valid file; every other cut must be found.
TEST(ByteSource, GzipCutAnywhere) {
  TempDir dir;
  const std::string first = gzip(sample(500)), second = gzip(sample(200));
  const std::string whole = first + second;
  for (std::size_t cut = 2; cut < whole.size(); ++cut) {
    put(dir / "cut", whole.substr(0, cut));
    if (cut == first.size()) {
      EXPECT_EQ(read_all(dir / "cut"), sample(500));
    } else {
      const std::string message = error_of(ErrorKind::kInput, [&] { read_all(dir / "cut"); });
      EXPECT_TRUE(contains(message, "truncated")) << cut << ": " << message;
    }
  }
}

TEST(ByteSource, BgzfCutAnywhere) {
  TempDir dir;
  const std::string a = bgzf_block(sample(400)), b = bgzf_block(sample(300));
  const std::string whole = a + b + bgzf_block("");
  for (std::size_t cut = 2; cut < whole.size(); ++cut) {
    put(dir / "cut", whole.substr(0, cut));
    const std::string message = error_of(ErrorKind::kInput, [&] { read_all(dir / "cut"); });
    EXPECT_TRUE(contains(message, "truncated")) << cut << ": " << message;
    // The option forgives the missing last block only.
    if (cut == a.size() || cut == a.size() + b.size()) {
      EXPECT_TRUE(contains(message, "--allow-no-eof")) << message;
      EXPECT_EQ(read_all(dir / "cut", true),
                cut == a.size() ? sample(400) : sample(400) + sample(300));
    } else {
      error_of(ErrorKind::kInput, [&] { read_all(dir / "cut", true); });
    }
  }
}

// Every single-bit fault either does not touch the data (time stamp, flags of no effect) or is
// found.
TEST(ByteSource, FlippedBits) {
  TempDir dir;
  const std::string text = sample(300) + sample(200);
  for (const std::string& whole :
       {gzip(sample(300)) + gzip(sample(200)),
        bgzf_block(sample(300)) + bgzf_block(sample(200)) + bgzf_block("")}) {
    int found = 0;
    for (std::size_t at = 2; at < whole.size(); ++at) {
      for (int bit = 0; bit < 8; ++bit) {
        std::string bad = whole;
        bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
        put(dir / "bad", bad);
        try {
          ASSERT_EQ(read_all(dir / "bad"), text) << at << " bit " << bit;
        } catch (const Error& error) {
          ASSERT_EQ(error.kind(), ErrorKind::kInput);
          ++found;
        }
      }
    }
    EXPECT_GT(found, static_cast<int>(whole.size()) * 6);
  }
}

TEST(ByteSource, BytesAfterGzip) {
  TempDir dir;
  const std::string garbage[] = {"x", "ACGT\n", "\x1f", "\x1f\x8b"};
  for (const std::string& tail : garbage) {
    put(dir / "bad", gzip(sample(100)) + tail);
    error_of(ErrorKind::kInput, [&] { read_all(dir / "bad"); });
  }
  EXPECT_TRUE(
      contains(error_of(ErrorKind::kInput, [&] { read_all(put(dir / "b", gzip("x") + "hello")); }),
               "bytes that are not gzip follow gzip member 1"));
}

// As gzip does: zeros may pad a file, whatever their number, and nothing may follow them.
TEST(ByteSource, ZerosAfterGzip) {
  TempDir dir;
  const std::string text = sample(100), end = bgzf_block("");
  for (const std::size_t zeros : {1, 2, 18, 511, 512, 262144, 700000}) {
    const std::string pad(zeros, '\0');
    EXPECT_EQ(read_all(put(dir / "gz", gzip(text) + pad)), text) << zeros;
    EXPECT_EQ(read_all(put(dir / "gz", gzip(text) + gzip("x") + pad)), text + "x") << zeros;
    EXPECT_EQ(read_all(put(dir / "bgzf", bgzf_block(text) + end + pad)), text) << zeros;
    // Zeros are no end-of-file block, and a plain file has none that would be padding.
    error_of(ErrorKind::kInput, [&] { read_all(put(dir / "cut", bgzf_block(text) + pad)); });
    EXPECT_EQ(read_all(put(dir / "plain", text + pad)), text + pad);
    for (const std::string& more : {std::string("x"), gzip(text), std::string("\x1f\x8b")}) {
      put(dir / "bad", gzip(text) + pad + more);
      EXPECT_TRUE(contains(error_of(ErrorKind::kInput, [&] { read_all(dir / "bad"); }),
                           "bytes that are not gzip follow gzip member 1 and zeros"));
    }
  }
}

TEST(ByteSource, FilesThatCannotBeRead) {
  TempDir dir;
  const std::string missing = error_of(ErrorKind::kIo, [&] { read_all(dir / "none"); });
  EXPECT_TRUE(contains(missing, "none: cannot open: No such file or directory")) << missing;
  EXPECT_TRUE(contains(error_of(ErrorKind::kIo, [&] { read_all(dir.path()); }), "Is a directory"));
  if (geteuid() != 0) {
    put(dir / "secret", "x");
    chmod((dir / "secret").c_str(), 0);
    EXPECT_TRUE(
        contains(error_of(ErrorKind::kIo, [&] { read_all(dir / "secret"); }), "Permission"));
  }
}

TEST(ByteSource, FileThatChangesWhileRead) {
  TempDir dir;
  const std::string text = sample(600000);
  for (std::size_t size : {text.size() - 1000, text.size() + 1000}) {
    put(dir / "file", text);
    ByteSource source(dir / "file");
    source.read();
    ASSERT_EQ(truncate((dir / "file").c_str(), static_cast<off_t>(size)), 0);
    const std::string message = error_of(ErrorKind::kInput, [&] {
      while (!source.read().empty()) {
      }
    });
    EXPECT_TRUE(contains(message, "changed while it was read")) << message;
  }
}

TEST(ByteSource, PipeOfSingleBytes) {
  TempDir dir;
  ASSERT_EQ(mkfifo((dir / "fifo").c_str(), 0600), 0);
  const std::string whole = gzip(sample(100));
  std::thread writer([&] {
    const int fd = open((dir / "fifo").c_str(), O_WRONLY);
    for (char c : whole) {
      if (write(fd, &c, 1) != 1) break;
    }
    close(fd);
  });
  EXPECT_EQ(read_all(dir / "fifo"), sample(100));
  writer.join();
}

TEST(LineReader, LineEnds) {
  TempDir dir;
  for (const char* text : {"a\nb\n\nc\n", "a\r\nb\r\n\r\nc\r\n", "a\rb\r\rc\r", "a\nb\n\nc"}) {
    LineReader reader(put(dir / "lines", text));
    std::string line, joined;
    std::int64_t lines = 0;
    while (reader.next(line)) {
      joined += line + "|";
      EXPECT_EQ(reader.line_number(), ++lines);
    }
    EXPECT_EQ(joined, "a|b||c|");
  }
  // Lines longer than the buffers, with the line end anywhere.
  std::string text;
  for (std::size_t n : {262142, 262143, 262144, 1, 0, 300000}) text += std::string(n, 'x') + "\r\n";
  LineReader reader(put(dir / "long", text));
  std::string line;
  for (std::size_t n : {262142, 262143, 262144, 1, 0, 300000}) {
    ASSERT_TRUE(reader.next(line));
    EXPECT_EQ(line.size(), n);
  }
  EXPECT_FALSE(reader.next(line));
}

TEST(ByteSource, AStopEndsAWaitForAPipe) {
  TempDir dir;
  ASSERT_EQ(mkfifo((dir / "pipe").c_str(), 0600), 0);
  for (const bool writer_is_there : {false, true}) {
    std::stop_source stop;
    ByteSource source(dir / "pipe", false, stop.get_token());  // does not wait for a writer
    const int writer = writer_is_there ? open((dir / "pipe").c_str(), O_WRONLY) : -1;
    std::thread stopper([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      stop.request_stop();
    });
    EXPECT_THROW(source.read(), Error);
    stopper.join();
    EXPECT_THROW(source.read(), Error);
    if (writer >= 0) close(writer);
  }
  std::stop_source stop;
  stop.request_stop();
  ByteSource file(put(dir / "file", "text"), false, stop.get_token());
  EXPECT_THROW(file.read(), Error);
}

TEST(ByteSource, APipeThatCouldBeStoppedIsReadToItsEnd) {
  TempDir dir;
  ASSERT_EQ(mkfifo((dir / "pipe").c_str(), 0600), 0);
  for (const std::size_t size : {0, 1, 1000000}) {
    const std::string text = sample(size);
    const std::stop_source stop;
    ByteSource source(dir / "pipe", false, stop.get_token());
    std::thread writer([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      std::ofstream(dir / "pipe") << text;
    });
    std::string seen;
    for (auto chunk = source.read(); !chunk.empty(); chunk = source.read()) seen += chunk;
    writer.join();
    EXPECT_EQ(seen, text);
  }
}

}  // namespace
}  // namespace m5
