// Arithmetic that both preludes share, in terms of what each of them has: it stands behind them.

// Reals.
#define MXR_BOTH(T) \
  MX_DEVICE T mx_recip(T x) { return T(1) / x; } \
  MX_DEVICE T mx_sigmoid(T x) { return T(1) / (T(1) + mx_exp(-x)); } \
  MX_DEVICE bool mx_isnan(T x) { return x != x; } \
  MX_DEVICE T mx_sign(T x) { return x != x || x == T(0) ? x : (x < T(0) ? T(-1) : T(1)); } \
  MX_DEVICE mx_i64 mx_to_i64(T x) { \
    return x != x ? 0 : x >= T(9223372036854775808.0) ? 0x7fffffffffffffffLL : x < T(-9223372036854775808.0) ? -0x7fffffffffffffffLL - 1 : (mx_i64)x; \
  }
MXR_BOTH(float)
MXR_BOTH(double)
#undef MXR_BOTH

// Integers: they wrap, and nothing traps.
MX_DEVICE mx_i64 mx_add(mx_i64 x, mx_i64 y) { return (mx_i64)((mx_u64)x + (mx_u64)y); }
MX_DEVICE mx_i64 mx_sub(mx_i64 x, mx_i64 y) { return (mx_i64)((mx_u64)x - (mx_u64)y); }
MX_DEVICE mx_i64 mx_mul(mx_i64 x, mx_i64 y) { return (mx_i64)((mx_u64)x * (mx_u64)y); }
MX_DEVICE mx_i64 mx_neg(mx_i64 x) { return (mx_i64)(0 - (mx_u64)x); }
MX_DEVICE mx_i64 mx_abs(mx_i64 x) { return x < 0 ? mx_neg(x) : x; }
MX_DEVICE mx_i64 mx_sign(mx_i64 x) { return (x > 0) - (x < 0); }
MX_DEVICE mx_i64 mx_max(mx_i64 x, mx_i64 y) { return x > y ? x : y; }
MX_DEVICE mx_i64 mx_min(mx_i64 x, mx_i64 y) { return x < y ? x : y; }
MX_DEVICE mx_i64 mx_floor_div(mx_i64 x, mx_i64 y) {
  if (y == 0) return 0;
  if (y == -1) return mx_neg(x);
  mx_i64 q = x / y;
  return q - (x % y != 0 && (x < 0) != (y < 0));
}
MX_DEVICE mx_i64 mx_floor_mod(mx_i64 x, mx_i64 y) {
  if (y == 0 || y == -1) return 0;
  mx_i64 r = x % y;
  return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}
MX_DEVICE mx_i64 mx_pow(mx_i64 x, mx_i64 y) {
  if (y < 0) return x == 1 ? 1 : x == -1 ? 1 - 2 * (y & 1) : 0;
  if (y > 0xffffffffLL) return 0;
  mx_u64 result = 1, power = (mx_u64)x;
  for (mx_u64 n = (mx_u64)y; n != 0; n >>= 1, power *= power)
    if (n & 1) result *= power;
  return (mx_i64)result;
}
MX_DEVICE mx_i64 mx_wrap_i32(mx_i64 x) { return (mx_i64)(mx_i32)(mx_u32)(mx_u64)x; }
