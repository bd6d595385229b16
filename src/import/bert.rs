//! BERT encoders (Devlin et al., arXiv 1810.04805): learned positions, post-norm, erf GELU, padding masked.
//!
//! Inputs `input_ids`, `attention_mask`, `token_type_ids` i64 `[B, T]`; result the last hidden state `[B, T, width]`. A
//! pooler or other heads in the files are not used.

use super::hf::Config;
use std::fmt::Write;

/// Layers at most: ten times what is in use, and few enough to write the text of.
const MOST_LAYERS: u64 = 1000;

/// The text after the `weights` line.
pub fn text(c: &mut Config<'_>) -> String {
    let (width, heads, layers) = (c.int("hidden_size"), c.int("num_attention_heads"), c.int("num_hidden_layers"));
    let (inner, vocabulary, positions) =
        (c.int("intermediate_size"), c.int("vocab_size"), c.int("max_position_embeddings"));
    let types = c.int("type_vocab_size");
    let eps = c.real("layer_norm_eps", 1e-12);
    let gelu = match c.word("hidden_act", &["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu"]).as_str() {
        "gelu" => "gelu %u",
        "relu" => "relu %u",
        "silu" => "silu %u",
        _ => "gelu %u {tanh}",
    };
    c.word("position_embedding_type", &["absolute"]);
    c.must_be_off("is_decoder");
    c.must_be_off("add_cross_attention");
    if width % heads != 0 {
        c.problem(format!("hidden_size {width} is not a multiple of num_attention_heads {heads}"), "");
    }
    let root = c.prefix(&["", "bert.", "model.", "encoder.bert."], "embeddings.word_embeddings.weight");
    let mut out = String::new();
    let w = &mut out;
    // `write!` to a String cannot fail.
    let _ = writeln!(w, "dim B = 1..1024\ndim T = 1..{positions}\n");
    layer(w, width, heads, inner, eps, gelu);
    let _ = writeln!(
        w,
        "func @main(%input_ids: i64[B, T], %attention_mask: i64[B, T], %token_type_ids: i64[B, T]) -> f32[B, T, {width}] {{"
    );
    let e = format!("{root}embeddings.");
    w.push_str(&c.weight("words", &format!("{e}word_embeddings.weight"), &[vocabulary, width]));
    w.push_str(&c.weight("positions", &format!("{e}position_embeddings.weight"), &[positions, width]));
    w.push_str(&c.weight("types", &format!("{e}token_type_embeddings.weight"), &[types, width]));
    for (value, name) in [("gain", "LayerNorm.weight"), ("bias", "LayerNorm.bias")] {
        let name = stored_name(c, format!("{e}{name}"));
        w.push_str(&c.weight(value, &name, &[width]));
    }
    let _ = write!(
        w,
        "  %word = gather %words, %input_ids
  %type = gather %types, %token_type_ids
  %place = slice %positions {{axis = 0, end = T}}
  %sum = add %word, %type
  %embedded = add %sum, %place
  %x0 = layer_norm %embedded, %gain, %bias {{eps = {eps:e}}}
  const %zero = splat 0 : i64[]
  %keep = ne %attention_mask, %zero
  %seen = reshape %keep {{shape = [B, 1, 1, T]}}
"
    );
    for n in 0..layers {
        let p = format!("{root}encoder.layer.{n}.");
        if c.has_none_below(&p) {
            // One problem, however many layers a damaged configuration speaks of.
            c.problem(format!("num_hidden_layers is {layers}, but the files hold nothing of layer {n}"), "");
            break;
        }
        if n >= MOST_LAYERS {
            c.problem(format!("num_hidden_layers is {layers}; at most {MOST_LAYERS} are supported"), "");
            break;
        }
        let mut names = Vec::new();
        for (short, name, shape) in parts(width, inner) {
            let value = format!("l{n}.{short}");
            let name = stored_name(c, format!("{p}{name}"));
            w.push_str(&c.weight(&value, &name, &shape));
            names.push(format!("%{value}"));
        }
        let _ = writeln!(w, "  %x{} = call @layer(%x{n}, %seen, {})", n + 1, names.join(", "));
    }
    let _ = writeln!(w, "  return %x{layers}\n}}");
    out
}

/// The name under which a weight of a norm is stored: checkpoints converted from the first release call the gain `gamma`
/// and the bias `beta`.
fn stored_name(c: &Config<'_>, name: String) -> String {
    let older = match name.strip_suffix("LayerNorm.weight").zip(Some("gamma")) {
        None => name.strip_suffix("LayerNorm.bias").zip(Some("beta")),
        found => found,
    };
    match older.map(|(prefix, word)| format!("{prefix}LayerNorm.{word}")) {
        Some(older) if !c.is_stored(&name) && c.is_stored(&older) => older,
        _ => name,
    }
}

/// A layer's weights: name in the IR, name in the files, shape.
fn parts(width: u64, inner: u64) -> Vec<(&'static str, &'static str, Vec<u64>)> {
    vec![
        ("wq", "attention.self.query.weight", vec![width, width]),
        ("bq", "attention.self.query.bias", vec![width]),
        ("wk", "attention.self.key.weight", vec![width, width]),
        ("bk", "attention.self.key.bias", vec![width]),
        ("wv", "attention.self.value.weight", vec![width, width]),
        ("bv", "attention.self.value.bias", vec![width]),
        ("wo", "attention.output.dense.weight", vec![width, width]),
        ("bo", "attention.output.dense.bias", vec![width]),
        ("g1", "attention.output.LayerNorm.weight", vec![width]),
        ("b1", "attention.output.LayerNorm.bias", vec![width]),
        ("wu", "intermediate.dense.weight", vec![inner, width]),
        ("bu", "intermediate.dense.bias", vec![inner]),
        ("wd", "output.dense.weight", vec![width, inner]),
        ("bd", "output.dense.bias", vec![width]),
        ("g2", "output.LayerNorm.weight", vec![width]),
        ("b2", "output.LayerNorm.bias", vec![width]),
    ]
}

fn layer(w: &mut String, width: u64, heads: u64, inner: u64, eps: f64, gelu: &str) {
    let params: Vec<String> = parts(width, inner)
        .into_iter()
        .map(|(short, _, shape)| {
            let dims: Vec<String> = shape.iter().map(u64::to_string).collect();
            format!("%{short}: f32[{}]", dims.join(", "))
        })
        .collect();
    let _ = write!(
        w,
        "func @layer(%x: f32[B, T, {width}], %seen: bool[B, 1, 1, T], {}) -> f32[B, T, {width}] {{
  %q0 = linear %x, %wq, %bq
  %k0 = linear %x, %wk, %bk
  %v0 = linear %x, %wv, %bv
  %q = split_heads %q0 {{heads = {heads}}}
  %k = split_heads %k0 {{heads = {heads}}}
  %v = split_heads %v0 {{heads = {heads}}}
  %a = attention %q, %k, %v, %seen
  %m = merge_heads %a
  %o = linear %m, %wo, %bo
  %r1 = add %o, %x
  %n1 = layer_norm %r1, %g1, %b1 {{eps = {eps:e}}}
  %u = linear %n1, %wu, %bu
  %h = {gelu}
  %d = linear %h, %wd, %bd
  %r2 = add %d, %n1
  %n2 = layer_norm %r2, %g2, %b2 {{eps = {eps:e}}}
  return %n2
}}

",
        params.join(", ")
    );
}
