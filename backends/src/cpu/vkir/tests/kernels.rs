//! Kernels as they are used: tiles, transposes, narrow conversions, register limits, both kinds of module.

use super::*;
use crate::cpu::module::{object_bytes, object_module};
use half::{bf16, f16};

/// `c[rows x columns] += a[k][rows] * b[k][columns]`, columns = vectors * W. Arguments: k, a, b, c, bytes between the
/// rows of c.
pub(crate) fn gemm_tile(isa: Isa, rows: usize, vectors: usize) -> Kernel {
    let mut b = Builder::new("tile", isa, 5);
    let lanes = b.lanes();
    let (k, left, right) = (b.arg(0), b.arg(1), b.arg(2));
    let accumulators: Vec<VReg> = (0..rows * vectors).map(|_| b.constant(0.0)).collect();
    let step = |b: &mut Builder, unrolled: usize| {
        let row_at = |i: usize| Addr::new(left).offset(((unrolled * rows + i) * 4) as i32);
        let columns: Vec<VReg> = (0..vectors)
            .map(|j| b.load(Addr::new(right).offset(((unrolled * vectors + j) * lanes * 4) as i32)))
            .collect();
        for i in 0..rows {
            let factor = if isa.embedded_broadcast() {
                Source::Broadcast(row_at(i))
            } else {
                Source::Reg(b.broadcast(row_at(i), Element::F32))
            };
            for j in 0..vectors {
                b.fma(accumulators[i * vectors + j], columns[j], factor);
            }
        }
    };
    let unroll = 4;
    let rounds = b.int_shift(k, -2);
    let (left_step, right_step) = ((rows * 4) as i32, (vectors * lanes * 4) as i32);
    b.loop_(rounds, |b, _| {
        for u in 0..unroll {
            step(b, u as usize);
        }
        b.advance(left, unroll * left_step);
        b.advance(right, unroll * right_step);
    });
    let rest = b.int_op(IntOp::And, k, unroll - 1);
    b.loop_(rest, |b, _| {
        step(b, 0);
        b.advance(left, left_step);
        b.advance(right, right_step);
    });
    let (out, stride) = (b.arg(3), b.arg(4));
    for i in 0..rows {
        for j in 0..vectors {
            let at = Addr::new(out).offset((j * lanes * 4) as i32);
            let sum = b.add(accumulators[i * vectors + j], Source::Memory(at));
            b.store(sum, at);
        }
        b.advance(out, stride);
    }
    b.finish()
}

#[test]
fn gemm_tiles_multiply() {
    for target in targets() {
        let lanes = target.isa().lanes();
        for (rows, vectors) in [(1, 1), (4, 2), (5, 2)] {
            let compiled = compile(&target, &gemm_tile(target.isa(), rows, vectors)).unwrap();
            let columns = vectors * lanes;
            for k in [0usize, 1, 3, 4, 5, 17] {
                let a: Vec<f32> = (0..k * rows).map(|i| (i % 7) as f32 - 3.0).collect();
                let b: Vec<f32> = (0..k * columns).map(|i| (i % 5) as f32 - 2.0).collect();
                let mut c: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
                let mut want = c.clone();
                for p in 0..k {
                    for i in 0..rows {
                        for j in 0..columns {
                            want[i * columns + j] += a[p * rows + i] * b[p * columns + j];
                        }
                    }
                }
                let pointers = [a.as_ptr() as i64, b.as_ptr() as i64, c.as_mut_ptr() as i64];
                let args = [k as i64, pointers[0], pointers[1], pointers[2], (columns * 4) as i64];
                // SAFETY: the three matrices have the sizes given.
                unsafe { compiled.call(&args) };
                assert_eq!(c, want, "{:?} {rows}x{columns} k {k}", target.isa());
            }
        }
    }
}

#[test]
fn registers_run_out_without_spilling() {
    let avx512 = Isa::Avx512 { bf16: false };
    assert!(emit(&gemm_tile(avx512, 12, 2), avx512).is_ok());
    assert!(emit(&gemm_tile(avx512, 14, 2), avx512).is_ok());
    assert!(emit(&gemm_tile(avx512, 6, 4), avx512).is_ok());
    assert_eq!(emit(&gemm_tile(avx512, 16, 2), avx512), Err(EmitError::OutOfRegisters("vector")));
    assert!(emit(&gemm_tile(Isa::Avx2, 6, 2), Isa::Avx2).is_ok());
    assert_eq!(emit(&gemm_tile(Isa::Avx2, 7, 2), Isa::Avx2), Err(EmitError::OutOfRegisters("vector")));
    let mut b = Builder::new("many", avx512, 16);
    let pointers: Vec<IReg> = (0..16).map(|i| b.arg(i)).collect();
    for pointer in &pointers {
        b.prefetch(Addr::new(*pointer));
    }
    assert_eq!(emit(&b.finish(), avx512), Err(EmitError::OutOfRegisters("integer")));
    let mut b = Builder::new("masks", avx512, 1);
    let x = b.constant(1.0);
    let masks: Vec<MReg> = (0..8).map(|i| b.compare(Condition::Lt, x, i as f32)).collect();
    masks.iter().fold(x, |y, mask| b.select(*mask, x, y));
    assert_eq!(emit(&b.finish(), avx512), Err(EmitError::OutOfRegisters("mask")));
}

#[test]
fn many_integer_registers_save_the_callee_s() {
    for target in targets() {
        let mut b = Builder::new("sum", target.isa(), 16);
        let values: Vec<IReg> = (1..13).map(|i| b.arg(i)).collect();
        let out = b.arg(0);
        let mut sum = b.int(0);
        for value in values {
            sum = b.int_add(sum, value);
        }
        // the sum as a count of loop rounds, counted in f32
        let total = b.constant(0.0);
        b.loop_(sum, |b, _| b.binary_to(total, BinaryOp::Add, total, 1.0));
        b.store_lane(total, Addr::new(out), Element::F32);
        let compiled = compile(&target, &b.finish()).unwrap();
        let mut result = 0.0f32;
        let mut args = [3i64; 16];
        args[0] = &raw mut result as i64;
        // SAFETY: the kernel writes one f32.
        unsafe { compiled.call(&args) };
        assert_eq!(result, 36.0);
    }
}

#[test]
fn transposes_in_place() {
    for target in targets() {
        let lanes = target.isa().lanes();
        let mut b = Builder::new("transpose", target.isa(), 1);
        let memory = b.arg(0);
        let row = |i: usize| Addr::new(memory).offset((i * lanes * 4) as i32);
        let rows: Vec<VReg> = (0..lanes).map(|i| b.load(row(i))).collect();
        b.transpose(&rows);
        for (i, register) in rows.iter().enumerate() {
            b.store(*register, row(i));
        }
        let compiled = compile(&target, &b.finish()).unwrap();
        let mut matrix: Vec<u32> = (0..(lanes * lanes) as u32).collect();
        // SAFETY: a matrix of W rows of W lanes.
        unsafe { compiled.call(&[matrix.as_mut_ptr() as i64]) };
        for i in 0..lanes {
            for j in 0..lanes {
                assert_eq!(matrix[i * lanes + j], (j * lanes + i) as u32, "{:?}", target.isa());
            }
        }
    }
}

#[test]
fn lanes_of_many_registers_are_summed() {
    for target in targets() {
        let lanes = target.isa().lanes();
        let mut b = Builder::new("lane_sums", target.isa(), 1);
        let memory = b.arg(0);
        let row = |i: usize| Addr::new(memory).offset((i * lanes * 4) as i32);
        let rows: Vec<VReg> = (0..lanes).map(|i| b.load(row(i))).collect();
        let sums = b.lane_sums(&rows);
        b.store(sums, row(0));
        let compiled = compile(&target, &b.finish()).unwrap();
        // Small whole numbers, whose sums are exact, each lane with a weight of its own.
        let value = |i: usize, j: usize| ((i * i + 3 * j * j + i * j) % 1009) as f32;
        let mut matrix: Vec<f32> = (0..lanes * lanes).map(|k| value(k / lanes, k % lanes)).collect();
        let expected: Vec<f32> = (0..lanes).map(|i| (0..lanes).map(|j| value(i, j)).sum()).collect();
        // SAFETY: a matrix of W rows of W lanes.
        unsafe { compiled.call(&[matrix.as_mut_ptr() as i64]) };
        assert_eq!(matrix[..lanes], expected, "{:?}", target.isa());
    }
}

#[test]
fn every_half_widens_and_narrows() {
    for target in targets() {
        let lanes = target.isa().lanes();
        for element in [Element::Bf16, Element::F16] {
            let mut b = Builder::new("convert", target.isa(), 3);
            let (from, wide, to) = (Addr::new(b.arg(0)), Addr::new(b.arg(1)), Addr::new(b.arg(2)));
            let x = b.load_as(from, element, None);
            b.store(x, wide);
            b.store_as(x, to, element, None);
            let compiled = compile(&target, &b.finish()).unwrap();
            for first in (0..=u16::MAX).step_by(lanes) {
                let input: Vec<u16> = (0..lanes as u16).map(|i| first + i).collect();
                let (mut middle, mut output) = (vec![0.0f32; lanes], vec![0u16; lanes]);
                let args = [input.as_ptr() as i64, middle.as_mut_ptr() as i64, output.as_mut_ptr() as i64];
                // SAFETY: all three hold W elements.
                unsafe { compiled.call(&args) };
                for lane in 0..lanes {
                    let want = match element {
                        Element::Bf16 => bf16::from_bits(input[lane]).to_f32(),
                        _ => f16::from_bits(input[lane]).to_f32(),
                    };
                    if want.is_nan() {
                        assert!(middle[lane].is_nan());
                        continue;
                    }
                    assert_eq!(middle[lane].to_bits(), want.to_bits());
                    let flushed = element == Element::Bf16 && want.is_subnormal() && output[lane] & 0x7fff == 0;
                    assert!(output[lane] == input[lane] || flushed, "{element:?} {:?}", target.isa());
                }
            }
        }
    }
}

#[test]
fn pairs_of_bf16_are_multiplied_and_added() {
    for target in targets() {
        let lanes = target.isa().lanes();
        for form in 0..3 {
            let mut b = Builder::new("dot", target.isa(), 3);
            let (x, y, out) = (Addr::new(b.arg(0)), Addr::new(b.arg(1)), Addr::new(b.arg(2)));
            let pairs = b.load(x);
            let sum = b.load(out);
            let other = match form {
                0 => Source::Reg(b.load(y)),
                1 => Source::Memory(y),
                _ => Source::Broadcast(y),
            };
            b.dot_bf16(sum, pairs, other);
            b.store(sum, out);
            let compiled = compile(&target, &b.finish()).unwrap();
            let pair = |i: usize| bf16::from_f32((i % 9) as f32 * 0.25 - 1.0);
            let a: Vec<bf16> = (0..2 * lanes).map(pair).collect();
            let c: Vec<bf16> = (0..2 * lanes).map(|i| pair(5 * i + 2)).collect();
            let mut total = vec![0.5f32; lanes];
            // SAFETY: both inputs hold W pairs, the output W floats.
            unsafe { compiled.call(&[a.as_ptr() as i64, c.as_ptr() as i64, total.as_mut_ptr() as i64]) };
            for lane in 0..lanes {
                let at = if form == 2 { 0 } else { lane };
                let product = |half: usize| a[2 * lane + half].to_f32() * c[2 * at + half].to_f32();
                assert_eq!(total[lane], 0.5 + product(0) + product(1), "{:?} {form}", target.isa());
            }
        }
    }
}

#[test]
fn objects_are_deterministic_for_every_target() {
    for name in crate::cpu::target::TARGET_NAMES {
        let target = Target::from_name(name).unwrap();
        let make = || {
            let mut module = object_module(&target, "kernels").unwrap();
            define(&mut module, &target, &gemm_tile(target.isa(), 4, 2)).unwrap();
            let mut rng = Rng::new(7);
            let mut kernel = random::sample(&mut rng, target.isa());
            kernel.name = "other".to_owned();
            define_as(&mut module, &target, &kernel, Linkage::Export).unwrap();
            object_bytes(module).unwrap()
        };
        assert_eq!(make(), make(), "{name}");
    }
}

#[test]
fn lanes_must_match() {
    let kernel = gemm_tile(Isa::Avx2, 1, 1);
    let isa = Isa::Avx512 { bf16: false };
    assert_eq!(emit(&kernel, isa), Err(EmitError::Lanes { kernel: 8, isa: 16 }));
}
