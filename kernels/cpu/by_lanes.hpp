// How the kernels choose their vector length; a macro, because a tag belongs to one target.
#pragma once

// Calls function(tag, ...) with full vectors where they divide `length`, else with vectors of 8
// (row lengths and heads are multiples of 8). `hn` is the caller's hwy::HWY_NAMESPACE.
#define M5_BY_LANES(length, function, ...)                                 \
  do {                                                                     \
    const hn::ScalableTag<float> full_vectors;                             \
    if (static_cast<std::size_t>(length) % hn::Lanes(full_vectors) == 0) { \
      function(full_vectors, __VA_ARGS__);                                 \
    } else {                                                               \
      function(hn::CappedTag<float, 8>(), __VA_ARGS__);                    \
    }                                                                      \
  } while (false)
