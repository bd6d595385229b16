// What a warp does together: the last lane to arrive computes for all 32.
//
// Fragment layouts are those of the PTX instruction set's "Warp-level matrix instructions". Products are summed in f32 in
// the order of the inner index; a GPU's order and rounding differ.
#include "runtime.hpp"
#include <cstring>

extern "C" float mxr_float_from_f16(unsigned short bits);

namespace emulator {
namespace {

// `compute` gets the fibers of the warp's lanes. True for the lane that computed.
template <class Compute> void together(const char *operation, const void *site, Compute compute) {
  Worker &w = *worker;
  Warp &warp = own_warp();
  Fiber *lanes = &w.fibers[self->thread / LANES * LANES];
  const int lane = self->thread % LANES;
  if (warp.arrived == 0) {
    warp.operation = operation;
    warp.first = lane;
    for (int k = 0; k < LANES; k++)
      if (lanes[k].state == State::RETURNED)
        fail(site, "warp divergence: lane " + std::to_string(lane) + " calls " + operation + " after lane " + std::to_string(k) + " returned");
  } else if (strcmp(warp.operation, operation) != 0) {
    fail(site, "warp divergence: lane " + std::to_string(lane) + " calls " + operation + " while lane " + std::to_string(warp.first) + " waits in " + warp.operation);
  }
  if (++warp.arrived < LANES) return wait(State::IN_WARP, operation, site);
  warp.arrived = 0;
  compute(lanes);
  std::vector<int> others;
  for (int k = 0; k < LANES; k++)
    if (k != lane) others.push_back(lanes[k].thread);
  wake(others);
}

float bf16(uint32_t bits) {
  const uint32_t u = bits << 16;
  float x;
  memcpy(&x, &u, 4);
  return x;
}

float word(uint32_t u) {
  float x;
  memcpy(&x, &u, 4);
  return x;
}

void multiply(Fiber *lanes, int inner, float (*element)(uint32_t half)) {
  float a[16][16], b[16][8], c[16][8];
  for (int lane = 0; lane < LANES; lane++) {
    const int group = lane >> 2, quad = lane & 3;
    const auto d = static_cast<const float *>(lanes[lane].operands[0]);
    const auto fa = static_cast<const uint32_t *>(lanes[lane].operands[1]);
    const auto fb = static_cast<const uint32_t *>(lanes[lane].operands[2]);
    for (int k = 0; k < 4; k++) {
      const int row = group + (k & 1) * 8;
      if (element) {
        a[row][quad * 2 + (k >> 1) * 8] = element(fa[k] & 0xffff);
        a[row][quad * 2 + (k >> 1) * 8 + 1] = element(fa[k] >> 16);
      } else {
        a[row][quad + (k >> 1) * 4] = word(fa[k] & 0xffffe000u); // the hardware reads no more of the word
      }
      c[group + (k >> 1) * 8][quad * 2 + (k & 1)] = d[k];
    }
    for (int k = 0; k < 2; k++) {
      if (element) {
        b[quad * 2 + k * 8][group] = element(fb[k] & 0xffff);
        b[quad * 2 + k * 8 + 1][group] = element(fb[k] >> 16);
      } else {
        b[quad + k * 4][group] = word(fb[k] & 0xffffe000u);
      }
    }
  }
  for (int i = 0; i < 16; i++)
    for (int k = 0; k < inner; k++)
      for (int j = 0; j < 8; j++) c[i][j] += a[i][k] * b[k][j];
  for (int lane = 0; lane < LANES; lane++)
    for (int k = 0; k < 4; k++) static_cast<float *>(lanes[lane].operands[0])[k] = c[(lane >> 2) + (k >> 1) * 8][(lane & 3) * 2 + (k & 1)];
}

float half(uint32_t bits) { return mxr_float_from_f16((unsigned short)bits); }

} // namespace
} // namespace emulator

using namespace emulator;
#define SITE __builtin_return_address(0)
#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT void mxr_warp_barrier() {
  together("warp_barrier", SITE, [](Fiber *lanes) {
    Worker &w = *worker;
    own_warp().base = w.now++;
    for (int k = 0; k < LANES; k++) lanes[k].clock = w.now;
  });
}

EXPORT unsigned long long mxr_shuffle(const char *operation, unsigned long long value, int source) {
  self->value = value;
  self->source = source;
  Fiber &f = *self;
  together(operation, SITE, [](Fiber *lanes) {
    uint64_t values[LANES];
    for (int k = 0; k < LANES; k++) values[k] = lanes[k].value;
    for (int k = 0; k < LANES; k++) lanes[k].value = values[lanes[k].source];
  });
  return f.value;
}

EXPORT void mxr_mma(const char *operation, float *d, const unsigned *a, const unsigned *b) {
  self->operands[0] = d;
  self->operands[1] = const_cast<unsigned *>(a);
  self->operands[2] = const_cast<unsigned *>(b);
  together(operation, SITE, [operation](Fiber *lanes) {
    const bool is_tf32 = strcmp(operation, "mma_tf32") == 0;
    multiply(lanes, is_tf32 ? 8 : 16, is_tf32 ? nullptr : strcmp(operation, "mma_f16") == 0 ? half : bf16);
  });
}

EXPORT void mxr_ldmatrix(const char *operation, unsigned *r, const void *row) {
  if ((uint64_t)row % 16 != 0) fail(SITE, "ldmatrix: a row's address is no multiple of 16");
  check(SITE, row, 16, SHARED, nullptr, false);
  self->operands[0] = r;
  self->operands[1] = const_cast<void *>(row);
  together(operation, SITE, [operation](Fiber *lanes) {
    const bool transposed = strcmp(operation, "ldmatrix_transposed") == 0;
    for (int matrix = 0; matrix < 4; matrix++) {
      uint16_t rows[8][8];
      for (int k = 0; k < 8; k++) memcpy(rows[k], lanes[matrix * 8 + k].operands[1], 16);
      for (int lane = 0; lane < LANES; lane++) {
        const int i = lane >> 2, j = (lane & 3) * 2;
        const uint32_t low = transposed ? rows[j][i] : rows[i][j], high = transposed ? rows[j + 1][i] : rows[i][j + 1];
        static_cast<uint32_t *>(lanes[lane].operands[0])[matrix] = low | high << 16;
      }
    }
  });
}
