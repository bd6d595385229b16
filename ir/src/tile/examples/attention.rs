//! Softmax attention in blocks, split over keys, and by chosen keys.

use super::{block, blocks, by_col, by_row, col, exp, length, load, only, row, t};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::expr::{Expr, TileId, Unary};
use crate::tile::{Axis, Combine, Extent, Matrix, TileBuilder, TileProgram, TileType};

/// Minus infinity stands for no key seen yet; a difference to it would be NaN.
fn finite(e: Expr) -> Expr {
    Expr::select(e.clone().equals(Expr::float(f64::NEG_INFINITY)), Expr::float(0.0), e)
}

/// Takes a block of scores `[m, n]` and its values `[n, d]` into the carried maxima, sums and weighted values.
fn online_softmax(
    b: &mut TileBuilder,
    s: TileId,
    vs: TileId,
    carried: &[TileId],
    [m, n, d]: [&Extent; 3],
) -> Vec<TileId> {
    let one = Extent::fixed(1);
    let here = b.reduce("here", Combine::Max, Axis::Cols, s);
    let top = b.map("top", TileType::F32, m, &one, Expr::tile(carried[0]).max(Expr::tile(here)));
    let p = b.map("p", TileType::F32, m, n, exp(Expr::tile(s) - finite(by_row(top))));
    let scale = b.map("scale", TileType::F32, m, &one, exp(Expr::tile(carried[0]) - finite(Expr::tile(top))));
    let part = b.reduce("part", Combine::Sum, Axis::Cols, p);
    let sum = b.map("sum", TileType::F32, m, &one, Expr::tile(carried[1]) * Expr::tile(scale) + Expr::tile(part));
    let old = b.map("old", TileType::F32, m, d, Expr::tile(carried[2]) * by_row(scale));
    vec![top, sum, b.dot("acc", TileType::F32, p, vs, Some(old))]
}

/// Causal attention of `heads` heads, q, k, v `[heads, T, width]`, over at most the `window` last keys. Key blocks
/// after the last query are beyond the loop's end, those before the window are left out by its condition.
pub fn flash_attention(heads: usize, width: usize, window: Option<usize>, [queries, keys]: [usize; 2]) -> TileProgram {
    let mut b = TileBuilder::new("flash_attention");
    let (bq, bk) = (b.knob("BQ", queries), b.knob("BK", keys));
    let shape = [Dim::from(heads), t(), Dim::from(width)];
    let (q, k, v) =
        (b.input("q", DType::F32, &shape), b.input("k", DType::F32, &shape), b.input("v", DType::F32, &shape));
    let o = b.output("o", DType::F32, &shape);
    let h = b.grid("h", Expr::int(heads as i64));
    let i0 = b.grid("i", blocks(&t(), bq)) * Expr::int(bq as i64);
    let (m, d, one) = (block(bq, &i0, &t()), Extent::fixed(width), Extent::fixed(1));
    let qs = b.map("qs", TileType::F32, &m, &d, load(q, &[&h, &(i0.clone() + row()), &col()]));
    let top = b.map("top", TileType::F32, &m, &one, Expr::float(f64::NEG_INFINITY));
    let sum = b.map("sum", TileType::F32, &m, &one, Expr::float(0.0));
    let acc = b.map("acc", TileType::F32, &m, &d, Expr::float(0.0));
    let end = (i0.clone() + Expr::int(bq as i64)).min(length());
    let window = window.map(|w| Expr::int(w as i64));
    let visible = |j0: &Expr| {
        // The last key of the block is not before the first query's window.
        window.clone().map(|w| (j0.clone() + Expr::int(bk as i64) - Expr::int(1)).ge(i0.clone() - w + Expr::int(1)))
    };
    let last = b.for_blocks(Expr::int(0), end, bk, visible, &[top, sum, acc], |b, j0, carried| {
        let n = block(bk, j0, &t());
        let key = [&h, &(j0.clone() + row()), &col()];
        let ks = b.map("ks", TileType::F32, &n, &d, load(k, &key));
        let vs = b.map("vs", TileType::F32, &n, &d, load(v, &key));
        let s = b.dot("s", TileType::F32, qs, Matrix::transposed(ks), None);
        let (i, j) = (i0.clone() + row(), j0.clone() + col());
        let mut inside = j.clone().le(i.clone());
        if let Some(w) = &window {
            inside = inside.and((i - j).lt(w.clone()));
        }
        let scaled = Expr::tile(s) * Expr::float(1.0 / (width as f64).sqrt());
        let s = b.map("masked", TileType::F32, &m, &n, Expr::select(inside, scaled, Expr::float(f64::NEG_INFINITY)));
        online_softmax(b, s, vs, carried, [&m, &n, &d])
    });
    b.store(o, vec![h, i0 + row(), col()], Expr::tile(last[2]) / by_row(last[1]), &m, &d);
    b.finish()
}

/// One query a head over T keys, first half: a grid point takes `split` keys in blocks of `keys` and leaves its
/// maximum, sum and unscaled result. q `[H, width]`, k, v `[H, T, width]`.
pub fn decode_partial(width: usize, split: usize, keys: usize) -> TileProgram {
    let mut b = TileBuilder::new("decode_partial");
    let (bs, bk) = (b.knob("SPLIT", split), b.knob("BK", keys));
    let (heads, d) = (Dim::symbol("H"), Dim::from(width));
    let parts = t().ceil_div(bs as i64).unwrap_or_default();
    let q = b.input("q", DType::F32, &[heads.clone(), d.clone()]);
    let k = b.input("k", DType::F32, &[heads.clone(), t(), d.clone()]);
    let v = b.input("v", DType::F32, &[heads.clone(), t(), d.clone()]);
    let top_out = b.output("top", DType::F32, &[heads.clone(), parts.clone()]);
    let sum_out = b.output("sum", DType::F32, &[heads.clone(), parts.clone()]);
    let acc_out = b.output("acc", DType::F32, &[heads.clone(), parts.clone(), d]);
    let h = b.grid("h", Expr::from(&heads));
    let part = b.grid("part", Expr::from(&parts));
    let (one, d) = (Extent::fixed(1), Extent::fixed(width));
    let qs = b.map("qs", TileType::F32, &one, &d, load(q, &[&h, &col()]));
    let top = b.map("top", TileType::F32, &one, &one, Expr::float(f64::NEG_INFINITY));
    let sum = b.map("sum", TileType::F32, &one, &one, Expr::float(0.0));
    let acc = b.map("acc", TileType::F32, &one, &d, Expr::float(0.0));
    let first = part.clone() * Expr::int(bs as i64);
    let end = (first.clone() + Expr::int(bs as i64)).min(length());
    let last = b.for_blocks(
        first,
        end.clone(),
        bk,
        |_| None,
        &[top, sum, acc],
        |b, j0, carried| {
            let n = Extent::block(bk, j0.clone(), end);
            let key = [&h, &(j0.clone() + row()), &col()];
            let ks = b.map("ks", TileType::F32, &n, &d, load(k, &key));
            let vs = b.map("vs", TileType::F32, &n, &d, load(v, &key));
            let s = b.dot("s", TileType::F32, ks, Matrix::transposed(qs), None);
            let here = b.reduce("here", Combine::Max, Axis::Rows, s);
            let scale = Expr::float(1.0 / (width as f64).sqrt());
            let top = Expr::tile(carried[0]).max(Expr::tile(here) * scale.clone());
            let top = b.map("top", TileType::F32, &one, &one, top);
            let p = b.map("p", TileType::F32, &n, &one, exp(Expr::tile(s) * scale - by_col(top)));
            let keep = b.map("keep", TileType::F32, &one, &one, exp(Expr::tile(carried[0]) - Expr::tile(top)));
            let part = b.reduce("part", Combine::Sum, Axis::Rows, p);
            let sum =
                b.map("sum", TileType::F32, &one, &one, Expr::tile(carried[1]) * Expr::tile(keep) + Expr::tile(part));
            let old = b.map("old", TileType::F32, &one, &d, Expr::tile(carried[2]) * by_row(keep));
            vec![top, sum, b.dot("acc", TileType::F32, Matrix::transposed(p), vs, Some(old))]
        },
    );
    b.store(top_out, vec![h.clone(), part.clone()], Expr::tile(last[0]), &one, &one);
    b.store(sum_out, vec![h.clone(), part.clone()], Expr::tile(last[1]), &one, &one);
    b.store(acc_out, vec![h, part, col()], Expr::tile(last[2]), &one, &d);
    b.finish()
}

/// Second half: merges the parts, at most `parts` of them a block.
pub fn decode_merge(width: usize, split: usize) -> TileProgram {
    let mut b = TileBuilder::new("decode_merge");
    let (heads, d) = (Dim::symbol("H"), Dim::from(width));
    let bs = b.knob("SPLIT", split);
    let parts = t().ceil_div(bs as i64).unwrap_or_default();
    let top = b.input("top", DType::F32, &[heads.clone(), parts.clone()]);
    let sum = b.input("sum", DType::F32, &[heads.clone(), parts.clone()]);
    let acc = b.input("acc", DType::F32, &[heads.clone(), parts.clone(), d.clone()]);
    let o = b.output("o", DType::F32, &[heads.clone(), d]);
    let h = b.grid("h", Expr::from(&heads));
    let (one, d) = (Extent::fixed(1), Extent::fixed(width));
    let zero = b.map("zero", TileType::F32, &one, &d, Expr::float(0.0));
    let log_sum = b.map("log_sum", TileType::F32, &one, &one, Expr::float(f64::NEG_INFINITY));
    // Sixteen parts a turn: their log-sums first, then their results by weight.
    let turn = 16;
    let whole = b.for_blocks(
        Expr::int(0),
        Expr::from(&parts),
        turn,
        |_| None,
        &[log_sum],
        |b, p0, carried| {
            let n = block(turn, p0, &parts);
            let place = [&h, &(p0.clone() + row())];
            let value = load(top, &place) + load(sum, &place).apply(Unary::Log);
            let logs = b.map("logs", TileType::F32, &n, &one, value);
            let here = b.reduce("here", Combine::LogSumExp, Axis::Rows, logs);
            let (x, y) = (Expr::tile(carried[0]), Expr::tile(here));
            let high = b.map("high", TileType::F32, &one, &one, x.clone().max(y.clone()));
            let merged = (exp(x - Expr::tile(high)) + exp(y - Expr::tile(high))).apply(Unary::Log) + Expr::tile(high);
            vec![b.map("log_sum", TileType::F32, &one, &one, merged)]
        },
    );
    let result = b.for_blocks(
        Expr::int(0),
        Expr::from(&parts),
        turn,
        |_| None,
        &[zero],
        |b, p0, carried| {
            let n = block(turn, p0, &parts);
            let p = p0.clone() + row();
            let weight = b.map("weight", TileType::F32, &n, &one, exp(load(top, &[&h, &p]) - only(whole[0])));
            let rows = b.map("rows", TileType::F32, &n, &d, load(acc, &[&h, &p, &col()]));
            vec![b.dot("merged", TileType::F32, Matrix::transposed(weight), rows, Some(carried[0]))]
        },
    );
    b.store(o, vec![h, col()], Expr::tile(result[0]), &one, &d);
    b.finish()
}

/// `y[i, :]` is the sum over the `k` greatest of `scores[i, :]` of the score times that row of `table`; scores
/// `[T, entries]`, table `[entries, width]`, `k <= entries`.
pub fn top_k_gather(entries: usize, width: usize, k: usize) -> TileProgram {
    let mut b = TileBuilder::new("top_k_gather");
    let br = b.knob("BR", 4);
    let scores = b.input("scores", DType::F32, &[t(), Dim::from(entries)]);
    let table = b.input("table", DType::F32, &[Dim::from(entries), Dim::from(width)]);
    let y = b.output("y", DType::F32, &[t(), Dim::from(width)]);
    let i0 = b.grid("i", blocks(&t(), br)) * Expr::int(br as i64);
    let (m, n, d, chosen) = (block(br, &i0, &t()), Extent::fixed(entries), Extent::fixed(width), Extent::fixed(k));
    let s = b.map("s", TileType::F32, &m, &n, load(scores, &[&(i0.clone() + row()), &col()]));
    let (values, columns) = b.top_k("best", s, &Extent::fixed(k));
    let zero = b.map("zero", TileType::F32, &m, &d, Expr::float(0.0));
    let sum = b.for_blocks(
        Expr::int(0),
        Expr::int(k as i64),
        1,
        |_| None,
        &[zero],
        |b, place, carried| {
            // The column `place` of a tile, as a column vector: the one element of its row that a reduction leaves.
            let here = col().equals(place.clone());
            let low = Expr::float(f64::NEG_INFINITY);
            let value = b.map("value", TileType::F32, &m, &chosen, Expr::select(here.clone(), Expr::tile(values), low));
            let value = b.reduce("value", Combine::Max, Axis::Cols, value);
            let at = b.map("at", TileType::I64, &m, &chosen, Expr::select(here, Expr::tile(columns), Expr::int(-1)));
            let at = b.reduce("at", Combine::Max, Axis::Cols, at);
            let added = by_row(value) * load(table, &[&by_row(at), &col()]);
            vec![b.map("sum", TileType::F32, &m, &d, Expr::tile(carried[0]) + added)]
        },
    );
    b.store(y, vec![i0 + row(), col()], Expr::tile(sum[0]), &m, &d);
    b.finish()
}

/// Attention over the key blocks that a list names for each query block: q, k, v `[T, width]`, list `[blocks, entries]`
/// of key block numbers, each at most once, below 0 where there is none.
pub fn block_sparse_attention(width: usize, entries: usize, [queries, keys]: [usize; 2]) -> TileProgram {
    let mut b = TileBuilder::new("block_sparse_attention");
    let (bq, bk) = (b.knob("BQ", queries), b.knob("BK", keys));
    let shape = [t(), Dim::from(width)];
    let [q, k, v] = ["q", "k", "v"].map(|name| b.input(name, DType::F32, &shape));
    let number = t().ceil_div(bq as i64).expect("a block has rows");
    let list = b.input("list", DType::I64, &[number, Dim::from(entries)]);
    let o = b.output("o", DType::F32, &shape);
    let i = b.grid("i", blocks(&t(), bq));
    let i0 = i.clone() * Expr::int(bq as i64);
    let (m, n, d, one) = (block(bq, &i0, &t()), Extent::fixed(bk), Extent::fixed(width), Extent::fixed(1));
    let qs = b.map("qs", TileType::F32, &m, &d, load(q, &[&(i0.clone() + row()), &col()]));
    let top = b.map("top", TileType::F32, &m, &one, Expr::float(f64::NEG_INFINITY));
    let sum = b.map("sum", TileType::F32, &m, &one, Expr::float(0.0));
    let acc = b.map("acc", TileType::F32, &m, &d, Expr::float(0.0));
    let named = |place: &Expr| load(list, &[&i, place]);
    let present = |place: &Expr| Some(named(place).ge(0));
    let init = [top, sum, acc];
    let last = b.for_blocks(Expr::int(0), Expr::int(entries as i64), 1, present, &init, |b, place, carried| {
        // Counts cannot come from tensors: keys past the end are absent by a guard.
        let key = named(place) * Expr::int(bk as i64) + row();
        let inside = key.clone().lt(length());
        let read = |from| Expr::load_if(from, vec![key.clone(), col()], inside.clone(), 0.0);
        let ks = b.map("ks", TileType::F32, &n, &d, read(k));
        let vs = b.map("vs", TileType::F32, &n, &d, read(v));
        let s = b.dot("s", TileType::F32, qs, Matrix::transposed(ks), None);
        let inside = (named(place) * Expr::int(bk as i64) + col()).lt(length());
        let scaled = Expr::tile(s) * Expr::float(1.0 / (width as f64).sqrt());
        let s = b.map("masked", TileType::F32, &m, &n, Expr::select(inside, scaled, Expr::float(f64::NEG_INFINITY)));
        online_softmax(b, s, vs, carried, [&m, &n, &d])
    });
    // A row without any key is zero.
    let none = by_row(last[1]).equals(Expr::float(0.0));
    let value = Expr::select(none, Expr::float(0.0), Expr::tile(last[2]) / by_row(last[1]));
    b.store(o, vec![i0 + row(), col()], value, &m, &d);
    b.finish()
}
