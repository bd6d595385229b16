//! The ways in which the same encoder may be stored.

use crate::encoder::{Encoder, batch, compiled, difference, encoder, safetensors};
use mixc::ir::dtype::DType;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::tempdir;

fn results(encoder: &Encoder, target: &str) -> Vec<f64> {
    let dir = tempdir().expect("a directory");
    encoder.write(dir.path());
    results_of(dir.path(), target)
}

fn results_of(dir: &Path, target: &str) -> Vec<f64> {
    compiled(dir, target).run(&batch(), 1).unwrap_or_else(|e| panic!("{e}"))[0].to_f64()
}

fn mask() -> Vec<f64> {
    batch()[1].to_f64()
}

#[test]
fn native_code_agrees_with_the_reference() {
    for act in ["gelu", "relu", "silu", "gelu_new"] {
        let e = encoder().with("hidden_act", act);
        let found = difference(&results(&e, "cpu"), &results(&e, "ref"), 10, &mask());
        assert!(found <= 1e-5, "{act}: {found:.1e}");
    }
}

/// The comparison itself sees a wrong weight and a wrong mask.
#[test]
fn a_changed_weight_is_seen() {
    let right = results(&encoder(), "ref");
    for name in ["embeddings.position_embeddings.weight", "encoder.layer.1.attention.self.key.weight"] {
        let mut wrong = encoder();
        let t = wrong.tensors.get_mut(name).expect("the weight");
        t.bytes[3] ^= 0x80;
        let found = difference(&results(&wrong, "cpu"), &right, 10, &mask());
        assert!(found > 1e-4, "{name}: {found:.1e}");
    }
}

#[test]
fn prefixes_and_older_names_are_the_same_model() {
    let right = results(&encoder(), "cpu");
    for prefix in ["bert.", "model."] {
        assert_eq!(results(&encoder().renamed(|n| format!("{prefix}{n}")), "cpu"), right, "{prefix}");
    }
    let older = |n: &str| {
        let n = n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        format!("bert.{n}")
    };
    assert_eq!(results(&encoder().renamed(older), "cpu"), right);
}

#[test]
fn shards_are_the_same_model() {
    let right = results(&encoder(), "cpu");
    let dir = tempdir().expect("a directory");
    let e = encoder();
    e.write_config(dir.path());
    let mut shards: BTreeMap<String, BTreeMap<_, _>> = BTreeMap::new();
    let mut map = serde_json::Map::new();
    for (k, (name, t)) in e.tensors.iter().enumerate() {
        let file = format!("model-0000{}-of-00003.safetensors", k % 3 + 1);
        map.insert(name.clone(), file.clone().into());
        shards.entry(file).or_default().insert(name.clone(), t.clone());
    }
    for (file, tensors) in &shards {
        std::fs::write(dir.path().join(file), safetensors(tensors)).expect("writing a shard");
    }
    let index = json!({ "metadata": {}, "weight_map": map });
    std::fs::write(dir.path().join("model.safetensors.index.json"), index.to_string()).expect("writing the index");
    for target in ["cpu", "ref"] {
        let found = difference(&results_of(dir.path(), target), &right, 10, &mask());
        assert!(found <= 1e-5, "{target}: {found:.1e}");
    }
    assert_eq!(results_of(dir.path(), "cpu"), right);
}

/// Whether the CUDA emulator is here; says so where it is not.
fn emulated() -> bool {
    mixc::runs_here("cuda:emu").map_err(|why| println!("skipped: {why}")).is_ok()
}

/// Half weights are widened, which is exact: the model is that of the rounded weights.
#[test]
fn half_weights_are_widened() {
    for half in [DType::F16, DType::BF16] {
        let (mut stored, mut rounded) = (encoder(), encoder());
        for t in stored.tensors.values_mut() {
            *t = t.to_tensor().to_blob(half);
        }
        for (t, halves) in rounded.tensors.values_mut().zip(stored.tensors.values()) {
            *t = halves.to_tensor().to_blob(DType::F32);
        }
        assert_eq!(results(&stored, "cpu"), results(&rounded, "cpu"), "{half}");
        assert_eq!(results(&stored, "ref"), results(&rounded, "ref"), "{half}");
        if emulated() {
            assert_eq!(results(&stored, "cuda:emu"), results(&rounded, "cuda:emu"), "{half}");
        }
    }
}

#[test]
fn every_length_up_to_the_positions_runs() {
    let dir = tempdir().expect("a directory");
    encoder().write(dir.path());
    let (native, reference) = (compiled(dir.path(), "cpu"), compiled(dir.path(), "ref"));
    let device = emulated().then(|| compiled(dir.path(), "cuda:emu"));
    for (rows, tokens) in [(1, 1), (1, 11), (5, 1), (2, 7), (3, 10)] {
        let numbers = |modulus: i64| (0..(rows * tokens) as i64).map(|k| (k * 7 + 3) % modulus).collect::<Vec<_>>();
        // One token of every row is there, at the least.
        let mask = (0..rows * tokens).map(|k| i64::from(k % tokens == 0 || k % 3 != 0)).collect();
        let inputs = [numbers(17), mask, numbers(3)].map(|x| mixc::Blob::from_i64(&[rows, tokens], &x));
        let run = |r: &mixc::Runner, threads| r.run(&inputs, threads).unwrap_or_else(|e| panic!("{e}"))[0].to_f64();
        let found = difference(&run(&native, 1), &run(&reference, 1), 10, &inputs[1].to_f64());
        assert!(found <= 1e-5, "{rows} x {tokens}: {found:.1e}");
        assert_eq!(run(&native, 2), run(&native, 1), "{rows} x {tokens}: two threads differ from one");
        if let Some(device) = &device {
            let found = difference(&run(device, 1), &run(&reference, 1), 10, &inputs[1].to_f64());
            assert!(found <= 1e-5, "{rows} x {tokens} on the emulator: {found:.1e}");
        }
    }
}

#[test]
fn calls_that_make_no_sense_are_refused() {
    let dir = tempdir().expect("a directory");
    encoder().write(dir.path());
    for target in ["cpu", "ref", "cuda:emu"] {
        if target == "cuda:emu" && !emulated() {
            continue;
        }
        let runner = compiled(dir.path(), target);
        let of = |shape: &[usize], x: i64| mixc::Blob::from_i64(shape, &vec![x; shape.iter().product()]);
        // More tokens than positions; ids outside the tables; other shapes; other types; too few inputs.
        let twelve = [0, 1, 0].map(|x| of(&[1, 12], x));
        let word = [of(&[1, 2], 17), of(&[1, 2], 1), of(&[1, 2], 0)];
        let negative = [of(&[1, 2], -1), of(&[1, 2], 1), of(&[1, 2], 0)];
        let kind = [of(&[1, 2], 0), of(&[1, 2], 1), of(&[1, 2], 3)];
        let shape = [of(&[1, 2], 0), of(&[1, 3], 1), of(&[1, 2], 0)];
        let real = [of(&[1, 2], 0), mixc::Blob::from_f32(&[1, 2], &[1.0, 1.0]), of(&[1, 2], 0)];
        for inputs in [&twelve[..], &word, &negative, &kind, &shape, &real, &twelve[..2]] {
            let result = runner.run(inputs, 1);
            assert!(matches!(result, Err(mixc::Error::Usage(_))), "{target}: {result:?}");
        }
    }
}
