// What the process may use, and has used, of the machine. available_cpus() is in m5/session.hpp.
#pragma once

#include <cstdint>
#include <string>

namespace m5 {

// Bytes that can still be taken: MemAvailable, and what ulimit -v and the cgroup limits (v1, v2)
// leave; INT64_MAX where nothing is known.
std::int64_t available_memory_bytes();
std::int64_t peak_rss_bytes();  // of this process so far
std::int64_t rss_bytes();       // of this process now

// "196608", "4k", "2M", "1.5G" (factors of 1000, either case) -> number, >= 0.
// Throws Error(kUsage) naming `option` and the text.
std::int64_t parse_size(const std::string& text, const std::string& option);

// The parts of available_cpus() and available_memory_bytes() that read control groups: `membership`
// is the text of /proc/self/cgroup, `root` the mount point. The tightest limit on the way from the
// group up to the root counts; INT64_MAX (CPUs: a quota rounded up to whole CPUs) if there is none.
std::int64_t cgroup_cpus(const std::string& membership, const std::string& root);
std::int64_t cgroup_memory_left(const std::string& membership, const std::string& root);

// The name at the end of symbolic links, whether or not there is a file; empty where they lead
// round in a circle.
std::string follow_links(const std::string& path);

// Whether two names are the same file, links resolved; for files that need not exist yet.
bool same_file(const std::string& a, const std::string& b);

// Fills closed descriptors 0..2, so that no file opened later is mistaken for a standard stream;
// writing to the filled ones fails with EBADF. Call first thing in main.
void guard_standard_streams();

}  // namespace m5
