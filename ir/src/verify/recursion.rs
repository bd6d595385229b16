//! Which calls are recursive: those between functions that can reach each other.

use super::findings::Findings;
use crate::diag::Diagnostic;
use crate::text::ast::{Func, Name, StmtKind};
use std::collections::{BTreeMap, VecDeque};

/// For every function the index of its group; a call within one group is recursive. Each group's shortest cycle through
/// its first function is reported.
pub fn groups(funcs: &[&Func], by_name: &BTreeMap<&str, usize>, findings: &mut Findings) -> Groups {
    let calls: Vec<Vec<(usize, &Name)>> = funcs.iter().map(|f| callees(f, by_name)).collect();
    let group = components(&calls);
    let mut reported = vec![false; funcs.len()];
    let mut recursive = vec![false; funcs.len()];
    for f in 0..funcs.len() {
        let within = calls[f].iter().any(|(g, _)| group[*g] == group[f]);
        if !within {
            continue;
        }
        recursive[group[f]] = true;
        if std::mem::replace(&mut reported[group[f]], true) {
            continue;
        }
        let (call, cycle) = shortest_cycle(f, &calls, &group);
        let names: Vec<String> = cycle.iter().take(16).map(|k| format!("@{}", funcs[*k].name.text)).collect();
        let more = if cycle.len() > 16 { " -> ..." } else { "" };
        let message = format!("recursion: {}{more}", names.join(" -> "));
        findings.push(Diagnostic::at("E0108", call.at.0, message).help("calls are inlined, so none can come back"));
    }
    Groups { group, recursive }
}

/// The groups of functions that can reach each other.
pub struct Groups {
    group: Vec<usize>,
    recursive: Vec<bool>,
}

impl Groups {
    /// Whether a call of `callee` in `caller` is part of a cycle.
    pub fn is_recursive(&self, caller: usize, callee: usize) -> bool {
        self.group[caller] == self.group[callee] && self.recursive[self.group[caller]]
    }
}

fn callees<'f>(func: &'f Func, by_name: &BTreeMap<&str, usize>) -> Vec<(usize, &'f Name)> {
    let mut seen = std::collections::BTreeSet::new();
    let call = |stmt: &'f crate::text::ast::Stmt| match &stmt.kind {
        StmtKind::Call { func, .. } => by_name.get(func.text.as_str()).map(|k| (*k, func)),
        _ => None,
    };
    func.body.iter().filter_map(call).filter(|(k, _)| seen.insert(*k)).collect()
}

/// Strongly connected components (Tarjan), without recursion: for every function the index of one of its component.
fn components(calls: &[Vec<(usize, &Name)>]) -> Vec<usize> {
    let n = calls.len();
    let (mut order, mut low, mut component) = (vec![usize::MAX; n], vec![0; n], vec![usize::MAX; n]);
    let mut stack = Vec::new();
    let mut count = 0;
    for root in 0..n {
        if order[root] != usize::MAX {
            continue;
        }
        // (function, next call to follow)
        let mut path = vec![(root, 0)];
        while let Some((f, next)) = path.last_mut() {
            let f = *f;
            if *next == 0 {
                (order[f], low[f]) = (count, count);
                count += 1;
                stack.push(f);
            }
            if let Some((g, _)) = calls[f].get(*next) {
                *next += 1;
                if order[*g] == usize::MAX {
                    path.push((*g, 0));
                } else if component[*g] == usize::MAX {
                    low[f] = low[f].min(order[*g]);
                }
                continue;
            }
            if low[f] == order[f] {
                while let Some(g) = stack.pop() {
                    component[g] = f;
                    if g == f {
                        break;
                    }
                }
            }
            path.pop();
            if let Some((caller, _)) = path.last() {
                low[*caller] = low[*caller].min(low[f]);
            }
        }
    }
    component
}

/// A shortest way from `start` back to itself within its group: the first call of it, and the functions on it.
fn shortest_cycle<'f>(start: usize, calls: &[Vec<(usize, &'f Name)>], group: &[usize]) -> (&'f Name, Vec<usize>) {
    let mut from: BTreeMap<usize, (usize, &Name)> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(f) = queue.pop_front() {
        for &(g, name) in &calls[f] {
            if group[g] == group[start] && !from.contains_key(&g) {
                from.insert(g, (f, name));
                queue.push_back(g);
            }
        }
    }
    let mut cycle = vec![start];
    let mut at = start;
    loop {
        let (caller, name) = from[&at];
        cycle.push(caller);
        if caller == start {
            cycle.reverse();
            return (name, cycle);
        }
        at = caller;
    }
}
