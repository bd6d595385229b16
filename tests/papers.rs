//! The blocks of `examples/papers`: each agrees with the reference at several lengths, natively and through the emulator
//! of CUDA kernels, and is computed by the algorithm of its paper, not by a dense matrix.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A file, the length at which its forms are looked at, and forms that must be among its kernels (one of those with | between).
const BLOCKS: &[(&str, i64, &[&str])] = &[
    ("chimera", 515, &["scan_2d"]),
    ("fnet", 512, &["fourier"]),
    ("gated_deltanet", 2048, &["triangular_inverse"]),
    ("hip", 4096, &["tree_top_k", "block_sparse"]),
    ("m2", 3, &["monarch"]),
    ("m2_bert", 8192, &["fft_conv", "block_diagonal"]),
    ("mamba", 2048, &["recurrent_scan"]),
    ("mamba2", 2048, &["chunked_scan"]),
    ("mamba2_hybrid", 2048, &["chunked_scan", "flash|split_keys"]),
    ("mlp_mixer", 196, &["dense"]),
    ("moe_ot", 515, &["route", "top_k", "gemm"]),
    ("pgn", 515, &["gemm"]),
    ("rwkv", 2048, &["recurrent_scan"]),
    ("s4_ptd", 8192, &["fft_conv"]),
    ("s4d", 8192, &["fft_conv"]),
    ("s_mamba", 321, &["recurrent_scan"]),
    ("spacetime", 8192, &["triangular_inverse"]),
    ("ssamba", 2048, &["recurrent_scan"]),
    ("tensor_attention", 515, &["tensor_flash|split_keys"]),
    ("tpgn", 37, &["gemm"]),
    ("transnormer", 2048, &["window|split_keys", "chunked_scan"]),
];

/// Forms that stand for no structure: only the mixer's own weights are dense.
const FALLBACK: &str = "dense";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/papers")
}

/// The arguments that give the last symbol of a model the length `n` as far as its bounds allow, and the others 3.
fn shapes(name: &str, n: i64) -> Vec<String> {
    let text = std::fs::read_to_string(folder().join(format!("{name}.ir"))).unwrap();
    let dims: Vec<(String, i64)> = text
        .lines()
        .filter_map(|l| l.strip_prefix("dim "))
        .map(|l| {
            let (symbol, range) = l.split_once(" = ").unwrap();
            (symbol.to_string(), range.split_once("..").unwrap().1.trim().parse().unwrap())
        })
        .collect();
    let last = dims.len() - 1;
    let value = |(k, (symbol, most)): (usize, (String, i64))| {
        ["--shape".to_string(), format!("{symbol}={}", if k == last { n.min(most) } else { 3 })]
    };
    dims.into_iter().enumerate().flat_map(value).collect()
}

fn mixc(command: &str, name: &str, more: &[&str], n: i64) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mixc"))
        .arg(command)
        .arg(folder().join(format!("{name}.ir")))
        .args(more)
        .args(shapes(name, n))
        .output()
        .unwrap()
}

fn text(o: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr))
}

fn agree(target: &str, lengths: &[i64]) {
    let mut failures = Vec::new();
    for (name, _, _) in BLOCKS {
        for &n in lengths {
            // The Monarch mixer's weights fix its length, and `n` is then a batch of it.
            let n = if *name == "m2" { n.min(3) } else { n };
            let o = mixc("run", name, &["--random", "1", "--check", "--target", target], n);
            if !o.status.success() {
                failures.push(format!("{name} at {n} on {target}: {}", text(&o)));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_file_is_tried() {
    let mut files: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|f| f.unwrap().path().file_stem().unwrap().to_string_lossy().to_string())
        .collect();
    files.sort();
    assert_eq!(files, BLOCKS.iter().map(|b| b.0).collect::<Vec<_>>());
}

#[test]
fn blocks_agree_with_the_reference() {
    agree("native", &[1, 37, 128, 515]);
}

#[test]
fn blocks_agree_in_the_emulator() {
    agree("cuda:emu", &[37]);
}

#[test]
fn blocks_are_computed_in_the_form_of_their_papers() {
    for (name, n, wanted) in BLOCKS {
        let o = mixc("explain", name, &["--target", "znver4"], *n);
        let said = text(&o);
        let kernels = said.split_once("\nKernels\n").unwrap_or_else(|| panic!("{name}: {said}")).1;
        let forms: Vec<&str> = kernels.lines().skip(1).filter_map(|l| l.split_whitespace().next()).collect();
        for form in *wanted {
            let found = form.split('|').any(|f| forms.contains(&f));
            assert!(found, "{name} has no {form} at {n}:\n{said}");
        }
        // The channel matrices of M2-BERT are blocks, and the patches of a mixer meet a weight; Fourier factors are small
        // matrices.
        let weighs = ["m2_bert", "mlp_mixer", "fnet"].contains(name);
        assert!(weighs || !forms.contains(&FALLBACK), "{name} falls back to a dense matrix:\n{said}");
    }
}
