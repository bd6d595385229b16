//! Element types and scalar functions, each against Rust's own.

use super::harness::{model_of, run_guarded};
use crate::cpu::compile;
use crate::cpu::target::Target;
use crate::cpu::vkir::tests::Rng;
use half::{bf16, f16};
use mixc_ir::dim::{Dim, DimValues};
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Binary, Expr, ROW, Scalar, SlowId, Unary, eval_binary, eval_unary};
use mixc_ir::tensor::Blob;
use mixc_ir::tile::{Extent, TileBuilder, TileProgram, TileType};

/// `out[i] = f(in0[i], in1[i])` through a tile.
fn elementwise(from: DType, tile: TileType, to: DType, value: impl Fn(Expr, Expr) -> Expr) -> TileProgram {
    let mut b = TileBuilder::new("elementwise");
    let t = Dim::symbol("T");
    let x = b.input("x", from, std::slice::from_ref(&t));
    let y = b.input("y", from, std::slice::from_ref(&t));
    let out = b.output("out", to, std::slice::from_ref(&t));
    let i = b.grid("i", Expr::from(&t).ceil_div(64)) * Expr::int(64);
    let (rows, one) = (Extent::block(64, i.clone(), Expr::from(&t)), Extent::fixed(1));
    let at = |s: SlowId| Expr::load(s, vec![i.clone() + Expr::from(ROW)]);
    let value = value(at(x), at(y));
    let tile = b.map("tile", tile, &rows, &one, value);
    b.store(out, vec![i.clone() + Expr::from(ROW)], Expr::tile(tile), &rows, &one);
    b.finish()
}

fn run(program: &TileProgram, x: Blob, y: Blob) -> Blob {
    let lowered = model_of(program);
    let model = compile(&lowered, &Target::native()).unwrap();
    let dims = DimValues::from([("T".into(), x.shape[0] as i64)]);
    run_guarded(&model, &lowered, &dims, &[x, y], true, false).remove(0)
}

fn blob(dtype: DType, bytes: Vec<u8>) -> Blob {
    Blob { dtype, shape: vec![bytes.len() / dtype.bytes()], bytes }
}

#[test]
fn halves_widen_and_round_as_the_standard_says() {
    let all: Vec<u8> = (0..=u16::MAX).flat_map(|n| n.to_le_bytes()).collect();
    for dtype in [DType::F16, DType::BF16] {
        let program = elementwise(dtype, TileType::F32, DType::F32, |x, _| x);
        let got = run(&program, blob(dtype, all.clone()), blob(dtype, all.clone()));
        for (n, y) in got.bytes.chunks_exact(4).enumerate() {
            let y = f32::from_le_bytes(y.try_into().unwrap());
            let x = if dtype == DType::F16 {
                f16::from_bits(n as u16).to_f32()
            } else {
                bf16::from_bits(n as u16).to_f32()
            };
            assert!(x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan()), "{dtype} {n:#x}: {y}, expected {x}");
        }
    }
    let mut rng = Rng::new(3);
    let mut reals: Vec<f64> = vec![0.0, -0.0, 65504.0, 65519.9, 65520.0, 6e-8, 3e-8, 2.9e-8, f64::NAN, f64::INFINITY];
    for n in 0..20000u32 {
        let bits = rng.next();
        reals.push(f64::from(f32::from_bits(bits as u32)));
        // Near the halves themselves, where rounding is decided.
        let x = f16::from_bits(n as u16).to_f64();
        reals.extend([x, x * (1.0 + 2f64.powi(-11)), x * (1.0 + 2f64.powi(-12)), x * (1.0 - 2f64.powi(-40))]);
        let x = bf16::from_bits((bits >> 32) as u16).to_f64();
        reals.extend([x, x * (1.0 + 2f64.powi(-8)), x * (1.0 + 2f64.powi(-9) + 2f64.powi(-45))]);
    }
    for to in [DType::F16, DType::BF16] {
        for (from, tile) in [(DType::F32, TileType::F32), (DType::F64, TileType::F64)] {
            let program = elementwise(from, tile, to, |x, _| x);
            let bytes: Vec<u8> = match from {
                DType::F32 => reals.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(),
                _ => reals.iter().flat_map(|x| x.to_le_bytes()).collect(),
            };
            let got = run(&program, blob(from, bytes.clone()), blob(from, bytes));
            for (x, y) in reals.iter().zip(got.bytes.chunks_exact(2)) {
                let x = if from == DType::F32 { f64::from(*x as f32) } else { *x };
                let y = u16::from_le_bytes(y.try_into().unwrap());
                // The reference rounds from f32 for f32 and from f64 for f64.
                let z = match (to, from) {
                    (DType::F16, DType::F32) => f16::from_f32(x as f32).to_bits(),
                    (DType::F16, _) => f16::from_f64(x).to_bits(),
                    (_, DType::F32) => bf16::from_f32(x as f32).to_bits(),
                    _ => bf16::from_f64(x).to_bits(),
                };
                // Where the reference rounds twice, the nearer one is right.
                let value =
                    |b: u16| if to == DType::F16 { f16::from_bits(b).to_f64() } else { bf16::from_bits(b).to_f64() };
                let nearer = from == DType::F64 && (value(y) - x).abs() < (value(z) - x).abs();
                // A machine's own conversion may take an f32 subnormal for zero.
                let flushed = to == DType::BF16 && x.abs() < f64::from(f32::MIN_POSITIVE) && y & 0x7fff == 0;
                assert!(y == z || x.is_nan() || nearer || flushed, "{from} {x:e} to {to}: {y:#x}, expected {z:#x}");
            }
        }
    }
}

/// Reals of every size and sign, and special ones.
fn reals(rng: &mut Rng) -> Vec<f64> {
    let mut all = vec![0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    all.extend([1e-310, -1e-310, 709.0, 710.0, -745.0, -746.5, 1e300, -1e300, 1e-300]);
    for _ in 0..4000 {
        let size = 10f64.powf(f64::from(rng.unit()) * 12.0 - 7.0);
        let sign = if rng.below(2) == 1 { 1.0 } else { -1.0 };
        all.push(size * sign);
        all.push(sign * f64::from(rng.unit()) * 20.0);
    }
    all
}

#[test]
fn functions_agree_with_rust() {
    let mut rng = Rng::new(4);
    let xs = reals(&mut rng);
    let bytes: Vec<u8> = xs.iter().flat_map(|x| x.to_le_bytes()).collect();
    let narrow: Vec<f64> = xs.iter().map(|x| f64::from(*x as f32)).collect();
    let narrow_bytes: Vec<u8> = xs.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect();
    let all = [
        Unary::Neg,
        Unary::Abs,
        Unary::Exp,
        Unary::Expm1,
        Unary::Log,
        Unary::Log1p,
        Unary::Sqrt,
        Unary::Rsqrt,
        Unary::Recip,
        Unary::Tanh,
        Unary::Sigmoid,
        Unary::Erf,
        Unary::Sin,
        Unary::Cos,
        Unary::Sign,
        Unary::Floor,
        Unary::Ceil,
        Unary::Trunc,
        Unary::RoundEven,
    ];
    for op in all {
        let program = elementwise(DType::F64, TileType::F64, DType::F64, |x, _| x.apply(op));
        let got = run(&program, blob(DType::F64, bytes.clone()), blob(DType::F64, bytes.clone())).to_f64();
        for (x, y) in xs.iter().zip(&got) {
            let z = eval_unary(op, Scalar::Float(*x)).as_float();
            // Near a zero of a periodic function its neighbourhood in x counts.
            let slack = if matches!(op, Unary::Sin | Unary::Cos) { 4e-16 } else { 0.0 };
            let same = *y == z || (y.is_nan() && z.is_nan()) || (y - z).abs() <= 1e-14 * z.abs() + slack + 1e-320;
            assert!(same, "{op:?}({x:e}) is {y:e}, expected {z:e}");
        }
        let program = elementwise(DType::F32, TileType::F32, DType::F32, |x, _| x.apply(op));
        let (x32, y32) = (blob(DType::F32, narrow_bytes.clone()), blob(DType::F32, narrow_bytes.clone()));
        let got = run(&program, x32, y32).to_f64();
        for (x, y) in narrow.iter().zip(&got) {
            let z = f64::from(eval_unary(op, Scalar::Float(*x)).as_float() as f32);
            // Vector kernels are right to three units in the last place; sine and cosine absolutely so.
            let slack = if matches!(op, Unary::Sin | Unary::Cos) { 1.5e-7 } else { 3e-45 };
            let far = matches!(op, Unary::Sin | Unary::Cos) && x.abs() > 1e5;
            let same = *y == z || far || (y.is_nan() && z.is_nan()) || (y - z).abs() <= 3.6e-7 * z.abs() + slack;
            assert!(same, "f32 {op:?}({x:e}) is {y:e}, expected {z:e}");
        }
    }
}

#[test]
fn functions_of_two_agree_with_rust() {
    let mut rng = Rng::new(5);
    let (xs, mut ys) = (reals(&mut rng), reals(&mut rng));
    for (k, y) in ys.iter_mut().enumerate() {
        if k % 5 == 0 {
            *y = (k % 13) as f64 - 6.0;
        }
    }
    let bytes = |v: &[f64]| blob(DType::F64, v.iter().flat_map(|x| x.to_le_bytes()).collect());
    for op in [Binary::Div, Binary::Mod, Binary::Max, Binary::Min, Binary::Pow] {
        let program = elementwise(DType::F64, TileType::F64, DType::F64, |x, y| Expr::binary(op, x, y));
        let got = run(&program, bytes(&xs), bytes(&ys)).to_f64();
        for ((x, y), z) in xs.iter().zip(&ys).zip(&got) {
            let want = eval_binary(op, Scalar::Float(*x), Scalar::Float(*y)).as_float();
            let same = *z == want || (z.is_nan() && want.is_nan()) || (z - want).abs() <= 3e-13 * want.abs() + 1e-320;
            assert!(same, "{op:?}({x:e}, {y:e}) is {z:e}, expected {want:e}");
        }
    }
    let ints: Vec<i64> = (0..4000)
        .map(|k| match k % 7 {
            0 => rng.next() as i64,
            1 => i64::MIN,
            2 => -1,
            3 => 0,
            _ => rng.below(41) as i64 - 20,
        })
        .collect();
    let others: Vec<i64> = (0..4000).map(|k| ints[(k * 13 + 5) % ints.len()]).collect();
    let bytes = |v: &[i64]| blob(DType::I64, v.iter().flat_map(|x| x.to_le_bytes()).collect());
    let all = [
        Binary::Add,
        Binary::Sub,
        Binary::Mul,
        Binary::Div,
        Binary::Mod,
        Binary::Max,
        Binary::Min,
        Binary::Pow,
        Binary::And,
        Binary::Or,
    ];
    for op in all {
        let program = elementwise(DType::I64, TileType::I64, DType::I64, |x, y| Expr::binary(op, x, y));
        let got = run(&program, bytes(&ints), bytes(&others));
        for ((x, y), z) in ints.iter().zip(&others).zip(got.bytes.chunks_exact(8)) {
            let z = i64::from_le_bytes(z.try_into().unwrap());
            let want = eval_binary(op, Scalar::Int(*x), Scalar::Int(*y)).as_int();
            assert_eq!(z, want, "{op:?}({x}, {y})");
        }
    }
}
