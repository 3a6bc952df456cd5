// Files as they are: header length, header, data.
#include <cstring>
#include <vector>

#include "io/safetensors.hpp"
#include "io/safetensors_header.hpp"
#include "tests/fuzz/fuzz_input.hpp"

using namespace m5;

namespace {

void check_header(const std::string& text, std::uint64_t data_bytes) {
  fuzz::refusal({ErrorKind::kModel}, "F", [&] {
    const SafetensorsHeader header = parse_safetensors_header(text, data_bytes, "F");
    std::uint64_t total = 0;
    for (const Tensor& tensor : header.tensors) total += tensor.bytes();
    FUZZ_REQUIRE(total == data_bytes);
  });
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  set_log(0, "fuzz");
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  const fuzz::InputFile file = fuzz::InputFile::whole(bytes);
  fuzz::refusal({ErrorKind::kModel}, file.path(), [&] {
    SafetensorsFile read(file.path());
    std::vector<std::byte> place;
    std::size_t total = 0;
    read.read([&](const Tensor& tensor) {
      place.resize(tensor.bytes() + 1);
      total += tensor.bytes();
      return place.data();
    });
    FUZZ_REQUIRE(total < size);
    FUZZ_REQUIRE(read.sha256().size() == 64);
  });
  // The header again, for as much data as it likes: most of what is promised above is refused
  // there.
  if (size > 8) {
    std::uint64_t data_bytes = 0;
    std::memcpy(&data_bytes, data, 8);
    check_header(bytes.substr(8), data_bytes);
    check_header(bytes.substr(8), 8);
  }
  return 0;
}
