// The prelude for the processor: generated kernels compiled by g++ run thread by thread, with every access checked.
//
// It declares the same names as `gpu.cuh`, whose head says what each of them means. Here a pointer of the GPU is a view
// that knows its bounds, and its elements report every read and write to the runtime (`runtime.cpp`), which looks for
// races, or for reads of what no copy has brought yet. No standard header is included: a program is one translation
// unit, compiled while somebody waits.
#pragma once

typedef long long mx_i64;
typedef unsigned long long mx_u64;
typedef int mx_i32;
typedef unsigned int mx_u32;
typedef unsigned char mx_bool;
struct mx_bf16 { unsigned short bits; };
struct mx_f16 { unsigned short bits; };

// What a view shows; the runtime's checks depend on it.
enum mxr_kind { mxr_shared_memory, mxr_scratch_memory, mxr_global_memory, mxr_constant_memory };
struct mxr_extent { void *region; mx_i64 bytes; };

extern "C" {
int mxr_thread() __attribute__((const));
mx_i64 mxr_block() __attribute__((const));
mx_i64 mxr_blocks() __attribute__((const));
void mxr_barrier();
void mxr_warp_barrier();
unsigned char *mxr_shared();
mx_i64 mxr_shared_bytes();
mxr_extent mxr_find(const void *address);
void mxr_read(const void *address, int bytes, int kind, void *region);
void mxr_write(const void *address, int bytes, int kind, void *region);
[[noreturn]] void mxr_out_of_bounds(const char *name, mx_i64 index, mx_i64 count, int kind);
[[noreturn]] void mxr_bad_view(const char *name, mx_i64 offset, mx_i64 count, int size, mx_i64 bytes, int kind);
mx_u64 mxr_shuffle(const char *operation, mx_u64 value, int source);
void mxr_mma(const char *operation, float *d, const mx_u32 *a, const mx_u32 *b);
void mxr_ldmatrix(const char *operation, mx_u32 *r, const void *row);
void mxr_copy16(void *to, const void *from, int kind, void *region, bool present);
void mxr_copy_commit();
void mxr_copy_wait(int newest);
void mxr_mbarrier_init(void *barrier, int count);
void mxr_mbarrier_arrive(void *barrier, int expected_bytes);
void mxr_mbarrier_wait(void *barrier, int parity);
void mxr_bulk_copy(void *to, const void *from, int bytes, int kind, void *region, void *barrier);
unsigned short mxr_f16_from_float(float x);
float mxr_float_from_f16(unsigned short bits);
}

// One element of a view: a read where a value is wanted, a write where it is assigned.
template <class T> struct mx_element {
  T *address;
  int kind;
  void *region;
  operator T() const {
    mxr_read(address, sizeof(T), kind, region);
    return *address;
  }
  const mx_element &operator=(T value) const {
    mxr_write(address, sizeof(T), kind, region);
    *address = value;
    return *this;
  }
  const mx_element &operator=(const mx_element &other) const { return *this = T(other); }
  mx_element(T *a, int k, void *r) : address(a), kind(k), region(r) {}
  mx_element(const mx_element &) = default;
  const mx_element &operator+=(T value) const { return *this = T(T(*this) + value); }
  const mx_element &operator-=(T value) const { return *this = T(T(*this) - value); }
  const mx_element &operator*=(T value) const { return *this = T(T(*this) * value); }
  const mx_element &operator/=(T value) const { return *this = T(T(*this) / value); }
};

// A pointer with bounds. `mx_view<const T>` is read only and gives values.
template <class T> struct mx_view {
  T *base;
  mx_i64 count;
  void *region;
  const char *name;
  int kind;
  T *at(mx_i64 index, mx_i64 length = 1) const {
    if (index < 0 || index > count - length) mxr_out_of_bounds(name, index < 0 ? index : index + length - 1, count, kind);
    return base + index;
  }
  mx_element<T> operator[](mx_i64 index) const { return mx_element<T>(at(index), kind, region); }
};
template <class T> struct mx_view<const T> {
  const T *base;
  mx_i64 count;
  void *region;
  const char *name;
  int kind;
  mx_view(const T *b, mx_i64 c, void *r, const char *n, int k) : base(b), count(c), region(r), name(n), kind(k) {}
  mx_view(const mx_view<T> &v) : base(v.base), count(v.count), region(v.region), name(v.name), kind(v.kind) {}
  const T *at(mx_i64 index, mx_i64 length = 1) const {
    if (index < 0 || index > count - length) mxr_out_of_bounds(name, index < 0 ? index : index + length - 1, count, kind);
    return base + index;
  }
  T operator[](mx_i64 index) const {
    const T *address = at(index);
    mxr_read(address, sizeof(T), kind, region);
    return *address;
  }
};
template <class T> using mx_global = mx_view<T>;

template <class T> struct mxr_is_constant { enum { value = 0 }; };
template <class T> struct mxr_is_constant<const T> { enum { value = 1 }; };

template <class T> static inline mx_view<T> mxr_global_view(T *pointer, mx_i64 count, const char *name) {
  mxr_extent extent = mxr_find((const void *)pointer);
  const int kind = mxr_is_constant<T>::value ? mxr_constant_memory : mxr_global_memory;
  const mx_i64 most = extent.bytes / (mx_i64)sizeof(T);
  if (count < 0) count = most;
  if (count > most || (mx_u64)pointer % alignof(T) != 0) mxr_bad_view(name, 0, count, sizeof(T), extent.bytes, kind);
  return mx_view<T>{pointer, count, extent.region, name, kind};
}
template <class T> static inline mx_view<T> mxr_part(void *memory, mxr_extent extent, mx_i64 offset, mx_i64 count, const char *name, int kind) {
  const mx_u64 address = (mx_u64)memory + (mx_u64)offset;
  if (offset < 0 || count < 0 || address % alignof(T) != 0 || offset > extent.bytes || count > (extent.bytes - offset) / (mx_i64)sizeof(T))
    mxr_bad_view(name, offset, count, sizeof(T), extent.bytes, kind);
  return mx_view<T>{(T *)address, count, extent.region, name, kind};
}

#define MX_DEVICE static inline
#define MX_UNROLL
#define MX_RESTRICT __restrict__
#define MX_KERNEL(NAME, THREADS) \
  enum { mx_threads_##NAME = (THREADS) }; \
  static void NAME
#define MX_GLOBAL(TYPE, NAME, POINTER) mx_view<TYPE> NAME = mxr_global_view<TYPE>(POINTER, -1, #NAME)
#define MX_GLOBAL_SIZED(TYPE, NAME, POINTER, COUNT) mx_view<TYPE> NAME = mxr_global_view<TYPE>(POINTER, COUNT, #NAME)
#define MX_SHARED_MEMORY(NAME) unsigned char *const NAME = mxr_shared()
#define MX_SHARED(TYPE, NAME, MEMORY, OFFSET, COUNT) \
  mx_view<TYPE> NAME = mxr_part<TYPE>(MEMORY, mxr_extent{nullptr, mxr_shared_bytes()}, OFFSET, COUNT, #NAME, mxr_shared_memory)
#define MX_SCRATCH(TYPE, NAME, POINTER, OFFSET, COUNT) \
  mx_view<TYPE> NAME = mxr_part<TYPE>((void *)(POINTER), mxr_find((const void *)(POINTER)), OFFSET, COUNT, #NAME, mxr_scratch_memory)

// How the driver finds and calls a kernel: every argument is one word of 8 bytes.
struct mx_record { void (*call)(void **words); int threads; int words; };
template <int... I> struct mxr_indices {};
template <class F> struct mxr_caller;
template <class... A> struct mxr_caller<void(A...)> {
  template <void (*K)(A...), int... I> static void call_at(void **words, mxr_indices<I...>) { K(*(A *)words[I]...); }
  template <void (*K)(A...)> static void call(void **words) { call_at<K>(words, mxr_indices<__integer_pack((int)sizeof...(A))...>()); }
  static constexpr bool fits = ((sizeof(A) == 8) && ... && true);
  static constexpr int words = (int)sizeof...(A);
};
#define MX_RECORD(NAME) \
  static_assert(mxr_caller<decltype(NAME)>::fits, "a kernel's parameters are words of 8 bytes"); \
  static_assert(mx_threads_##NAME % 32 == 0 && mx_threads_##NAME > 0 && mx_threads_##NAME <= 1024, "a block is whole warps"); \
  extern "C" __attribute__((visibility("default"))) const mx_record mx_record_##NAME; \
  const mx_record mx_record_##NAME = {&mxr_caller<decltype(NAME)>::call<&NAME>, mx_threads_##NAME, mxr_caller<decltype(NAME)>::words};

// Places.
MX_DEVICE mx_i32 mx_thread() { return mxr_thread(); }
MX_DEVICE mx_i32 mx_warp() { return mxr_thread() >> 5; }
MX_DEVICE mx_i32 mx_lane() { return mxr_thread() & 31; }
MX_DEVICE mx_i64 mx_block() { return mxr_block(); }
MX_DEVICE mx_i64 mx_blocks() { return mxr_blocks(); }
MX_DEVICE void mx_barrier() { mxr_barrier(); }
MX_DEVICE void mx_warp_barrier() { mxr_warp_barrier(); }

// Bits.
MX_DEVICE mx_u32 mx_float_bits(float x) { mx_u32 u; __builtin_memcpy(&u, &x, 4); return u; }
MX_DEVICE float mx_bits_float(mx_u32 u) { float x; __builtin_memcpy(&x, &u, 4); return x; }

// Storage types. A NaN becomes the one quiet NaN that the GPU's conversion gives.
MX_DEVICE float mx_to_float(float x) { return x; }
MX_DEVICE float mx_to_float(mx_bf16 x) { return mx_bits_float((mx_u32)x.bits << 16); }
MX_DEVICE float mx_to_float(mx_f16 x) { return mxr_float_from_f16(x.bits); }
MX_DEVICE mx_bf16 mx_to_bf16(float x) {
  mx_u32 u = mx_float_bits(x);
  if (x != x) return mx_bf16{0x7fff};
  return mx_bf16{(unsigned short)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}
MX_DEVICE mx_f16 mx_to_f16(float x) { return mx_f16{mxr_f16_from_float(x)}; }
MX_DEVICE float mx_round_bf16(float x) { return mx_to_float(mx_to_bf16(x)); }
MX_DEVICE float mx_round_f16(float x) { return mx_to_float(mx_to_f16(x)); }
MX_DEVICE mx_u32 mx_pack_bf16(float low, float high) { return (mx_u32)mx_to_bf16(low).bits | (mx_u32)mx_to_bf16(high).bits << 16; }
MX_DEVICE mx_u32 mx_pack_f16(float low, float high) { return (mx_u32)mx_to_f16(low).bits | (mx_u32)mx_to_f16(high).bits << 16; }
// Ties away from zero, as the GPU's cvt.rna.
MX_DEVICE mx_u32 mx_to_tf32(float x) {
  mx_u32 u = mx_float_bits(x);
  if ((u & 0x7f800000u) == 0x7f800000u) return x != x ? 0x7fffffffu : u;
  return (u + 0x1000u) & 0xffffe000u;
}

// Reals.
#define MXR_REAL(NAME, F32, F64) \
  MX_DEVICE float NAME(float x) { return F32(x); } \
  MX_DEVICE double NAME(double x) { return F64(x); }
MXR_REAL(mx_exp, __builtin_expf, __builtin_exp)
MXR_REAL(mx_expm1, __builtin_expm1f, __builtin_expm1)
MXR_REAL(mx_log, __builtin_logf, __builtin_log)
MXR_REAL(mx_log1p, __builtin_log1pf, __builtin_log1p)
MXR_REAL(mx_sqrt, __builtin_sqrtf, __builtin_sqrt)
MXR_REAL(mx_tanh, __builtin_tanhf, __builtin_tanh)
MXR_REAL(mx_erf, __builtin_erff, __builtin_erf)
MXR_REAL(mx_sin, __builtin_sinf, __builtin_sin)
MXR_REAL(mx_cos, __builtin_cosf, __builtin_cos)
MXR_REAL(mx_floor, __builtin_floorf, __builtin_floor)
MXR_REAL(mx_ceil, __builtin_ceilf, __builtin_ceil)
MXR_REAL(mx_trunc, __builtin_truncf, __builtin_trunc)
MXR_REAL(mx_round_even, __builtin_rintf, __builtin_rint)
MXR_REAL(mx_abs, __builtin_fabsf, __builtin_fabs)
#undef MXR_REAL
#define MXR_EACH(T, SUFFIX) \
  MX_DEVICE T mx_rsqrt(T x) { return T(1) / mx_sqrt(x); } \
  MX_DEVICE T mx_pow(T x, T y) { return __builtin_pow##SUFFIX(x, y); } \
  MX_DEVICE T mx_mod(T x, T y) { \
    T r = __builtin_fmod##SUFFIX(x, y); \
    return r != T(0) && (r < T(0)) != (y < T(0)) ? r + y : r; \
  } \
  MX_DEVICE T mx_max(T x, T y) { return x != x || y != y ? T(__builtin_nan("")) : __builtin_fmax##SUFFIX(x, y); } \
  MX_DEVICE T mx_min(T x, T y) { return x != x || y != y ? T(__builtin_nan("")) : __builtin_fmin##SUFFIX(x, y); } \
  MX_DEVICE T mx_fma(T x, T y, T z) { return __builtin_fma##SUFFIX(x, y, z); }
MXR_EACH(float, f)
MXR_EACH(double, )
#undef MXR_EACH

// Warps.
MX_DEVICE mx_i32 mxr_up(mx_i32 n) { return mx_lane() >= n ? mx_lane() - n : mx_lane(); }
MX_DEVICE mx_i32 mxr_down(mx_i32 n) { return mx_lane() + n < 32 ? mx_lane() + n : mx_lane(); }
#define MXR_SHUFFLE(T) \
  MX_DEVICE T mxr_shuffled(const char *operation, T x, mx_i32 source) { \
    mx_u64 bits = 0; \
    __builtin_memcpy(&bits, &x, sizeof(T)); \
    bits = mxr_shuffle(operation, bits, source); \
    __builtin_memcpy(&x, &bits, sizeof(T)); \
    return x; \
  } \
  MX_DEVICE T mx_shuffle(T x, mx_i32 lane) { return mxr_shuffled("shuffle", x, lane & 31); } \
  MX_DEVICE T mx_shuffle_xor(T x, mx_i32 mask) { return mxr_shuffled("shuffle_xor", x, mx_lane() ^ (mask & 31)); } \
  MX_DEVICE T mx_shuffle_up(T x, mx_i32 n) { return mxr_shuffled("shuffle_up", x, mxr_up(n)); } \
  MX_DEVICE T mx_shuffle_down(T x, mx_i32 n) { return mxr_shuffled("shuffle_down", x, mxr_down(n)); }
MXR_SHUFFLE(float)
MXR_SHUFFLE(double)
MXR_SHUFFLE(mx_i64)
MXR_SHUFFLE(mx_i32)
MXR_SHUFFLE(mx_u32)
MXR_SHUFFLE(bool)
#undef MXR_SHUFFLE

// Tensor cores.
MX_DEVICE void mx_mma_bf16(float (&d)[4], const mx_u32 (&a)[4], const mx_u32 (&b)[2]) { mxr_mma("mma_bf16", d, a, b); }
MX_DEVICE void mx_mma_f16(float (&d)[4], const mx_u32 (&a)[4], const mx_u32 (&b)[2]) { mxr_mma("mma_f16", d, a, b); }
MX_DEVICE void mx_mma_tf32(float (&d)[4], const mx_u32 (&a)[4], const mx_u32 (&b)[2]) { mxr_mma("mma_tf32", d, a, b); }
template <class T> static inline void mx_ldmatrix4(mx_u32 (&r)[4], mx_view<T> view, mx_i64 index) {
  mxr_ldmatrix("ldmatrix", r, view.at(index, 16 / sizeof(T)));
}
template <class T> static inline void mx_ldmatrix4_transposed(mx_u32 (&r)[4], mx_view<T> view, mx_i64 index) {
  mxr_ldmatrix("ldmatrix_transposed", r, view.at(index, 16 / sizeof(T)));
}

// Copies that run beside the threads.
template <class T, class U> static inline void mx_copy16_async(mx_view<T> to, mx_i64 index, mx_view<U> from, mx_i64 source, bool present) {
  static_assert(sizeof(T) == sizeof(U), "a copy keeps the element type");
  mxr_copy16(to.at(index, 16 / sizeof(T)), present ? from.at(source, 16 / sizeof(T)) : nullptr, from.kind, from.region, present);
}
MX_DEVICE void mx_copy_commit() { mxr_copy_commit(); }
template <int N> static inline void mx_copy_wait() { mxr_copy_wait(N); }
MX_DEVICE void mx_mbarrier_init(mx_view<mx_u64> barriers, mx_i64 index, mx_i32 count) { mxr_mbarrier_init(barriers.at(index), count); }
MX_DEVICE void mx_mbarrier_fence() {}
MX_DEVICE void mx_mbarrier_arrive(mx_view<mx_u64> barriers, mx_i64 index) { mxr_mbarrier_arrive(barriers.at(index), 0); }
MX_DEVICE void mx_mbarrier_arrive_expect(mx_view<mx_u64> barriers, mx_i64 index, mx_i32 bytes) { mxr_mbarrier_arrive(barriers.at(index), bytes); }
MX_DEVICE void mx_mbarrier_wait(mx_view<mx_u64> barriers, mx_i64 index, mx_i32 parity) { mxr_mbarrier_wait(barriers.at(index), parity); }
template <class T, class U>
static inline void mx_bulk_copy(mx_view<T> to, mx_i64 index, mx_view<U> from, mx_i64 source, mx_i32 bytes, mx_view<mx_u64> barriers, mx_i64 barrier) {
  static_assert(sizeof(T) == sizeof(U), "a copy keeps the element type");
  mxr_bulk_copy(to.at(index, bytes / (mx_i64)sizeof(T)), from.at(source, bytes / (mx_i64)sizeof(T)), bytes, from.kind, from.region, barriers.at(barrier));
}
