//! A chunked scan over parts of the tokens at once: the state that each part leaves by itself, the states before the parts
//! one after another, then the parts again with the state before each. Where heads and columns are too few for the
//! threads; it takes the state's share of the work twice.

use super::chunked_scan::Site;
use super::chunks;
use super::{Apply, ApplyForm, Write, all_visited, open};
use crate::lower::{Context, Failure, Producer, Scribe};
use mixc_ir::dim::Dim;
use mixc_ir::expr::{Expr, ROW};
use mixc_ir::lowered::BufferId;

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "parallel_scan",
    applies: |cx, a| !a.channelwise && cx.most(&a.mix.ty.rows) > PART as i64 && chunks::scan_of(cx, &a.mix).is_some(),
    open: |_, apply, shape, dtype| Ok(open(ParallelScan { apply: apply.clone() }, dtype, shape.to_vec())),
    instead_of: &[],
    share: all_visited,
};

/// Tokens of a part: a multiple of every length of chunks, long enough that a state is little beside its tokens.
const PART: usize = 256;

#[derive(Debug)]
struct ParallelScan {
    apply: Apply,
}

impl Write for ParallelScan {
    fn form(&self) -> &'static str {
        "parallel_scan"
    }

    fn reads(&self) -> Vec<BufferId> {
        chunks::reads(&self.apply)
    }

    fn write(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        let left = self.left(cx)?;
        let before = self.before(cx, left)?;
        let mut s = Scribe::new("parallel_scan_outputs");
        let tensor = s.output(cx, out);
        let site = Site::new(cx, &mut s, &self.apply, Some(PART))?;
        let stored = s.local_lambda(cx, &cx.stored(before));
        let lead = [site.batch.clone(), vec![site.part.clone()]].concat();
        let column = site.column.clone();
        let start = site
            .scan
            .start_from(&mut s.b, &site.cols, |n| stored.at(&[lead.clone(), vec![n, column.clone()]].concat()));
        site.outputs(cx, &mut s, end, tensor, &[start]);
        s.finish(cx, self.form())
    }
}

impl ParallelScan {
    /// A buffer for a state of every part, `[batch.., parts, states, columns]`.
    fn states(&self, cx: &mut Context<'_>, reads: &[BufferId]) -> Result<BufferId, Failure> {
        let mix = &self.apply.mix;
        let parts = mix.ty.rows.ceil_div(PART as i64).map_err(|e| cx.dim_failure(e))?;
        let states = chunks::scan_of(cx, mix).and_then(|scan| scan.c.shape.last()).cloned();
        let columns = self.apply.features();
        let tail: [Dim; 3] = [parts, states.unwrap_or_default(), columns];
        Ok(cx.target(mix.ty.dtype, &[self.apply.batch.clone(), tail.to_vec()].concat(), reads))
    }

    /// The state that each part leaves, starting from nothing.
    fn left(&self, cx: &mut Context<'_>) -> Result<BufferId, Failure> {
        let left = self.states(cx, &self.reads())?;
        let mut s = Scribe::new("parallel_scan_states");
        let tensor = s.output(cx, left);
        let site = Site::new(cx, &mut s, &self.apply, Some(PART))?;
        s.b.knob("part", PART);
        let start = site.scan.start(&mut s.b, &site.cols);
        let state = site.state(&mut s.b, start);
        let index = [site.batch.clone(), vec![site.part.clone(), Expr::from(ROW), site.column.clone()]].concat();
        site.scan.store(&mut s.b, tensor, index, state, &site.cols);
        s.finish(cx, self.form())?;
        Ok(left)
    }

    /// The state before each part, from what the parts leave.
    fn before(&self, cx: &mut Context<'_>, left: BufferId) -> Result<BufferId, Failure> {
        let before = self.states(cx, &[self.reads(), vec![left]].concat())?;
        let mut s = Scribe::new("parallel_scan_carry");
        let tensor = s.output(cx, before);
        let site = Site::new(cx, &mut s, &self.apply, None)?;
        let left = s.local_lambda(cx, &cx.stored(left));
        let start = site.scan.start(&mut s.b, &site.cols);
        let total = Expr::from(&self.apply.mix.ty.rows);
        let part = Expr::int(PART as i64);
        s.b.for_blocks(
            Expr::int(0),
            total.clone().ceil_div(PART as i64),
            1,
            |_| None,
            &[start],
            |t, number, carried| {
                let at = |n: Expr| [site.batch.clone(), vec![number.clone(), n, site.column.clone()]].concat();
                site.scan.store(t, tensor, at(Expr::from(ROW)), carried[0], &site.cols);
                let from = number.clone() * part.clone();
                let logs = site.scan.logs(t, &from, &(from.clone() + part.clone()).min(total.clone()));
                let own = left.at(&at(Expr::from(ROW)));
                vec![site.scan.faded(t, carried[0], logs, &site.cols, |kept| kept + own)]
            },
        );
        s.finish(cx, self.form())?;
        Ok(before)
    }
}
