use super::*;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::expr::{Pick, SlowId, Unary};
use crate::tile::{TileBuilder, examples};

/// The first problem of a program that must have one, as text.
fn problem(p: &TileProgram) -> String {
    let problems = verify(p);
    problems.first().unwrap_or_else(|| panic!("`{}` passes", p.name)).to_string()
}

/// A program over x `[T]` and y `[T]` whose one block of 4 is written by `body`.
fn program(body: impl FnOnce(&mut TileBuilder, SlowId, SlowId, Expr, Extent)) -> TileProgram {
    let t = Dim::symbol("T");
    let mut b = TileBuilder::new("p");
    let x = b.input("x", DType::F32, std::slice::from_ref(&t));
    let y = b.output("y", DType::F32, std::slice::from_ref(&t));
    let i0 = b.grid("i", Expr::from(&t).ceil_div(4)) * Expr::int(4);
    let rows = Extent::block(4, i0.clone(), Expr::from(&t));
    body(&mut b, x, y, i0, rows);
    b.finish()
}

fn one() -> Extent {
    Extent::fixed(1)
}

fn place(i0: &Expr) -> Vec<Expr> {
    vec![i0.clone() + Expr::from(ROW)]
}

#[test]
fn every_problem_is_listed_at_once() {
    let p = program(|b, x, y, i0, rows| {
        let t = b.map("t", TileType::F32, &rows, &one(), Expr::int(3));
        b.map("u", TileType::Bool, &rows, &one(), Expr::tile(t) + Expr::int(1));
        b.store(x, vec![], Expr::tile(t), &rows, &one());
        let _ = (y, i0);
    });
    let all: Vec<String> = verify(&p).iter().map(|p| p.to_string()).collect();
    for part in
        ["tile `t`: the map", "joins values of kinds", "an input is stored to", "0 indices for 1 axes", "never stored"]
    {
        assert!(all.iter().any(|p| p.contains(part)), "{part} in {all:#?}");
    }
}

#[test]
fn kinds_and_places_of_expressions() {
    let value = |e: fn(SlowId, Expr) -> Expr| {
        problem(&program(|b, x, y, i0, rows| b.store(y, place(&i0), e(x, i0.clone()), &rows, &one())))
    };
    assert!(value(|_, _| Expr::int(1)).contains("kind Int, not Float"));
    assert!(value(|_, i0| i0.apply(Unary::Exp)).contains("is applied to"));
    assert!(value(|_, _| Expr::arg(0)).contains("arg0"));
    assert!(value(|x, _| Expr::load(x, vec![Expr::from(ROW), Expr::from(COL)])).contains("2 indices for 1 axes"));
    assert!(value(|x, _| Expr::load(SlowId(x.0 + 9), vec![Expr::from(ROW)])).contains("no tensor m9"));
    assert!(value(|x, i0| Expr::load_if(x, vec![i0.clone()], i0, 0.0)).contains("a guard"));
    assert!(value(|_, i0| Expr::select(i0.to_float(), Expr::float(1.0), Expr::float(2.0))).contains("a condition"));
    assert!(value(|_, _| Expr::from(Var(17)).to_float()).contains("no value here"));
    assert!(value(|_, _| Expr::tile(TileId(5))).contains("no value here"));
    assert!(value(|x, _| Expr::load(x, vec![Expr::float(1.0) + Expr::arg(1)])).contains("arg1"));
}

#[test]
fn tiles_are_read_inside_their_extents() {
    let read = |rows: fn(&Extent) -> Extent, pick: Pick| {
        verify(&program(|b, x, y, i0, all| {
            let t = b.map("t", TileType::F32, &rows(&all), &one(), Expr::load(x, place(&i0)));
            b.store(y, place(&i0), Expr::tile_at(t, pick, Pick::Zero), &all, &one());
        }))
    };
    assert!(read(Extent::clone, Pick::Row).is_empty());
    // Written differently but equal.
    assert!(read(|e| Extent { cap: 4, count: e.count.clone().min(4) }, Pick::Row).is_empty());
    assert!(read(|_| Extent::fixed(3), Pick::Row)[0].what.contains("where"));
    assert!(
        read(|e| Extent { cap: 4, count: (e.count.clone() - Expr::int(1)).max(0) }, Pick::Row)[0]
            .what
            .contains("where")
    );
    assert!(read(Extent::clone, Pick::Zero)[0].what.contains("broadcast along an axis of 4"));
}

#[test]
fn scopes_counts_and_caps() {
    let mut inner = None;
    let leak = program(|b, x, y, i0, rows| {
        b.for_blocks(
            Expr::int(0),
            Expr::int(8),
            4,
            |_| None,
            &[],
            |b, _, _| {
                inner = Some(b.map("t", TileType::F32, &rows, &one(), Expr::load(x, place(&i0))));
                vec![]
            },
        );
        b.store(y, place(&i0), Expr::tile(inner.unwrap()), &rows, &one());
    });
    assert!(problem(&leak).contains("tile `t` has no value here"));
    let cap = |e: Extent| {
        problem(&program(|b, _, y, i0, rows| {
            b.map("t", TileType::F32, &e, &Extent::fixed(64), Expr::float(0.0));
            b.store(y, place(&i0), Expr::float(0.0), &rows, &one());
        }))
    };
    assert!(cap(Extent::fixed(0)).contains("a cap is 0"));
    assert!(cap(Extent::fixed(MAX_AXIS + 1)).contains("outside 1..="));
    assert!(cap(Extent::fixed(MAX_AXIS)).contains("more than"));
    assert!(cap(Extent { cap: 4, count: Expr::int(5) }).contains("a count is 5"));
    assert!(cap(Extent { cap: 4, count: Expr::from(ROW) }).contains("variable r has no value"));
    assert!(
        cap(Extent { cap: 4, count: Expr::load(SlowId(0), vec![Expr::int(0)]).to_int() })
            .contains("is read in a count")
    );
}

#[test]
fn a_carried_tile_keeps_its_shape_and_type() {
    let carried = |next: fn(&mut TileBuilder, &Extent, &Expr) -> TileId| {
        problem(&program(|b, _, y, i0, rows| {
            let zero = b.map("zero", TileType::F32, &rows, &one(), Expr::float(0.0));
            let last =
                b.for_blocks(Expr::int(0), Expr::int(8), 4, |_| None, &[zero], |b, j0, _| vec![next(b, &rows, j0)]);
            b.store(y, place(&i0), Expr::tile(last[0]), &rows, &one());
        }))
    };
    let shape = |b: &mut TileBuilder, _: &Extent, j0: &Expr| {
        let rows = Extent { cap: 4, count: j0.clone().min(4) };
        b.map("n", TileType::F32, &rows, &one(), Expr::float(0.0))
    };
    assert!(carried(shape).contains("a carried tile and its next value"));
    assert!(carried(|b, rows, _| b.map("n", TileType::F64, rows, &one(), Expr::float(0.0))).contains("F64, not F32"));
}

#[test]
fn operations_check_their_shapes_and_types() {
    let four = Extent::fixed(4);
    let op = |f: fn(&mut TileBuilder, TileId, TileId) -> TileId| {
        problem(&program(|b, _, y, i0, rows| {
            let a = b.map("a", TileType::F32, &four, &Extent::fixed(3), Expr::float(0.0));
            let n = b.map("n", TileType::I64, &four, &one(), Expr::int(0));
            f(b, a, n);
            b.store(y, place(&i0), Expr::float(0.0), &rows, &one());
        }))
    };
    assert!(op(|b, a, _| b.dot("d", TileType::F32, a, a, None)).contains("the inner lengths differ"));
    assert!(op(|b, a, n| b.dot("d", TileType::F32, Matrix::transposed(a), n, None)).contains("not real"));
    assert!(op(|b, a, _| b.dot("d", TileType::F32, a, Matrix::transposed(a), Some(a))).contains("the accumulator"));
    assert!(op(|b, _, n| b.reduce("d", Combine::LogSumExp, Axis::Rows, n)).contains("LogSumExp of I64"));
    assert!(op(|b, a, _| b.solve("d", a, a)).contains("not square"));
    assert!(op(|b, a, n| b.recurrence("d", n, a, None)).contains("the factors' type"));
    assert!(op(|b, a, _| b.recurrence("d", a, a, Some(a))).contains("the start has length 4"));
    assert!(op(|b, _, n| b.top_k("d", n, &Extent::fixed(1)).0).contains("not real"));
    assert!(op(|b, a, _| b.top_k("d", a, &Extent::fixed(0)).0).contains("no element is chosen"));
}

/// Every expression of an example in turn spoilt by a variable that has no value: each place is looked at.
#[test]
fn no_expression_is_overlooked() {
    for p in examples::all() {
        let mut count = 0;
        p.for_each_expr(&mut |_| count += 1);
        for spoilt in 0..count {
            let (mut changed, mut number) = (p.clone(), 0);
            changed.for_each_expr_mut(&mut |e| {
                if number == spoilt {
                    let bad = Expr::from(Var(p.vars + 1));
                    *e = Expr::select(bad.equals(0), e.clone(), e.clone());
                }
                number += 1;
            });
            assert!(!verify(&changed).is_empty(), "expression {spoilt} of `{}` is not looked at", p.name);
        }
    }
}

/// Steps left out or swapped are noticed wherever a later one needs them.
#[test]
fn lost_definitions_are_noticed() {
    for p in examples::all() {
        for k in 0..p.body.len() {
            if matches!(p.body[k], Stmt::Let { .. }) {
                let mut changed = p.clone();
                changed.body.remove(k);
                assert!(!verify(&changed).is_empty(), "`{}` without step {k}", p.name);
            }
        }
    }
}
