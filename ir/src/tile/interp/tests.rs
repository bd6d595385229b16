use super::*;
use crate::dim::Dim;
use crate::expr::{Expr, Pick, SlowId, Unary};
use crate::tile::{Axis, Combine, TileBuilder};

fn row() -> Expr {
    Expr::from(ROW)
}

fn col() -> Expr {
    Expr::from(COL)
}

fn dims(t: i64) -> DimValues {
    DimValues::from([("T".into(), t)])
}

/// y[i] = exp(x[i]) by blocks of `block`; `change` may plant a mistake.
fn exp_program(block: usize, change: impl FnOnce(&mut TileBuilder, SlowId, SlowId, Expr)) -> TileProgram {
    let t = Dim::symbol("T");
    let mut b = TileBuilder::new("exponentials");
    let x = b.input("x", DType::F32, std::slice::from_ref(&t));
    let y = b.output("y", DType::F32, std::slice::from_ref(&t));
    let i = b.grid("i", Expr::from(&t.ceil_div(block as i64).unwrap()));
    let start = i * Expr::int(block as i64);
    change(&mut b, x, y, start);
    b.finish()
}

fn right(b: &mut TileBuilder, x: SlowId, y: SlowId, start: Expr) {
    let (rows, cols) = (Extent::fixed(1), Extent::block(4, start.clone(), Expr::from(&Dim::symbol("T"))));
    let place = vec![start + col()];
    let t = b.map("x", TileType::F32, &rows, &cols, Expr::load(x, place.clone()));
    b.store(y, place, Expr::tile(t).apply(Unary::Exp), &rows, &cols);
}

fn run(p: &TileProgram, n: usize) -> Result<Vec<Tensor>, TileFault> {
    let x = Tensor::floats(&[n], (0..n).map(|k| k as f64 / 8.0).collect());
    interpret(p, &dims(n as i64), &[&x], Rounding::Nowhere).map_err(|e| *e.fault)
}

#[test]
fn a_map_by_blocks_covers_every_length() {
    let p = exp_program(4, right);
    for n in [0, 1, 3, 4, 5, 13] {
        let y = run(&p, n).unwrap();
        for k in 0..n {
            assert_eq!(y[0].at(k), (k as f64 / 8.0).exp());
        }
    }
}

#[test]
fn rounding_is_where_it_is_asked_for() {
    let p = exp_program(4, right);
    let x = Tensor::floats(&[1], vec![0.1]);
    let y = |r| interpret(&p, &dims(1), &[&x], r).unwrap()[0].at(0);
    assert_eq!(y(Rounding::Nowhere), 0.1f64.exp());
    assert_eq!(y(Rounding::Stores), 0.1f64.exp() as f32 as f64);
    assert_eq!(y(Rounding::Tiles), (0.1f32 as f64).exp() as f32 as f64);
}

#[test]
fn accesses_outside_are_errors() {
    let load = exp_program(4, |b, x, y, start| {
        let (rows, cols) = (Extent::fixed(1), Extent::fixed(4));
        let place = vec![start + col()];
        b.store_if(y, place.clone(), Expr::load(x, place), &rows, &cols, Expr::bool(true));
    });
    assert!(matches!(run(&load, 5), Err(TileFault::LoadOutside { index, .. }) if index == [5]));
    assert!(run(&load, 8).is_ok());
    let store = exp_program(4, |b, _, y, start| {
        b.store(y, vec![start + col()], Expr::float(1.0), &Extent::fixed(1), &Extent::fixed(4));
    });
    assert!(matches!(run(&store, 5), Err(TileFault::StoreOutside { index, .. }) if index == [5]));
}

#[test]
fn a_select_does_not_hide_a_load_but_a_guard_does() {
    let t = || Expr::from(&Dim::symbol("T"));
    let with = |value: fn(SlowId, Expr, Expr) -> Expr| {
        exp_program(4, move |b, x, y, start| {
            let place = start + col();
            let inside = place.clone().lt(t());
            let tile = b.map(
                "x",
                TileType::F32,
                &Extent::fixed(1),
                &Extent::fixed(4),
                value(x, place.clone(), inside.clone()),
            );
            b.store_if(y, vec![place], Expr::tile(tile), &Extent::fixed(1), &Extent::fixed(4), inside);
        })
    };
    let select = with(|x, place, inside| Expr::select(inside, Expr::load(x, vec![place]), Expr::float(0.0)));
    assert!(matches!(run(&select, 5), Err(TileFault::LoadOutside { .. })));
    let guard = with(|x, place, inside| Expr::load_if(x, vec![place], inside, 7.0));
    assert_eq!(run(&guard, 5).unwrap()[0].at(4), 0.5);
}

#[test]
fn every_element_is_stored_exactly_once() {
    let one = Extent::fixed(1);
    let twice = exp_program(4, |b, x, y, start| {
        right(b, x, y, start.clone());
        b.store_if(y, vec![start], Expr::float(0.0), &Extent::fixed(1), &Extent::fixed(1), Expr::bool(true));
    });
    assert!(matches!(run(&twice, 5), Err(TileFault::StoredTwice { index, .. }) if index == [0]));
    let never = exp_program(4, |b, _, y, start| b.store(y, vec![start], Expr::float(0.0), &one, &one));
    assert!(matches!(run(&never, 5), Err(TileFault::NeverStored { first: 1, count: 3, .. })));
    let wrong = exp_program(4, |b, x, _, start| b.store(x, vec![start], Expr::float(0.0), &one, &one));
    assert!(matches!(run(&wrong, 5), Err(TileFault::WrongRole(_))));
    let kind = exp_program(4, |b, _, y, start| b.store(y, vec![start], Expr::int(0), &one, &one));
    assert!(matches!(run(&kind, 5), Err(TileFault::Kinds(_))));
}

#[test]
fn elements_past_the_counts_do_not_exist() {
    let p = exp_program(4, |b, x, y, start| {
        let cols = Extent::block(4, start.clone(), Expr::from(&Dim::symbol("T")));
        let place = vec![start + col()];
        let t = b.map("x", TileType::F32, &Extent::fixed(1), &cols, Expr::load(x, place.clone()));
        b.store(y, place, Expr::tile(t), &Extent::fixed(1), &Extent::fixed(4));
    });
    assert!(matches!(run(&p, 5), Err(TileFault::Absent { col: 1, counts: (1, 1), .. })));
}

#[test]
fn tiles_of_a_loop_end_with_it_and_carries_hand_on() {
    // y[i] = x[0] + ... + x[i], a block a turn.
    let prefix = |leak: bool| {
        let t = Dim::symbol("T");
        let mut b = TileBuilder::new("prefix");
        let x = b.input("x", DType::F32, std::slice::from_ref(&t));
        let y = b.output("y", DType::F32, std::slice::from_ref(&t));
        let one = Extent::fixed(1);
        let zero = b.map("sum", TileType::F32, &one, &one, Expr::float(0.0));
        let mut inner = None;
        let last = b.for_blocks(
            Expr::int(0),
            Expr::from(&t),
            3,
            |_| None,
            &[zero],
            |b, start, carried| {
                let rows = Extent::block(3, start.clone(), Expr::from(&Dim::symbol("T")));
                let part = b.map("part", TileType::F32, &rows, &one, Expr::load(x, vec![start.clone() + row()]));
                let running = b.scan("running", Combine::Sum, Axis::Rows, false, part);
                let sum = Expr::tile(running) + Expr::tile_at(carried[0], Pick::Zero, Pick::Zero);
                b.store(y, vec![start.clone() + row()], sum, &rows, &one);
                let total = b.reduce("total", Combine::Sum, Axis::Rows, part);
                let next = b.map("next", TileType::F32, &one, &one, Expr::tile(total) + Expr::tile(carried[0]));
                inner = Some(next);
                vec![next]
            },
        );
        if leak {
            b.map("after", TileType::F32, &one, &one, Expr::tile(inner.unwrap()));
        } else {
            b.map("after", TileType::F32, &one, &one, Expr::tile(last[0]));
        }
        b.finish()
    };
    for n in [0usize, 1, 2, 3, 7, 12] {
        let y = run(&prefix(false), n).unwrap();
        for k in 0..n {
            assert_eq!(y[0].at(k), (0..=k).map(|j| j as f64 / 8.0).sum::<f64>());
        }
    }
    assert!(matches!(run(&prefix(true), 5), Err(TileFault::Undefined(name)) if name == "next"));
}

/// One tile operation on the tiles `a` and `b`, whole tensors, its first result stored as `y`.
fn one_op(
    a: (usize, usize),
    b_shape: (usize, usize),
    y: (usize, usize),
    op: impl FnOnce(&mut TileBuilder, TileId, TileId) -> TileId,
) -> TileProgram {
    let mut b = TileBuilder::new("one");
    let shape = |(r, c): (usize, usize)| [Dim::from(r), Dim::from(c)];
    let (sa, sb) = (b.input("a", DType::F64, &shape(a)), b.input("b", DType::F64, &shape(b_shape)));
    let sy = b.output("y", DType::F64, &shape(y));
    let whole = |b: &mut TileBuilder, s, (r, c): (usize, usize)| {
        b.map("in", TileType::F64, &Extent::fixed(r), &Extent::fixed(c), Expr::load(s, vec![row(), col()]))
    };
    let (ta, tb) = (whole(&mut b, sa, a), whole(&mut b, sb, b_shape));
    let t = op(&mut b, ta, tb);
    b.store(sy, vec![row(), col()], Expr::tile(t), &Extent::fixed(y.0), &Extent::fixed(y.1));
    b.finish()
}

fn matrix(r: usize, c: usize, data: &[f64]) -> Tensor {
    Tensor::floats(&[r, c], data.to_vec())
}

fn apply(p: &TileProgram, a: &Tensor, b: &Tensor) -> Result<Tensor, TileFault> {
    let mut y = interpret(p, &DimValues::new(), &[a, b], Rounding::Nowhere).map_err(|e| *e.fault)?;
    Ok(y.remove(0))
}

#[test]
fn dots_read_transposes() {
    let (a, b) = (matrix(2, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), matrix(2, 3, &[1.0, 0.0, 2.0, 0.0, 1.0, 1.0]));
    let p = one_op((2, 3), (2, 3), (2, 2), |b, x, y| {
        b.dot("p", TileType::F64, x, super::super::Matrix::transposed(y), None)
    });
    assert_eq!(apply(&p, &a, &b).unwrap(), matrix(2, 2, &[7.0, 5.0, 16.0, 11.0]));
    let p = one_op((2, 3), (2, 3), (3, 3), |b, x, y| {
        b.dot("p", TileType::F64, super::super::Matrix::transposed(x), y, None)
    });
    assert_eq!(apply(&p, &a, &b).unwrap().at(5), 2.0 * 2.0 + 5.0);
    let wrong = one_op((2, 3), (2, 3), (2, 3), |b, x, y| b.dot("p", TileType::F64, x, y, None));
    assert!(matches!(apply(&wrong, &a, &b), Err(TileFault::Shapes(_))));
}

#[test]
fn recurrences_solves_and_choices_follow_their_definitions() {
    let (a, b) = (matrix(3, 1, &[0.5, 2.0, 3.0]), matrix(3, 2, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let p = one_op((3, 1), (3, 2), (3, 2), |b, x, y| b.recurrence("h", x, y, None));
    assert_eq!(apply(&p, &a, &b).unwrap(), matrix(3, 2, &[1.0, 2.0, 5.0, 8.0, 20.0, 30.0]));
    // What stands above the diagonal is not read.
    let l = matrix(2, 2, &[2.0, f64::NAN, 1.0, 4.0]);
    let p = one_op((2, 2), (2, 2), (2, 2), |b, x, y| b.solve("x", x, y));
    assert_eq!(apply(&p, &l, &matrix(2, 2, &[2.0, 4.0, 5.0, 2.0])).unwrap(), matrix(2, 2, &[1.0, 2.0, 1.0, 0.0]));
    assert!(matches!(apply(&p, &matrix(2, 2, &[0.0; 4]), &l), Err(TileFault::Singular { row: 0 })));
    let p = one_op((1, 4), (1, 1), (1, 5), |b, x, _| {
        let (_, columns) = b.top_k("k", x, &Extent::fixed(5));
        b.map("float", TileType::F64, &Extent::fixed(1), &Extent::fixed(5), Expr::tile(columns).to_float())
    });
    let y = apply(&p, &matrix(1, 4, &[1.0, 3.0, 3.0, f64::NEG_INFINITY]), &matrix(1, 1, &[0.0])).unwrap();
    assert_eq!(y, matrix(1, 5, &[1.0, 2.0, 0.0, 3.0, -1.0]));
}

#[test]
fn a_log_of_a_sum_of_exponentials_survives_infinities() {
    let p = one_op((3, 2), (1, 1), (3, 1), |b, x, _| b.reduce("l", Combine::LogSumExp, Axis::Cols, x));
    let low = f64::NEG_INFINITY;
    let y = apply(&p, &matrix(3, 2, &[low, low, 1000.0, 1000.0, low, 3.0]), &matrix(1, 1, &[0.0])).unwrap();
    assert_eq!(y.at(0), low);
    assert!((y.at(1) - 1000.0 - 2f64.ln()).abs() < 1e-12);
    assert_eq!(y.at(2), 3.0);
}
