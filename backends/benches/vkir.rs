//! Rates of generated vector kernels on this machine: register tiles of matrix products, exponentials, compile times.
//!
//! `taskset -c 1 cargo bench -p mixc-backends --bench vkir`

use mixc_backends::cpu::module::{JitCode, JitModule};
use mixc_backends::cpu::pool::Pool;
use mixc_backends::cpu::target::Target;
use mixc_backends::cpu::vkir::{Addr, Builder, Element, IReg, IntOp, Isa, Kernel, Source, VReg, define, emit};
use std::time::Instant;

/// `c[rows x columns] += a[k][rows] * b[k][columns]`, columns = vectors * W. Arguments: k, a, b, c, bytes between the
/// rows of c.
fn gemm_tile(isa: Isa, rows: usize, vectors: usize) -> Kernel {
    const UNROLL: i32 = 4;
    let mut b = Builder::new("tile", isa, 5);
    let lanes = b.lanes();
    let (k, left, right) = (b.arg(0), b.arg(1), b.arg(2));
    let sums: Vec<VReg> = (0..rows * vectors).map(|_| b.constant(0.0)).collect();
    let step = |b: &mut Builder, round: usize| {
        let column = |j: usize| Addr::new(right).offset(((round * vectors + j) * lanes * 4) as i32);
        let columns: Vec<VReg> = (0..vectors).map(|j| b.load(column(j))).collect();
        for i in 0..rows {
            let at = Addr::new(left).offset(((round * rows + i) * 4) as i32);
            let factor = match isa.embedded_broadcast() {
                true => Source::Broadcast(at),
                false => Source::Reg(b.broadcast(at, Element::F32)),
            };
            for j in 0..vectors {
                b.fma(sums[i * vectors + j], columns[j], factor);
            }
        }
    };
    let advance = |b: &mut Builder, rounds: i32| {
        b.advance(left, rounds * (rows * 4) as i32);
        b.advance(right, rounds * (vectors * lanes * 4) as i32);
    };
    let rounds = b.int_shift(k, -2);
    b.loop_(rounds, |b, _| {
        (0..UNROLL).for_each(|round| step(b, round as usize));
        advance(b, UNROLL);
    });
    let rest = b.int_op(IntOp::And, k, UNROLL - 1);
    b.loop_(rest, |b, _| {
        step(b, 0);
        advance(b, 1);
    });
    let (out, stride) = (b.arg(3), b.arg(4));
    for i in 0..rows {
        for j in 0..vectors {
            let at = Addr::new(out).offset((j * lanes * 4) as i32);
            let sum = b.add(sums[i * vectors + j], Source::Memory(at));
            b.store(sum, at);
        }
        b.advance(out, stride);
    }
    b.finish()
}

/// `y[i] = f(x[i])`. Arguments: n, x, y.
fn map(isa: Isa, unroll: usize, f: &dyn Fn(&mut Builder, VReg) -> VReg) -> Kernel {
    let mut b = Builder::new("map", isa, 3);
    let lanes = b.lanes();
    let (n, x, y) = (b.arg(0), b.arg(1), b.arg(2));
    let per_round = unroll * lanes;
    let part = |b: &mut Builder, vectors: usize| {
        let values: Vec<VReg> = (0..vectors).map(|v| b.load(Addr::new(x).offset((v * lanes * 4) as i32))).collect();
        for (v, value) in values.into_iter().enumerate() {
            let value = f(b, value);
            b.store(value, Addr::new(y).offset((v * lanes * 4) as i32));
        }
        b.advance(x, (vectors * lanes * 4) as i32);
        b.advance(y, (vectors * lanes * 4) as i32);
    };
    let rounds = b.int_shift(n, -(per_round.trailing_zeros() as i8));
    b.loop_(rounds, |b, _| part(b, unroll));
    let left = b.int_op(IntOp::And, n, per_round as i32 - 1);
    let vectors = b.int_shift(left, -(lanes.trailing_zeros() as i8));
    b.loop_(vectors, |b, _| part(b, 1));
    let last: IReg = b.int_op(IntOp::And, n, lanes as i32 - 1);
    b.if_positive(last, |b| {
        let tail = b.tail(last);
        let value = b.load_as(Addr::new(x), Element::F32, Some(tail));
        let value = f(b, value);
        b.store_as(value, Addr::new(y), Element::F32, Some(tail));
    });
    b.finish()
}

struct Callable {
    _code: JitCode,
    function: extern "C" fn(*const i64),
}

fn callable(target: &Target, kernel: &Kernel) -> Callable {
    let mut module = JitModule::new(target, &[]).expect("the native target runs here");
    let function = define(module.module(), target, kernel).expect("the kernel fits");
    let code = module.finish().expect("memory for code");
    // SAFETY: `define` made a function of this type; the code lives beside the pointer.
    let function = unsafe { std::mem::transmute::<*const u8, extern "C" fn(*const i64)>(code.address(function)) };
    Callable { _code: code, function }
}

/// Median seconds of one of `inner` calls, over several runs.
fn time(inner: usize, mut f: impl FnMut()) -> f64 {
    f();
    let mut runs: Vec<f64> = (0..15)
        .map(|_| {
            let start = Instant::now();
            (0..inner).for_each(|_| f());
            start.elapsed().as_secs_f64() / inner as f64
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    runs[runs.len() / 2]
}

fn tile_rate(target: &Target, rows: usize, vectors: usize) {
    let isa = target.isa();
    let tile = callable(target, &gemm_tile(isa, rows, vectors));
    let columns = vectors * isa.lanes();
    let mut rates = Vec::new();
    for (k, panels) in [(128usize, 1usize), (256, 14), (512, 14)] {
        let a = vec![0.5f32; k * rows * panels + 16];
        let b = vec![0.25f32; k * columns + 16];
        let mut c = vec![0.0f32; rows * columns * panels];
        let calls = 400_000 / (k * panels);
        let seconds = time(calls, || {
            for panel in 0..panels {
                let left = a.as_ptr() as i64 + (panel * k * rows * 4) as i64;
                let out = c.as_mut_ptr() as i64 + (panel * rows * columns * 4) as i64;
                let args = [k as i64, left, b.as_ptr() as i64, out, (columns * 4) as i64];
                (tile.function)(args.as_ptr());
            }
        });
        rates.push(format!("k {k} x {panels}: {:6.1}", (2 * k * rows * columns * panels) as f64 / seconds / 1e9));
    }
    println!("{isa:?} tile {rows}x{columns}  GFLOP/s  {}", rates.join("  "));
}

fn map_rate(target: &Target, name: &str, f: &dyn Fn(&mut Builder, VReg) -> VReg) {
    let n = 4096usize;
    let x: Vec<f32> = (0..n).map(|i| (i as f32 - 2000.0) / 60.0).collect();
    let mut y = vec![0.0f32; n];
    let mut rates = Vec::new();
    for unroll in [1, 2, 4] {
        let kernel = map(target.isa(), unroll, f);
        if target.isa() != Isa::Clif && emit(&kernel, target.isa()).is_err() {
            continue;
        }
        let map = callable(target, &kernel);
        let args = [n as i64, x.as_ptr() as i64, y.as_mut_ptr() as i64];
        let seconds = time(300, || (map.function)(args.as_ptr()));
        rates.push(format!("x{unroll} {:5.2}", n as f64 / seconds / 1e9));
    }
    println!("{:?} {name:10} Gelem/s  {}", target.isa(), rates.join("  "));
}

fn compile_time(target: &Target) {
    let isa = target.isa();
    if isa != Isa::Clif {
        let (rows, vectors) = if isa.lanes() == 16 { (12, 2) } else { (6, 2) };
        let build = time(50, || drop(gemm_tile(isa, rows, vectors)));
        let kernel = gemm_tile(isa, rows, vectors);
        let code = time(50, || drop(emit(&kernel, isa)));
        let bytes = emit(&kernel, isa).expect("the kernel fits").len();
        println!("{isa:?} tile: build {:.1} us, emit {:.1} us, {bytes} bytes", build * 1e6, code * 1e6);
    }
    let kernel = map(isa, 2, &|b, x| b.exp(x));
    let all = time(20, || drop(callable(target, &kernel)));
    println!("{isa:?} exp map: module, define, finish {:.1} us", all * 1e6);
}

fn pool_dispatch() {
    let pool = Pool::new(2);
    let seconds = time(2000, || {
        pool.parallel_for(2, &|i| {
            std::hint::black_box(i);
        })
    });
    println!("pool of 2: {:.2} us a loop, one after the other", seconds * 1e6);
}

fn main() {
    pool_dispatch();
    let native = Target::native();
    let isas = [native.isa(), Isa::Avx2, Isa::Clif];
    let targets: Vec<Target> = isas.into_iter().filter_map(|isa| native.with_isa(isa)).collect();
    for target in &targets {
        let tiles: &[(usize, usize)] = match target.isa() {
            Isa::Avx512 { .. } => &[(12, 2), (14, 2), (8, 3), (6, 4)],
            Isa::Avx2 => &[(6, 2), (4, 3)],
            Isa::Clif => &[(4, 2), (6, 2)],
        };
        for &(rows, vectors) in tiles {
            tile_rate(target, rows, vectors);
        }
        map_rate(target, "exp", &|b, x| b.exp(x));
        map_rate(target, "silu", &|b, x| b.silu(x));
        map_rate(target, "tanh", &|b, x| b.tanh(x));
        map_rate(target, "gelu_erf", &|b, x| b.gelu_erf(x));
        map_rate(target, "log", &|b, x| b.log(x));
        map_rate(target, "sin", &|b, x| b.sin(x));
        compile_time(target);
    }
}
