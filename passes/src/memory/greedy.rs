//! Greedy assignment of temporaries to slots: two orders, the better one wins.

use super::lifetimes::Lifetime;
use mixc_ir::lowered::BufferId;

/// A temporary with its bytes at the typical dims.
#[derive(Clone, Copy, Debug)]
pub struct Sized {
    /// When it is live.
    pub life: Lifetime,
    /// Bytes, a multiple of the alignment.
    pub bytes: u64,
}

struct Slot {
    bytes: u64,
    held: Vec<Lifetime>,
}

/// Puts each buffer, in the given order, into the slot that grows least and among those is shortest; a new one where
/// no slot is free or growing one costs as much as a new one. Total bytes and the buffers of each slot.
fn best_fit(order: &[Sized]) -> (u128, Vec<Vec<BufferId>>) {
    let mut slots: Vec<Slot> = Vec::new();
    for b in order {
        let free = slots.iter_mut().filter(|s| s.held.iter().all(|h| !h.overlaps(&b.life)));
        match free.min_by_key(|s| (b.bytes.saturating_sub(s.bytes), s.bytes)) {
            Some(slot) => {
                slot.bytes = slot.bytes.max(b.bytes);
                slot.held.push(b.life);
            }
            None => slots.push(Slot { bytes: b.bytes, held: vec![b.life] }),
        }
    }
    let total = slots.iter().map(|s| u128::from(s.bytes)).sum();
    (total, slots.into_iter().map(|s| s.held.iter().map(|h| h.buffer).collect()).collect())
}

/// Slots for the buffers: by falling size, by first use, or by length of life, whichever takes the fewest bytes; on
/// equal bytes the first of these.
pub fn assign(buffers: &[Sized]) -> Vec<Vec<BufferId>> {
    let sorted = |key: fn(&Sized) -> (u64, u64)| {
        let mut order = buffers.to_vec();
        order.sort_by_key(|b| (key(b), b.life.first, b.life.buffer));
        best_fit(&order)
    };
    let by_size = |b: &Sized| (u64::MAX - b.bytes, 0);
    let by_start = |b: &Sized| (b.life.first as u64, u64::MAX - b.bytes);
    let by_life = |b: &Sized| (u64::MAX - (b.life.last - b.life.first) as u64, u64::MAX - b.bytes);
    // `min_by_key` keeps the first of equal ones.
    let best = [sorted(by_size), sorted(by_start), sorted(by_life)].into_iter().min_by_key(|(total, _)| *total);
    best.map_or_else(Vec::new, |(_, slots)| slots)
}
