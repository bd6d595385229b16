//! A derivation as one page of HTML: what was written, the identities that led to what runs, the structure of the
//! operators, candidates and their costs, bytes against the least possible, kernels, memory.
//!
//! The page needs nothing else: no script, no font, no request; its drawings are inline. It is light or dark as the
//! reader's system is, and the same for equal inputs. What it shows is [`Explanation`]'s, nothing is reckoned here.

mod formula;
mod html;
mod pattern;

use crate::Compilation;
use crate::explain::{AppliedRule, Explanation};
use html::{Cell, Row, bar, bytes, count, escape, table, time};
use mixc_ir::lowered::Phase;
use mixc_ir::plan;
use mixc_ir::program::{NodeKind, Program, ValueId};
use mixc_ir::text::print_program;
use mixc_ir::ty::Type;
use mixc_passes::forms;
use std::fmt::Write;

/// The derivation as a document.
pub fn page(c: &Compilation, e: &Explanation) -> String {
    let title = escape(&format!("{} for {}", e.model, e.target));
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{}</style>\n</head>\n<body>\n{HATCH}",
        include_str!("style.css")
    );
    out.push_str(&heading(e));
    out.push_str(&written(c));
    out.push_str(&derivation(c, e));
    out.push_str(&operators(c, e));
    out.push_str(&candidates(e));
    out.push_str(&traffic(e));
    out.push_str(&kernels(e));
    out.push_str(&memory(c, e));
    out.push_str("</body>\n</html>\n");
    out
}

/// The pattern that stands for elements of which data decides.
const HATCH: &str = "<svg class=\"hidden\" aria-hidden=\"true\"><defs><pattern id=\"hatch\" width=\"0.25\" height=\"0.25\" \
    patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><path d=\"M0 0V0.25\" style=\"stroke-width:0.25\"/>\
    </pattern></defs></svg>\n";

fn heading(e: &Explanation) -> String {
    let exact = match e.approx.as_slice() {
        [] => "<span class=\"chip\">exact</span>".to_string(),
        errors => format!("<span class=\"chip warn\">approximate: {}</span>", escape(&errors.join(", "))),
    };
    let at: Vec<String> = e.dims.iter().map(|(n, v)| format!("{n} = {v}")).collect();
    let at = if at.is_empty() { String::new() } else { format!(", costs at {}", escape(&at.join(", "))) };
    let sum = |f: fn(&crate::explain::Kernel) -> f64| e.kernels.iter().map(f).sum::<f64>();
    let numbers = [
        (time(sum(|k| k.cost_us)), "reckoned, one thread"),
        (count(sum(|k| k.flops)), "operations"),
        (bytes(sum(|k| k.bytes)), "moved by kernels"),
        (bytes(sum(|k| k.bytes_bound)), "at least"),
        (e.kernels.len().to_string(), "kernels"),
        (bytes(e.arena_bytes as f64), "of workspace"),
    ];
    let mut out = format!(
        "<header>\n<h1>{} {exact}</h1>\n<p class=\"faint\">for {}{at}</p>\n<ul class=\"numbers\">\n",
        escape(&e.model),
        escape(&e.target)
    );
    for (number, what) in numbers {
        let _ = writeln!(out, "<li><b>{}</b><span class=\"faint\">{what}</span></li>", escape(&number));
    }
    out.push_str("</ul>\n</header>\n");
    out
}

fn written(c: &Compilation) -> String {
    format!("<h2>What was written</h2>\n<pre>{}</pre>\n", escape(print_program(&c.program).trim_end()))
}

/// The chain from what was written to what runs: layers as their definitions, rules in the order of their application,
/// each as the identity that it is, and the forms.
fn derivation(c: &Compilation, e: &Explanation) -> String {
    let mut steps: Vec<String> = Vec::new();
    for node in &c.program.nodes {
        let NodeKind::Op(op) = node.kind else { continue };
        let expanded = op.expand.is_some() && !forms::lowers_whole(op.name);
        if let Some(v) = node.results.first().filter(|_| expanded) {
            let doc = escape(op.doc.trim());
            let (name, at) = (escape(op.name), escape(c.program.name_of(*v)));
            steps.push(format!(
                "<b>{name}</b> <span class=\"faint\">at %{at}, by its definition</span><div class=\"faint\">{doc}</div>"
            ));
        }
    }
    steps.extend(e.rules.iter().map(rule_step));
    let mut named: Vec<(&str, &str)> = Vec::new();
    for k in &e.kernels {
        let step = (k.site.as_str(), k.form.as_str());
        if !named.contains(&step) {
            named.push(step);
        }
    }
    for (site, form) in named {
        let about = forms::CATALOGUE.iter().find(|(name, _)| *name == form).map_or("", |(_, about)| *about);
        steps.push(format!(
            "<b>{}</b> <span class=\"faint\">for {}</span><div class=\"faint\">{}</div>",
            escape(form),
            escape(site),
            escape(about)
        ));
    }
    let mut out = String::from("<h2>Derivation</h2>\n");
    if e.rules.is_empty() {
        out.push_str("<p class=\"faint\">No rule improves on the definitions.</p>\n");
    }
    out.push_str("<ol class=\"chain\">\n");
    for step in steps {
        let _ = writeln!(out, "<li>{step}</li>");
    }
    out.push_str("</ol>\n<h3>What runs, as formulas</h3>\n<div class=\"card\">\n");
    for line in formulas(&c.rewritten.program) {
        let _ = writeln!(out, "<div class=\"formula\">{}</div>", escape(&line));
    }
    out.push_str("</div>\n<details><summary>as a program</summary>\n");
    let _ = writeln!(out, "<pre>{}</pre>\n</details>", escape(print_program(&c.rewritten.program).trim_end()));
    out
}

/// A rule that was applied, with the identity that it is and what it needs.
fn rule_step(r: &AppliedRule) -> String {
    let chip = if r.exact { "" } else { " <span class=\"chip warn\">approximate</span>" };
    let mut out = format!("<b>{}</b> <span class=\"faint\">at %{}</span>{chip}", escape(&r.name), escape(&r.site));
    let Some(rule) = mixc_passes::rewrite::find_rule(&r.name) else { return out };
    let (left, right) = (formula::of_rule(&rule.left), formula::of_rule(&rule.right));
    let sign = if r.exact { "=" } else { "≈" };
    let _ = write!(
        out,
        "<div class=\"formula\">{} <span class=\"equals\">{sign}</span> {}</div>",
        escape(&left),
        escape(&right)
    );
    if !rule.given.is_empty() {
        let given = rule.given.replace('?', "");
        let _ = write!(out, "<div class=\"faint\">where <code>{}</code></div>", escape(&given));
    }
    out
}

/// Tensors that are computed, each by what defines it.
fn formulas(p: &Program) -> Vec<String> {
    let tensors = p.nodes.iter().filter(|n| n.op_name().is_some());
    let results = tensors.flat_map(|n| n.results.iter().take(1)).filter(|v| p.ty(**v).as_tensor().is_some());
    results.map(|v| format!("{} = {}", p.name_of(*v), formula::of_value(p, *v))).collect()
}

/// Operators that are applied, each once: formula, picture of the support, what is known.
fn operators(c: &Compilation, e: &Explanation) -> String {
    let p = &c.rewritten.program;
    let applied = p.nodes.iter().filter(|n| n.op_name() == Some("apply")).filter_map(|n| n.operands.first()?.as_ref());
    let mut seen: Vec<ValueId> = Vec::new();
    let mut cards = String::new();
    for v in applied {
        let (Type::Mix(ty), Some(structure)) = (p.ty(*v), &p.values[v.index()].structure) else { continue };
        if seen.contains(v) {
            continue;
        }
        seen.push(*v);
        let _ = write!(
            cards,
            "<div class=\"card\">{}<div class=\"about\"><h3>%{}</h3><div class=\"formula\">{}</div><ul class=\"plain\">",
            pattern::picture(&structure.support, ty, &e.dims),
            escape(p.name_of(*v)),
            escape(&formula::of_value(p, *v)),
        );
        for line in pattern::words(p, ty, structure, &e.dims) {
            let _ = write!(cards, "<li>{line}</li>");
        }
        cards.push_str("</ul></div></div>\n");
    }
    if cards.is_empty() {
        return String::new();
    }
    format!(
        "<h2>Operators</h2>\n<p class=\"faint\">Rows are outputs, columns inputs. Full colour: every element is present; \
         paler: some; hatched: the data decides which. Sampled, so thin lines may have gaps.</p>\n\
         <div class=\"operators\">\n{cards}</div>\n"
    )
}

fn candidates(e: &Explanation) -> String {
    let mut out = String::new();
    if e.candidates.len() > 1 {
        out.push_str("<h2>Programs that are equal</h2>\n<p class=\"faint\">The cheapest runs.</p>\n");
        let most = e.candidates.iter().filter_map(|c| c.cost_us).fold(0.0, f64::max);
        let rows: Vec<Row> = e
            .candidates
            .iter()
            .map(|c| {
                let rules = if c.rules.is_empty() { "as written".to_string() } else { c.rules.join(", ") };
                let cost = c.cost_us.map_or("not lowered".into(), time);
                let cells = vec![
                    Cell::Number(escape(&cost)),
                    Cell::Text(bar(c.cost_us.unwrap_or(0.0), most, None)),
                    Cell::Wide(escape(&rules)),
                ];
                (cells, c.chosen)
            })
            .collect();
        out.push_str(&table(&["cost", "", "rules"], &rows));
    }
    if !e.forms.is_empty() {
        out.push_str("<h2>Forms that apply</h2>\n<p class=\"faint\">On all threads; the cheapest runs.</p>\n");
        let mut sites: Vec<&str> = Vec::new();
        for f in &e.forms {
            if !sites.contains(&f.site.as_str()) {
                sites.push(&f.site);
            }
        }
        for site in sites {
            let here: Vec<_> = e.forms.iter().filter(|f| f.site == site).collect();
            let most = here.iter().map(|f| f.cost_us).fold(0.0, f64::max);
            let rows: Vec<Row> = here
                .iter()
                .map(|f| {
                    let cells = vec![
                        Cell::Text(escape(&f.form)),
                        Cell::Number(escape(&time(f.cost_us))),
                        Cell::Text(bar(f.cost_us, most, None)),
                        Cell::Number(escape(&bytes(f.bytes))),
                    ];
                    (cells, f.chosen)
                })
                .collect();
            let _ = writeln!(out, "<h3>{}</h3>", escape(site));
            out.push_str(&table(&["form", "cost", "", "moved"], &rows));
        }
    }
    out
}

/// Bytes that come from every level, against the bound.
fn traffic(e: &Explanation) -> String {
    let Some(first) = e.kernels.first() else { return String::new() };
    let bound: f64 = e.kernels.iter().map(|k| k.bytes_bound).sum();
    let at = |level: usize| e.kernels.iter().filter_map(|k| k.levels.get(level)).map(|(_, b)| b).sum::<f64>();
    let most = (0..first.levels.len()).map(at).fold(bound, f64::max);
    let rows: Vec<Row> = first
        .levels
        .iter()
        .enumerate()
        .map(|(k, (name, _))| {
            let cells = vec![
                Cell::Text(escape(name)),
                Cell::Number(escape(&bytes(at(k)))),
                Cell::Text(bar(at(k), most, Some(bound))),
                Cell::Number(if bound > 0.0 { format!("{:.2} ×", at(k) / bound) } else { String::new() }),
            ];
            (cells, true)
        })
        .collect();
    format!(
        "<h2>Bytes</h2>\n<p class=\"faint\">What comes from each memory, all kernels together. The mark is the lower bound: \
         every tensor of every kernel once, {}.</p>\n{}",
        escape(&bytes(bound)),
        table(&["from", "bytes", "", "of the bound"], &rows)
    )
}

fn kernels(e: &Explanation) -> String {
    let most = e.kernels.iter().map(|k| k.cost_us).fold(0.0, f64::max);
    let rows: Vec<Row> = e
        .kernels
        .iter()
        .map(|k| {
            let tile: Vec<String> = k.tile.iter().map(|(n, v)| format!("{n} = {v}")).collect();
            let cells = vec![
                Cell::Text(escape(&k.form)),
                Cell::Text(escape(&k.site)),
                Cell::Text(escape(&tile.join(", "))),
                Cell::Number(escape(&count(k.flops))),
                Cell::Number(escape(&bytes(k.bytes))),
                Cell::Number(escape(&bytes(k.bytes_bound))),
                Cell::Number(escape(&time(k.cost_us))),
                Cell::Text(bar(k.cost_us, most, None)),
            ];
            (cells, true)
        })
        .collect();
    if rows.is_empty() {
        return "<h2>Kernels</h2>\n<p>None: nothing is computed.</p>\n".into();
    }
    let heading = ["form", "site", "tile", "operations", "moved", "at least", "cost", ""];
    format!("<h2>Kernels</h2>\n{}", table(&heading, &rows))
}

/// Where temporaries lie (downwards) while the kernels run (to the right).
fn memory(c: &Compilation, e: &Explanation) -> String {
    let mut out = format!(
        "<h2>Memory</h2>\n<p>{} of workspace ({}); at most {} are live at once.</p>\n",
        escape(&bytes(e.arena_bytes as f64)),
        escape(e.planner),
        escape(&bytes(e.max_live_bytes as f64))
    );
    let lives = plan::temporaries(&c.lowered, Phase::Run);
    let Some((starts, end)) = plan::layout(&c.lowered, Phase::Run, &e.dims).filter(|(_, end)| *end > 0) else {
        return out;
    };
    let steps = c.lowered.phase(Phase::Run).count();
    // Drawn in thousandths of the workspace, a step ten wide.
    let height = |n: u64| n as f64 * 1000.0 / end as f64;
    let _ = write!(
        out,
        "<svg class=\"memory\" role=\"img\" aria-label=\"temporaries over {steps} steps\" viewBox=\"0 0 {} 1000\" \
         preserveAspectRatio=\"none\">",
        10 * steps
    );
    for (slot, start) in plan::slots(&c.lowered.plan, Phase::Run).iter().zip(&starts) {
        for b in slot {
            let Some((_, (first, last))) = lives.iter().find(|(t, _)| t == b) else { continue };
            let buffer = c.lowered.buffer(*b);
            let size = buffer.bytes(&e.dims).unwrap_or(0);
            let _ = write!(
                out,
                "<rect x=\"{}\" y=\"{:.1}\" width=\"{}\" height=\"{:.1}\" vector-effect=\"non-scaling-stroke\">\
                 <title>{}: {}</title></rect>",
                10 * first,
                height(*start),
                10 * (last - first + 1),
                height(size),
                escape(&buffer.name),
                escape(&bytes(size as f64)),
            );
        }
    }
    out.push_str("</svg>\n<p class=\"faint\">Steps to the right, addresses downwards.</p>\n");
    out
}
