//! Warp functions: shuffles, products on tensor cores, matrix loads; and the places of threads.

use half::{bf16, f16};

use super::harness::{Argument, Program, Random, bytes_of, device, f32_bytes, f32_values, program, run, values_of};

fn shuffles() -> Program {
    let text = "template <class T> MX_DEVICE void store(mx_view<mx_i64> out, mx_i64 at, T x, mx_i32 mask) {
  out[at] = (mx_i64)mx_shuffle_xor(x, mask);
  out[at + 1] = (mx_i64)mx_shuffle_up(x, mask);
  out[at + 2] = (mx_i64)mx_shuffle_down(x, mask);
  out[at + 3] = (mx_i64)mx_shuffle(x, mask);
}
MX_KERNEL(shuffles, 96)(mx_i64 *out, mx_i64 mask) {
  MX_GLOBAL(mx_i64, go, out);
  const mx_i64 at = (mx_block() * 96 + mx_thread()) * 24;
  const mx_i64 x = mx_block() * 1000 + mx_thread();
  store(go, at, (float)x, (mx_i32)mask);
  store(go, at + 4, (double)x, (mx_i32)mask);
  store(go, at + 8, x, (mx_i32)mask);
  store(go, at + 12, (mx_i32)x, (mx_i32)mask);
  store(go, at + 16, (mx_u32)x, (mx_i32)mask);
  store(go, at + 20, (x & 4) != 0, (mx_i32)mask);
}
";
    program("shuffles", 96, 0, 2, 3, text)
}

fn places() -> Program {
    let text = "MX_KERNEL(places, 96)(mx_i64 *out) {
  MX_GLOBAL(mx_i64, go, out);
  const mx_i64 at = (mx_block() * 96 + mx_thread()) * 5;
  go[at] = mx_thread();
  go[at + 1] = mx_warp();
  go[at + 2] = mx_lane();
  go[at + 3] = mx_block();
  go[at + 4] = mx_blocks();
}
";
    program("places", 96, 0, 1, 5, text)
}

/// One product of each type: `a` is 16 by `inner` in rows, `b` is `inner` by 8 in columns.
fn product(name: &str, element: &str, load: &str, inner: usize) -> Program {
    let text = format!(
        "{load}
MX_KERNEL(product_{name}, 32)(const {element} *a, const {element} *b, float *c) {{
  MX_GLOBAL(const {element}, ga, a);
  MX_GLOBAL(const {element}, gb, b);
  MX_GLOBAL(float, gc, c);
  const mx_i64 group = mx_lane() >> 2, quad = mx_lane() & 3;
  mx_u32 fa[4], fb[2];
  float d[4];
  MX_UNROLL
  for (int k = 0; k < 4; k++) fa[k] = word(ga, (group + (k & 1) * 8) * {inner}, quad, k >> 1);
  MX_UNROLL
  for (int k = 0; k < 2; k++) fb[k] = word(gb, group * {inner}, quad, k);
  MX_UNROLL
  for (int k = 0; k < 4; k++) d[k] = gc[(group + (k >> 1) * 8) * 8 + quad * 2 + (k & 1)];
  mx_mma_{name}(d, fa, fb);
  MX_UNROLL
  for (int k = 0; k < 4; k++) gc[(group + (k >> 1) * 8) * 8 + quad * 2 + (k & 1)] = d[k];
}}
"
    );
    program(&format!("product_{name}"), 32, 0, 3, 1, &text)
}

fn product_of(name: &str) -> Program {
    let halves = |element: &str| {
        format!(
            "MX_DEVICE mx_u32 word(mx_view<const {element}> m, mx_i64 row, mx_i64 quad, mx_i64 part) {{
  const mx_i64 at = row + quad * 2 + part * 8;
  return (mx_u32)m[at].bits | (mx_u32)m[at + 1].bits << 16;
}}"
        )
    };
    match name {
        "bf16" => product(name, "mx_bf16", &halves("mx_bf16"), 16),
        "f16" => product(name, "mx_f16", &halves("mx_f16"), 16),
        _ => {
            let load = "MX_DEVICE mx_u32 word(mx_view<const float> m, mx_i64 row, mx_i64 quad, mx_i64 part) {
  return mx_to_tf32(m[row + quad + part * 4]);
}";
            product(name, "float", load, 8)
        }
    }
}

fn matrices() -> Program {
    let text = "MX_KERNEL(matrices, 32)(const mx_bf16 *in, mx_u32 *out) {
  MX_GLOBAL(const mx_bf16, gi, in);
  MX_GLOBAL(mx_u32, go, out);
  MX_SHARED_MEMORY(memory);
  MX_SHARED(mx_bf16, tile, memory, 64, 256);
  for (mx_i64 i = mx_lane(); i < 256; i += 32) tile[i] = gi[i];
  mx_warp_barrier();
  mx_u32 r[4], t[4];
  mx_ldmatrix4(r, tile, (mx_i64)mx_lane() * 8);
  mx_ldmatrix4_transposed(t, tile, (mx_i64)mx_lane() * 8);
  MX_UNROLL
  for (int k = 0; k < 4; k++) {
    go[mx_lane() * 8 + k] = r[k];
    go[mx_lane() * 8 + 4 + k] = t[k];
  }
}
";
    program("matrices", 32, 64 + 512, 2, 1, text)
}

pub(super) fn programs() -> Vec<Program> {
    vec![shuffles(), places(), product_of("bf16"), product_of("f16"), product_of("tf32"), matrices()]
}

#[test]
fn shuffles_bring_the_other_lanes_value() {
    for order in 0..4 {
        let Some(device) = device(order) else { return };
        for mask in [0usize, 1, 2, 5, 16, 31] {
            let arguments = [Argument::Out(3 * 96 * 24 * 8), Argument::Number(mask as i64)];
            let got = run(&device, &shuffles(), &arguments).unwrap();
            let got: Vec<i64> = values_of(&got[0], i64::from_le_bytes);
            for (block, thread) in (0..3).flat_map(|b| (0..96).map(move |t| (b, t))) {
                let (first, lane) = (thread / 32 * 32, thread % 32);
                let up = if lane >= mask { lane - mask } else { lane };
                let down = if lane + mask < 32 { lane + mask } else { lane };
                for kind in 0..6 {
                    for (k, from) in [lane ^ mask, up, down, mask].into_iter().enumerate() {
                        let x = (block * 1000 + first + from) as i64;
                        let expected = if kind == 5 { i64::from(x & 4 != 0) } else { x };
                        let at = (block * 96 + thread) * 24 + kind * 4 + k;
                        assert_eq!(got[at], expected, "{block} {thread} {kind} {k} {mask} in order {order}");
                    }
                }
            }
        }
    }
}

#[test]
fn threads_know_their_places() {
    let Some(device) = device(0) else { return };
    let got = run(&device, &places(), &[Argument::Out(5 * 96 * 5 * 8)]).unwrap();
    let got: Vec<i64> = values_of(&got[0], i64::from_le_bytes);
    for (k, five) in got.chunks(5).enumerate() {
        let (block, thread) = (k as i64 / 96, k as i64 % 96);
        assert_eq!(five, [thread, thread / 32, thread % 32, block, 5]);
    }
}

#[test]
fn products_are_products() {
    let mut random = Random(4);
    for order in 0..3 {
        let Some(device) = device(order) else { return };
        for name in ["bf16", "f16", "tf32"] {
            let inner = if name == "tf32" { 8 } else { 16 };
            // Every type holds these numbers, so the products and their f32 sums are exact.
            let mut values = |n: usize| (0..n).map(|_| (random.real() * 64.0).round() / 8.0).collect::<Vec<f32>>();
            let (a, b, c) = (values(16 * inner), values(8 * inner), values(16 * 8));
            let bytes = |v: &[f32]| match name {
                "bf16" => bytes_of(v, |x| bf16::from_f32(x).to_le_bytes()),
                "f16" => bytes_of(v, |x| f16::from_f32(x).to_le_bytes()),
                _ => f32_bytes(v),
            };
            let module = device.load(&product_of(name).text, &[product_of(name).kernel]).unwrap();
            let memory = |bytes: &[u8]| {
                let memory = device.allocate(bytes.len()).unwrap();
                device.upload(&memory, 0, bytes).unwrap();
                memory
            };
            let (ma, mb, mc) = (memory(&bytes(&a)), memory(&bytes(&b)), memory(&f32_bytes(&c)));
            device.launch(&module, 0, 1, &[ma.address(), mb.address(), mc.address()]).unwrap();
            let mut got = vec![0; 16 * 8 * 4];
            device.download(&mc, 0, &mut got).unwrap();
            let got = f32_values(&got);
            for (i, j) in (0..16).flat_map(|i| (0..8).map(move |j| (i, j))) {
                let sum: f32 = (0..inner).map(|k| a[i * inner + k] * b[j * inner + k]).sum();
                assert_eq!(got[i * 8 + j], c[i * 8 + j] + sum, "{name} {i} {j}");
            }
        }
    }
}

#[test]
fn matrix_loads_distribute_rows() {
    let Some(device) = device(0) else { return };
    let values: Vec<u16> = (0..256).map(|k| k * 7).collect();
    let bytes = bytes_of(&values, u16::to_le_bytes);
    let got = run(&device, &matrices(), &[Argument::In(&bytes), Argument::Out(32 * 8 * 4)]).unwrap();
    let got: Vec<u32> = values_of(&got[0], u32::from_le_bytes);
    let word = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
    for (lane, matrix) in (0..32).flat_map(|l| (0..4).map(move |m| (l, m))) {
        let (i, j) = (lane / 4, lane % 4 * 2);
        let at = |row: usize, column: usize| values[matrix * 64 + row * 8 + column];
        assert_eq!(got[lane * 8 + matrix], word(at(i, j), at(i, j + 1)));
        assert_eq!(got[lane * 8 + 4 + matrix], word(at(j, i), at(j + 1, i)));
    }
}
