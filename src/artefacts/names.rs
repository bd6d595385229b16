//! Names of a model's dims, inputs and results in C, C++ and Rust: one set for all, so that a caller reads the same names
//! in every language.

use mixc_backends::cpu::abi::Interface;

/// Words that one of the languages, or the generated text around the names, has for itself.
const TAKEN: &str = "\
    alignas alignof and asm auto bitand bitor bool break case catch char class compl const constexpr continue decltype \
    default delete do double else enum explicit export extern false float for friend goto if inline int long mutable \
    namespace new noexcept not nullptr operator or private protected public register restrict return short signed sizeof \
    static struct switch template this throw true try typedef typeid typename union unsigned using virtual void volatile \
    wchar_t while xor linux unix errno NULL EOF SIZE_MAX size_t int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t \
    uint64_t mixc_blob mixc_parallel mixc_code \
    abstract as async await become box crate dyn final fn gen impl in let loop macro match mod move mut override priv pub \
    ref self Self super trait type unsafe unsized use where yield None Some Ok Err Option Result Error Parallel Dims Weights \
    d dims weights workspace workspace_bytes par parallel bytes owner table run bind check BAD_LENGTH NO_MEMORY";

/// The name of a Rust crate's library: the model's, unless it is a word of the language.
pub fn library(model: &str) -> String {
    free(model, &[])
}

/// The fields of the dims, in order.
pub fn dims(i: &Interface) -> Vec<String> {
    all(i.dims.iter().map(|d| &**d))
}

/// The field of one dim.
pub fn field(i: &Interface, dim: &str) -> String {
    i.dims.iter().zip(dims(i)).find(|(d, _)| ***d == *dim).map_or(dim.to_string(), |(_, f)| f)
}

/// The inputs, and the results `out0`, `out1`, ...
pub fn arguments(i: &Interface) -> (Vec<String>, Vec<String>) {
    let params = all(i.params.iter().map(|a| a.name.as_str()));
    (params, (0..i.results.len()).map(|k| format!("out{k}")).collect())
}

fn all<'n>(names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let mut given = Vec::new();
    for name in names {
        let name = free(name, &given);
        given.push(name);
    }
    given
}

/// Dots become underscores; a name that is taken gets underscores behind it until it is not.
fn free(name: &str, given: &[String]) -> String {
    let mut name = name.replace('.', "_");
    while is_taken(&name) || given.contains(&name) {
        name.push('_');
    }
    name
}

fn is_taken(name: &str) -> bool {
    let is_result = name.strip_prefix("out").is_some_and(|k| !k.is_empty() && k.bytes().all(|b| b.is_ascii_digit()));
    // `_` alone, and names with two underscores in C++, belong to the languages.
    is_result || name.bytes().all(|b| b == b'_') && name.len() < 2 || TAKEN.split_whitespace().any(|word| word == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_free_and_different() {
        let names = ["int", "int_", "x.y", "x_y", "out", "out0", "output", "match", "dims", "_", "x", "bytes"];
        let expected =
            ["int_", "int__", "x_y", "x_y_", "out", "out0_", "output", "match_", "dims_", "__", "x", "bytes_"];
        assert_eq!(all(names.into_iter()), expected);
    }
}
