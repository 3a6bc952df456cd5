// What the encoder in m5_torch.py needs beside PyTorch's own operations. A thread is a (row, head)
// or a (row, channels) pair; no atomics. Compiled by nvcc, or as loops by a C++ compiler, for tests
// on a CPU:
//
//   python3 monomials.py
//   nvcc -O3 -arch=sm_90 -Xcompiler -fPIC -shared kernels.cu -o kernels_gpu.so
//   g++ -O2 -fPIC -shared -x c++ kernels.cu -o kernels_cpu.so
//
// Layouts: columns of queries, keys and values are [component][head], as in m5; H = 16 heads, dv =
// 8, width 128, 9 taps, 31 neighbours, as in nano-conv. Chunks of T rows: phi is
// [chunk][head][feature][row].
#include <cmath>
#include <cstdint>
#ifdef __CUDACC__
#include <cuda_runtime.h>
#define KERNEL static __global__ void
#define DEVICE static __device__ __forceinline__
#define LAUNCH(kernel, grid, block, stream, ...)                 \
  kernel<<<grid, block, 0, (cudaStream_t)stream>>>(__VA_ARGS__); \
  return (int)cudaGetLastError()
#else
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
static dim3 threadIdx, blockIdx, blockDim, gridDim;
#define KERNEL static void
#define DEVICE static inline
#define LAUNCH(kernel, grid, block, stream, ...)         \
  gridDim = grid;                                        \
  blockDim = block;                                      \
  for (unsigned bz = 0; bz < gridDim.z; ++bz)            \
    for (unsigned by = 0; by < gridDim.y; ++by)          \
      for (unsigned bx = 0; bx < gridDim.x; ++bx)        \
        for (unsigned ty = 0; ty < blockDim.y; ++ty)     \
          for (unsigned tx = 0; tx < blockDim.x; ++tx) { \
            blockIdx = dim3(bx, by, bz);                 \
            threadIdx = dim3(tx, ty, 0);                 \
            kernel(__VA_ARGS__);                         \
          }                                              \
  return 0
#endif
using bf16 = unsigned short;
using i64 = long long;
DEVICE float up(bf16 v) {
  union {
    unsigned u;
    float f;
  } c;
  c.u = (unsigned)v << 16;
  return c.f;
}
DEVICE bf16 down(float v) {
  union {
    unsigned u;
    float f;
  } c;
  c.f = v;
  return (bf16)((c.u + 0x7fff + ((c.u >> 16) & 1)) >> 16);
}
#include "monomials.inc"

// z [rows][stride], components [4][H] first, not yet bounded -> phi [chunk][H][FP][T], T rows a
// chunk.
#define MAKE_PHI(P)                                                                               \
  KERNEL phi_fwd_##P(const bf16* z, int stride, bf16* phi, i64 rows, int T, int H, float R) {     \
    const i64 r = (i64)blockIdx.x * blockDim.x + threadIdx.x;                                     \
    const int h = blockIdx.y * blockDim.y + threadIdx.y;                                          \
    if (r >= rows) return;                                                                        \
    const bf16* a = z + r * stride + h;                                                           \
    float z0 = up(a[0]), z1 = up(a[H]), z2 = up(a[2 * H]), z3 = up(a[3 * H]);                     \
    const float s = sqrtf(R / (R + z0 * z0 + z1 * z1 + z2 * z2 + z3 * z3));                       \
    z0 *= s;                                                                                      \
    z1 *= s;                                                                                      \
    z2 *= s;                                                                                      \
    z3 *= s;                                                                                      \
    bf16* out = phi + ((r / T) * H + h) * PHI##P##_FP * (i64)T + r % T;                           \
    PHI##P##_FORWARD(STORE)                                                                       \
  }                                                                                               \
  KERNEL phi_bwd_##P(const bf16* z, int stride, const bf16* dphi, bf16* dz, i64 rows, int T,      \
                     int H, float R) {                                                            \
    const i64 r = (i64)blockIdx.x * blockDim.x + threadIdx.x;                                     \
    const int h = blockIdx.y * blockDim.y + threadIdx.y;                                          \
    if (r >= rows) return;                                                                        \
    const bf16* a = z + r * stride + h;                                                           \
    const float r0 = up(a[0]), r1 = up(a[H]), r2 = up(a[2 * H]), r3 = up(a[3 * H]);               \
    const float s = sqrtf(R / (R + r0 * r0 + r1 * r1 + r2 * r2 + r3 * r3));                       \
    const float z0 = r0 * s, z1 = r1 * s, z2 = r2 * s, z3 = r3 * s;                               \
    const bf16* in = dphi + ((r / T) * H + h) * PHI##P##_FP * (i64)T + r % T;                     \
    float d0 = 0, d1 = 0, d2 = 0, d3 = 0;                                                         \
    PHI##P##_PARENTS PHI##P##_BACKWARD(LOAD) const float dot =                                    \
        s * s * s / R * (r0 * d0 + r1 * d1 + r2 * d2 + r3 * d3);                                  \
    bf16* o = dz + r * stride + h;                                                                \
    o[0] = down(s * d0 - dot * r0);                                                               \
    o[H] = down(s * d1 - dot * r1);                                                               \
    o[2 * H] = down(s * d2 - dot * r2);                                                           \
    o[3 * H] = down(s * d3 - dot * r3);                                                           \
  }                                                                                               \
  extern "C" int k_phi_fwd_##P(const void* z, int stride, void* phi, i64 rows, int T, int H,      \
                               float R, void* stream) {                                           \
    LAUNCH(phi_fwd_##P, dim3((unsigned)((rows + 31) / 32), H / (P > 4 ? 8 : H)),                  \
           dim3(32, P > 4 ? 8 : H), stream, (const bf16*)z, stride, (bf16*)phi, rows, T, H, R);   \
  }                                                                                               \
  extern "C" int k_phi_bwd_##P(const void* z, int stride, const void* dphi, void* dz, i64 rows,   \
                               int T, int H, float R, void* stream) {                             \
    LAUNCH(phi_bwd_##P, dim3((unsigned)((rows + 31) / 32), H / (P > 4 ? 8 : H)),                  \
           dim3(32, P > 4 ? 8 : H), stream, (const bf16*)z, stride, (const bf16*)dphi, (bf16*)dz, \
           rows, T, H, R);                                                                        \
  }
#define STORE(f, m) out[(i64)(f)*T] = down(m);
#define LOAD(f) up(in[(i64)(f)*T])
MAKE_PHI(2)
MAKE_PHI(4)
MAKE_PHI(6)

// v [rows][stride], [8][H] -> V [chunk][H][T][16]: eight values, 1, zeros.
KERNEL pack_values(const bf16* v, int stride, bf16* out, i64 rows, int T, int H) {
  const i64 r = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  const int h = threadIdx.y;
  if (r >= rows) return;
  const bf16* a = v + r * stride + h;
  bf16* o = out + (((r / T) * H + h) * (i64)T + r % T) * 16;
  for (int c = 0; c < 8; ++c) o[c] = a[c * H];
  o[8] = 0x3f80;
  for (int c = 9; c < 16; ++c) o[c] = 0;
}
// The first 8 columns back.
KERNEL unpack_values(const bf16* in, bf16* dv, int stride, i64 rows, int T, int H) {
  const i64 r = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  const int h = threadIdx.y;
  if (r >= rows) return;
  const bf16* a = in + (((r / T) * H + h) * (i64)T + r % T) * 16;
  bf16* o = dv + r * stride + h;
  for (int c = 0; c < 8; ++c) o[c * H] = a[c];
}
// u [chunk][H][T][16] -> o [rows][8][H]: u_c / u_8 [- mean] [normed over c]. mean [segment][H][8]
// or null.
KERNEL finish(const float* u, const float* mean, bf16* out, i64 rows, int T, int H, i64 per_segment,
              int norm, float eps) {
  const i64 r = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  const int h = threadIdx.y;
  if (r >= rows) return;
  const float* a = u + (((r / T) * H + h) * (i64)T + r % T) * 16;
  float o[8], sum = 0;
  const float inv = 1 / a[8];
  for (int c = 0; c < 8; ++c) {
    o[c] = a[c] * inv;
    if (mean) o[c] -= mean[((r / per_segment) * H + h) * 8 + c];
    sum += o[c] * o[c];
  }
  const float scale = norm ? 1 / sqrtf(sum / 8 + eps) : 1;
  for (int c = 0; c < 8; ++c) out[r * 8 * H + c * H + h] = down(o[c] * scale);
}
// du [chunk][H][T][16] and, if wanted, g [chunk][H][T][8]: gradient of o before the mean is taken
// off.
KERNEL finish_bwd(const float* u, const float* mean, const bf16* dout, bf16* du, float* gout,
                  i64 rows, int T, int H, i64 per_segment, int norm, float eps) {
  const i64 r = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  const int h = threadIdx.y;
  if (r >= rows) return;
  const i64 at = ((r / T) * H + h) * (i64)T + r % T;
  const float* a = u + at * 16;
  float o[8], y[8], g[8], sum = 0, dot = 0;
  const float inv = 1 / a[8];
  for (int c = 0; c < 8; ++c) {
    o[c] = a[c] * inv;
    y[c] = o[c];
    if (mean) y[c] -= mean[((r / per_segment) * H + h) * 8 + c];
    sum += y[c] * y[c];
    g[c] = up(dout[r * 8 * H + c * H + h]);
    dot += g[c] * y[c];
  }
  if (norm) {
    const float s = 1 / sqrtf(sum / 8 + eps);
    for (int c = 0; c < 8; ++c) g[c] = s * (g[c] - y[c] * s * s * dot / 8);
  }
  float back = 0;
  bf16* d = du + at * 16;
  for (int c = 0; c < 8; ++c) {
    back += g[c] * o[c];
    d[c] = down(g[c] * inv);
    if (gout) gout[at * 8 + c] = g[c];
  }
  d[8] = down(-back * inv);
  for (int c = 9; c < 16; ++c) d[c] = 0;
}
// y[r][c] = sum_j w[j][c] x[r + (j - 4) dilation][c] within segments of N rows; flip: w[8 - j].
KERNEL conv(const bf16* x, const float* w, bf16* y, i64 rows, i64 N, int D, int dilation,
            int flip) {
  const i64 r = (i64)blockIdx.x * blockDim.y + threadIdx.y;
  const int c = 2 * threadIdx.x;
  if (r >= rows) return;
  const i64 in = r % N;
  float s0 = 0, s1 = 0;
  for (int j = 0; j < 9; ++j) {
    const i64 off = (i64)(j - 4) * dilation;
    if (in + off < 0 || in + off >= N) continue;
    const unsigned v = *(const unsigned*)(x + (r + off) * D + c);
    const float* t = w + (flip ? 8 - j : j) * D + c;
    s0 += t[0] * up((bf16)(v & 0xffff));
    s1 += t[1] * up((bf16)(v >> 16));
  }
  *(unsigned*)(y + r * D + c) = (unsigned)down(s0) | ((unsigned)down(s1) << 16);
}
// part[block][j][c] = sum over the block's rows of dy[r][c] x[r + (j - 4) dilation][c].
KERNEL conv_weight(const bf16* x, const bf16* dy, float* part, i64 rows, i64 N, int D, int dilation,
                   int per_block) {
  const int c = threadIdx.x;
  const i64 b = (i64)blockIdx.x * blockDim.y + threadIdx.y, first = b * per_block;
  if (first >= rows) return;
  float s[9] = {0, 0, 0, 0, 0, 0, 0, 0, 0};
  for (i64 r = first; r < first + per_block && r < rows; ++r) {
    const i64 in = r % N;
    const float g = up(dy[r * D + c]);
    for (int j = 0; j < 9; ++j) {
      const i64 off = (i64)(j - 4) * dilation;
      if (in + off >= 0 && in + off < N) s[j] += g * up(x[(r + off) * D + c]);
    }
  }
  for (int j = 0; j < 9; ++j) part[(b * 9 + j) * D + c] = s[j];
}
// h = x * gain / sqrt(mean(x^2) + eps), rows of 128.
#ifdef __CUDACC__
#define WARP_SUM(v) \
  for (int k = 16; k; k >>= 1) v += __shfl_xor_sync(~0u, v, k)
KERNEL rms(const float* x, const float* gain, bf16* h, i64 rows, float eps) {
  const i64 r = (i64)blockIdx.x * blockDim.y + threadIdx.y;
  const int c = 4 * threadIdx.x;
  if (r >= rows) return;
  const float4 v = *(const float4*)(x + r * 128 + c), g = *(const float4*)(gain + c);
  float s = v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
  WARP_SUM(s);
  s = rsqrtf(s / 128 + eps);
  uint2 o;
  o.x = down(v.x * s * g.x) | (unsigned)down(v.y * s * g.y) << 16;
  o.y = down(v.z * s * g.z) | (unsigned)down(v.w * s * g.w) << 16;
  *(uint2*)(h + r * 128 + c) = o;
}
// dx, and d_gain summed by warps over per_warp rows: part[warp][128].
KERNEL rms_bwd(const float* x, const float* gain, const bf16* dh, float* dx, float* part, i64 rows,
               int per_warp, float eps) {
  const i64 w = (i64)blockIdx.x * blockDim.y + threadIdx.y, first = w * per_warp;
  const int c = 4 * threadIdx.x;
  if (first >= rows) return;
  const float4 g = *(const float4*)(gain + c);
  float4 p = {0, 0, 0, 0};
  for (i64 r = first; r < first + per_warp && r < rows; ++r) {
    const float4 v = *(const float4*)(x + r * 128 + c);
    const uint2 q = *(const uint2*)(dh + r * 128 + c);
    const float d0 = up((bf16)(q.x & 0xffff)), d1 = up((bf16)(q.x >> 16)),
                d2 = up((bf16)(q.y & 0xffff)), d3 = up((bf16)(q.y >> 16));
    float s = v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
    WARP_SUM(s);
    s = rsqrtf(s / 128 + eps);
    float t = (d0 * g.x * v.x + d1 * g.y * v.y + d2 * g.z * v.z + d3 * g.w * v.w);
    WARP_SUM(t);
    t *= s * s * s / 128;
    float4 o;
    o.x = d0 * g.x * s - v.x * t;
    o.y = d1 * g.y * s - v.y * t;
    o.z = d2 * g.z * s - v.z * t;
    o.w = d3 * g.w * s - v.w * t;
    *(float4*)(dx + r * 128 + c) = o;
    p.x += d0 * v.x * s;
    p.y += d1 * v.y * s;
    p.z += d2 * v.z * s;
    p.w += d3 * v.w * s;
  }
  *(float4*)(part + w * 128 + c) = p;
}
#else
KERNEL rms(const float* x, const float* gain, bf16* h, i64 rows, float eps) {
  const i64 r = (i64)blockIdx.x * blockDim.y + threadIdx.y;
  if (threadIdx.x || r >= rows) return;
  float s = 0;
  for (int c = 0; c < 128; ++c) s += x[r * 128 + c] * x[r * 128 + c];
  s = 1 / sqrtf(s / 128 + eps);
  for (int c = 0; c < 128; ++c) h[r * 128 + c] = down(x[r * 128 + c] * s * gain[c]);
}
KERNEL rms_bwd(const float* x, const float* gain, const bf16* dh, float* dx, float* part, i64 rows,
               int per_warp, float eps) {
  const i64 w = (i64)blockIdx.x * blockDim.y + threadIdx.y, first = w * per_warp;
  if (threadIdx.x || first >= rows) return;
  for (int c = 0; c < 128; ++c) part[w * 128 + c] = 0;
  for (i64 r = first; r < first + per_warp && r < rows; ++r) {
    float s = 0, t = 0;
    const float* v = x + r * 128;
    for (int c = 0; c < 128; ++c) {
      s += v[c] * v[c];
      t += up(dh[r * 128 + c]) * gain[c] * v[c];
    }
    s = 1 / sqrtf(s / 128 + eps);
    t *= s * s * s / 128;
    for (int c = 0; c < 128; ++c) {
      const float d = up(dh[r * 128 + c]);
      dx[r * 128 + c] = d * gain[c] * s - v[c] * t;
      part[w * 128 + c] += d * v[c] * s;
    }
  }
}
#endif
// One-hot rows of the neighbourhood: out[r][7 (delta + w) + token], 224 columns for w = 15; PAD and
// out of the segment: none.
KERNEL one_hot(const unsigned char* tokens, bf16* out, i64 rows, i64 N) {
  const i64 r = (i64)blockIdx.x * blockDim.y + threadIdx.y;
  if (r >= rows) return;
  const i64 in = r % N;
  const int j = threadIdx.x;  // 32: taps
  if (j == 31) {
    for (int k = 217; k < 224; ++k) out[r * 224 + k] = 0;
    return;
  }
  const i64 at = in + j - 15;
  const int t = at < 0 || at >= N ? 6 : tokens[r + j - 15];
  for (int k = 0; k < 7; ++k) out[r * 224 + 7 * j + k] = k == t && t != 6 ? 0x3f80 : 0;
}
#define GRID_RH dim3((unsigned)((rows + 31) / 32))
#define BLOCK_RH dim3(32, H)
extern "C" int k_pack(const void* v, int stride, void* out, i64 rows, int T, int H, void* stream) {
  LAUNCH(pack_values, GRID_RH, BLOCK_RH, stream, (const bf16*)v, stride, (bf16*)out, rows, T, H);
}
extern "C" int k_unpack(const void* in, void* dv, int stride, i64 rows, int T, int H,
                        void* stream) {
  LAUNCH(unpack_values, GRID_RH, BLOCK_RH, stream, (const bf16*)in, (bf16*)dv, stride, rows, T, H);
}
extern "C" int k_finish(const void* u, const void* mean, void* out, i64 rows, int T, int H, i64 seg,
                        int norm, float eps, void* stream) {
  LAUNCH(finish, GRID_RH, BLOCK_RH, stream, (const float*)u, (const float*)mean, (bf16*)out, rows,
         T, H, seg, norm, eps);
}
extern "C" int k_finish_bwd(const void* u, const void* mean, const void* dout, void* du, void* g,
                            i64 rows, int T, int H, i64 seg, int norm, float eps, void* stream) {
  LAUNCH(finish_bwd, GRID_RH, BLOCK_RH, stream, (const float*)u, (const float*)mean,
         (const bf16*)dout, (bf16*)du, (float*)g, rows, T, H, seg, norm, eps);
}
extern "C" int k_conv(const void* x, const void* w, void* y, i64 rows, i64 N, int D, int dilation,
                      int flip, void* stream) {
  LAUNCH(conv, dim3((unsigned)((rows + 3) / 4)), dim3(D / 2, 4), stream, (const bf16*)x,
         (const float*)w, (bf16*)y, rows, N, D, dilation, flip);
}
extern "C" int k_conv_weight(const void* x, const void* dy, void* part, i64 rows, i64 N, int D,
                             int dilation, int per_block, void* stream) {
  LAUNCH(conv_weight, dim3((unsigned)(((rows + per_block - 1) / per_block + 3) / 4)), dim3(D, 4),
         stream, (const bf16*)x, (const bf16*)dy, (float*)part, rows, N, D, dilation, per_block);
}
extern "C" int k_rms(const void* x, const void* g, void* h, i64 rows, float eps, void* stream) {
  LAUNCH(rms, dim3((unsigned)((rows + 7) / 8)), dim3(32, 8), stream, (const float*)x,
         (const float*)g, (bf16*)h, rows, eps);
}
extern "C" int k_rms_bwd(const void* x, const void* g, const void* dh, void* dx, void* part,
                         i64 rows, int per_warp, float eps, void* stream) {
  LAUNCH(rms_bwd, dim3((unsigned)(((rows + per_warp - 1) / per_warp + 7) / 8)), dim3(32, 8), stream,
         (const float*)x, (const float*)g, (const bf16*)dh, (float*)dx, (float*)part, rows,
         per_warp, eps);
}
extern "C" int k_one_hot(const void* t, void* out, i64 rows, i64 N, void* stream) {
  LAUNCH(one_hot, dim3((unsigned)((rows + 7) / 8)), dim3(32, 8), stream, (const unsigned char*)t,
         (bf16*)out, rows, N);
}
