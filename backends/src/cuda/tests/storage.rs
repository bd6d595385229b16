//! Storage types: every bit pattern of the half types, and the rounding of f32 to them and to tf32.

use half::{bf16, f16};

use super::harness::{Argument, Program, Random, bytes_of, device, f32_bytes, f32_values, program, run, values_of};

fn widen() -> Program {
    let text = "MX_KERNEL(widen, 256)(const mx_bf16 *b, const mx_f16 *h, float *out) {
  MX_GLOBAL(const mx_bf16, gb, b);
  MX_GLOBAL(const mx_f16, gh, h);
  MX_GLOBAL(float, go, out);
  const mx_i64 i = mx_block() * 256 + mx_thread();
  go[2 * i] = mx_to_float(gb[i]);
  go[2 * i + 1] = mx_to_float(gh[i]);
}
";
    program("widen", 256, 0, 3, 256, text)
}

fn narrow(blocks: u32) -> Program {
    let text = "MX_KERNEL(narrow, 32)(const float *x, mx_bf16 *b, mx_f16 *h, mx_u32 *words, float *rounded, mx_i64 n) {
  MX_GLOBAL(const float, gx, x);
  MX_GLOBAL(mx_bf16, gb, b);
  MX_GLOBAL(mx_f16, gh, h);
  MX_GLOBAL(mx_u32, gw, words);
  MX_GLOBAL(float, gr, rounded);
  const mx_i64 i = mx_block() * 32 + mx_thread();
  if (i < n) {
    const float v = gx[i], w = gx[n - 1 - i];
    gb[i] = mx_to_bf16(v);
    gh[i] = mx_to_f16(mx_to_float(v));
    gw[3 * i] = mx_pack_bf16(v, w);
    gw[3 * i + 1] = mx_pack_f16(v, w);
    gw[3 * i + 2] = mx_to_tf32(v);
    gr[2 * i] = mx_round_bf16(v);
    gr[2 * i + 1] = mx_round_f16(v);
  }
}
";
    program("narrow", 32, 0, 6, blocks, text)
}

pub(super) fn programs() -> Vec<Program> {
    vec![widen(), narrow(1)]
}

#[test]
fn all_half_numbers_widen() {
    let Some(device) = device(0) else { return };
    let patterns: Vec<u16> = (0..=u16::MAX).collect();
    let bytes = bytes_of(&patterns, u16::to_le_bytes);
    let got = run(&device, &widen(), &[Argument::In(&bytes), Argument::In(&bytes), Argument::Out(8 << 16)]).unwrap();
    let got = f32_values(&got[0]);
    for p in patterns {
        let (b, h) = (got[2 * p as usize], got[2 * p as usize + 1]);
        let (eb, eh) = (bf16::from_bits(p).to_f32(), f16::from_bits(p).to_f32());
        assert!(b.to_bits() == eb.to_bits() || b.is_nan() && eb.is_nan(), "bf16 {p:04x}: {b} {eb}");
        assert!(h.to_bits() == eh.to_bits() || h.is_nan() && eh.is_nan(), "f16 {p:04x}: {h} {eh}");
    }
}

/// The nearest number with 10 bits of fraction, ties away from zero.
fn tf32(x: f32) -> f32 {
    if !x.is_finite() {
        return x;
    }
    f32::from_bits((x.to_bits() + 0x1000) & 0xffff_e000)
}

#[test]
fn numbers_round_to_nearest_even() {
    let Some(device) = device(0) else { return };
    let mut x =
        vec![0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN, 65504.0, 65519.9, 65520.0];
    x.extend([1e-8, -3e-8, 6e-8, 2.98e-8, 1e-40, -1e-40, 6.1e-5, 6.097e-5, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0]);
    let mut random = Random(3);
    for _ in 0..20_001 {
        // All exponents; then ties of each type and their neighbours.
        let bits = random.bits() as u32;
        let tie = if bits & 1 == 0 { 0x8000 } else { 0x1000 };
        x.push(f32::from_bits(bits));
        x.push(f32::from_bits(bits & 0x8fff_0000 | 0x3000_0000 | tie));
        x.push(f32::from_bits((bits & 0x8fff_0000 | 0x3000_0000 | tie).wrapping_add(bits % 3).wrapping_sub(1)));
    }
    let n = x.len();
    let arguments = [
        Argument::In(&f32_bytes(&x)),
        Argument::Out(2 * n),
        Argument::Out(2 * n),
        Argument::Out(12 * n),
        Argument::Out(8 * n),
        Argument::Number(n as i64),
    ];
    let got = run(&device, &narrow((n as u32).div_ceil(32)), &arguments).unwrap();
    let b: Vec<u16> = values_of(&got[0], u16::from_le_bytes);
    let h: Vec<u16> = values_of(&got[1], u16::from_le_bytes);
    let words: Vec<u32> = values_of(&got[2], u32::from_le_bytes);
    let rounded = f32_values(&got[3]);
    let same_b =
        |bits: u16, v: f32| bits == bf16::from_f32(v).to_bits() || v.is_nan() && bf16::from_bits(bits).is_nan();
    let same_h = |bits: u16, v: f32| bits == f16::from_f32(v).to_bits() || v.is_nan() && f16::from_bits(bits).is_nan();
    for i in 0..n {
        let (v, w) = (x[i], x[n - 1 - i]);
        assert!(same_b(b[i], v), "bf16 of {v}: {:04x}", b[i]);
        assert!(same_h(h[i], v), "f16 of {v} ({:08x}): {:04x} {:04x}", v.to_bits(), h[i], f16::from_f32(v).to_bits());
        let (low, high) = (words[3 * i] as u16, (words[3 * i] >> 16) as u16);
        assert!(same_b(low, v) && same_b(high, w), "pair of bf16 {v} {w}");
        let (low, high) = (words[3 * i + 1] as u16, (words[3 * i + 1] >> 16) as u16);
        assert!(same_h(low, v) && same_h(high, w), "pair of f16 {v} {w}");
        let t = f32::from_bits(words[3 * i + 2]);
        assert!(t == tf32(v) || t.is_nan() && v.is_nan(), "tf32 of {v}: {t}");
        let (rb, rh) = (rounded[2 * i], rounded[2 * i + 1]);
        assert!(rb == bf16::from_f32(v).to_f32() || v.is_nan() && rb.is_nan(), "{v} {rb}");
        assert!(rh == f16::from_f32(v).to_f32() || v.is_nan() && rh.is_nan(), "{v} {rh}");
    }
}
