//! What is left once all nodes are lowered: results in the caller's memory, steps that nobody reads, weights that every call
//! reads, dims that only a call can check.

use super::{Context, Failure, Lambda, whole_buffer};
use crate::forms;
use mixc_ir::dim::Dim;
use mixc_ir::lowered::{Action, BufferId, Phase, Place, Step};
use mixc_ir::program::NodeKind;
use mixc_ir::tile::Role;
use mixc_ir::ty::Type;

impl Context<'_> {
    /// Moves every result into the caller's memory: the buffer that holds it already, where that is possible.
    pub(super) fn results(&mut self) -> Result<(), Vec<Failure>> {
        for (k, &v) in self.source.results.iter().enumerate() {
            self.site = self.source.name_of(v).to_string();
            let t = self.tensor_type(v).map_err(|f| vec![f])?.clone();
            let l = self.read(v).map_err(|f| vec![f])?;
            let whole = whole_buffer(&l).filter(|b| {
                let buffer = self.out.buffer(*b);
                buffer.place == Place::Temporary && buffer.shape == t.shape && buffer.dtype == t.dtype
            });
            let b = match whole {
                Some(b) => b,
                None => {
                    let b = self.buffer(&self.site.clone(), t.dtype, &t.shape, Place::Temporary);
                    forms::map::store_into(self, &Lambda { dtype: t.dtype, ..l }, b).map_err(|f| vec![f])?;
                    b
                }
            };
            self.out.buffers[b.index()].place = Place::Result(k);
            self.out.results.push(b);
        }
        Ok(())
    }

    /// Leaves out steps whose results nobody reads: what an operator offers in two shapes (a list and a condition on
    /// elements) is computed in the one that its form took.
    pub(super) fn drop_unread(&mut self) {
        let mut read = vec![false; self.out.buffers.len()];
        for b in &self.out.results {
            read[b.index()] = true;
        }
        let mut kept: Vec<Step> = Vec::new();
        for step in std::mem::take(&mut self.out.steps).into_iter().rev() {
            match &step.action {
                Action::Run { program, buffers, .. } => {
                    let of = |role: Role| {
                        program.tensors.iter().zip(buffers).filter(move |(t, _)| t.role == role).map(|(_, b)| b.index())
                    };
                    if !of(Role::Output).any(|b| read[b]) {
                        continue;
                    }
                    of(Role::Input).for_each(|b| read[b] = true);
                }
                Action::CheckIds { ids, .. } => read[ids.index()] = true,
            }
            kept.push(step);
        }
        kept.reverse();
        self.out.steps = kept;
    }

    /// Weights that the run phase reads as they are: copied by the bind phase, so that runs need no weight file.
    pub(super) fn bind_weights(&mut self) -> Result<(), Failure> {
        let mut copies: Vec<(BufferId, BufferId)> = Vec::new();
        let steps = std::mem::take(&mut self.out.steps);
        let read: Vec<BufferId> = steps
            .iter()
            .filter(|s| s.phase == Phase::Run)
            .flat_map(|s| match &s.action {
                Action::Run { buffers, .. } => buffers.clone(),
                Action::CheckIds { ids, .. } => vec![*ids],
            })
            .collect();
        for b in read {
            let copied = copies.iter().any(|(from, _)| *from == b);
            if self.has_weights && !copied && matches!(self.out.buffer(b).place, Place::Weight(_) | Place::Constant(_))
            {
                self.site = self.out.buffer(b).name.clone();
                let copy = self.store_lambda(&self.stored(b))?;
                copies.push((b, copy));
            }
        }
        let binds = std::mem::replace(&mut self.out.steps, steps);
        let moved = |b: &mut BufferId| {
            if let Some((_, copy)) = copies.iter().find(|(from, _)| from == b) {
                *b = *copy;
            }
        };
        for step in self.out.steps.iter_mut().filter(|s| s.phase == Phase::Run) {
            match &mut step.action {
                Action::Run { buffers, .. } => buffers.iter_mut().for_each(moved),
                Action::CheckIds { ids, .. } => moved(ids),
            }
        }
        self.out.steps.extend(binds);
        Ok(())
    }

    /// Collects the dims that only a call can check.
    pub(super) fn must_hold(&mut self) {
        let mut dims: Vec<Dim> = std::mem::take(&mut self.out.must_hold);
        for t in self.source.values.iter().flat_map(|v| v.ty.dims()) {
            if t.as_constant().is_none() && t.as_symbol().is_none() && !dims.contains(&t) {
                dims.push(t);
            }
        }
        for node in &self.source.nodes {
            let NodeKind::Op(op) = node.kind else { continue };
            let types: Vec<Option<&Type>> = node.operands.iter().map(|o| o.map(|v| self.source.ty(v))).collect();
            let needs = mixc_ir::ops::tensors::requirements(op, &types, &node.attrs).unwrap_or_default();
            dims.extend(needs.into_iter().filter(|d| d.as_constant().is_none()));
        }
        dims.sort();
        dims.dedup();
        self.out.must_hold = dims;
    }
}
