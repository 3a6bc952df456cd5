// What a command reads and writes: looked at before the work begins.
#pragma once

#include <string>
#include <vector>

namespace m5 {

// A file a command writes or reads, and the option it came by, for messages. An empty name stands
// for no file, "-" for the standard stream.
struct NamedPath {
  std::string what, path;
};

// Refuses, with Error(kUsage), two outputs that are one file and an output that is an input, by
// device and inode where there is a file, by name where there is none yet; also what a standard
// stream was redirected to. Devices and pipes are read and written freely.
void check_paths(const std::vector<NamedPath>& outputs, const std::vector<NamedPath>& inputs);

// Throws Error(kIo) for the first that cannot be opened.
void require_readable(const std::vector<std::string>& files);
// The same for a name that OutputFile cannot write. Leaves nothing behind.
void require_writable(const std::string& path);

}  // namespace m5
