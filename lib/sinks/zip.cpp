#include "sinks/zip.hpp"

#include <algorithm>

#include "m5/error.hpp"

namespace m5 {

namespace {

template <class T>
void append(std::string& bytes, T value) {  // little-endian
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    bytes += static_cast<char>((static_cast<std::uint64_t>(value) >> (8 * i)) & 0xff);
  }
}

constexpr std::uint16_t kVersion = 45;    // ZIP64
constexpr std::uint16_t kFlags = 0x0008;  // sizes follow the data
constexpr std::uint16_t kDeflated = 8;
constexpr std::uint16_t kTime = 0, kDate = 33;  // 1980-01-01 00:00: no clock in the output
constexpr std::uint32_t kInExtra = 0xffffffff;
constexpr std::uint16_t kZip64 = 0x0001;

}  // namespace

ZipWriter::~ZipWriter() {
  if (open_) deflateEnd(&stream_);
}

void ZipWriter::put(const std::string& bytes) {
  file_.write(bytes);
  offset_ += bytes.size();
}

void ZipWriter::begin(const std::string& name, const std::string& head) {
  Member member;
  member.name = name;
  member.offset = offset_;
  std::string local("PK\x03\x04", 4);
  append<std::uint16_t>(local, kVersion);
  append<std::uint16_t>(local, kFlags);
  append<std::uint16_t>(local, kDeflated);
  append<std::uint16_t>(local, kTime);
  append<std::uint16_t>(local, kDate);
  append<std::uint32_t>(local, 0);  // CRC: behind the data
  append<std::uint32_t>(local, kInExtra);
  append<std::uint32_t>(local, kInExtra);
  append<std::uint16_t>(local, static_cast<std::uint16_t>(name.size()));
  append<std::uint16_t>(local, 20);
  local += name;
  append<std::uint16_t>(local, kZip64);
  append<std::uint16_t>(local, 16);
  append<std::uint64_t>(local, 0);
  append<std::uint64_t>(local, 0);
  put(local);
  members_.push_back(member);

  stream_ = z_stream{};
  // Level 1: floats hardly compress further, and this is five times as fast as the default.
  if (deflateInit2(&stream_, 1, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    throw Error(ErrorKind::kResource, "zlib: no memory to compress " + name);
  }
  open_ = true;
  // The head is a stored deflate block of its own, byte-aligned, so that it can be replaced.
  std::string block(1, '\0');
  append<std::uint16_t>(block, static_cast<std::uint16_t>(head.size()));
  append<std::uint16_t>(block, static_cast<std::uint16_t>(~head.size()));
  put(block);
  head_offset_ = offset_;
  head_ = head;
  put(head);
  members_.back().compressed = block.size() + head.size();
  body_size_ = 0;
  body_crc_ = crc32(0, nullptr, 0);
}

void ZipWriter::replace_head(const std::string& head) {
  if (head.size() != head_.size()) throw Error(ErrorKind::kInternal, "zip: head of another size");
  file_.write_at(static_cast<std::int64_t>(head_offset_), head.data(), head.size());
  head_ = head;
}

void ZipWriter::deflate_some(const void* data, std::size_t size, int flush) {
  unsigned char out[65536];
  stream_.next_in = static_cast<Bytef*>(const_cast<void*>(data));
  stream_.avail_in = static_cast<uInt>(size);
  do {
    stream_.next_out = out;
    stream_.avail_out = sizeof out;
    deflate(&stream_, flush);
    const std::size_t got = sizeof out - stream_.avail_out;
    file_.write(out, got);
    offset_ += got;
    members_.back().compressed += got;
  } while (stream_.avail_out == 0);
}

void ZipWriter::write(const void* data, std::size_t size) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  constexpr std::size_t kPiece = std::size_t{1} << 20;  // zlib counts in 32 bits
  for (std::size_t at = 0; at < size; at += kPiece) {
    const std::size_t piece = std::min(kPiece, size - at);
    body_crc_ = crc32(body_crc_, bytes + at, static_cast<uInt>(piece));
    deflate_some(bytes + at, piece, Z_NO_FLUSH);
  }
  body_size_ += size;
}

void ZipWriter::end() {
  deflate_some(nullptr, 0, Z_FINISH);
  deflateEnd(&stream_);
  open_ = false;
  Member& member = members_.back();
  const uLong head_crc = crc32(crc32(0, nullptr, 0), reinterpret_cast<const Bytef*>(head_.data()),
                               static_cast<uInt>(head_.size()));
  member.crc = static_cast<std::uint32_t>(
      crc32_combine(head_crc, body_crc_, static_cast<z_off_t>(body_size_)));
  member.size = head_.size() + body_size_;
  std::string descriptor("PK\x07\x08", 4);
  append<std::uint32_t>(descriptor, member.crc);
  append<std::uint64_t>(descriptor, member.compressed);
  append<std::uint64_t>(descriptor, member.size);
  put(descriptor);
}

void ZipWriter::finish() {
  const std::uint64_t directory = offset_;
  for (const Member& member : members_) {
    std::string entry("PK\x01\x02", 4);
    append<std::uint16_t>(entry, kVersion);
    append<std::uint16_t>(entry, kVersion);
    append<std::uint16_t>(entry, kFlags);
    append<std::uint16_t>(entry, kDeflated);
    append<std::uint16_t>(entry, kTime);
    append<std::uint16_t>(entry, kDate);
    append<std::uint32_t>(entry, member.crc);
    append<std::uint32_t>(entry, kInExtra);  // compressed size
    append<std::uint32_t>(entry, kInExtra);  // size
    append<std::uint16_t>(entry, static_cast<std::uint16_t>(member.name.size()));
    append<std::uint16_t>(entry, 28);
    append<std::uint16_t>(entry, 0);         // comment
    append<std::uint16_t>(entry, 0);         // disk
    append<std::uint16_t>(entry, 0);         // internal attributes
    append<std::uint32_t>(entry, 0);         // external attributes
    append<std::uint32_t>(entry, kInExtra);  // offset
    entry += member.name;
    append<std::uint16_t>(entry, kZip64);
    append<std::uint16_t>(entry, 24);
    append<std::uint64_t>(entry, member.size);
    append<std::uint64_t>(entry, member.compressed);
    append<std::uint64_t>(entry, member.offset);
    put(entry);
  }
  const std::uint64_t directory_end = offset_;
  std::string tail("PK\x06\x06", 4);  // ZIP64 end of central directory
  append<std::uint64_t>(tail, 44);
  append<std::uint16_t>(tail, kVersion);
  append<std::uint16_t>(tail, kVersion);
  append<std::uint32_t>(tail, 0);
  append<std::uint32_t>(tail, 0);
  append<std::uint64_t>(tail, members_.size());
  append<std::uint64_t>(tail, members_.size());
  append<std::uint64_t>(tail, directory_end - directory);
  append<std::uint64_t>(tail, directory);
  tail += std::string("PK\x06\x07", 4);  // its locator
  append<std::uint32_t>(tail, 0);
  append<std::uint64_t>(tail, directory_end);
  append<std::uint32_t>(tail, 1);
  tail += std::string("PK\x05\x06", 4);  // the old record, pointing to the new one
  append<std::uint16_t>(tail, 0xffff);
  append<std::uint16_t>(tail, 0xffff);
  append<std::uint16_t>(tail, 0xffff);
  append<std::uint16_t>(tail, 0xffff);
  append<std::uint32_t>(tail, 0xffffffff);
  append<std::uint32_t>(tail, 0xffffffff);
  append<std::uint16_t>(tail, 0);
  put(tail);
}

}  // namespace m5
