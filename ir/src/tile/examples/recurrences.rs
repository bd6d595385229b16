//! Sequential and chunked recurrences over tokens.

use super::{block, by_row, col, exp, length, load, only, row, t};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::expr::{Expr, Pick};
use crate::tile::{Axis, Combine, Extent, Matrix, TileBuilder, TileProgram, TileType};

/// `h[t] = exp(dt[t, c] a[c, :]) h[t-1] + dt[t, c] x[t, c] b[t, :]`, `y[t, c] = h[t] . c[t, :]` for every channel c:
/// x, dt `[T, channels]`, a `[channels, state]`, b, c `[T, state]`. One grid point a channel, token blocks in order.
pub fn selective_scan(channels: usize, state: usize, tokens: usize) -> TileProgram {
    let mut b = TileBuilder::new("selective_scan");
    let bt = b.knob("BT", tokens);
    let (ch, n) = (Dim::from(channels), Dim::from(state));
    let x = b.input("x", DType::F32, &[t(), ch.clone()]);
    let dt = b.input("dt", DType::F32, &[t(), ch.clone()]);
    let a = b.input("a", DType::F32, &[ch.clone(), n.clone()]);
    let into = b.input("b", DType::F32, &[t(), n.clone()]);
    let out = b.input("c", DType::F32, &[t(), n]);
    let y = b.output("y", DType::F32, &[t(), ch]);
    let channel = b.grid("channel", Expr::int(channels as i64));
    let (one, n) = (Extent::fixed(1), Extent::fixed(state));
    let start = b.map("start", TileType::F32, &one, &n, Expr::float(0.0));
    b.for_blocks(
        Expr::int(0),
        length(),
        bt,
        |_| None,
        &[start],
        |b, t0, carried| {
            let m = block(bt, t0, &t());
            let time = t0.clone() + row();
            let step = b.map("step", TileType::F32, &m, &one, load(dt, &[&time, &channel]));
            let decay = exp(by_row(step) * load(a, &[&channel, &col()]));
            let decay = b.map("decay", TileType::F32, &m, &n, decay);
            let input = by_row(step) * load(x, &[&time, &channel]) * load(into, &[&time, &col()]);
            let input = b.map("input", TileType::F32, &m, &n, input);
            let h = b.recurrence("h", decay, input, Some(carried[0]));
            let read = b.map("read", TileType::F32, &m, &n, Expr::tile(h) * load(out, &[&time, &col()]));
            let sum = b.reduce("sum", Combine::Sum, Axis::Cols, read);
            b.store(y, vec![time, channel.clone()], Expr::tile(sum), &m, &one);
            // The last row: the only one that a sum over rows keeps.
            let rows = (length() - t0.clone()).min(bt as i64);
            let last = Expr::select(row().equals(rows - Expr::int(1)), Expr::tile(h), Expr::float(0.0));
            let last = b.map("last", TileType::F32, &m, &n, last);
            vec![b.reduce("state", Combine::Sum, Axis::Rows, last)]
        },
    );
    b.finish()
}

/// `S[t] = exp(g[t]) S[t-1] + k[t] v[t]^T`, `y[t] = S[t]^T q[t]` for every head: q, k `[H, T, state]`,
/// v `[H, T, width]`, g `[H, T]`. A chunk looks inside by a masked product and across by the carried state.
pub fn chunked_linear_attention(state: usize, width: usize, chunk: usize) -> TileProgram {
    let mut b = TileBuilder::new("chunked_linear_attention");
    let bc = b.knob("CHUNK", chunk);
    let heads = Dim::symbol("H");
    let (n, p) = (Dim::from(state), Dim::from(width));
    let q = b.input("q", DType::F32, &[heads.clone(), t(), n.clone()]);
    let k = b.input("k", DType::F32, &[heads.clone(), t(), n.clone()]);
    let v = b.input("v", DType::F32, &[heads.clone(), t(), p.clone()]);
    let g = b.input("g", DType::F32, &[heads.clone(), t()]);
    let y = b.output("y", DType::F32, &[heads.clone(), t(), p]);
    let h = b.grid("h", Expr::from(&heads));
    let (one, n, p) = (Extent::fixed(1), Extent::fixed(state), Extent::fixed(width));
    let start = b.map("start", TileType::F32, &n, &p, Expr::float(0.0));
    b.for_blocks(
        Expr::int(0),
        length(),
        bc,
        |_| None,
        &[start],
        |b, t0, carried| {
            let m = block(bc, t0, &t());
            let time = t0.clone() + row();
            let qs = b.map("qs", TileType::F32, &m, &n, load(q, &[&h, &time, &col()]));
            let ks = b.map("ks", TileType::F32, &m, &n, load(k, &[&h, &time, &col()]));
            let vs = b.map("vs", TileType::F32, &m, &p, load(v, &[&h, &time, &col()]));
            let gs = b.map("gs", TileType::F32, &m, &one, load(g, &[&h, &time]));
            let log = b.scan("log", Combine::Sum, Axis::Rows, false, gs);
            let whole = b.reduce("whole", Combine::Sum, Axis::Rows, gs);
            let s = b.dot("s", TileType::F32, qs, Matrix::transposed(ks), None);
            let ratio = exp(by_row(log) - Expr::tile_at(log, Pick::Col, Pick::Zero));
            let inside = Expr::select(col().le(row()), Expr::tile(s) * ratio, Expr::float(0.0));
            let inside = b.map("inside", TileType::F32, &m, &m, inside);
            let scaled = b.map("scaled", TileType::F32, &m, &n, Expr::tile(qs) * exp(by_row(log)));
            let across = b.dot("across", TileType::F32, scaled, carried[0], None);
            let sum = b.dot("sum", TileType::F32, inside, vs, Some(across));
            b.store(y, vec![h.clone(), time, col()], Expr::tile(sum), &m, &p);
            let faded = b.map("faded", TileType::F32, &m, &n, Expr::tile(ks) * exp(only(whole) - by_row(log)));
            let old = b.map("old", TileType::F32, &n, &p, Expr::tile(carried[0]) * exp(only(whole)));
            vec![b.dot("state", TileType::F32, Matrix::transposed(faded), vs, Some(old))]
        },
    );
    b.finish()
}

/// Decays of every state by itself, with the state handed in and out (gated linear attention):
/// `S[t] = exp(g[t]) (.) S[t-1] + k[t] v[t]^T`, `y[t] = S[t]^T q[t]`; q, k, g `[T, state]` with `g <= 0`, v
/// `[T, width]`, states `[state, width]`. Inside a chunk decays enter as sums from token to token, state by state: no
/// exponential of anything positive is ever taken.
pub fn chunked_diagonal_scan(state: usize, width: usize, chunk: usize) -> TileProgram {
    let mut b = TileBuilder::new("chunked_diagonal_scan");
    let bc = b.knob("CHUNK", chunk);
    let (ns, ps) = (Dim::from(state), Dim::from(width));
    let [q, k, g] = ["q", "k", "g"].map(|name| b.input(name, DType::F32, &[t(), ns.clone()]));
    let v = b.input("v", DType::F32, &[t(), ps.clone()]);
    let before = b.input("before", DType::F32, &[ns.clone(), ps.clone()]);
    let y = b.output("y", DType::F32, &[t(), ps.clone()]);
    let after = b.output("after", DType::F32, &[ns, ps]);
    let (one, n, p) = (Extent::fixed(1), Extent::fixed(state), Extent::fixed(width));
    let start = b.map("start", TileType::F32, &n, &p, load(before, &[&row(), &col()]));
    let last = b.for_blocks(
        Expr::int(0),
        length(),
        bc,
        |_| None,
        &[start],
        |b, t0, carried| {
            let m = block(bc, t0, &t());
            let time = t0.clone() + row();
            let [qs, ks, gs] = [q, k, g].map(|x| b.map("x", TileType::F32, &m, &n, load(x, &[&time, &col()])));
            let vs = b.map("vs", TileType::F32, &m, &p, load(v, &[&time, &col()]));
            let log = b.scan("log", Combine::Sum, Axis::Rows, false, gs);
            let whole = b.reduce("whole", Combine::Sum, Axis::Rows, gs);
            let none = b.map("none", TileType::F32, &m, &m, Expr::float(0.0));
            let states = Expr::int(state as i64);
            let inside = b.for_blocks(
                Expr::int(0),
                states,
                1,
                |_| None,
                &[none],
                |b, place, sums| {
                    // The column `place` of each, as a column vector.
                    let [q, k, a] = [qs, ks, log].map(|x| {
                        let kept = Expr::select(col().equals(place.clone()), Expr::tile(x), Expr::float(0.0));
                        let kept = b.map("kept", TileType::F32, &m, &n, kept);
                        b.reduce("column", Combine::Sum, Axis::Cols, kept)
                    });
                    let of_col = |x| Expr::tile_at(x, Pick::Col, Pick::Zero);
                    let faded = exp((by_row(a) - of_col(a)).min(Expr::float(0.0)));
                    let added = Expr::select(col().le(row()), by_row(q) * of_col(k) * faded, Expr::float(0.0));
                    vec![b.map("sums", TileType::F32, &m, &m, Expr::tile(sums[0]) + added)]
                },
            );
            let scaled = b.map("scaled", TileType::F32, &m, &n, Expr::tile(qs) * exp(Expr::tile(log)));
            let across = b.dot("across", TileType::F32, scaled, carried[0], None);
            let sum = b.dot("sum", TileType::F32, inside[0], vs, Some(across));
            b.store(y, vec![time, col()], Expr::tile(sum), &m, &p);
            let faded = Expr::tile(ks) * exp(Expr::tile_at(whole, Pick::Zero, Pick::Col) - Expr::tile(log));
            let faded = b.map("faded", TileType::F32, &m, &n, faded);
            let kept = b.map("kept", TileType::F32, &n, &one, exp(Expr::tile_at(whole, Pick::Zero, Pick::Row)));
            let old = b.map("old", TileType::F32, &n, &p, Expr::tile(carried[0]) * by_row(kept));
            vec![b.dot("state", TileType::F32, Matrix::transposed(faded), vs, Some(old))]
        },
    );
    b.store(after, vec![row(), col()], Expr::tile(last[0]), &n, &p);
    b.finish()
}

/// The delta rule: `u[t] = beta[t] (v[t] - S[t-1]^T k[t])`, `S[t] = S[t-1] + k[t] u[t]^T`, `y[t] = S[t]^T q[t]`;
/// shapes as [`chunked_linear_attention`], beta `[H, T]`. In a chunk all u are one triangular system.
pub fn delta_rule(state: usize, width: usize, chunk: usize) -> TileProgram {
    let mut b = TileBuilder::new("delta_rule");
    let bc = b.knob("CHUNK", chunk);
    let heads = Dim::symbol("H");
    let (n, p) = (Dim::from(state), Dim::from(width));
    let q = b.input("q", DType::F32, &[heads.clone(), t(), n.clone()]);
    let k = b.input("k", DType::F32, &[heads.clone(), t(), n.clone()]);
    let v = b.input("v", DType::F32, &[heads.clone(), t(), p.clone()]);
    let beta = b.input("beta", DType::F32, &[heads.clone(), t()]);
    let y = b.output("y", DType::F32, &[heads.clone(), t(), p]);
    let h = b.grid("h", Expr::from(&heads));
    let (one, n, p) = (Extent::fixed(1), Extent::fixed(state), Extent::fixed(width));
    let start = b.map("start", TileType::F32, &n, &p, Expr::float(0.0));
    b.for_blocks(
        Expr::int(0),
        length(),
        bc,
        |_| None,
        &[start],
        |b, t0, carried| {
            let m = block(bc, t0, &t());
            let time = t0.clone() + row();
            let qs = b.map("qs", TileType::F32, &m, &n, load(q, &[&h, &time, &col()]));
            let ks = b.map("ks", TileType::F32, &m, &n, load(k, &[&h, &time, &col()]));
            let rate = b.map("rate", TileType::F32, &m, &one, load(beta, &[&h, &time]));
            let keys = b.dot("keys", TileType::F32, ks, Matrix::transposed(ks), None);
            let below = Expr::select(col().lt(row()), by_row(rate) * Expr::tile(keys), Expr::float(0.0));
            let lower = Expr::select(col().equals(row()), Expr::float(1.0), below);
            let lower = b.map("lower", TileType::F32, &m, &m, lower);
            let seen = b.dot("seen", TileType::F32, ks, carried[0], None);
            let right = by_row(rate) * (load(v, &[&h, &time, &col()]) - Expr::tile(seen));
            let right = b.map("right", TileType::F32, &m, &p, right);
            let u = b.solve("u", lower, right);
            let s = b.dot("s", TileType::F32, qs, Matrix::transposed(ks), None);
            let causal = Expr::select(col().le(row()), Expr::tile(s), Expr::float(0.0));
            let causal = b.map("causal", TileType::F32, &m, &m, causal);
            let across = b.dot("across", TileType::F32, qs, carried[0], None);
            let sum = b.dot("sum", TileType::F32, causal, u, Some(across));
            b.store(y, vec![h.clone(), time, col()], Expr::tile(sum), &m, &p);
            vec![b.dot("state", TileType::F32, Matrix::transposed(ks), u, Some(carried[0]))]
        },
    );
    b.finish()
}
