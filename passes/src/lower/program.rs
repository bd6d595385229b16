//! Writing a tile program whose expressions name the model's buffers: each buffer that is met becomes an input.

use super::{Context, Failure, Lambda};
use mixc_ir::dim::Dim;
use mixc_ir::expr::{Expr, Load, Node, SlowId};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Extent, TileBuilder};

/// A tile program under construction.
#[derive(Debug)]
pub struct Scribe {
    /// The steps.
    pub b: TileBuilder,
    /// The buffer of each of its tensors.
    buffers: Vec<BufferId>,
    written: Vec<BufferId>,
}

impl Scribe {
    /// An empty program.
    pub fn new(name: &str) -> Scribe {
        Scribe { b: TileBuilder::new(name), buffers: Vec::new(), written: Vec::new() }
    }

    fn input(&mut self, cx: &Context<'_>, b: BufferId) -> SlowId {
        if let Some(k) = self.buffers.iter().position(|x| *x == b) {
            return SlowId(k as u32);
        }
        let buffer = cx.out.buffer(b);
        self.buffers.push(b);
        self.b.input(&buffer.name, buffer.dtype, &buffer.shape)
    }

    /// Declares a buffer that the program writes; before its reads, so that the program's tensors list results first.
    pub fn output(&mut self, cx: &Context<'_>, b: BufferId) -> SlowId {
        let buffer = cx.out.buffer(b);
        self.buffers.push(b);
        self.written.push(b);
        self.b.output(&buffer.name, buffer.dtype, &buffer.shape)
    }

    /// The expression with loads of the model's buffers turned into loads of the program's tensors.
    pub fn local(&mut self, cx: &Context<'_>, e: &Expr) -> Expr {
        e.rewrite(&mut |e| match e.node() {
            Node::Load(l) => Some(self.local_load(cx, l)),
            _ => None,
        })
    }

    /// A function of the index with its loads made local.
    pub fn local_lambda(&mut self, cx: &Context<'_>, l: &Lambda) -> Lambda {
        Lambda { body: self.local(cx, &l.body), ..l.clone() }
    }

    fn local_load(&mut self, cx: &Context<'_>, l: &Load) -> Expr {
        let tensor = self.input(cx, BufferId(l.tensor.0));
        let index = l.index.iter().map(|e| self.local(cx, e)).collect();
        match &l.guard {
            None => Expr::load(tensor, index),
            Some(g) => {
                let guard = self.local(cx, g);
                Expr::load_if(tensor, index, guard, l.fill)
            }
        }
    }

    /// One grid axis a dim; their variables.
    pub fn grid_over(&mut self, dims: &[Dim]) -> Vec<Expr> {
        dims.iter()
            .enumerate()
            .map(|(k, d)| if d.is(1) { Expr::int(0) } else { self.b.grid(&format!("b{k}"), Expr::from(d)) })
            .collect()
    }

    /// A grid axis over the blocks of `total` by `cap`: the first element of the block, and the block's extent.
    pub fn grid_blocks(&mut self, name: &str, total: &Dim, cap: usize) -> (Expr, Extent) {
        if total.as_constant().is_some_and(|n| n <= cap as i64) {
            let n = total.as_constant().unwrap_or(0).max(0) as usize;
            return (Expr::int(0), Extent { cap: n.max(1), count: Expr::int(n as i64) });
        }
        let block = self.b.grid(name, Expr::from(total).ceil_div(cap as i64));
        let start = block * Expr::int(cap as i64);
        let fits = total.as_constant().is_some_and(|n| n % cap as i64 == 0);
        let extent = if fits { Extent::fixed(cap) } else { Extent::block(cap, start.clone(), Expr::from(total)) };
        (start, extent)
    }

    /// Appends the program to the model as (part of) a form.
    pub fn finish(self, cx: &mut Context<'_>, form: &str) -> Result<(), Failure> {
        cx.emit(self.b.finish(), self.buffers, &self.written, form);
        Ok(())
    }
}
