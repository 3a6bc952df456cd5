// The caches of this machine, and the blocks of rows that suit them.
#pragma once

#include <cstdint>
#include <string>

namespace m5::kernels {

// A CPU's share of its level 2 cache in bytes: from the folder of a CPU in sysfs, else from the C
// library, else 1 MiB.
std::int64_t level2_cache_bytes(const std::string& cpu_folder = "/sys/devices/system/cpu/cpu0");

// Rows of a block, a multiple of kRunRows within [kRunRows, kTileRows], for rows of row_bytes.
int block_rows_for(std::int64_t cache_bytes, std::int64_t row_bytes);

}  // namespace m5::kernels
