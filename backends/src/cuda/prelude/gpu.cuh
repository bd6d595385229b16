// The prelude for the GPU: all that generated kernels may use. NVRTC and nvcc compile it, without any header; for the
// processor `emulator.hpp` declares the same names, so one text runs on both.
//
// A kernel is MX_KERNEL(NAME, THREADS)(parameters) { ... }; THREADS is a multiple of 32. Parameters are words of 8 bytes:
// pointers and mx_i64. A grid has one dimension and a block has exactly THREADS threads. No thread of a block returns
// before a barrier that others still meet.
//
//   MX_GLOBAL(T, name, pointer)                  a pointer to global memory. With a const T nobody writes that memory while
//                                                the kernel runs; without, no other block touches the same elements.
//   MX_GLOBAL_SIZED(T, name, pointer, count)     the same, of which only `count` elements may be touched
//   MX_SHARED_MEMORY(memory)                     the block's dynamic shared memory, aligned to 1024 bytes
//   MX_SHARED(T, name, memory, offset, count)    `count` elements from byte `offset` of it
//   MX_SCRATCH(T, name, pointer, offset, count)  the same in global memory that belongs to this block alone
//
// All four declare a name that is indexed with mx_i64 and passed to functions as mx_view<T> (mx_view<const T> takes both).
// Elements are read and assigned (also by += -= *= /=); their address is not taken, and `auto` is no type for them. Regions
// may overlap over time; between accesses of one place by two threads, one of them a write, lies mx_barrier() (or
// mx_warp_barrier() within a warp). Functions are MX_DEVICE, loops to unroll have MX_UNROLL before them.
//
// Warp functions (shuffles, products, ldmatrix, mx_warp_barrier) are called by all 32 lanes together. They order no
// memory accesses; only mx_warp_barrier() does.
//
// mx_copy16_async copies 16 bytes to shared memory, or zeros there when `present` is false; both places are multiples of
// 16 bytes. mx_copy_commit() closes a group of this thread's copies; mx_copy_wait<N>() waits until at most the newest N
// groups are unfinished, and other threads see them after a barrier.
//
// For sm_90: an mbarrier is an mx_u64 in shared memory. One thread initialises it with the number of arrivals of a phase
// and calls mx_mbarrier_fence(); a barrier follows. mx_bulk_copy (bytes: a multiple of 16) counts its bytes on the
// mbarrier, to which mx_mbarrier_arrive_expect announced them; mx_mbarrier_wait waits until the phase of that parity ended.
#define MX_DEVICE __device__ __forceinline__
#define MX_UNROLL _Pragma("unroll")
// For a kernel's pointer whose memory no other of its pointers reaches.
#define MX_RESTRICT __restrict__
#define MX_KERNEL(NAME, THREADS) extern "C" __global__ void __launch_bounds__(THREADS) NAME

typedef long long mx_i64;
typedef unsigned long long mx_u64;
typedef int mx_i32;
typedef unsigned int mx_u32;
typedef unsigned char mx_bool;
struct mx_bf16 { unsigned short bits; };
struct mx_f16 { unsigned short bits; };

template <class T> using mx_view = T *;
template <class T> using mx_global = T *;

#define MX_GLOBAL(TYPE, NAME, POINTER) TYPE *const NAME = POINTER
#define MX_GLOBAL_SIZED(TYPE, NAME, POINTER, COUNT) TYPE *const NAME = POINTER
#define MX_SHARED_MEMORY(NAME) extern __shared__ __align__(1024) unsigned char NAME[]
#define MX_SHARED(TYPE, NAME, MEMORY, OFFSET, COUNT) TYPE *const NAME = reinterpret_cast<TYPE *>((MEMORY) + (OFFSET))
#define MX_SCRATCH(TYPE, NAME, POINTER, OFFSET, COUNT) \
  TYPE *const NAME = reinterpret_cast<TYPE *>(reinterpret_cast<mx_u64>(POINTER) + (mx_u64)(OFFSET))

// Places.
MX_DEVICE mx_i32 mx_thread() { return (mx_i32)threadIdx.x; }
MX_DEVICE mx_i32 mx_warp() { return (mx_i32)(threadIdx.x >> 5); }
MX_DEVICE mx_i32 mx_lane() { return (mx_i32)(threadIdx.x & 31); }
MX_DEVICE mx_i64 mx_block() { return (mx_i64)blockIdx.x; }
MX_DEVICE mx_i64 mx_blocks() { return (mx_i64)gridDim.x; }
MX_DEVICE void mx_barrier() { __syncthreads(); }
MX_DEVICE void mx_warp_barrier() { __syncwarp(); }
MX_DEVICE mx_u32 mx_shared_address(const void *p) { return (mx_u32)__cvta_generic_to_shared(p); }

// Bits.
MX_DEVICE mx_u32 mx_float_bits(float x) { return __float_as_uint(x); }
MX_DEVICE float mx_bits_float(mx_u32 u) { return __uint_as_float(u); }

// Storage types: to nearest even, too large is infinite, NaN stays NaN.
MX_DEVICE float mx_to_float(float x) { return x; }
MX_DEVICE float mx_to_float(mx_bf16 x) { return __uint_as_float((mx_u32)x.bits << 16); }
MX_DEVICE float mx_to_float(mx_f16 x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}
MX_DEVICE mx_bf16 mx_to_bf16(float x) {
  mx_bf16 y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
}
MX_DEVICE mx_f16 mx_to_f16(float x) {
  mx_f16 y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
}
MX_DEVICE float mx_round_bf16(float x) { return mx_to_float(mx_to_bf16(x)); }
MX_DEVICE float mx_round_f16(float x) { return mx_to_float(mx_to_f16(x)); }
MX_DEVICE mx_u32 mx_pack_bf16(float low, float high) {
  mx_u32 y;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  return y;
}
MX_DEVICE mx_u32 mx_pack_f16(float low, float high) {
  mx_u32 y;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  return y;
}
MX_DEVICE mx_u32 mx_to_tf32(float x) {
  mx_u32 y;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
  return y;
}

// Reals. No approximate forms: results are those of a C library to a unit or two in the last place.
#define MXR_REAL(NAME, F32, F64) \
  MX_DEVICE float NAME(float x) { return F32(x); } \
  MX_DEVICE double NAME(double x) { return F64(x); }
MXR_REAL(mx_exp, expf, exp)
MXR_REAL(mx_expm1, expm1f, expm1)
MXR_REAL(mx_log, logf, log)
MXR_REAL(mx_log1p, log1pf, log1p)
MXR_REAL(mx_sqrt, sqrtf, sqrt)
MXR_REAL(mx_rsqrt, rsqrtf, rsqrt)
MXR_REAL(mx_tanh, tanhf, tanh)
MXR_REAL(mx_erf, erff, erf)
MXR_REAL(mx_sin, sinf, sin)
MXR_REAL(mx_cos, cosf, cos)
MXR_REAL(mx_floor, floorf, floor)
MXR_REAL(mx_ceil, ceilf, ceil)
MXR_REAL(mx_trunc, truncf, trunc)
MXR_REAL(mx_round_even, rintf, rint)
MXR_REAL(mx_abs, fabsf, fabs)
#undef MXR_REAL
#define MXR_EACH(T, POW, FMOD, FMA) \
  MX_DEVICE T mx_pow(T x, T y) { return POW(x, y); } \
  MX_DEVICE T mx_mod(T x, T y) { \
    T r = FMOD(x, y); \
    return r != T(0) && (r < T(0)) != (y < T(0)) ? r + y : r; \
  } \
  MX_DEVICE T mx_fma(T x, T y, T z) { return FMA(x, y, z); }
MXR_EACH(float, powf, fmodf, fmaf)
MXR_EACH(double, pow, fmod, fma)
#undef MXR_EACH
MX_DEVICE float mx_max(float x, float y) {
  float z;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
  return z;
}
MX_DEVICE float mx_min(float x, float y) {
  float z;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
  return z;
}
MX_DEVICE double mx_max(double x, double y) { return x != x ? x : y != y ? y : fmax(x, y); }
MX_DEVICE double mx_min(double x, double y) { return x != x ? x : y != y ? y : fmin(x, y); }

// Warps.
#define MXR_SHUFFLE(T, WORD) \
  MX_DEVICE T mx_shuffle(T x, mx_i32 lane) { return (T)__shfl_sync(0xffffffffu, (WORD)x, lane); } \
  MX_DEVICE T mx_shuffle_xor(T x, mx_i32 mask) { return (T)__shfl_xor_sync(0xffffffffu, (WORD)x, mask); } \
  MX_DEVICE T mx_shuffle_up(T x, mx_i32 n) { return (T)__shfl_up_sync(0xffffffffu, (WORD)x, (mx_u32)n); } \
  MX_DEVICE T mx_shuffle_down(T x, mx_i32 n) { return (T)__shfl_down_sync(0xffffffffu, (WORD)x, (mx_u32)n); }
MXR_SHUFFLE(float, float)
MXR_SHUFFLE(double, double)
MXR_SHUFFLE(mx_i64, mx_i64)
MXR_SHUFFLE(mx_i32, mx_i32)
MXR_SHUFFLE(mx_u32, mx_u32)
MXR_SHUFFLE(bool, mx_i32)
#undef MXR_SHUFFLE

// Tensor cores: d += a b with f32 sums. Fragments are laid out as the PTX instruction set says of these shapes.
#define MXR_MMA(NAME, SHAPE, TYPE) \
  MX_DEVICE void NAME(float (&d)[4], const mx_u32 (&a)[4], const mx_u32 (&b)[2]) { \
    asm volatile("mma.sync.aligned." SHAPE ".row.col.f32." TYPE "." TYPE ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])); \
  }
MXR_MMA(mx_mma_bf16, "m16n8k16", "bf16")
MXR_MMA(mx_mma_f16, "m16n8k16", "f16")
MXR_MMA(mx_mma_tf32, "m16n8k8", "tf32")
#undef MXR_MMA
template <class T> MX_DEVICE void mx_ldmatrix4(mx_u32 (&r)[4], T *view, mx_i64 index) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(mx_shared_address(view + index)) : "memory");
}
template <class T> MX_DEVICE void mx_ldmatrix4_transposed(mx_u32 (&r)[4], T *view, mx_i64 index) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(mx_shared_address(view + index)) : "memory");
}

// Copies that run beside the threads.
template <class T, class U> MX_DEVICE void mx_copy16_async(T *to, mx_i64 index, U *from, mx_i64 source, bool present) {
  const mx_u64 address = reinterpret_cast<mx_u64>(from) + (present ? (mx_u64)source * sizeof(U) : 0);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(mx_shared_address(to + index)), "l"(address), "r"(present ? 16 : 0) : "memory");
}
MX_DEVICE void mx_copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> MX_DEVICE void mx_copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
MX_DEVICE void mx_mbarrier_init(mx_u64 *barriers, mx_i64 index, mx_i32 count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(mx_shared_address(barriers + index)), "r"(count) : "memory");
}
MX_DEVICE void mx_mbarrier_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
MX_DEVICE void mx_mbarrier_arrive(mx_u64 *barriers, mx_i64 index) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(mx_shared_address(barriers + index)) : "memory");
}
MX_DEVICE void mx_mbarrier_arrive_expect(mx_u64 *barriers, mx_i64 index, mx_i32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(mx_shared_address(barriers + index)), "r"(bytes) : "memory");
}
MX_DEVICE void mx_mbarrier_wait(mx_u64 *barriers, mx_i64 index, mx_i32 parity) {
  mx_u32 done = 0;
  while (!done)
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(done) : "r"(mx_shared_address(barriers + index)), "r"(parity) : "memory");
}
template <class T, class U>
MX_DEVICE void mx_bulk_copy(T *to, mx_i64 index, U *from, mx_i64 source, mx_i32 bytes, mx_u64 *barriers, mx_i64 barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(mx_shared_address(to + index)),
               "l"(from + source), "r"(bytes), "r"(mx_shared_address(barriers + barrier)) : "memory");
}
#endif
