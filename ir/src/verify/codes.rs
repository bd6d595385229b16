//! Every diagnostic code: what it means, and something wrong that shows it. One table, which the tests go through and
//! the documentation is made of.

/// A code of the table.
pub struct Code {
    /// `E` and four digits.
    pub code: &'static str,
    /// What is wrong, in general.
    pub meaning: &'static str,
    /// Input that is wrong in this way and, as far as possible, in no other.
    pub example: Example,
}

/// Wrong input.
pub enum Example {
    /// A source text.
    Text(&'static str),
    /// A source text too long to be written here.
    Long(fn() -> String),
    /// Bytes in place of a source text.
    Bytes(&'static [u8]),
    /// A source text and a weight file (header, bytes behind it) that do not fit each other, or a broken weight file.
    Weights(&'static str, &'static str, usize),
    /// An index of weight files, in a directory without any.
    Index(&'static str),
}

use Example::{Bytes, Index, Long, Text, Weights};

const fn code(code: &'static str, meaning: &'static str, example: Example) -> Code {
    Code { code, meaning, example }
}

/// A program with one weight, for the examples of weight files.
const ONE_WEIGHT: &str =
    "func @main(%x: f32[2]) -> f32[2] {\n  const %w = weight \"w\" : f32[2]\n  %y = add %x, %w\n  return %y\n}\n";

/// All codes, in order.
pub static CODES: &[Code] = &[
    // 0: the text
    code("E0001", "characters that mean nothing", Text("func @f(%x: f32[2]) -> f32[2] {\n  $ return %x\n}\n")),
    code(
        "E0002",
        "a string without end",
        Text("weights \"a.safetensors\nfunc @f(%x: f32[2]) -> f32[2] {\n  return %x\n}\n"),
    ),
    code(
        "E0003",
        "an escape that means nothing",
        Text("weights \"a\\q\"\nfunc @f(%x: f32[2]) -> f32[2] {\n  return %x\n}\n"),
    ),
    code(
        "E0004",
        "a number that is none, or is out of range",
        Text("func @f(%x: f32[9999999999999999999]) -> f32[2] {\n  return %x\n}\n"),
    ),
    code("E0005", "something else is expected here", Text("func @f(%x f32[2]) -> f32[2] {\n  return %x\n}\n")),
    code("E0006", "a body that is not closed", Text("func @f(%x: f32[2]) -> f32[2] {\n  return %x\n")),
    code("E0007", "nesting too deep", Long(|| format!("dim T = {}1\n", "(".repeat(1000)))),
    code("E0008", "a file too large", Long(|| " ".repeat(crate::text::limits::MAX_FILE_BYTES + 1))),
    code("E0009", "bytes that are no text", Bytes(b"ir 1 // \xff\n")),
    code("E0010", "an unknown version of the format", Text("ir 2\nfunc @f(%x: f32[2]) -> f32[2] {\n  return %x\n}\n")),
    code(
        "E0011",
        "`ir` elsewhere than at the start",
        Text("dim T = 1..2\nir 1\nfunc @f(%x: f32[T]) -> f32[T] {\n  return %x\n}\n"),
    ),
    // 1: names and calls
    code("E0101", "a value that is not defined", Text("func @f(%x: f32[2]) -> f32[2] {\n  return %y\n}\n")),
    code(
        "E0102",
        "a value that is defined twice",
        Text("func @f(%x: f32[2]) -> f32[2] {\n  %x = add %x, %x\n  return %x\n}\n"),
    ),
    code("E0103", "an unknown operation", Text("func @f(%x: f32[2]) -> f32[2] {\n  %y = ad %x, %x\n  return %y\n}\n")),
    code("E0104", "an unknown function", Text("func @f(%x: f32[2]) -> f32[2] {\n  %y = call @g(%x)\n  return %y\n}\n")),
    code(
        "E0105",
        "too many or too few operands",
        Text("func @f(%x: f32[2]) -> f32[2] {\n  %y = add %x\n  return %y\n}\n"),
    ),
    code("E0106", "no entry function", Text("ir 1\n")),
    code(
        "E0107",
        "another number of results than there are names or types",
        Text("func @f(%x: f32[2]) -> f32[2] {\n  %y, %z = add %x, %x\n  return %x\n}\n"),
    ),
    code("E0108", "recursion", Text("func @f(%x: f32[2]) -> f32[2] {\n  %y = call @f(%x)\n  return %y\n}\n")),
    code(
        "E0109",
        "a function that is defined twice",
        Text(
            "func @main(%x: f32[2]) -> f32[2] {\n  return %x\n}\nfunc @main(%x: f32[2]) -> f32[2] {\n  return %x\n}\n",
        ),
    ),
    code(
        "E0110",
        "another number of arguments than there are parameters",
        Text(
            "func @main(%x: f32[2]) -> f32[2] {\n  %y = call @g(%x, %x)\n  return %y\n}\nfunc @g(%x: f32[2]) -> f32[2] {\n  return %x\n}\n",
        ),
    ),
    code(
        "E0111",
        "no `return`, or something after it",
        Text("func @f(%x: f32[2]) -> f32[2] {\n  %y = add %x, %x\n}\n"),
    ),
    code(
        "E0112",
        "another number of values returned than there are result types",
        Text("func @f(%x: f32[2]) -> f32[2] {\n  return %x, %x\n}\n"),
    ),
    // 2: types and shapes
    code(
        "E0201",
        "a call whose parts do not fit each other",
        Text("func @f(%x: f32[2]) -> f32[2] {\n  %y = iota : i64[2, 2]\n  return %x\n}\n"),
    ),
    code(
        "E0202",
        "an operand of the wrong type or shape",
        Text("func @f(%x: f32[2], %y: f32[3]) -> f32[2] {\n  %z = add %x, %y\n  return %z\n}\n"),
    ),
    code(
        "E0203",
        "a result type that is wrong or missing",
        Text("func @f(%x: f32[2]) -> f32[2] {\n  %y = add %x, %x : f32[3]\n  return %y\n}\n"),
    ),
    code(
        "E0204",
        "an argument of another type than the parameter",
        Text(
            "func @main(%x: f32[2]) -> f32[3] {\n  %y = call @g(%x)\n  return %y\n}\nfunc @g(%x: f32[3]) -> f32[3] {\n  return %x\n}\n",
        ),
    ),
    code(
        "E0205",
        "a returned value of another type than the function's result",
        Text("func @f(%x: f32[2]) -> f32[3] {\n  return %x\n}\n"),
    ),
    code(
        "E0206",
        "an operator as parameter or result of the entry",
        Text("func @f(%x: f32[2, 2]) -> mix f32[2, 2] {\n  %y = gram %x, %x\n  return %y\n}\n"),
    ),
    code("E0207", "an unknown element type", Text("func @f(%x: f31[2]) -> f32[2] {\n  return %x\n}\n")),
    code(
        "E0208",
        "a constant that cannot be one of its type",
        Text("dim T = 1..8\nfunc @f(%x: f32[T]) -> f32[T] {\n  const %w = weight \"w\" : f32[T]\n  return %x\n}\n"),
    ),
    code(
        "E0209",
        "a literal of another shape than its type, or of none",
        Text("func @f(%x: f32[2]) -> f32[2] {\n  const %w = dense [[1, 2], [3]] : f32[2, 2]\n  return %x\n}\n"),
    ),
    code(
        "E0210",
        "a number that the element type does not hold",
        Text("func @f(%x: f32[2]) -> f32[2] {\n  const %w = splat 1e39 : f32[2]\n  return %x\n}\n"),
    ),
    // 3: attributes
    code(
        "E0301",
        "an unknown attribute",
        Text(
            "func @f(%x: f32[2, 2]) -> f32[2, 2] {\n  %m = gram %x, %x {scal = 1.0}\n  %y = apply %m, %x\n  return %y\n}\n",
        ),
    ),
    code(
        "E0302",
        "an attribute of the wrong kind",
        Text(
            "func @f(%x: f32[2, 2]) -> f32[2, 2] {\n  %m = gram %x, %x {scale}\n  %y = apply %m, %x\n  return %y\n}\n",
        ),
    ),
    code(
        "E0303",
        "an attribute whose value does not fit",
        Text("func @f(%x: f32[2]) -> f32[2] {\n  %y = reverse %x {axis = 3}\n  return %y\n}\n"),
    ),
    code("E0304", "a missing attribute", Text("func @f(%x: f32[2]) -> f32[2] {\n  %y = reverse %x\n  return %y\n}\n")),
    code(
        "E0305",
        "an attribute that is given twice",
        Text(
            "func @f(%x: f32[2, 2]) -> f32[2, 2] {\n  %m = gram %x, %x {scale = 1.0, scale = 2.0}\n  %y = apply %m, %x\n  return %y\n}\n",
        ),
    ),
    // 4: weights
    code(
        "E0401",
        "a broken weight file",
        Weights(ONE_WEIGHT, "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7),
    ),
    code("E0402", "a broken index of weight files", Index("{\"weight_map\": {\"w\": \"../elsewhere.safetensors\"}}")),
    code(
        "E0403",
        "a weight that the files do not have",
        Weights(ONE_WEIGHT, "{\"v\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8),
    ),
    code(
        "E0404",
        "a weight of another shape",
        Weights(ONE_WEIGHT, "{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4),
    ),
    code(
        "E0405",
        "a weight of another element type",
        Weights(ONE_WEIGHT, "{\"w\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[0,16]}}", 16),
    ),
    code(
        "E0406",
        "a tensor that the weight files hold twice",
        Weights(
            ONE_WEIGHT,
            "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
            16,
        ),
    ),
    // 5: dims and limits
    code("E0501", "arithmetic of dims that has no result", Text("func @f(%x: f32[3/2]) -> f32[2] {\n  return %x\n}\n")),
    code("E0502", "a dim that is not declared", Text("func @f(%x: f32[T]) -> f32[2] {\n  return %x\n}\n")),
    code(
        "E0503",
        "a dim that is declared twice",
        Text("dim T = 1..2\ndim T = 1..2\nfunc @f(%x: f32[T]) -> f32[T] {\n  return %x\n}\n"),
    ),
    code(
        "E0504",
        "bounds of a dim that are none",
        Text("dim T = 2..1\nfunc @f(%x: f32[T]) -> f32[T] {\n  return %x\n}\n"),
    ),
    code(
        "E0505",
        "a dim that does not follow from the parameters",
        Text("dim T = 1..2\nfunc @f(%x: f32[T*T]) -> f32[T*T] {\n  return %x\n}\n"),
    ),
    code(
        "E0506",
        "a value too large to be addressed",
        Text("dim T = 1..1099511627775\nfunc @f(%x: f32[T, T], %y: f32[T]) -> f32[T] {\n  return %y\n}\n"),
    ),
    code(
        "E0507",
        "an expression that is no dim",
        Text("dim T = 1..2\nfunc @f(%x: f32[T, 1.5]) -> f32[2] {\n  return %x\n}\n"),
    ),
    code(
        "E0508",
        "more of something than is allowed",
        Long(|| format!("func @f(%x: f32[{}]) -> f32[2] {{\n  return %x\n}}\n", "1, ".repeat(20))),
    ),
    code("E0509", "a program too large after inlining", Long(blow_up)),
    code(
        "E0510",
        "a length that is never 0 or more",
        Text("dim T = 1..2\nfunc @f(%x: f32[T], %y: f32[T-3]) -> f32[T] {\n  return %x\n}\n"),
    ),
];

/// Thirty functions that each call the next one twice.
fn blow_up() -> String {
    let level = |k: usize| {
        format!(
            "func @f{k}(%x: f32[2]) -> f32[2] {{\n  %y = call @f{0}(%x)\n  %z = call @f{0}(%y)\n  return %z\n}}\n",
            k + 1
        )
    };
    let levels: String = (0..30).map(level).collect();
    format!("{levels}func @f30(%x: f32[2]) -> f32[2] {{\n  return %x\n}}\n").replace("@f0(", "@main(")
}
