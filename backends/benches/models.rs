//! Rates of compiled tile programs on this machine: matrix products, attention, elementwise maps, and what compiling
//! them takes.
//!
//! `taskset -c 1 cargo bench -p mixc-backends --bench models`

use mixc_backends::cpu::pool::Pool;
use mixc_backends::cpu::target::Target;
use mixc_backends::cpu::{Memory, Parallel, compile};
use mixc_ir::dim::{Dim, DimValues};
use mixc_ir::dtype::DType;
use mixc_ir::expr::{COL, Expr, Pick, ROW, SlowId, TileId, Unary};
use mixc_ir::lowered::{Action, Buffer, BufferId, Lowered, Phase, Place, Step};
use mixc_ir::tile::{Axis, Combine, Extent, Matrix, Role, TileBuilder, TileProgram, TileType};
use std::time::Instant;

fn row() -> Expr {
    Expr::from(ROW)
}

fn col() -> Expr {
    Expr::from(COL)
}

fn load(tensor: SlowId, index: &[Expr]) -> Expr {
    Expr::load(tensor, index.to_vec())
}

fn by_row(t: TileId) -> Expr {
    Expr::tile_at(t, Pick::Row, Pick::Zero)
}

fn exp(e: Expr) -> Expr {
    e.apply(Unary::Exp)
}

/// `c = a b`, b in panels `[n/nr, k, nr]`.
fn gemm_packed(m: usize, n: usize, k: usize, bm: usize, nr: usize, bk: usize) -> TileProgram {
    let mut b = TileBuilder::new("gemm_packed");
    let a = b.input("a", DType::F32, &[m.into(), k.into()]);
    let w = b.input("b", DType::F32, &[(n / nr).into(), k.into(), nr.into()]);
    let c = b.output("c", DType::F32, &[m.into(), n.into()]);
    let i0 = b.grid("i", Expr::int(m.div_ceil(bm) as i64)) * Expr::int(bm as i64);
    let j = b.grid("j", Expr::int((n / nr) as i64));
    let rows = Extent::block(bm, i0.clone(), Expr::int(m as i64));
    let cols = Extent::fixed(nr);
    let zero = b.map("zero", TileType::F32, &rows, &cols, Expr::float(0.0));
    let sum = b.for_blocks(
        Expr::int(0),
        Expr::int(k as i64),
        bk,
        |_| None,
        &[zero],
        |b, k0, carried| {
            let depth = Extent::block(bk, k0.clone(), Expr::int(k as i64));
            let x = b.map("x", TileType::F32, &rows, &depth, load(a, &[i0.clone() + row(), k0.clone() + col()]));
            let y = b.map("y", TileType::F32, &depth, &cols, load(w, &[j.clone(), k0.clone() + row(), col()]));
            vec![b.dot("sum", TileType::F32, x, y, Some(carried[0]))]
        },
    );
    b.store(c, vec![i0 + row(), j * Expr::int(nr as i64) + col()], Expr::tile(sum[0]), &rows, &cols);
    b.finish()
}

/// `c = a b`, b row-major, its panels copied to fast memory in turn.
fn gemm_plain(m: usize, n: usize, k: usize, bm: usize, nr: usize, bk: usize) -> TileProgram {
    let mut b = TileBuilder::new("gemm_plain");
    let a = b.input("a", DType::F32, &[m.into(), k.into()]);
    let w = b.input("b", DType::F32, &[k.into(), n.into()]);
    let c = b.output("c", DType::F32, &[m.into(), n.into()]);
    let i0 = b.grid("i", Expr::int(m.div_ceil(bm) as i64)) * Expr::int(bm as i64);
    let j0 = b.grid("j", Expr::int(n.div_ceil(nr) as i64)) * Expr::int(nr as i64);
    let rows = Extent::block(bm, i0.clone(), Expr::int(m as i64));
    let cols = Extent::block(nr, j0.clone(), Expr::int(n as i64));
    let zero = b.map("zero", TileType::F32, &rows, &cols, Expr::float(0.0));
    let sum = b.for_blocks(
        Expr::int(0),
        Expr::int(k as i64),
        bk,
        |_| None,
        &[zero],
        |b, k0, carried| {
            let depth = Extent::block(bk, k0.clone(), Expr::int(k as i64));
            let x = b.map("x", TileType::F32, &rows, &depth, load(a, &[i0.clone() + row(), k0.clone() + col()]));
            let y = b.map("y", TileType::F32, &depth, &cols, load(w, &[k0.clone() + row(), j0.clone() + col()]));
            vec![b.dot("sum", TileType::F32, x, y, Some(carried[0]))]
        },
    );
    b.store(c, vec![i0 + row(), j0 + col()], Expr::tile(sum[0]), &rows, &cols);
    b.finish()
}

/// Softmax attention of `[heads, T, width]`; causal if asked.
fn flash(heads: usize, width: usize, bq: usize, bk: usize, causal: bool) -> TileProgram {
    let mut b = TileBuilder::new("flash");
    let t = Dim::symbol("T");
    let shape = [Dim::from(heads), t.clone(), Dim::from(width)];
    let (q, k, v) =
        (b.input("q", DType::F32, &shape), b.input("k", DType::F32, &shape), b.input("v", DType::F32, &shape));
    let o = b.output("o", DType::F32, &shape);
    let h = b.grid("h", Expr::int(heads as i64));
    let i0 = b.grid("i", Expr::from(&t).ceil_div(bq as i64)) * Expr::int(bq as i64);
    let length = Expr::from(&t);
    let (m, d, one) = (Extent::block(bq, i0.clone(), length.clone()), Extent::fixed(width), Extent::fixed(1));
    let scaled = load(q, &[h.clone(), i0.clone() + row(), col()]) * Expr::float(1.0 / (width as f64).sqrt());
    let qs = b.map("qs", TileType::F32, &m, &d, scaled);
    let top = b.map("top", TileType::F32, &m, &one, Expr::float(f64::NEG_INFINITY));
    let sum = b.map("sum", TileType::F32, &m, &one, Expr::float(0.0));
    let acc = b.map("acc", TileType::F32, &m, &d, Expr::float(0.0));
    let end = if causal { (i0.clone() + Expr::int(bq as i64)).min(length.clone()) } else { length.clone() };
    let last = b.for_blocks(
        Expr::int(0),
        end,
        bk,
        |_| None,
        &[top, sum, acc],
        |b, j0, carried| {
            let n = Extent::block(bk, j0.clone(), length.clone());
            let key = [h.clone(), j0.clone() + row(), col()];
            let ks = b.map("ks", TileType::F32, &n, &d, load(k, &key));
            let vs = b.map("vs", TileType::F32, &n, &d, load(v, &key));
            let mut s = b.dot("s", TileType::F32, qs, Matrix::transposed(ks), None);
            if causal {
                let inside = (j0.clone() + col()).le(i0.clone() + row());
                let value = Expr::select(inside, Expr::tile(s), Expr::float(f64::NEG_INFINITY));
                s = b.map("masked", TileType::F32, &m, &n, value);
            }
            let here = b.reduce("here", Combine::Max, Axis::Cols, s);
            let top = b.map("top", TileType::F32, &m, &one, Expr::tile(carried[0]).max(Expr::tile(here)));
            let p = b.map("p", TileType::F32, &m, &n, exp(Expr::tile(s) - by_row(top)));
            let scale = b.map("scale", TileType::F32, &m, &one, exp(Expr::tile(carried[0]) - Expr::tile(top)));
            let part = b.reduce("part", Combine::Sum, Axis::Cols, p);
            let sum =
                b.map("sum", TileType::F32, &m, &one, Expr::tile(carried[1]) * Expr::tile(scale) + Expr::tile(part));
            let old = b.map("old", TileType::F32, &m, &d, Expr::tile(carried[2]) * by_row(scale));
            vec![top, sum, b.dot("acc", TileType::F32, p, vs, Some(old))]
        },
    );
    b.store(o, vec![h, i0 + row(), col()], Expr::tile(last[2]) / by_row(last[1]), &m, &d);
    b.finish()
}

/// `y = f(x)` of `[rows, cols]` in blocks.
fn map(rows: usize, cols: usize, f: impl Fn(Expr) -> Expr) -> TileProgram {
    let mut b = TileBuilder::new("map");
    let shape = [rows.into(), cols.into()];
    let (x, y) = (b.input("x", DType::F32, &shape), b.output("y", DType::F32, &shape));
    let i = b.grid("i", Expr::int(rows.div_ceil(16) as i64)) * Expr::int(16);
    let r = Extent::block(16, i.clone(), Expr::int(rows as i64));
    let c = Extent::fixed(cols);
    let at = vec![i + row(), col()];
    let tile = b.map("tile", TileType::F32, &r, &c, f(load(x, &at)));
    b.store(y, at, Expr::tile(tile), &r, &c);
    b.finish()
}

/// Softmax of every row.
fn softmax(rows: usize, cols: usize) -> TileProgram {
    let mut b = TileBuilder::new("softmax");
    let shape = [rows.into(), cols.into()];
    let (x, y) = (b.input("x", DType::F32, &shape), b.output("y", DType::F32, &shape));
    let i = b.grid("i", Expr::int(rows.div_ceil(16) as i64)) * Expr::int(16);
    let r = Extent::block(16, i.clone(), Expr::int(rows as i64));
    let c = Extent::fixed(cols);
    let at = vec![i + row(), col()];
    let s = b.map("s", TileType::F32, &r, &c, load(x, &at));
    let top = b.reduce("top", Combine::Max, Axis::Cols, s);
    let e = b.map("e", TileType::F32, &r, &c, exp(Expr::tile(s) - by_row(top)));
    let sum = b.reduce("sum", Combine::Sum, Axis::Cols, e);
    b.store(y, at, Expr::tile(e) / by_row(sum), &r, &c);
    b.finish()
}

fn model(program: TileProgram) -> Lowered {
    let mut lowered = Lowered { name: "bench".to_owned(), ..Lowered::default() };
    for (k, tensor) in program.tensors.iter().enumerate() {
        let id = BufferId(k as u32);
        let place = match tensor.role {
            Role::Input => {
                lowered.params.push(id);
                Place::Param(lowered.params.len() - 1)
            }
            Role::Output => {
                lowered.results.push(id);
                Place::Result(lowered.results.len() - 1)
            }
        };
        let buffer = Buffer { name: tensor.name.clone(), dtype: tensor.dtype, shape: tensor.shape.clone(), place };
        lowered.buffers.push(buffer);
    }
    lowered.dims = vec![mixc_ir::program::DimItem { name: "T".into(), low: 0, high: 1 << 20 }];
    let buffers = (0..program.tensors.len() as u32).map(BufferId).collect();
    let action = Action::Run { program, buffers, form: String::new(), site: String::new() };
    lowered.steps.push(Step { phase: Phase::Run, action });
    lowered
}

/// Prints the rate of a program: `work` operations a run.
fn measure(name: &str, program: TileProgram, t: i64, work: f64, unit: &str, pool: Option<&Pool>) {
    let lowered = model(program);
    let target = Target::native();
    let start = Instant::now();
    let model = compile(&lowered, &target).expect("the program compiles");
    let compiled = start.elapsed().as_secs_f64();
    let dims = DimValues::from([("T".into(), t)]);
    let inputs: Vec<Vec<f32>> = lowered
        .params
        .iter()
        .map(|p| {
            let bytes = lowered.buffer(*p).bytes(&dims).expect("small");
            (0..bytes / 4).map(|k| ((k * 7919) % 1000) as f32 / 1000.0 - 0.5).collect()
        })
        .collect();
    let bytes = |v: &[f32]| -> Vec<u8> { v.iter().flat_map(|x| x.to_le_bytes()).collect() };
    let inputs: Vec<Vec<u8>> = inputs.iter().map(|v| bytes(v)).collect();
    let inputs: Vec<&[u8]> = inputs.iter().map(|v| v.as_slice()).collect();
    let mut output = vec![0u8; lowered.buffer(lowered.results[0]).bytes(&dims).expect("small") as usize];
    let mut workspace = Memory::new(model.workspace_bytes(&dims).expect("valid")).expect("memory");
    let parallel: Option<&dyn Parallel> = pool.map(|p| p as &dyn Parallel);
    let mut runs: Vec<f64> = (0..9)
        .map(|_| {
            let start = Instant::now();
            model.run_in(&dims, None, &inputs, &mut [&mut output], &mut workspace, parallel).expect("runs");
            start.elapsed().as_secs_f64()
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    let median = runs[runs.len() / 2];
    println!(
        "{name:44} {:9.3} ms  {:7.1} {unit}  (best {:7.1}; compiled in {:.1} ms)",
        median * 1e3,
        work / median / 1e9,
        work / runs[0] / 1e9,
        compiled * 1e3
    );
}

fn main() {
    let n = 1024;
    let flops = 2.0 * (n * n * n) as f64;
    for (bm, nr, bk) in [(128, 64, 1024), (128, 64, 512), (64, 64, 1024), (256, 64, 256), (130, 32, 1024)] {
        let name = format!("gemm 1024 packed bm {bm} nr {nr} bk {bk}");
        measure(&name, gemm_packed(n, n, n, bm, nr, bk), 1, flops, "GFLOP/s", None);
    }
    for (bm, nr, bk) in [(128, 64, 256), (256, 64, 256), (256, 128, 256)] {
        let name = format!("gemm 1024 plain bm {bm} nr {nr} bk {bk}");
        measure(&name, gemm_plain(n, n, n, bm, nr, bk), 1, flops, "GFLOP/s", None);
    }
    measure(
        "gemm 1000x1001x999 plain",
        gemm_plain(1000, 1001, 999, 256, 128, 256),
        1,
        2.0 * 1000.0 * 1001.0 * 999.0,
        "GFLOP/s",
        None,
    );
    for t in [512, 2048] {
        let work = 4.0 * 8.0 * (t * t * 64) as f64;
        for (bq, bk) in [(64, 128), (64, 256), (64, 512), (32, 256), (128, 256)] {
            let name = format!("attention H8 N{t} d64 bq {bq} bk {bk}");
            measure(&name, flash(8, 64, bq, bk, false), t, work, "GFLOP/s", None);
        }
        measure(&format!("attention H8 N{t} d64 causal"), flash(8, 64, 64, 256, true), t, work / 2.0, "GFLOP/s", None);
    }
    let work = 4.0 * 8.0 * (2048 * 2048 * 128) as f64;
    measure("attention H8 N2048 d128", flash(8, 128, 64, 256, false), 2048, work, "GFLOP/s", None);
    let elements = 64.0 * 64.0;
    measure("exp 64x64", map(64, 64, exp), 1, elements, "Gelem/s", None);
    measure("exp 256x256", map(256, 256, exp), 1, 256.0 * 256.0, "Gelem/s", None);
    let silu = |x: Expr| x.clone() * x.apply(Unary::Sigmoid);
    measure("silu 256x256", map(256, 256, silu), 1, 256.0 * 256.0, "Gelem/s", None);
    measure("softmax 256x512", softmax(256, 512), 1, 256.0 * 512.0, "Gelem/s", None);
    let pool = Pool::new(2);
    let work = 4.0 * 8.0 * (2048 * 2048 * 64) as f64;
    measure("attention H8 N2048 d64, 2 threads", flash(8, 64, 64, 256, false), 2048, work, "GFLOP/s", Some(&pool));
}
