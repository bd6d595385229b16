//! Two-dimensional state spaces (`ssm2d`): two states over a grid of variates v and times t,
//!
//! ```text
//! h1[v,t] = A1 h1[v,t-1] + A2 h2[v,t-1] + B1 x[v,t]
//! h2[v,t] = A3 h1[v-1,t] + A4 h2[v-1,t] + B2 x[v,t]        y = C1 h1 + C2 h2
//! ```
//!
//! Variates in sequence, a scan along each. The states of the variate before are read back from where this grid point
//! stored them; the state before is carried.

use super::buffers_of;
use crate::lower::{Context, Failure, Lambda, Scribe};
use mixc_ir::expr::{COL, Expr, ROW};
use mixc_ir::tile::{Axis, Combine, Extent, TileType};

/// Most states of a cell, which are one tile.
const STATES: i64 = 4096;

/// The result of `ssm2d` for x `[.., V, T]` and A1..A4, B1, B2, C1, C2, each `[N]` or `[.., V, T, N]`.
pub fn scan(cx: &mut Context<'_>, x: &Lambda, parameters: &[Lambda]) -> Result<Lambda, Failure> {
    let states = parameters[0].shape.last().cloned().unwrap_or_default();
    if cx.most(&states) > STATES {
        return Err(cx.fail(format!("a state of up to {} numbers; the native form takes {STATES}", cx.most(&states))));
    }
    let rank = x.shape.len();
    let (lead, last) = x.shape.split_at(rank - 2);
    let mut state_shape = x.shape.clone();
    state_shape.push(states.clone());
    let mut reads = buffers_of(&x.body);
    reads.extend(parameters.iter().flat_map(|p| buffers_of(&p.body)));
    let accumulator = x.dtype.accumulator();
    let out = cx.target(x.dtype, &x.shape, &reads);
    let stored = [cx.target(accumulator, &state_shape, &reads), cx.target(accumulator, &state_shape, &reads)];
    let mut s = Scribe::new("scan_2d");
    let tensor = s.output(cx, out);
    let kept = stored.map(|b| s.output(cx, b));
    let before = stored.map(|b| {
        let l = cx.stored(b);
        s.local_lambda(cx, &l)
    });
    let x = s.local_lambda(cx, x);
    let p: Vec<Lambda> = parameters.iter().map(|l| s.local_lambda(cx, l)).collect();
    let grid = s.grid_over(lead);
    let ty = TileType::of(accumulator);
    let one = Extent::fixed(1);
    let width = super::flash::whole(&states, super::capacity(cx, &states, STATES as usize));
    let (variates, times) = (Expr::from(&last[0]), Expr::from(&last[1]));
    s.b.for_blocks(
        Expr::int(0),
        variates,
        1,
        |_| None,
        &[],
        |b, v, _| {
            let zero = b.map("h", ty, &one, &width, Expr::float(0.0));
            b.for_blocks(
                Expr::int(0),
                times,
                1,
                |_| None,
                &[zero, zero],
                |b, t, carried| {
                    let at = |v: Expr, extra: Option<Expr>| {
                        let mut index = grid.clone();
                        index.extend([v, t.clone()]);
                        index.extend(extra);
                        index
                    };
                    let parameter = |l: &Lambda| match l.shape.len() {
                        1 => l.at(&[Expr::from(COL)]),
                        _ => {
                            let index = at(v.clone(), Some(Expr::from(COL)));
                            let lead = index.len() - l.shape.len();
                            l.at(&index[lead..])
                        }
                    };
                    let above: Vec<Expr> = before
                        .iter()
                        .map(|l| {
                            let index = at(v.clone() - Expr::int(1), Some(Expr::from(COL)));
                            crate::lower::guard_loads(&l.at(&index), &v.clone().ge(1))
                        })
                        .collect();
                    let input = x.at(&at(v.clone(), None));
                    let real = Expr::tile;
                    let h1 = parameter(&p[0]) * real(carried[0])
                        + parameter(&p[1]) * real(carried[1])
                        + parameter(&p[4]) * input.clone();
                    let h1 = b.map("h1", ty, &one, &width, h1);
                    let h2 = parameter(&p[2]) * above[0].clone()
                        + parameter(&p[3]) * above[1].clone()
                        + parameter(&p[5]) * input;
                    let h2 = b.map("h2", ty, &one, &width, h2);
                    let y = parameter(&p[6]) * real(h1) + parameter(&p[7]) * real(h2);
                    let y = b.map("y", ty, &one, &width, y);
                    let sum = b.reduce("sum", Combine::Sum, Axis::Cols, y);
                    let cell = Expr::from(ROW) + Expr::from(COL);
                    let mut index = grid.clone();
                    index.extend([v.clone(), t.clone() + cell]);
                    b.store(tensor, index, Expr::tile(sum), &one, &one);
                    for (h, to) in [(h1, kept[0]), (h2, kept[1])] {
                        b.store(to, at(v.clone(), Some(Expr::from(COL))), Expr::tile(h), &one, &width);
                    }
                    vec![h1, h2]
                },
            );
            vec![]
        },
    );
    s.finish(cx, "scan_2d")?;
    Ok(cx.stored(out))
}
