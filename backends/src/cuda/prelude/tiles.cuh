// Operations on tiles by all threads of a block, in terms of the prelude's own words: the same text runs on a GPU and in
// the emulator. A tile is a view with a pitch (elements from a row to the next); counts are what is present of it, and
// nothing else is read. No operation waits at its start or end: the caller knows when that is needed.

template <class T> MX_DEVICE T mx_infinity() { return T(mx_bits_float(0x7f800000u)); }
template <class T> MX_DEVICE T mx_nan() { return T(mx_bits_float(0x7fc00000u)); }

// Combinations: what nothing is, and how two are joined. Their functions are called on a value: whether MX_DEVICE makes
// a member static is not the same everywhere.
template <class T> struct mx_sum {
  MX_DEVICE T nothing() { return T(0); }
  MX_DEVICE T join(T a, T b) { return a + b; }
};
template <> struct mx_sum<mx_i64> {
  MX_DEVICE mx_i64 nothing() { return 0; }
  MX_DEVICE mx_i64 join(mx_i64 a, mx_i64 b) { return mx_add(a, b); }
};
template <class T> struct mx_product {
  MX_DEVICE T nothing() { return T(1); }
  MX_DEVICE T join(T a, T b) { return a * b; }
};
template <> struct mx_product<mx_i64> {
  MX_DEVICE mx_i64 nothing() { return 1; }
  MX_DEVICE mx_i64 join(mx_i64 a, mx_i64 b) { return mx_mul(a, b); }
};
template <class T> struct mx_maximum {
  MX_DEVICE T nothing() { return -mx_infinity<T>(); }
  MX_DEVICE T join(T a, T b) { return mx_max(a, b); }
};
template <> struct mx_maximum<mx_i64> {
  MX_DEVICE mx_i64 nothing() { return -9223372036854775807LL - 1; }
  MX_DEVICE mx_i64 join(mx_i64 a, mx_i64 b) { return a > b ? a : b; }
};
template <> struct mx_maximum<mx_bool> {
  MX_DEVICE mx_bool nothing() { return 0; }
  MX_DEVICE mx_bool join(mx_bool a, mx_bool b) { return a > b ? a : b; }
};
template <class T> struct mx_minimum {
  MX_DEVICE T nothing() { return mx_infinity<T>(); }
  MX_DEVICE T join(T a, T b) { return mx_min(a, b); }
};
template <> struct mx_minimum<mx_i64> {
  MX_DEVICE mx_i64 nothing() { return 9223372036854775807LL; }
  MX_DEVICE mx_i64 join(mx_i64 a, mx_i64 b) { return a < b ? a : b; }
};
template <> struct mx_minimum<mx_bool> {
  MX_DEVICE mx_bool nothing() { return 1; }
  MX_DEVICE mx_bool join(mx_bool a, mx_bool b) { return a < b ? a : b; }
};
template <class T> struct mx_log_sum_exp {
  MX_DEVICE T nothing() { return -mx_infinity<T>(); }
  MX_DEVICE T join(T a, T b) {
    const T top = mx_max(a, b);
    // Infinities: the differences below would be infinity minus itself.
    if (mx_abs(top) == mx_infinity<T>()) return top;
    return top + mx_log(mx_exp(a - top) + mx_exp(b - top));
  }
};

// Exchanges between the lanes of a warp, of types that have no exchange of their own.
template <class T> MX_DEVICE T mx_exchange_xor(T x, mx_i32 mask) { return mx_shuffle_xor(x, mask); }
MX_DEVICE mx_bool mx_exchange_xor(mx_bool x, mx_i32 mask) {
  return (mx_bool)mx_shuffle_xor((mx_i32)x, mask);
}
template <class T> MX_DEVICE T mx_exchange_up(T x, mx_i32 lanes) { return mx_shuffle_up(x, lanes); }
MX_DEVICE mx_bool mx_exchange_up(mx_bool x, mx_i32 lanes) {
  return (mx_bool)mx_shuffle_up((mx_i32)x, lanes);
}
template <class T> MX_DEVICE T mx_exchange(T x, mx_i32 lane) { return mx_shuffle(x, lane); }
MX_DEVICE mx_bool mx_exchange(mx_bool x, mx_i32 lane) {
  return (mx_bool)mx_shuffle((mx_i32)x, lane);
}

// An element of a matrix or of its transpose.
template <bool TRANSPOSED, class T> MX_DEVICE T mx_tile_at(mx_view<T> m, mx_i32 pitch, mx_i32 r, mx_i32 c) {
  return TRANSPOSED ? m[c * pitch + r] : m[r * pitch + c];
}

// out = a b, or acc + a b: every thread a register tile of 4 x 4, its columns a quarter of the width apart so that
// neighbouring threads read neighbouring columns. acc may be out.
template <class T, mx_i32 THREADS, bool A_TRANSPOSED, bool B_TRANSPOSED, bool ADDS>
MX_DEVICE void mx_tile_dot(mx_view<T> out, mx_i32 out_pitch, mx_view<T> a, mx_i32 a_pitch, mx_view<T> b, mx_i32 b_pitch,
                           mx_view<T> acc, mx_i32 acc_pitch, mx_i32 rows, mx_i32 cols, mx_i32 inner) {
  const mx_i32 high = (rows + 3) / 4, wide = (cols + 3) / 4;
  for (mx_i32 block = mx_thread(); block < high * wide; block += THREADS) {
    const mx_i32 r0 = block / wide * 4, c0 = block % wide;
    T sum[4][4];
    for (mx_i32 i = 0; i < 4; i++)
      for (mx_i32 j = 0; j < 4; j++) {
        const mx_i32 r = r0 + i, c = c0 + j * wide;
        sum[i][j] = ADDS && r < rows && c < cols ? acc[r * acc_pitch + c] : T(0);
      }
    for (mx_i32 k = 0; k < inner; k++) {
      T left[4], right[4];
      // Past the edge the last row or column stands in: what it gives is not stored.
      for (mx_i32 i = 0; i < 4; i++) {
        left[i] = mx_tile_at<A_TRANSPOSED>(a, a_pitch, r0 + i < rows ? r0 + i : rows - 1, k);
        right[i] = mx_tile_at<B_TRANSPOSED>(b, b_pitch, k, c0 + i * wide < cols ? c0 + i * wide : cols - 1);
      }
      for (mx_i32 i = 0; i < 4; i++)
        for (mx_i32 j = 0; j < 4; j++) sum[i][j] = mx_fma(left[i], right[j], sum[i][j]);
    }
    for (mx_i32 i = 0; i < 4; i++)
      for (mx_i32 j = 0; j < 4; j++) {
        const mx_i32 r = r0 + i, c = c0 + j * wide;
        if (r < rows && c < cols) out[r * out_pitch + c] = sum[i][j];
      }
  }
}

// Products of half-precision data on tensor cores: factors packed in pairs, sums in f32.
struct mx_bf16_product {
  MX_DEVICE mx_u32 pack(float low, float high) { return mx_pack_bf16(low, high); }
  MX_DEVICE void multiply(float (&d)[4], const mx_u32 (&a)[4], const mx_u32 (&b)[2]) { mx_mma_bf16(d, a, b); }
};
struct mx_f16_product {
  MX_DEVICE mx_u32 pack(float low, float high) { return mx_pack_f16(low, high); }
  MX_DEVICE void multiply(float (&d)[4], const mx_u32 (&a)[4], const mx_u32 (&b)[2]) { mx_mma_f16(d, a, b); }
};

// What eleven bits leave of a number; of infinities and NaN nothing, the first part has all of them.
MX_DEVICE mx_u32 mx_rest_of_tf32(float x, mx_u32 part) {
  const float rest = x - mx_bits_float(part);
  return mx_isnan(rest) ? 0u : mx_to_tf32(rest);
}

// Elements of an operand; what is absent is 0.
template <bool TRANSPOSED>
MX_DEVICE float mx_tile_or_zero(mx_view<float> m, mx_i32 pitch, mx_i32 r, mx_i32 c, mx_i32 rows, mx_i32 cols) {
  return r < rows && c < cols ? mx_tile_at<TRANSPOSED>(m, pitch, r, c) : 0.0f;
}

// The sums of a 16 x 8 fragment, lane by lane: rows lane / 4 and 8 further down, columns 2 (lane mod 4) and the next.
template <bool ADDS>
MX_DEVICE void mx_fragment_start(float (&d)[4], mx_view<float> acc, mx_i32 pitch, mx_i32 r0, mx_i32 c0, mx_i32 rows,
                                 mx_i32 cols) {
  for (mx_i32 q = 0; q < 4; q++) {
    const mx_i32 r = r0 + mx_lane() / 4 + q / 2 * 8, c = c0 + mx_lane() % 4 * 2 + q % 2;
    d[q] = ADDS && r < rows && c < cols ? acc[r * pitch + c] : 0.0f;
  }
}
MX_DEVICE void mx_fragment_end(const float (&d)[4], mx_view<float> out, mx_i32 pitch, mx_i32 r0, mx_i32 c0, mx_i32 rows,
                               mx_i32 cols) {
  for (mx_i32 q = 0; q < 4; q++) {
    const mx_i32 r = r0 + mx_lane() / 4 + q / 2 * 8, c = c0 + mx_lane() % 4 * 2 + q % 2;
    if (r < rows && c < cols) out[r * pitch + c] = d[q];
  }
}

// A warp computes 16 rows by 32 columns at a time. acc may be out.
template <class PRODUCT, mx_i32 THREADS, bool A_TRANSPOSED, bool B_TRANSPOSED, bool ADDS>
MX_DEVICE void mx_tile_dot_halves(mx_view<float> out, mx_i32 out_pitch, mx_view<float> a, mx_i32 a_pitch,
                                  mx_view<float> b, mx_i32 b_pitch, mx_view<float> acc, mx_i32 acc_pitch, mx_i32 rows,
                                  mx_i32 cols, mx_i32 inner) {
  const mx_i32 high = (rows + 15) / 16, wide = (cols + 31) / 32, row = mx_lane() / 4, pair = mx_lane() % 4 * 2;
  for (mx_i32 block = mx_warp(); block < high * wide; block += THREADS / 32) {
    const mx_i32 r0 = block / wide * 16, c0 = block % wide * 32;
    float d[4][4];
    for (mx_i32 j = 0; j < 4; j++) mx_fragment_start<ADDS>(d[j], acc, acc_pitch, r0, c0 + 8 * j, rows, cols);
    for (mx_i32 k0 = 0; k0 < inner; k0 += 16) {
      mx_u32 left[4];
      for (mx_i32 q = 0; q < 4; q++) {
        const mx_i32 r = r0 + row + q % 2 * 8, k = k0 + pair + q / 2 * 8;
        left[q] = PRODUCT().pack(mx_tile_or_zero<A_TRANSPOSED>(a, a_pitch, r, k, rows, inner),
                                mx_tile_or_zero<A_TRANSPOSED>(a, a_pitch, r, k + 1, rows, inner));
      }
      for (mx_i32 j = 0; j < 4; j++) {
        mx_u32 right[2];
        for (mx_i32 q = 0; q < 2; q++) {
          const mx_i32 k = k0 + pair + q * 8, c = c0 + 8 * j + row;
          right[q] = PRODUCT().pack(mx_tile_or_zero<B_TRANSPOSED>(b, b_pitch, k, c, inner, cols),
                                   mx_tile_or_zero<B_TRANSPOSED>(b, b_pitch, k + 1, c, inner, cols));
        }
        PRODUCT().multiply(d[j], left, right);
      }
    }
    for (mx_i32 j = 0; j < 4; j++) mx_fragment_end(d[j], out, out_pitch, r0, c0 + 8 * j, rows, cols);
  }
}

// The same where one side is half-precision data, which eleven significant bits hold, and the other is not: that one is
// taken as the sum of two parts of eleven bits, and both are multiplied.
template <bool SPLITS_LEFT, mx_i32 THREADS, bool A_TRANSPOSED, bool B_TRANSPOSED, bool ADDS>
MX_DEVICE void mx_tile_dot_split(mx_view<float> out, mx_i32 out_pitch, mx_view<float> a, mx_i32 a_pitch,
                                 mx_view<float> b, mx_i32 b_pitch, mx_view<float> acc, mx_i32 acc_pitch, mx_i32 rows,
                                 mx_i32 cols, mx_i32 inner) {
  const mx_i32 high = (rows + 15) / 16, wide = (cols + 31) / 32, row = mx_lane() / 4, step = mx_lane() % 4;
  for (mx_i32 block = mx_warp(); block < high * wide; block += THREADS / 32) {
    const mx_i32 r0 = block / wide * 16, c0 = block % wide * 32;
    float d[4][4];
    for (mx_i32 j = 0; j < 4; j++) mx_fragment_start<ADDS>(d[j], acc, acc_pitch, r0, c0 + 8 * j, rows, cols);
    for (mx_i32 k0 = 0; k0 < inner; k0 += 8) {
      mx_u32 left[4], left_rest[4];
      for (mx_i32 q = 0; q < 4; q++) {
        const mx_i32 r = r0 + row + q % 2 * 8, k = k0 + step + q / 2 * 4;
        const float x = mx_tile_or_zero<A_TRANSPOSED>(a, a_pitch, r, k, rows, inner);
        left[q] = mx_to_tf32(x);
        left_rest[q] = mx_rest_of_tf32(x, left[q]);
      }
      for (mx_i32 j = 0; j < 4; j++) {
        mx_u32 right[2], right_rest[2];
        for (mx_i32 q = 0; q < 2; q++) {
          const mx_i32 k = k0 + step + q * 4, c = c0 + 8 * j + row;
          const float x = mx_tile_or_zero<B_TRANSPOSED>(b, b_pitch, k, c, inner, cols);
          right[q] = mx_to_tf32(x);
          right_rest[q] = mx_rest_of_tf32(x, right[q]);
        }
        if (SPLITS_LEFT) mx_mma_tf32(d[j], left_rest, right);
        else mx_mma_tf32(d[j], left, right_rest);
        mx_mma_tf32(d[j], left, right);
      }
    }
    for (mx_i32 j = 0; j < 4; j++) mx_fragment_end(d[j], out, out_pitch, r0, c0 + 8 * j, rows, cols);
  }
}

// Lines of a tile, element k of line n at n * line + k * step: with a warp to a line where lines are few, else with a
// thread to a line. Few means fewer than fill the block.
template <template <class> class COMBINE, class T, mx_i32 THREADS>
MX_DEVICE void mx_lines_reduce(mx_view<T> out, mx_view<T> of, mx_i32 lines, mx_i32 length, mx_i32 line, mx_i32 step) {
  typedef COMBINE<T> combine;
  if (lines >= THREADS) {
    for (mx_i32 n = mx_thread(); n < lines; n += THREADS) {
      T total = combine().nothing();
      for (mx_i32 k = 0; k < length; k++) total = combine().join(total, of[n * line + k * step]);
      out[n] = total;
    }
    return;
  }
  for (mx_i32 n = mx_warp(); n < lines; n += THREADS / 32) {
    T total = combine().nothing();
    for (mx_i32 k = mx_lane(); k < length; k += 32) total = combine().join(total, of[n * line + k * step]);
    for (mx_i32 mask = 16; mask > 0; mask /= 2) total = combine().join(total, mx_exchange_xor(total, mask));
    if (mx_lane() == 0) out[n] = total;
  }
}
template <template <class> class COMBINE, class T, mx_i32 THREADS>
MX_DEVICE void mx_tile_reduce_rows(mx_view<T> out, mx_view<T> of, mx_i32 pitch, mx_i32 rows, mx_i32 cols) {
  mx_lines_reduce<COMBINE, T, THREADS>(out, of, cols, rows, 1, pitch);
}
template <template <class> class COMBINE, class T, mx_i32 THREADS>
MX_DEVICE void mx_tile_reduce_cols(mx_view<T> out, mx_view<T> of, mx_i32 pitch, mx_i32 rows, mx_i32 cols) {
  mx_lines_reduce<COMBINE, T, THREADS>(out, of, rows, cols, pitch, 1);
}

// Running combinations. A warp goes over its line 32 elements at a time, with what came before in every lane.
template <template <class> class COMBINE, class T, mx_i32 THREADS, bool REVERSE>
MX_DEVICE void mx_lines_scan(mx_view<T> out, mx_i32 out_line, mx_i32 out_step, mx_view<T> of, mx_i32 line, mx_i32 step,
                             mx_i32 lines, mx_i32 length) {
  typedef COMBINE<T> combine;
  if (lines >= THREADS) {
    for (mx_i32 n = mx_thread(); n < lines; n += THREADS) {
      T total = combine().nothing();
      for (mx_i32 i = 0; i < length; i++) {
        const mx_i32 k = REVERSE ? length - 1 - i : i;
        total = combine().join(total, of[n * line + k * step]);
        out[n * out_line + k * out_step] = total;
      }
    }
    return;
  }
  for (mx_i32 n = mx_warp(); n < lines; n += THREADS / 32) {
    T before = combine().nothing();
    for (mx_i32 start = 0; start < length; start += 32) {
      const mx_i32 i = start + mx_lane(), k = REVERSE ? length - 1 - i : i;
      T total = i < length ? of[n * line + k * step] : combine().nothing();
      for (mx_i32 lanes = 1; lanes < 32; lanes *= 2) {
        const T left = mx_exchange_up(total, lanes);
        if (mx_lane() >= lanes) total = combine().join(left, total);
      }
      total = combine().join(before, total);
      if (i < length) out[n * out_line + k * out_step] = total;
      before = mx_exchange(total, 31);
    }
  }
}
template <template <class> class COMBINE, class T, mx_i32 THREADS, bool REVERSE>
MX_DEVICE void mx_tile_scan_rows(mx_view<T> out, mx_i32 out_pitch, mx_view<T> of, mx_i32 pitch, mx_i32 rows,
                                 mx_i32 cols) {
  mx_lines_scan<COMBINE, T, THREADS, REVERSE>(out, 1, out_pitch, of, 1, pitch, cols, rows);
}
template <template <class> class COMBINE, class T, mx_i32 THREADS, bool REVERSE>
MX_DEVICE void mx_tile_scan_cols(mx_view<T> out, mx_i32 out_pitch, mx_view<T> of, mx_i32 pitch, mx_i32 rows,
                                 mx_i32 cols) {
  mx_lines_scan<COMBINE, T, THREADS, REVERSE>(out, out_pitch, 1, of, pitch, 1, rows, cols);
}

// h[t] = decay[t] h[t-1] + input[t] down every column.
template <class T, mx_i32 THREADS, bool WIDE, bool STARTED>
MX_DEVICE void mx_tile_recurrence(mx_view<T> out, mx_i32 out_pitch, mx_view<T> decay, mx_i32 decay_pitch,
                                  mx_view<T> input, mx_i32 input_pitch, mx_view<T> start, mx_i32 rows, mx_i32 cols) {
  for (mx_i32 c = mx_thread(); c < cols; c += THREADS) {
    T state = STARTED ? start[c] : T(0);
    for (mx_i32 r = 0; r < rows; r++) {
      state = mx_fma(decay[r * decay_pitch + (WIDE ? c : 0)], state, input[r * input_pitch + c]);
      out[r * out_pitch + c] = state;
    }
  }
}

// X of L X = B by forward substitution, a thread to a column. out may be rhs.
template <class T, mx_i32 THREADS>
MX_DEVICE void mx_tile_solve(mx_view<T> out, mx_i32 out_pitch, mx_view<T> lower, mx_i32 lower_pitch, mx_view<T> rhs,
                             mx_i32 rhs_pitch, mx_i32 rows, mx_i32 cols) {
  for (mx_i32 c = mx_thread(); c < cols; c += THREADS)
    for (mx_i32 r = 0; r < rows; r++) {
      T rest = rhs[r * rhs_pitch + c];
      for (mx_i32 k = 0; k < r; k++) rest = mx_fma(-lower[r * lower_pitch + k], out[k * out_pitch + c], rest);
      out[r * out_pitch + c] = rest / lower[r * lower_pitch + r];
    }
}

// Whether (x, at) comes before (y, place) in falling order: NaN first, equal values by their columns.
template <class T> MX_DEVICE bool mx_ranks_before(T x, mx_i32 at, T y, mx_i32 place) {
  if (mx_isnan(x) != mx_isnan(y)) return mx_isnan(x);
  if (x > y || x < y) return x > y;
  return at < place;
}

// The k greatest of each row in falling order with their columns, a warp to a row: each round finds the first that comes
// after the one found last.
template <class T, mx_i32 THREADS>
MX_DEVICE void mx_tile_top_k(mx_view<T> values, mx_view<mx_i64> columns, mx_i32 out_pitch, mx_view<T> of, mx_i32 pitch,
                             mx_i32 rows, mx_i32 cols, mx_i32 count) {
  for (mx_i32 r = mx_warp(); r < rows; r += THREADS / 32) {
    T last = T(0);
    mx_i32 last_at = -1;
    for (mx_i32 n = 0; n < count; n++) {
      T best = T(0);
      // No column yet.
      mx_i32 at = cols;
      if (n == 0 || last_at < cols)
        for (mx_i32 c = mx_lane(); c < cols; c += 32) {
          const T x = of[r * pitch + c];
          const bool left = n == 0 || mx_ranks_before(last, last_at, x, c);
          if (left && (at == cols || mx_ranks_before(x, c, best, at))) best = x, at = c;
        }
      for (mx_i32 mask = 16; mask > 0; mask /= 2) {
        const T other = mx_exchange_xor(best, mask);
        const mx_i32 place = mx_exchange_xor(at, mask);
        if (place < cols && (at == cols || mx_ranks_before(other, place, best, at))) best = other, at = place;
      }
      if (mx_lane() == 0) {
        values[r * out_pitch + n] = at < cols ? best : -mx_infinity<T>();
        columns[r * out_pitch + n] = at < cols ? at : -1;
      }
      last = best, last_at = at;
    }
  }
}
