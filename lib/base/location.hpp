// Where the running code lies on disk, so that files installed beside it are found.
#pragma once

#include <string>
#include <vector>

namespace m5 {

// The folders of libm5.so (where the code is part of one) and of the running program, each as it
// was named and with its links resolved. Without a final slash; what the system does not tell is
// left out.
std::vector<std::string> own_folders();

}  // namespace m5
