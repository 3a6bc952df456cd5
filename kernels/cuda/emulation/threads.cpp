#include "kernels/cuda/emulation/threads.hpp"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/emulation/tensor_core.hpp"

namespace m5::kernels::cuda::emulation {

dim3 thread_index, block_index, block_size, grid_size;

namespace {

constexpr std::size_t kStackBytes = 256 * 1024;
constexpr int kLanes = 32;

enum class State { kReady, kBlockBarrier, kWarpBarrier, kDone };

// A switch by swapcontext asks the system for the signal mask, twice. A context that ran before is
// entered by _longjmp, which does not; but sanitizers want to see where the stack goes.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
struct Context {
  ucontext_t whole;
  void enter_from(Context& from) { swapcontext(&from.whole, &whole); }
};
#else
struct Context {
  ucontext_t whole;
  jmp_buf place;
  bool ran = false;
  void enter_from(Context& from) {
    if (_setjmp(from.place) != 0) return;
    from.ran = true;
    if (ran) _longjmp(place, 1);
    setcontext(&whole);
  }
};
#endif

struct Copy {
  void* to;
  const void* from;
  std::size_t bytes;
};

struct Product {
  float* d;
  int tiles;
  const unsigned* a;
  const unsigned char* b;
};

struct Fiber {
  Context context;
  std::unique_ptr<unsigned char[]> stack;
  State state = State::kDone;
  std::uint64_t value = 0, received = 0;
  int from = 0;
  unsigned a[4], b[2];
  std::deque<Copy> copies;          // that have not been done yet
  std::deque<std::size_t> commits;  // the number of copies in each
  std::size_t uncommitted = 0;
  std::deque<Product> products;  // that have not been done yet
};

struct Machine {
  Context scheduler;
  std::vector<Fiber> fibers;
  int current = 0, threads = 0;
  const std::function<void()>* body = nullptr;
  std::unique_ptr<unsigned char[]> shared;
  bool descending = false;
};

Machine& machine() {
  static Machine m;
  return m;
}

// A fiber runs the body of one thread a block, and is kept for the next block.
void fiber_main() {
  Machine& m = machine();
  for (;;) {
    (*m.body)();
    Fiber& self = m.fibers[static_cast<std::size_t>(m.current)];
    self.state = State::kDone;
    self.copies.clear();
    self.commits.clear();
    self.uncommitted = 0;
    self.products.clear();
    m.scheduler.enter_from(self.context);
  }
}

void wait_in(State state) {
  Machine& m = machine();
  Fiber& self = m.fibers[static_cast<std::size_t>(m.current)];
  self.state = state;
  m.scheduler.enter_from(self.context);
}

void grow(int threads) {
  Machine& m = machine();
  if (static_cast<int>(m.fibers.size()) >= threads) return;
  // A context that has been made holds its own address: no moving of those there are.
  m.fibers = std::vector<Fiber>(static_cast<std::size_t>(threads));
  for (Fiber& fiber : m.fibers) {
    fiber.stack.reset(new unsigned char[kStackBytes]);
    ucontext_t& context = fiber.context.whole;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.stack.get();
    context.uc_stack.ss_size = kStackBytes;
    context.uc_link = nullptr;
    makecontext(&context, fiber_main, 0);
  }
}

[[noreturn]] void divergent(const char* what) {
  std::fprintf(stderr, "emulation: block %u %u %u: %s that not all threads reach\n", block_index.x,
               block_index.y, block_index.z, what);
  std::abort();
}

// Lets the lanes of a warp that all wait in a shuffle go on.
bool release_warp(int first) {
  Machine& m = machine();
  const int end = std::min(first + kLanes, m.threads);
  int waiting = 0;
  for (int t = first; t < end; ++t) {
    waiting += m.fibers[static_cast<std::size_t>(t)].state == State::kWarpBarrier;
  }
  if (waiting != end - first) return false;
  for (int t = first; t < end; ++t) {
    Fiber& fiber = m.fibers[static_cast<std::size_t>(t)];
    const int other = first + fiber.from;
    if (other < first || other >= end) divergent("shuffle");
    fiber.received = m.fibers[static_cast<std::size_t>(other)].value;
  }
  for (int t = first; t < end; ++t) m.fibers[static_cast<std::size_t>(t)].state = State::kReady;
  return true;
}

void run_warp(int first) {
  Machine& m = machine();
  const int lanes = std::min(kLanes, m.threads - first);
  do {
    for (int i = 0; i < lanes; ++i) {
      const int t = first + (m.descending ? lanes - 1 - i : i);
      Fiber& fiber = m.fibers[static_cast<std::size_t>(t)];
      if (fiber.state != State::kReady) continue;
      m.current = t;
      thread_index = dim3(static_cast<unsigned>(t));
      fiber.context.enter_from(m.scheduler);
    }
  } while (release_warp(first));
}

void run_block() {
  Machine& m = machine();
  const int warps = (m.threads + kLanes - 1) / kLanes;
  for (;;) {
    for (int t = 0; t < m.threads; ++t) {
      m.fibers[static_cast<std::size_t>(t)].state = State::kReady;
    }
    for (int i = 0; i < warps; ++i) run_warp((m.descending ? warps - 1 - i : i) * kLanes);
    int done = 0, barrier = 0;
    for (int t = 0; t < m.threads; ++t) {
      const State state = m.fibers[static_cast<std::size_t>(t)].state;
      done += state == State::kDone;
      barrier += state == State::kBlockBarrier;
    }
    if (done == m.threads) return;
    if (barrier != m.threads) divergent(barrier > 0 ? "barrier" : "shuffle");
  }
}

}  // namespace

void block_barrier() { wait_in(State::kBlockBarrier); }

std::uint64_t exchange(std::uint64_t value, int from) {
  Machine& m = machine();
  Fiber& self = m.fibers[static_cast<std::size_t>(m.current)];
  self.value = value;
  self.from = from;
  wait_in(State::kWarpBarrier);
  return self.received;
}

void warp_barrier() { exchange(0, 0); }

void copy_async(void* to, const void* from, std::size_t bytes) {
  Machine& m = machine();
  const auto aligned = [bytes](const void* p) {
    return reinterpret_cast<std::uintptr_t>(p) % bytes == 0;
  };
  if (!aligned(to) || !aligned(from)) {
    std::fprintf(stderr, "emulation: an asynchronous copy that is not aligned\n");
    std::abort();
  }
  if (m.descending) {
    std::memcpy(to, from, bytes);
    return;
  }
  Fiber& self = m.fibers[static_cast<std::size_t>(m.current)];
  self.copies.push_back({to, from, bytes});
  ++self.uncommitted;
}

void commit_copies() {
  Machine& m = machine();
  Fiber& self = m.fibers[static_cast<std::size_t>(m.current)];
  self.commits.push_back(self.uncommitted);
  self.uncommitted = 0;
}

void wait_for_copies(std::size_t groups) {
  Machine& m = machine();
  Fiber& self = m.fibers[static_cast<std::size_t>(m.current)];
  while (self.commits.size() > groups) {
    for (; self.commits.front() > 0; --self.commits.front()) {
      const Copy& copy = self.copies.front();
      std::memcpy(copy.to, copy.from, copy.bytes);
      self.copies.pop_front();
    }
    self.commits.pop_front();
  }
}

namespace {

float half(unsigned pair, int i) {
  const std::uint32_t bits = i == 0 ? pair << 16 : pair & 0xffff0000u;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
// Fragment A of a warp, [16 rows][16].
float of_a(const Fiber* warp, int row, int k) {
  return half(warp[row % 8 * 4 + k % 8 / 2].a[row / 8 + k / 8 * 2], k % 2);
}
// k of a column of B, in shared memory with the 128-byte swizzle.
float of_b(const unsigned char* b, int column, int k) {
  const unsigned char* const straight = b + column * 128 + k * 2;
  const auto at = reinterpret_cast<std::uintptr_t>(straight), swizzled = at ^ (at >> 3 & 0x70);
  std::uint16_t bits;
  std::memcpy(&bits, straight + static_cast<std::ptrdiff_t>(swizzled - at), sizeof bits);
  return half(bits, 0);
}

// All lanes of a warp meet here.
void multiply(const Product& product) {
  Machine& m = machine();
  const int lane = m.current % kLanes, g = lane / 4, q = lane % 4;
  Fiber* warp = m.fibers.data() + (m.current - lane);
  std::copy_n(product.a, 4, warp[lane].a);
  warp_barrier();
  for (int i = 0; i < product.tiles * 4; ++i) {
    const int row = g + i % 4 / 2 * 8, column = i / 4 * 8 + 2 * q + i % 2;
    float a[16], b[16];
    for (int k = 0; k < 16; ++k) {
      a[k] = of_a(warp, row, k);
      b[k] = of_b(product.b, column, k);
    }
    product.d[i] = add_products(product.d[i], a, b);
  }
  warp_barrier();
}

}  // namespace

void mma(float* d, const unsigned* a, unsigned b0, unsigned b1) {
  Machine& m = machine();
  const int lane = m.current % kLanes, g = lane / 4, q = lane % 4;
  Fiber* warp = m.fibers.data() + (m.current - lane);
  std::copy_n(a, 4, warp[lane].a);
  warp[lane].b[0] = b0;
  warp[lane].b[1] = b1;
  warp_barrier();
  for (int e = 0; e < 4; ++e) {
    const int row = g + e / 2 * 8, column = 2 * q + e % 2;
    float row_of_a[16], column_of_b[16];
    for (int k = 0; k < 16; ++k) {
      row_of_a[k] = of_a(warp, row, k);
      column_of_b[k] = half(warp[column * 4 + k % 8 / 2].b[k / 8], k % 2);
    }
    d[e] = add_products(d[e], row_of_a, column_of_b);
  }
  warp_barrier();
}

void warpgroup_mma(float* d, int tiles, const unsigned* a, const unsigned char* b) {
  Machine& m = machine();
  // Of the 8 rows that are swizzled alike the first one, a whole step of k in it.
  if (reinterpret_cast<std::uintptr_t>(b) % 1024 % 32 != 0 ||
      reinterpret_cast<std::uintptr_t>(b) % 1024 >= 128) {
    std::fprintf(stderr, "emulation: an operand of a warpgroup that is not aligned\n");
    std::abort();
  }
  const Product product{d, tiles, a, b};
  if (m.descending) return multiply(product);
  m.fibers[static_cast<std::size_t>(m.current)].products.push_back(product);
}

void wait_for_products() {
  Fiber& self = machine().fibers[static_cast<std::size_t>(machine().current)];
  for (; !self.products.empty(); self.products.pop_front()) multiply(self.products.front());
}

void load_transposed(const void* row, unsigned& first, unsigned& second) {
  if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0) {
    std::fprintf(stderr, "emulation: a row of a matrix that is not aligned\n");
    std::abort();
  }
  const int lane = machine().current % kLanes, g = lane / 4, q = lane % 4;
  unsigned* const to[2] = {&first, &second};
  std::uint64_t own = 0;
  std::memcpy(&own, &row, sizeof row);
  for (int matrix = 0; matrix < 2; ++matrix) {
    std::uint16_t pair[2];
    for (int i = 0; i < 2; ++i) {
      const std::uint64_t bits = exchange(own, 8 * matrix + 2 * q + i);
      const unsigned char* from = nullptr;
      std::memcpy(&from, &bits, sizeof from);
      std::memcpy(pair + i, from + 2 * g, 2);
    }
    *to[matrix] = pair[0] | static_cast<unsigned>(pair[1]) << 16;
  }
  warp_barrier();
}

void* shared_bytes() { return machine().shared.get(); }

void run_grid(dim3 grid, int threads, std::size_t bytes, const std::function<void()>& body) {
  Machine& m = machine();
  const char* order = std::getenv("M5_EMULATION_ORDER");
  m.descending = order && std::string(order) == "descending";
  grow(threads);
  m.threads = threads;
  m.body = &body;
  grid_size = grid;
  block_size = dim3(static_cast<unsigned>(threads));
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        block_index = dim3(x, y, z);
        // Exactly so many bytes, of which none is a number.
        m.shared.reset(new unsigned char[bytes]);
        std::memset(m.shared.get(), 0xff, bytes);
        run_block();
      }
    }
  }
}

}  // namespace m5::kernels::cuda::emulation
