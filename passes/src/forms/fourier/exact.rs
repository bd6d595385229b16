//! Discrete Fourier transforms of a length that the code knows, in the natural order.
//!
//! Stages after Stockham (Cochran et al. 1967): with the numbers seen as `[radix, rest, stride]`, parts j of place p are
//! transformed and turned by `e^(2 pi i p k / (radix rest))`, and written as `[rest, radix, stride]`. Every stage writes
//! elsewhere than it reads, which sorts on the way.

use super::butterfly::{Complex, Numbers};
use super::plan::root;
use crate::forms::{buffers_of, capacity};
use crate::lower::{Context, Failure, Lambda, Scribe};
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{COL, Expr, ROW};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Extent, TileType};

/// Elements of a tile of one number, as in the stages of convolutions.
const BLOCK: usize = 512;

/// The radices of a length, if it has only small factors.
pub fn radices(n: usize) -> Option<Vec<usize>> {
    let mut rest = n.max(1);
    let mut found = Vec::new();
    while rest > 1 {
        let next = match rest {
            16 => 4,
            _ => [8, 6, 5, 4, 7, 3, 2].into_iter().find(|q| rest.is_multiple_of(*q))?,
        };
        found.push(next);
        rest /= next;
    }
    if found.is_empty() {
        found.push(1);
    }
    Some(found)
}

/// A transform over the last axis but one of `[lead.., length, channels]`.
#[derive(Clone, Debug)]
pub struct Exact {
    /// Batch axes.
    pub lead: Vec<Dim>,
    /// Numbers that are transformed.
    pub length: usize,
    /// Independent transforms side by side.
    pub channels: Dim,
    /// Type of the numbers, f32 or f64.
    pub dtype: DType,
    /// Whether the sign of the exponent is plus.
    pub inverse: bool,
    /// Times every result.
    pub factor: f64,
}

/// Where results go, and as which index of which shape: the axes of `[lead.., length, channels]` in another order.
#[derive(Clone, Debug)]
pub struct Places {
    /// Lengths of the axes.
    pub shape: Vec<Dim>,
    /// The index as expressions of the axes.
    pub index: Vec<Expr>,
    /// Whether imaginary parts are wanted.
    pub complex: bool,
}

/// One stage.
#[derive(Clone, Copy)]
struct Stage {
    radix: usize,
    rest: usize,
    stride: usize,
}

impl Exact {
    /// The transform of numbers over `[lead.., length, channels]`; real and, where wanted, imaginary parts in memory.
    pub fn write(
        &self,
        cx: &mut Context<'_>,
        (re, im): (&Lambda, Option<&Lambda>),
        places: &Places,
    ) -> Result<(BufferId, Option<BufferId>), Failure> {
        let radices = radices(self.length).ok_or_else(|| cx.fail("the length has a large prime factor"))?;
        let mut stages = Vec::new();
        let mut stride = 1;
        for radix in radices {
            stages.push(Stage { radix, rest: self.length / (radix * stride), stride });
            stride *= radix;
        }
        let width = self.channels.scale(self.length as i64).map_err(|e| cx.dim_failure(e))?;
        let mut flat = self.lead.clone();
        flat.push(width);
        let mut reads: Vec<BufferId> = [Some(re), im].into_iter().flatten().flat_map(|l| buffers_of(&l.body)).collect();
        let mut now: Option<(BufferId, BufferId)> = None;
        let last = stages.len() - 1;
        for (k, stage) in stages.into_iter().enumerate() {
            let shape = if k == last { &places.shape } else { &flat };
            let table = self.table(cx, stage);
            reads.extend(table.iter().flat_map(|l| buffers_of(&l.body)));
            let out = cx.target(self.dtype, shape, &reads);
            let out_im = (k < last || places.complex).then(|| cx.target(self.dtype, shape, &reads));
            let input = now.map(|(re, im)| (cx.stored(re), cx.stored(im)));
            let source = match &input {
                Some((re, im)) => (re, Some(im)),
                None => (re, im),
            };
            let end = (k == last).then_some(places);
            self.stage(cx, stage, (source, now.is_some()), table.as_ref(), (out, out_im), end)?;
            match (k == last, out_im) {
                (true, im) => return Ok((out, im)),
                (false, Some(im)) => now = Some((out, im)),
                (false, None) => return Err(cx.fail("inner stages are complex")),
            }
            reads = vec![out];
        }
        Err(cx.fail("a transform has a stage"))
    }

    /// The turns of a stage, `[rest, radix, 2]`; none after the last.
    fn table(&self, cx: &mut Context<'_>, s: Stage) -> Option<Lambda> {
        if s.rest == 1 {
            return None;
        }
        let n = s.radix * s.rest;
        let sign = if self.inverse { 1.0 } else { -1.0 };
        let numbers = (0..s.rest)
            .flat_map(|p| (0..s.radix).flat_map(move |k| [root(p * k, n).0, sign * root(p * k, n).1]))
            .collect();
        let shape = [s.rest, s.radix, 2].map(|n| Dim::constant(n as i64));
        Some(cx.constant("turns", self.dtype, &shape, numbers))
    }

    fn stage(
        &self,
        cx: &mut Context<'_>,
        s: Stage,
        ((re, im), flat): ((&Lambda, Option<&Lambda>), bool),
        table: Option<&Lambda>,
        (out, out_im): (BufferId, Option<BufferId>),
        end: Option<&Places>,
    ) -> Result<(), Failure> {
        let Stage { radix, rest, stride } = s;
        let ty = TileType::of(self.dtype);
        let mut scribe = Scribe::new(&format!("radix{radix}"));
        let to = scribe.output(cx, out);
        let to_im = out_im.map(|b| scribe.output(cx, b));
        let (re, im) = (scribe.local_lambda(cx, re), im.map(|l| scribe.local_lambda(cx, l)));
        let table = table.map(|l| scribe.local_lambda(cx, l));
        let lead = scribe.grid_over(&self.lead);
        let channels = Expr::from(&self.channels);
        let int = |n: usize| Expr::int(n as i64);
        // Columns are runs of neighbours where places are flat on both sides, else channels: then rows are places of the
        // sequence, which `p` and the place within the stride make up.
        let by_run = flat && end.is_none();
        let columns = if by_run {
            self.channels.scale(stride as i64).map_err(|e| cx.dim_failure(e))?
        } else {
            self.channels.clone()
        };
        let cap = capacity(cx, &columns, if by_run { BLOCK } else { 64 });
        let (c0, cols) = scribe.grid_blocks("d", &columns, cap);
        let col = c0 + Expr::from(COL);
        let height = (BLOCK / cap).max(1);
        let (place, within, rows): (Expr, Expr, Extent) = if end.is_some() && stride > 1 {
            // The last stage: one place, rows along the stride.
            let (r0, rows) = scribe.grid_blocks("r", &Dim::constant(stride as i64), height);
            (Expr::int(0), r0 + Expr::from(ROW), rows)
        } else {
            let (p0, rows) = scribe.grid_blocks("p", &Dim::constant(rest as i64), height);
            (p0 + Expr::from(ROW), Expr::int(0), rows)
        };
        let from = |j: usize| {
            let block = (int(j * rest) + place.clone()) * int(stride) + within.clone();
            let mut at = lead.clone();
            match flat {
                true => at.push(block * channels.clone() + col.clone()),
                false => at.extend([block, col.clone()]),
            }
            at
        };
        let into = |k: usize| {
            let block = (place.clone() * int(radix) + int(k)) * int(stride) + within.clone();
            let mut at = lead.clone();
            match end {
                None => at.push(block * channels.clone() + col.clone()),
                Some(places) => {
                    at.extend([block, col.clone()]);
                    let natural = |e: &Expr| Lambda { dtype: self.dtype, shape: Vec::new(), body: e.clone() }.at(&at);
                    at = places.index.iter().map(natural).collect();
                }
            }
            at
        };
        let mut n = Numbers { b: &mut scribe.b, ty, rows: rows.clone(), cols: cols.clone() };
        let zero = Expr::float(0.0);
        let numbers: Vec<Complex> = (0..radix)
            .map(|j| {
                let at = from(j);
                let real = n.tile("re", re.at(&at));
                let imaginary = n.tile("im", im.as_ref().map_or_else(|| zero.clone(), |l| l.at(&at)));
                Complex { re: real, im: imaginary }
            })
            .collect();
        let made = n.transform(&numbers, !self.inverse);
        for (k, z) in made.into_iter().enumerate() {
            let (mut re, mut im) = (z.re.expr(), z.im.expr());
            if let Some(table) = table.as_ref().filter(|_| k > 0) {
                let part = |part: i64| table.at(&[place.clone(), int(k), Expr::int(part)]);
                let turned = n.multiplied(&z, &part(0), &part(1));
                (re, im) = (turned.re.expr(), turned.im.expr());
            }
            if end.is_some() && self.factor != 1.0 {
                (re, im) = (re * Expr::float(self.factor), im * Expr::float(self.factor));
            }
            n.b.store(to, into(k), re, &rows, &cols);
            if let Some(to) = to_im {
                n.b.store(to, into(k), im, &rows, &cols);
            }
        }
        scribe.finish(cx, "fourier")
    }
}
