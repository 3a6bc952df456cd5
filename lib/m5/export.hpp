// Symbol visibility: the library is built with hidden visibility, M5_API marks what it exports.
#pragma once

#define M5_API __attribute__((visibility("default")))
