//! The Walsh-Hadamard transform by stages of sums and differences, in the natural order: what Fourier stages are when all
//! roots are signs.

use super::flash::{reads, tokens};
use super::{Apply, ApplyForm, Producer, Write, all_visited, capacity, open};
use crate::lower::{Context, Factors, Failure, Lambda, RowStep};
use mixc_ir::dim::Dim;
use mixc_ir::expr::{COL, Expr, ROW};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Extent, TileBuilder, TileType};

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "walsh_hadamard",
    applies: |_, a| {
        // All channels meet the same matrix.
        let plain = a.mix.special.is_none() && matches!(a.mix.row_step, RowStep::None);
        plain && matches!(a.mix.factors, Some(Factors::Hadamard { .. })) && length(a).is_some()
    },
    open: |_, apply, shape, dtype| Ok(open(Butterflies { apply: apply.clone() }, dtype, shape.to_vec())),
    // Elements of the matrix are made from the factors: it is never cheaper by more than the start of a program.
    instead_of: &[super::dense::FORM.name],
    share: all_visited,
};

/// Numbers that a stage combines: with as many results they fill the vector registers.
const RADIX: usize = 16;
/// Elements of a tile of one number: sixteen of them fill a first-level cache.
const BLOCK: usize = 512;

fn length(a: &Apply) -> Option<usize> {
    let n = usize::try_from(a.mix.ty.rows.as_constant()?).ok()?;
    n.is_power_of_two().then_some(n)
}

#[derive(Debug)]
struct Butterflies {
    apply: Apply,
}

/// The sums of `x` with the signs of each row of the Hadamard matrix.
fn transform(b: &mut TileBuilder, ty: TileType, (rows, cols): (&Extent, &Extent), mut x: Vec<Expr>) -> Vec<Expr> {
    let mut half = 1;
    while half < x.len() {
        for k in (0..x.len()).filter(|k| k & half == 0) {
            let (u, v) = (x[k].clone(), x[k | half].clone());
            x[k] = Expr::tile(b.map("s", ty, rows, cols, u.clone() + v.clone()));
            x[k | half] = Expr::tile(b.map("d", ty, rows, cols, u - v));
        }
        half *= 2;
    }
    x
}

impl Butterflies {
    /// One stage: of the numbers a `run` apart, `radix` at a time. `source` is `[.., tokens, features]`.
    fn stage(
        &self,
        cx: &mut Context<'_>,
        (radix, run): (usize, usize),
        source: &Lambda,
        out: BufferId,
        end: Option<&Producer>,
    ) -> Result<(), Failure> {
        let a = &self.apply;
        let total = length(a).ok_or_else(|| cx.fail("the length is no power of two"))?;
        let (mut s, tensor, ty) = a.program(cx, &format!("hadamard{radix}"), out);
        let features = a.features();
        let source = s.local_lambda(cx, source);
        let at = s.grid_over(&a.batch);
        let (c0, cols) = s.grid_blocks("d", &features, capacity(cx, &features, BLOCK));
        let cap = (BLOCK / cols.cap).max(1);
        let count = |n: usize| Dim::constant(n as i64);
        let blocks = total / (radix * run);
        // Rows are neighbours within a run, or blocks where runs are short.
        let first = if run >= blocks {
            let p = if blocks == 1 { Expr::int(0) } else { s.b.grid("p", Expr::int(blocks as i64)) };
            let (r0, rows) = s.grid_blocks("r", &count(run), cap);
            (p * Expr::int((radix * run) as i64) + r0 + Expr::from(ROW), rows)
        } else {
            let r = if run == 1 { Expr::int(0) } else { s.b.grid("r", Expr::int(run as i64)) };
            let (p0, rows) = s.grid_blocks("p", &count(blocks), cap);
            ((p0 + Expr::from(ROW)) * Expr::int((radix * run) as i64) + r, rows)
        };
        let (first, rows) = first;
        let place = |k: usize| [first.clone() + Expr::int((k * run) as i64), c0.clone() + Expr::from(COL)];
        let x: Vec<Expr> = (0..radix)
            .map(|k| Expr::tile(s.b.map("x", ty, &rows, &cols, tokens(&source, &a.batch, &at, &place(k)))))
            .collect();
        let y = transform(&mut s.b, ty, (&rows, &cols), x);
        for (k, value) in y.into_iter().enumerate() {
            let mut index = at.clone();
            index.extend(place(k));
            match (end, &a.mix.factors) {
                (Some(end), Some(Factors::Hadamard { scale })) => {
                    let value = if *scale == 1.0 { value } else { value * Expr::float(*scale) };
                    end.store(cx, &mut s, tensor, &index, value, &rows, &cols);
                }
                _ => s.b.store(tensor, index, value, &rows, &cols),
            }
        }
        s.finish(cx, FORM.name)
    }
}

impl Write for Butterflies {
    fn form(&self) -> &'static str {
        FORM.name
    }

    fn reads(&self) -> Vec<BufferId> {
        reads(&self.apply)
    }

    fn write(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        let a = &self.apply;
        let total = length(a).ok_or_else(|| cx.fail("the length is no power of two"))?;
        let mut shape = a.batch.clone();
        shape.extend([a.mix.ty.rows.clone(), a.features()]);
        let mut source = a.x.clone();
        let mut run = total;
        while run > RADIX {
            // What is left is shared out evenly: 1024 is 16 x 8 x 8.
            let stages = run.ilog2().div_ceil(RADIX.ilog2());
            let radix = 1 << run.ilog2().div_ceil(stages);
            run /= radix;
            let to = cx.target(a.mix.ty.dtype, &shape, &super::buffers_of(&source.body));
            self.stage(cx, (radix, run), &source, to, None)?;
            source = cx.stored(to);
        }
        self.stage(cx, (run, 1), &source, out, Some(end))
    }
}
