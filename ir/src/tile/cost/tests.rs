use super::*;
use crate::dim::Dim;
use crate::dim::ceil_div;
use crate::expr::{COL, Expr, ROW, Unary};
use crate::tile::{Axis, Combine, Extent, TileBuilder, examples};

fn at(values: &[(&str, i64)]) -> DimValues {
    values.iter().map(|(name, n)| ((*name).into(), *n)).collect()
}

/// Bytes of all reads or writes of the tensor named `name`.
fn bytes(p: &TileProgram, c: &Cost, name: &str) -> f64 {
    let of = |a: &&Access| p.slow(a.tensor).name == name;
    c.accesses.iter().filter(of).map(|a| a.bytes).sum()
}

#[test]
fn a_product_is_counted_exactly() {
    let p = examples::gemm_gelu(13, 7, [4, 4, 3]);
    for t in [1, 4, 5, 13, 64] {
        let c = cost(&p, &at(&[("T", t)])).unwrap();
        let (m, n) = (ceil_div(t, 4), 2);
        assert_eq!(c.flops.fma, (2 * t * 13 * 7) as f64);
        assert_eq!(c.points, (m * n) as f64);
        assert_eq!(bytes(&p, &c, "x"), (4 * t * 13 * n) as f64);
        assert_eq!(bytes(&p, &c, "w"), (4 * 13 * 7 * m) as f64);
        assert_eq!(bytes(&p, &c, "bias"), (4 * 7 * m) as f64);
        assert_eq!(bytes(&p, &c, "y"), (4 * t * 7) as f64);
        assert_eq!(c.compulsory(), (4 * (t * 13 + 13 * 7 + 7 + t * 7)) as f64);
        // One erf an element; 2 steps before and after the loop, the last of which is part of its
        // predecessor's pass, and 3 in each of its 5 turns.
        assert_eq!(c.flops.special, (t * 7) as f64);
        assert_eq!(c.steps, ((2 + 3 * 5) * m * n) as f64);
    }
}

/// Pairs of queries and keys in the blocks that causal attention visits, by going through the blocks.
fn visited(t: i64, bq: i64, bk: i64, window: Option<i64>) -> (f64, f64) {
    let (mut pairs, mut keys) = (0, 0);
    for i0 in (0..t).step_by(bq as usize) {
        let mut j0 = 0;
        while j0 < (i0 + bq).min(t) {
            if window.is_none_or(|w| j0 + bk > i0 - w + 1) {
                pairs += (t - i0).min(bq) * (t - j0).min(bk);
                keys += (t - j0).min(bk);
            }
            j0 += bk;
        }
    }
    (pairs as f64, keys as f64)
}

#[test]
fn causal_loops_cost_what_they_run() {
    for window in [None, Some(6), Some(300)] {
        let p = examples::flash_attention(3, 5, window, [4, 3]);
        for (t, tolerance) in [(1, 0.0), (13, 0.0), (100, 0.0), (1000, 0.02), (5003, 0.02)] {
            let c = cost(&p, &at(&[("T", t)])).unwrap();
            let (pairs, keys) = visited(t, 4, 3, window.map(|w| w as i64));
            let close = |x: f64, y: f64| assert!((x - y).abs() <= tolerance * y, "T = {t}, {window:?}: {x}, not {y}");
            close(c.flops.fma, 3.0 * 4.0 * 5.0 * pairs);
            close(bytes(&p, &c, "k"), 3.0 * 4.0 * 5.0 * keys);
            assert_eq!(bytes(&p, &c, "q"), (3 * 4 * 5 * t) as f64);
            assert_eq!(bytes(&p, &c, "o"), (3 * 4 * 5 * t) as f64);
        }
    }
}

#[test]
fn guards_and_indirect_reads_are_counted_where_they_read() {
    let p = examples::concat_rows(3, 5, 4);
    let c = cost(&p, &at(&[("T", 10)])).unwrap();
    assert_eq!((bytes(&p, &c, "a"), bytes(&p, &c, "b")), (60.0, 200.0));
    let p = examples::gather_rows(11, 5, 4);
    let c = cost(&p, &at(&[("T", 100)])).unwrap();
    assert_eq!((bytes(&p, &c, "ids"), bytes(&p, &c, "table")), (400.0, 2000.0));
    // Of the table at most the whole is distinct.
    assert_eq!(c.compulsory(), 400.0 + 220.0 + 2000.0);
}

#[test]
fn more_memory_means_fewer_bytes_between_the_bound_and_all() {
    for p in examples::all() {
        let c = cost(&p, &at(&[("T", 301), ("S", 77), ("H", 3), ("D", 40)])).unwrap();
        let mut before = c.moved();
        for size in [0, 1 << 8, 1 << 12, 1 << 16, 1 << 24, 1 << 40] {
            let past = c.past(size);
            assert!(past <= before + 1e-6 && past >= c.compulsory() - 1e-6, "{} at {size}: {past}", p.name);
            before = past;
        }
        assert!((c.past(0) - c.moved()).abs() < 1e-6, "{}", p.name);
        assert_eq!(c, cost(&p, &at(&[("T", 301), ("S", 77), ("H", 3), ("D", 40)])).unwrap());
    }
}

#[test]
fn a_product_reuses_what_fits() {
    let p = examples::gemm_gelu(1024, 1024, [64, 64, 64]);
    let c = cost(&p, &at(&[("T", 1024)])).unwrap();
    let matrix = 4.0 * 1024.0 * 1024.0;
    // With nothing kept every block of rows reads w, every block of columns x.
    assert!((c.past(0) - (16.0 + 16.0 + 1.0) * matrix) / matrix < 0.1);
    // A row of blocks of x (256 KiB) and a block of w fit: x comes once.
    assert!((c.past(2 << 20) - (1.0 + 16.0 + 1.0) * matrix).abs() / matrix < 0.1);
    assert!((c.past(16 << 20) - 3.0 * matrix).abs() / matrix < 0.1);
}

#[test]
fn the_roofline_stands_near_what_was_measured() {
    let zen = Machine::zen4();
    let p = examples::gemm_gelu(1024, 1024, [64, 64, 256]);
    let seconds = cost(&p, &at(&[("T", 1024)])).unwrap().seconds(&zen, 1);
    assert!((0.018..0.022).contains(&seconds), "{seconds}");
    let p = examples::flash_attention(8, 64, None, [64, 64]);
    let c = cost(&p, &at(&[("T", 2048)])).unwrap();
    assert!((0.036..0.045).contains(&c.seconds(&zen, 1)), "{}", c.seconds(&zen, 1));
    let half = c.seconds(&zen, 2) / c.seconds(&zen, 1);
    assert!((0.5..0.55).contains(&half), "{half}");
    // A copy is bound by memory: 2 x 256 MB at 30 GB/s.
    let p = examples::concat_rows(1, 1 << 12, 64);
    let c = cost(&p, &at(&[("T", 16383)])).unwrap();
    assert!((0.017..0.019).contains(&c.seconds(&zen, 1)), "{}", c.seconds(&zen, 1));
}

#[test]
fn the_footprint_is_what_a_point_holds() {
    // qs, top, sum, acc and their next values share; ks, vs, s and masked or masked and p are live together.
    let c = cost(&examples::flash_attention(1, 64, None, [32, 16]), &at(&[("T", 100)])).unwrap();
    let f32s = |n: u64| 4 * n;
    let kept = f32s(32 * 64 + 32 + 32 + 32 * 64);
    let turn = f32s(16 * 64 * 2 + 32 * 16 * 2);
    assert!(c.footprint >= kept + turn && c.footprint <= kept + turn + f32s(32 * 64 + 200), "{}", c.footprint);
}

#[test]
fn dims_without_values_and_empty_ones() {
    let p = examples::flash_attention(2, 4, None, [4, 4]);
    assert!(cost(&p, &DimValues::new()).is_err());
    let c = cost(&p, &at(&[("T", 0)])).unwrap();
    assert_eq!((c.points, c.flops.fma, c.moved(), c.compulsory()), (0.0, 0.0, 0.0, 0.0));
    assert!(c.seconds(&Machine::zen4(), 2).is_finite());
}

/// Sums down the columns of `element` over 8 x 32, of a read tensor.
fn column_sums(element: impl Fn(Expr) -> Expr) -> Cost {
    let mut b = TileBuilder::new("sums");
    let x = b.input("x", DType::F32, &[Dim::constant(8), Dim::constant(32)]);
    let y = b.output("y", DType::F32, &[Dim::constant(1), Dim::constant(32)]);
    let (rows, cols, one) = (Extent::fixed(8), Extent::fixed(32), Extent::fixed(1));
    let read = Expr::load(x, vec![Expr::from(ROW), Expr::from(COL)]);
    let e = b.map("e", TileType::F32, &rows, &cols, element(read));
    let sum = b.reduce("sum", Combine::Sum, Axis::Rows, e);
    b.store(y, vec![Expr::int(0), Expr::from(COL)], Expr::tile(sum), &one, &cols);
    cost(&b.finish(), &DimValues::new()).unwrap()
}

#[test]
fn what_one_pass_hands_on_moves_no_bytes() {
    let c = column_sums(|x| x);
    // The map's 8 x 32 elements go from register to register; the sums are written and read.
    assert_eq!((c.tile_bytes, c.footprint), (2.0 * 4.0 * 32.0, 4 * 32));
    assert_eq!((c.loads, c.scalar), (256.0, 0.0));
}

#[test]
fn remainders_of_positions_make_elements_one_by_one() {
    let parity = |x: Expr| Expr::select((Expr::from(ROW) + Expr::from(COL)).modulo(2).equals(0), x, Expr::float(0.0));
    let (plain, slow) = (column_sums(|x| x), column_sums(parity));
    assert_eq!((plain.scalar, slow.scalar), (0.0, 256.0 * 1.15), "one quotient an element");
    let zen = Machine::zen4();
    // The plain sums are mostly the starts of two tile operations.
    assert!(slow.compute_seconds(&zen, 1) - plain.compute_seconds(&zen, 1) > 256.0 * 1e-9);
}

#[test]
fn functions_of_a_row_are_computed_in_each_of_its_vectors() {
    let c = column_sums(|x| x * Expr::from(ROW).to_float().apply(Unary::Exp));
    assert_eq!(c.flops.special, 256.0);
    let c = column_sums(|x| x * Expr::float(2.0).apply(Unary::Exp));
    assert!(c.flops.special <= 1.0);
}
