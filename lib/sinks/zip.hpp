// The ZIP archives of .npz: deflated members written in one go, ZIP64 sizes, no time stamps.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/output.hpp"

namespace m5 {

class ZipWriter {
 public:
  explicit ZipWriter(OutputFile& file) : file_(file) {}
  ~ZipWriter();
  ZipWriter(const ZipWriter&) = delete;
  ZipWriter& operator=(const ZipWriter&) = delete;

  // Starts a member whose content begins with `head` (under 64 KiB). Throws Error(kIo).
  void begin(const std::string& name, const std::string& head);
  void write(const void* data, std::size_t size);
  // Replaces the head of the open member by bytes of the same size; for seekable files.
  void replace_head(const std::string& head);
  void end();
  // Central directory; the file is the caller's to commit.
  void finish();

 private:
  struct Member {
    std::string name;
    std::uint64_t offset = 0, size = 0, compressed = 0;
    std::uint32_t crc = 0;
  };
  void put(const std::string& bytes);
  void deflate_some(const void* data, std::size_t size, int flush);

  OutputFile& file_;
  std::uint64_t offset_ = 0;  // bytes of the archive so far
  std::vector<Member> members_;
  z_stream stream_{};
  bool open_ = false;
  std::string head_;
  std::uint64_t head_offset_ = 0;
  std::uint64_t body_size_ = 0;  // of the open member, behind its head
  uLong body_crc_ = 0;
};

}  // namespace m5
