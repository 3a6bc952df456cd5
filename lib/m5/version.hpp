#pragma once

#include "m5/export.hpp"

namespace m5 {

M5_API const char* version();  // "0.1.0"

}  // namespace m5
