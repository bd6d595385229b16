//! Copies that run beside the threads: a matrix product in two stages with 16-byte copies, and the same pipeline with bulk
//! copies on mbarriers and a warp that only copies. Each also with one line planted wrong, which must be caught.

use half::bf16;

use super::super::error::CudaError;
use super::harness::{Argument, Program, Random, bytes_of, device, emulator, f32_bytes, f32_values, program, run};

/// c = a b^T for bf16: a block makes 16 rows of c by 8 columns a warp, 16 of the inner size in a stage.
const PRODUCT: &str = "
MX_DEVICE void load(mx_view<mx_bf16> tile, mx_view<const mx_bf16> from, mx_i64 first, mx_i64 rows, mx_i64 column, mx_i64 inner, mx_i64 at) {
  const mx_i64 row = at / 2, half = at % 2 * 8;
  const bool present = first + row < rows;
  mx_copy16_async(tile, row * 16 + half, from, (first + row) * inner + column + half, present);
}
MX_KERNEL(product, 64)(const mx_bf16 *a, const mx_bf16 *b, float *c, mx_i64 rows, mx_i64 columns, mx_i64 inner) {
  MX_GLOBAL(const mx_bf16, ga, a);
  MX_GLOBAL(const mx_bf16, gb, b);
  MX_GLOBAL(float, gc, c);
  MX_SHARED_MEMORY(memory);
  MX_SHARED(mx_bf16, ta0, memory, 0, 256);
  MX_SHARED(mx_bf16, ta1, memory, 512, 256);
  MX_SHARED(mx_bf16, tb0, memory, 1024, 256);
  MX_SHARED(mx_bf16, tb1, memory, 1536, 256);
  const mx_i64 across = (columns + 15) / 16;
  const mx_i64 row = mx_block() / across * 16, column = mx_block() % across * 16;
  const mx_i64 stages = inner / 16;
  float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  if (mx_thread() < 32) load(ta0, ga, row, rows, 0, inner, mx_thread());
  else load(tb0, gb, column, columns, 0, inner, mx_thread() - 32);
  mx_copy_commit();
  for (mx_i64 s = 0; s < stages; s++) {
    mx_view<mx_bf16> ta = s % 2 ? ta1 : ta0, tb = s % 2 ? tb1 : tb0;
    if (s + 1 < stages) {
      if (mx_thread() < 32) load(s % 2 ? ta0 : ta1, ga, row, rows, s * 16 + 16, inner, mx_thread());
      else load(s % 2 ? tb0 : tb1, gb, column, columns, s * 16 + 16, inner, mx_thread() - 32);
    }
    mx_copy_commit();
    mx_copy_wait<1>(); // wait
    mx_barrier(); // before use
    mx_u32 fa[4], fb[4];
    mx_ldmatrix4(fa, ta, (mx_lane() & 15) * 16 + (mx_lane() >> 4) * 8);
    mx_ldmatrix4(fb, tb, ((mx_lane() & 7) + (mx_lane() >> 4) * 8) * 16 + ((mx_lane() >> 3) & 1) * 8);
    const mx_u32 mine[2] = {mx_warp() ? fb[2] : fb[0], mx_warp() ? fb[3] : fb[1]};
    mx_mma_bf16(d, fa, mine);
    mx_barrier(); // after use
  }
  MX_UNROLL
  for (int k = 0; k < 4; k++) {
    const mx_i64 i = row + (mx_lane() >> 2) + (k >> 1) * 8, j = column + mx_warp() * 8 + (mx_lane() & 3) * 2 + (k & 1);
    if (i < rows && j < columns) gc[i * columns + j] = d[k];
  }
}
";

/// Sums rows of 32 numbers: warp 0 brings rows by bulk copies into a ring of two, warp 1 adds them up.
const RING: &str = "
MX_KERNEL(ring, 64)(const float *in, float *out, mx_i64 rows) {
  MX_GLOBAL(const float, gi, in);
  MX_GLOBAL(float, go, out);
  MX_SHARED_MEMORY(memory);
  MX_SHARED(mx_u64, full, memory, 0, 2);
  MX_SHARED(mx_u64, empty, memory, 16, 2);
  MX_SHARED(float, ring, memory, 128, 64);
  if (mx_thread() == 0) {
    for (int k = 0; k < 2; k++) {
      mx_mbarrier_init(full, k, 1);
      mx_mbarrier_init(empty, k, 32);
    }
    mx_mbarrier_fence();
  }
  mx_barrier(); // initialised
  if (mx_warp() == 0) {
    if (mx_lane() == 0)
      for (mx_i64 r = 0; r < rows; r++) {
        const mx_i64 slot = r % 2;
        if (r >= 2) mx_mbarrier_wait(empty, slot, (mx_i32)(r / 2 - 1) & 1); // empty
        mx_mbarrier_arrive_expect(full, slot, 128); // expect
        mx_bulk_copy(ring, slot * 32, gi, r * 32, 128, full, slot);
      }
  } else {
    float sum = 0.0f;
    for (mx_i64 r = 0; r < rows; r++) {
      const mx_i64 slot = r % 2;
      mx_mbarrier_wait(full, slot, (mx_i32)(r / 2) & 1); // full
      sum += ring[slot * 32 + mx_lane()];
      mx_mbarrier_arrive(empty, slot); // free
    }
    go[mx_lane()] = sum;
  }
}
";

fn product(text: &str, blocks: u32) -> Program {
    program("product", 64, 2048, 6, blocks, text)
}

fn ring(text: &str) -> Program {
    program("ring", 64, 128 + 256, 3, 1, text)
}

/// Programs for every GPU, and those for sm_90 and above.
pub(super) fn programs() -> (Vec<Program>, Vec<Program>) {
    (vec![product(PRODUCT, 1)], vec![ring(RING)])
}

/// The text with the one line that ends in this comment replaced.
fn planted(text: &str, comment: &str, instead: &str) -> String {
    let marker = format!("// {comment}");
    assert_eq!(text.lines().filter(|l| l.ends_with(&marker)).count(), 1, "{comment}");
    text.lines().map(|l| if l.ends_with(&marker) { instead } else { l }).collect::<Vec<_>>().join("\n")
}

/// The worst error of the product; not a number counts as infinite.
fn product_error(text: &str, order: u32, rows: usize, columns: usize, inner: usize) -> Option<Result<f32, CudaError>> {
    let device = device(order)?;
    let mut random = Random(5);
    let mut values = |n: usize| (0..n).map(|_| bf16::from_f32(random.real())).collect::<Vec<bf16>>();
    let (a, b) = (values(rows * inner), values(columns * inner));
    let bytes = |v: &[bf16]| bytes_of(v, bf16::to_le_bytes);
    let blocks = rows.div_ceil(16) * columns.div_ceil(16);
    let arguments = [
        Argument::In(&bytes(&a)),
        Argument::In(&bytes(&b)),
        Argument::Out(4 * rows * columns),
        Argument::Number(rows as i64),
        Argument::Number(columns as i64),
        Argument::Number(inner as i64),
    ];
    let got = match run(&device, &product(text, blocks as u32), &arguments) {
        Ok(got) => f32_values(&got[0]),
        Err(e) => return Some(Err(e)),
    };
    let mut worst = 0.0f32;
    for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
        let sum: f32 = (0..inner).map(|k| a[i * inner + k].to_f32() * b[j * inner + k].to_f32()).sum();
        let error = (got[i * columns + j] - sum).abs();
        worst = if error.is_nan() { f32::INFINITY } else { worst.max(error) };
    }
    Some(Ok(worst))
}

fn ring_result(text: &str, order: u32, rows: usize) -> Option<Result<bool, CudaError>> {
    let device = device(order)?;
    let values: Vec<f32> = (0..rows * 32).map(|k| (k % 97) as f32).collect();
    let arguments = [Argument::In(&f32_bytes(&values)), Argument::Out(128), Argument::Number(rows as i64)];
    let got = match run(&device, &ring(text), &arguments) {
        Ok(got) => f32_values(&got[0]),
        Err(e) => return Some(Err(e)),
    };
    let sums = (0..32).map(|k| (0..rows).map(|r| values[r * 32 + k]).sum::<f32>());
    Some(Ok(got.iter().zip(sums).all(|(a, b)| *a == b)))
}

#[test]
fn a_pipelined_product_is_right_in_every_order() {
    for order in 0..4 {
        for (rows, columns, inner) in [(1, 1, 16), (16, 16, 64), (17, 33, 48), (50, 7, 112)] {
            let Some(error) = product_error(PRODUCT, order, rows, columns, inner) else { return };
            let error = error.unwrap_or_else(|e| panic!("{rows} {columns} {inner} in order {order}: {e}"));
            assert!(error < 1e-4, "{rows} {columns} {inner} in order {order}: {error}");
        }
    }
}

#[test]
fn a_pipeline_on_mbarriers_is_right_in_every_order() {
    for order in 0..6 {
        for rows in [1, 2, 3, 4, 9] {
            let Some(right) = ring_result(RING, order, rows) else { return };
            assert!(right.unwrap_or_else(|e| panic!("{rows} in order {order}: {e}")), "{rows} in order {order}");
        }
    }
}

#[test]
fn missing_lines_of_the_product_are_caught() {
    // Wrong programs are for the emulator: a GPU may hang in them.
    if emulator(0).is_none() {
        return;
    }
    for (comment, expected) in [("before use", "race"), ("after use", "race")] {
        for order in 0..3 {
            let Some(result) = product_error(&planted(PRODUCT, comment, ""), order, 33, 32, 96) else { return };
            let error = result.expect_err(comment).to_string();
            assert!(error.contains(expected) && error.contains("kernel product"), "{error}");
        }
    }
    // A copy that nobody waits for never lands before its destination is read: poison.
    for instead in ["", "    mx_copy_wait<2>();"] {
        for order in 0..3 {
            let Some(result) = product_error(&planted(PRODUCT, "wait", instead), order, 33, 32, 96) else { return };
            assert_eq!(result.unwrap_or(f32::INFINITY), f32::INFINITY, "{instead:?} in order {order}");
        }
    }
}

#[test]
fn wrong_lines_of_the_ring_are_caught() {
    // Wrong programs are for the emulator: a GPU may hang in them.
    if emulator(0).is_none() {
        return;
    }
    for (comment, instead, expected) in [
        ("free", "", "deadlock"),
        ("expect", "        mx_mbarrier_arrive_expect(full, slot, 256);", "deadlock"),
        ("full", "      mx_mbarrier_wait(full, slot, (mx_i32)(r / 2 + 1) & 1);", ""),
        ("empty", "", ""),
        ("initialised", "", ""),
    ] {
        for order in 0..3 {
            let Some(result) = ring_result(&planted(RING, comment, instead), order, 9) else { return };
            match result {
                Ok(right) => assert!(!right && expected.is_empty(), "{comment} in order {order} was not noticed"),
                Err(e) => assert!(e.to_string().contains(expected), "{comment} in order {order}: {e}"),
            }
        }
    }
}
