//! `NAME.json`: what the artefacts were made from and how, for other programs.

use crate::{Compilation, Model};
use mixc_backends::cpu::abi::{Argument, Interface};
use mixc_ir::lowered::Action;
use sha2::{Digest, Sha256};

/// The manifest's text.
pub fn text(model: &Model, c: &Compilation, i: &Interface, target: &str) -> String {
    pretty(&value(model, c, i, target))
}

/// A value as a file's text.
pub fn pretty(value: &serde_json::Value) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

/// The manifest as a value.
pub fn value(model: &Model, c: &Compilation, i: &Interface, target: &str) -> serde_json::Value {
    let arguments = |list: &[Argument]| -> Vec<serde_json::Value> {
        let one = |a: &Argument| {
            let shape: Vec<String> = a.shape.iter().map(ToString::to_string).collect();
            serde_json::json!({ "name": a.name, "dtype": a.dtype.name(), "shape": shape })
        };
        list.iter().map(one).collect()
    };
    let dims: Vec<_> =
        c.program.dims.iter().map(|d| serde_json::json!({ "name": &*d.name, "low": d.low, "high": d.high })).collect();
    let kernels: Vec<_> = c
        .lowered
        .steps
        .iter()
        .filter_map(|s| match &s.action {
            Action::Run { program, form, site, .. } => {
                let tile: serde_json::Map<String, serde_json::Value> =
                    program.knobs.iter().map(|(k, v)| (k.clone(), (*v).into())).collect();
                Some(serde_json::json!({ "form": form, "site": format!("%{site}"), "tile": tile }))
            }
            Action::CheckIds { .. } => None,
        })
        .collect();
    let hash: String = Sha256::digest(model.source.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
    serde_json::json!({
        "abi": 1,
        "name": i.name,
        "mixc": env!("CARGO_PKG_VERSION"),
        "ir_sha256": hash,
        "target": target,
        "dims": dims,
        "params": arguments(&i.params),
        "results": arguments(&i.results),
        "binds_weights": i.binds,
        "workspace": format!("{}_workspace_bytes(dims), aligned to 64", i.name),
        "kernels": kernels,
    })
}
