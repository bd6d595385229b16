//! How much of anything a file may hold. Everything is checked before memory is taken or time is spent for it, so that
//! no input can make the compiler hang or exhaust the machine.

/// Bytes of a source file: far above the largest generated model (a few MiB), far below what an editor opens badly.
pub const MAX_FILE_BYTES: usize = 16 << 20;
/// Items (`dim`, `func`, ...) of a file.
pub const MAX_ITEMS: usize = 16_384;
/// Statements of a file, all functions together.
pub const MAX_STATEMENTS: usize = 200_000;
/// Parameters or results of a function.
pub const MAX_PARAMS: usize = 8192;
/// Operands, results or call arguments of a statement.
pub const MAX_OPERANDS: usize = MAX_PARAMS;
/// Attributes of a statement.
pub const MAX_ATTRS: usize = 64;
/// Entries of an attribute list, inner lists included.
pub const MAX_LIST: usize = 4096;
/// Numbers in a dense literal. More belongs into a weight file.
pub const MAX_DENSE: usize = 1 << 20;
/// Bytes of a name.
pub const MAX_NAME: usize = 256;
/// Bytes of a string, escapes resolved.
pub const MAX_STRING: usize = 4096;
/// Bytes of a string literal as written: an escape has at most ten for one (`\u{00001f}`).
pub const MAX_LITERAL: usize = 10 * MAX_STRING + 2;
/// Nesting of parentheses and brackets in an expression or literal. Parentheses around a negative are not counted: the
/// canonical text has some where others are written without, and [`MAX_OPERATORS`] bounds them.
pub const MAX_DEPTH: usize = 32;
/// Operators of an expression.
pub const MAX_OPERATORS: usize = 128;
/// Axes of a type.
pub const MAX_RANK: usize = 16;
/// `dim` items of a file.
pub const MAX_DIMS: usize = 64;
/// Bounds of a `dim` item lie below this: every element of a tensor of 2^40 tokens still has a 64-bit byte offset.
pub const MAX_BOUND: i64 = 1 << 40;
/// Elements, and bytes, of a value at the upper bounds of its dims.
pub const MAX_BYTES: i64 = 1 << 62;
/// Terms of a dim in normal form.
pub const MAX_TERMS: usize = 32;
/// Terms of the product of all dims of a type or list, before equal ones are merged.
pub const MAX_PRODUCT_TERMS: usize = 256;
/// Factors of a term of a dim.
pub const MAX_DEGREE: usize = 16;
/// Divisions within divisions in a dim.
pub const MAX_DIVISIONS: usize = 8;
/// Numbers and names in all expressions of a file.
pub const MAX_EXPRESSIONS: usize = 2_000_000;
/// Statements after all calls are inlined.
pub const MAX_INLINED: usize = 200_000;
/// Operands, expressions, eighths of dense literals, and comparisons of support regions after all calls are inlined.
pub const MAX_WORK: usize = 2_000_000;
/// Diagnostics of a file; the rest is cut.
pub const MAX_DIAGNOSTICS: usize = 1000;
