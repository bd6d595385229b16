//! A small random BERT encoder as a model directory.

use mixc::inputs::Random;
use mixc::ir::dtype::DType;
use mixc::{Blob, Model, Request, Runner, Target};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Width, heads, layers, width of the inner layer, words, positions, token types: odd and prime where they may be.
pub const SIZES: [usize; 7] = [10, 2, 2, 13, 17, 11, 3];

/// A model directory before it is written.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// `config.json`.
    pub config: Value,
    /// Tensors by name.
    pub tensors: BTreeMap<String, Blob>,
}

/// An encoder of [`SIZES`] with a pooler, which is not used.
pub fn encoder() -> Encoder {
    let [width, heads, layers, inner, words, positions, types] = SIZES;
    let config = json!({
        "model_type": "bert", "hidden_size": width, "num_attention_heads": heads, "num_hidden_layers": layers,
        "intermediate_size": inner, "vocab_size": words, "max_position_embeddings": positions,
        "type_vocab_size": types, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
    });
    let mut random = Random::new(7);
    let mut tensors = BTreeMap::new();
    let mut add = |name: String, shape: &[usize], middle: f64| {
        let data: Vec<f32> =
            (0..shape.iter().product()).map(|_| (middle + 0.5 * (random.uniform() * 2.0 - 1.0)) as f32).collect();
        tensors.insert(name, Blob::from_f32(shape, &data));
    };
    add("embeddings.word_embeddings.weight".into(), &[words, width], 0.0);
    add("embeddings.position_embeddings.weight".into(), &[positions, width], 0.0);
    add("embeddings.token_type_embeddings.weight".into(), &[types, width], 0.0);
    add("embeddings.LayerNorm.weight".into(), &[width], 1.0);
    add("embeddings.LayerNorm.bias".into(), &[width], 0.0);
    for n in 0..layers {
        for (name, outputs, inputs) in [
            ("attention.self.query", width, width),
            ("attention.self.key", width, width),
            ("attention.self.value", width, width),
            ("attention.output.dense", width, width),
            ("intermediate.dense", inner, width),
            ("output.dense", width, inner),
        ] {
            add(format!("encoder.layer.{n}.{name}.weight"), &[outputs, inputs], 0.0);
            add(format!("encoder.layer.{n}.{name}.bias"), &[outputs], 0.0);
        }
        for name in ["attention.output.LayerNorm", "output.LayerNorm"] {
            add(format!("encoder.layer.{n}.{name}.weight"), &[width], 1.0);
            add(format!("encoder.layer.{n}.{name}.bias"), &[width], 0.0);
        }
    }
    add("pooler.dense.weight".into(), &[width, width], 0.0);
    add("pooler.dense.bias".into(), &[width], 0.0);
    Encoder { config, tensors }
}

impl Encoder {
    /// The same with every tensor renamed.
    pub fn renamed(mut self, name: impl Fn(&str) -> String) -> Encoder {
        self.tensors = self.tensors.into_iter().map(|(n, t)| (name(&n), t)).collect();
        self
    }

    /// The same with a field of the configuration set.
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Encoder {
        self.config[field] = value.into();
        self
    }

    /// Writes the directory, the weights in one file.
    pub fn write(&self, dir: &Path) {
        self.write_config(dir);
        std::fs::write(dir.join("model.safetensors"), safetensors(&self.tensors)).expect("writing the weights");
    }

    /// Writes `config.json` alone.
    pub fn write_config(&self, dir: &Path) {
        std::fs::write(dir.join("config.json"), self.config.to_string()).expect("writing the configuration");
    }
}

/// Tensors as the bytes of a safetensors file.
pub fn safetensors(tensors: &BTreeMap<String, Blob>) -> Vec<u8> {
    let dtype = |d: DType| match d {
        DType::F16 => safetensors::Dtype::F16,
        DType::BF16 => safetensors::Dtype::BF16,
        DType::F64 => safetensors::Dtype::F64,
        _ => safetensors::Dtype::F32,
    };
    let views = tensors.iter().map(|(name, t)| {
        let view = safetensors::tensor::TensorView::new(dtype(t.dtype), t.shape.clone(), &t.bytes);
        (name.clone(), view.expect("a tensor has the bytes of its shape"))
    });
    safetensors::serialize(views, None).expect("tensors that can be written")
}

/// The imported model of a directory.
pub fn import(dir: &Path) -> Result<Model, mixc::Error> {
    let text = mixc::import::hf(dir, dir)?;
    Model::from_text(&text, "model.ir", dir, &[])
}

/// The compiled model of a directory.
pub fn compiled(dir: &Path, target: &str) -> Runner {
    let model = import(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let target = Target::parse(target).expect("a target's name");
    model.compile(&target, &Request::default()).unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
}

/// Inputs of an encoder: three rows of five tokens, one of them with padding in front, one with padding behind.
pub fn batch() -> [Blob; 3] {
    let ids = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 16, 0, 7, 9, 3];
    let mask = [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1];
    let types = [0, 0, 1, 2, 2, 1, 1, 0, 0, 0, 2, 0, 0, 1, 1];
    [ids, mask, types].map(|x| Blob::from_i64(&[3, 5], &x))
}

/// `max|y - wanted| / max|wanted|` over the rows of `wanted` (`width` values each) whose mask is not 0.
pub fn difference(y: &[f64], wanted: &[f64], width: usize, mask: &[f64]) -> f64 {
    assert_eq!((y.len(), wanted.len()), (width * mask.len(), width * mask.len()));
    let kept: Vec<usize> = (0..y.len()).filter(|k| mask[k / width] != 0.0).collect();
    let scale = kept.iter().map(|k| wanted[*k].abs()).fold(0.0, f64::max);
    // A NaN anywhere is the greatest difference of all.
    let apart = |k: &usize| if y[*k].is_nan() { f64::INFINITY } else { (y[*k] - wanted[*k]).abs() };
    kept.iter().map(apart).fold(0.0, f64::max) / scale
}
