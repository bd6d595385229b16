//! Programs of many layers, as text.

use mixc_ir::program::Program;
use mixc_passes::{forms, rewrite};

/// A layer: its lines from `%x{l}` to `%x{l+1}`, and the types of its weights.
type Layer = fn(usize) -> (Vec<String>, Vec<(&'static str, &'static str)>);

/// Post-norm attention and MLP, as in BERT; 64 channels, 4 heads.
fn encoder_layer(l: usize) -> (Vec<String>, Vec<(&'static str, &'static str)>) {
    let mut lines = attention(l, &format!("x{l}"), "");
    lines.extend([
        format!("%r{l} = add %x{l}, %o{l}"),
        format!("%n{l} = layer_norm %r{l}"),
        format!("%f{l} = linear %n{l}, %wf{l}, %bf{l}"),
        format!("%g{l} = gelu %f{l}"),
        format!("%h{l} = linear %g{l}, %wg{l}, %b{l}"),
        format!("%s{l} = add %n{l}, %h{l}"),
        format!("%x{} = layer_norm %s{l}", l + 1),
    ]);
    (lines, [ATTENTION, &[("wf", "256, 64"), ("bf", "256"), ("wg", "64, 256")]].concat())
}

const ATTENTION: &[(&str, &str)] =
    &[("wq", "64, 64"), ("wk", "64, 64"), ("wv", "64, 64"), ("wo", "64, 64"), ("b", "64")];

fn attention(l: usize, x: &str, mask: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for n in ["q", "k", "v"] {
        lines.push(format!("%{n}{l} = linear %{x}, %w{n}{l}, %b{l}"));
        lines.push(format!("%{n}h{l} = split_heads %{n}{l} {{heads = 4}}"));
    }
    lines.extend([
        format!("%a{l} = attention %qh{l}, %kh{l}, %vh{l} {mask}"),
        format!("%m{l} = merge_heads %a{l}"),
        format!("%o{l} = linear %m{l}, %wo{l}, %b{l}"),
    ]);
    lines
}

/// Pre-norm causal attention.
fn attention_layer(l: usize) -> (Vec<String>, Vec<(&'static str, &'static str)>) {
    let mut lines = vec![format!("%n{l} = rms_norm %x{l}")];
    lines.extend(attention(l, &format!("n{l}"), "{causal}"));
    lines.push(format!("%x{} = add %x{l}, %o{l}", l + 1));
    (lines, ATTENTION.to_vec())
}

/// Mamba-2: a short convolution, a state-space scan with one decay a head, a gate.
fn mamba2_layer(l: usize) -> (Vec<String>, Vec<(&'static str, &'static str)>) {
    let lines = vec![
        format!("%n{l} = rms_norm %x{l}"),
        format!("%i{l} = linear %n{l}, %wi{l}"),
        format!("%z{l}, %u{l}, %b{l}, %c{l}, %d{l} = split %i{l} {{axis = -1, sizes = [128, 128, 16, 16, 4]}}"),
        format!("%v{l} = short_conv %u{l}, %wc{l}, %bc{l} {{causal}}"),
        format!("%w{l} = silu %v{l}"),
        format!("%h{l} = split_heads %w{l} {{heads = 4}}"),
        format!("%e{l} = softplus %d{l}"),
        format!("%t{l} = transpose %e{l} {{perm = [1, 0]}}"),
        format!("%k{l} = exp %al{l}"),
        format!("%j{l} = neg %k{l}"),
        format!("%la{l} = mul %t{l}, %j{l}"),
        format!("%tc{l} = reshape %t{l} {{shape = [4, -1, 1]}}"),
        format!("%du{l} = mul %h{l}, %tc{l}"),
        format!("%s{l} = ssd %du{l}, %la{l}, %b{l}, %c{l}"),
        format!("%m{l} = merge_heads %s{l}"),
        format!("%g{l} = silu %z{l}"),
        format!("%p{l} = mul %m{l}, %g{l}"),
        format!("%q{l} = rms_norm %p{l}"),
        format!("%o{l} = linear %q{l}, %wo{l}"),
        format!("%x{} = add %x{l}, %o{l}", l + 1),
    ];
    (lines, vec![("wi", "292, 64"), ("wc", "128, 4"), ("bc", "128"), ("al", "4, 1"), ("wo", "64, 128")])
}

/// A gated MLP.
fn mlp_layer(l: usize) -> (Vec<String>, Vec<(&'static str, &'static str)>) {
    let lines = vec![
        format!("%n{l} = rms_norm %x{l}"),
        format!("%u{l} = linear %n{l}, %wu{l}"),
        format!("%v{l} = linear %n{l}, %wv{l}"),
        format!("%g{l} = silu %u{l}"),
        format!("%p{l} = mul %g{l}, %v{l}"),
        format!("%o{l} = linear %p{l}, %wo{l}"),
        format!("%x{} = add %x{l}, %o{l}", l + 1),
    ];
    (lines, vec![("wu", "256, 64"), ("wv", "256, 64"), ("wo", "64, 256")])
}

/// Layers of these kinds in turn, expanded for the rewriter.
fn stack(layers: usize, kinds: &[Layer]) -> Program {
    let (mut params, mut body) = (String::new(), String::new());
    for l in 0..layers {
        let (lines, weights) = kinds[l % kinds.len()](l);
        params.extend(weights.iter().map(|(n, shape)| format!(", %{n}{l}: f32[{shape}]")));
        body.extend(lines.iter().map(|line| format!("  {line}\n")));
    }
    let text = format!(
        "dim T = 1..4096\nfunc @main(%x0: f32[T, 64]{params}) -> f32[T, 64] {{\n{body}  return %x{layers}\n}}\n"
    );
    expanded(&text)
}

/// A program as the rewriter gets it.
pub fn expanded(text: &str) -> Program {
    let program = mixc_ir::verify::check(text).unwrap_or_else(|d| panic!("{text}\n{d:#?}"));
    rewrite::expand_layers(&program, &|op| forms::lowers_whole(op.name) || rewrite::is_seen_whole(op))
}

/// Equal encoder layers.
pub fn encoder(layers: usize) -> Program {
    stack(layers, &[encoder_layer])
}

/// Mamba-2, attention and MLP in turn.
pub fn hybrid(layers: usize) -> Program {
    stack(layers, &[mamba2_layer, attention_layer, mlp_layer])
}
