//! Finding a tensor in safetensors files, in generated code: a scanner over the header's JSON that never reads outside
//! the file, whatever is in it. White space and the order of keys are free.
//!
//! A position is an address; 0 stands for "malformed".

use crate::cpu::abi::Failure;
use crate::cpu::code::Code;
use crate::cpu::functions::Library;
use crate::cpu::module::{CodeError, define_clif};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AbiParam, Value, types};
use cranelift_module::{FuncId, Linkage, Module};
use mixc_ir::dtype::DType;

/// Element types as the scanner numbers them; 0 is one that it does not know.
pub fn type_number(dtype: DType) -> i64 {
    1 + DType::ALL.iter().position(|d| *d == dtype).unwrap_or(0) as i64
}

/// The name of an element type in a safetensors header.
fn stored_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "F32",
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::F64 => "F64",
        DType::I32 => "I32",
        DType::I64 => "I64",
        DType::Bool => "BOOL",
    }
}

/// A name as it stands between the quotes of a JSON text.
pub fn json_key(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for c in name.chars() {
        match c {
            '"' => bytes.extend(b"\\\""),
            '\\' => bytes.extend(b"\\\\"),
            c if (c as u32) < 0x20 => bytes.extend(format!("\\u{:04x}", c as u32).bytes()),
            c => bytes.extend(c.to_string().bytes()),
        }
    }
    bytes
}

/// What the finder writes, in words of eight bytes: the address of the data, the number of its type.
pub mod found {
    /// Address of the first element.
    pub const DATA: i32 = 0;
    /// [`type_number`](super::type_number) of the stored type.
    pub const TYPE: i32 = 8;
}

struct Scanner {
    skip_space: FuncId,
    skip_string: FuncId,
    skip_value: FuncId,
    number: FuncId,
}

fn function(
    module: &mut dyn Module,
    library: &mut Library,
    name: &str,
    params: usize,
    body: impl FnOnce(&mut Code),
) -> Result<FuncId, CodeError> {
    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I64); params];
    signature.returns = vec![AbiParam::new(types::I64)];
    define_clif(module, name, Linkage::Local, signature, |b, module| {
        let mut f = Code::new(b, module, library);
        body(&mut f);
        f.finish()
    })
}

/// The byte at `at`, or -1 at the end.
fn peek(f: &mut Code, at: Value, end: Value) -> Value {
    let inside = f.icmp(IntCC::UnsignedLessThan, at, end);
    f.choose(inside, types::I64, |f| f.load_byte(at), |f| f.int(-1))
}

/// Leaves with "malformed" where `c` holds.
fn malformed_if(f: &mut Code, c: Value) {
    f.if_(c, |f| {
        let zero = f.int(0);
        f.return_(&[zero]);
    });
}

/// Leaves with "malformed" unless `byte` stands at `at`; the position after it.
fn expect(f: &mut Code, at: Value, end: Value, byte: u8) -> Value {
    let found = peek(f, at, end);
    let other = f.icmp_imm(IntCC::NotEqual, found, i64::from(byte));
    malformed_if(f, other);
    f.iadd_imm(at, 1)
}

/// Whether `text` (of `length` bytes, at an address) equals the bytes from `from` to `to`.
fn equals(f: &mut Code, from: Value, to: Value, text: Value, length: Value) -> Value {
    let have = f.isub(to, from);
    let same = f.icmp(IntCC::Equal, have, length);
    let result = f.var(same);
    f.if_(same, |f| {
        f.for_count(length, |f, k| {
            let (a, b) = (f.iadd(from, k), f.iadd(text, k));
            let (a, b) = (f.load_byte(a), f.load_byte(b));
            let same = f.icmp(IntCC::Equal, a, b);
            let so_far = f.get(result);
            let so_far = f.band(so_far, same);
            f.set(result, so_far);
        });
    });
    f.get(result)
}

/// Whether the bytes from `from` to `to` are this short word.
fn is_word(f: &mut Code, from: Value, to: Value, word: &str) -> Value {
    let have = f.isub(to, from);
    let same = f.icmp_imm(IntCC::Equal, have, word.len() as i64);
    f.choose(
        same,
        types::I8,
        |f| {
            let mut all = f.bool(true);
            for (k, byte) in word.bytes().enumerate() {
                let at = f.iadd_imm(from, k as i64);
                let found = f.load_byte(at);
                let here = f.icmp_imm(IntCC::Equal, found, i64::from(byte));
                all = f.band(all, here);
            }
            all
        },
        |f| f.bool(false),
    )
}

impl Scanner {
    fn define(module: &mut dyn Module, library: &mut Library) -> Result<Scanner, CodeError> {
        let skip_space = function(module, library, "mixc_skip_space", 2, |f| {
            let (at, end) = (f.param(0), f.param(1));
            let at = f.var(at);
            f.while_(
                |f| {
                    let at = f.get(at);
                    let byte = peek(f, at, end);
                    let mut space = f.bool(false);
                    for c in [b' ', b'\t', b'\n', b'\r'] {
                        let this = f.icmp_imm(IntCC::Equal, byte, i64::from(c));
                        space = f.bor(space, this);
                    }
                    space
                },
                |f| {
                    let next = f.get(at);
                    let next = f.iadd_imm(next, 1);
                    f.set(at, next);
                },
            );
            let at = f.get(at);
            f.return_(&[at]);
        })?;
        // From the byte after the opening quote to the closing one.
        let skip_string = function(module, library, "mixc_skip_string", 2, |f| {
            let (at, end) = (f.param(0), f.param(1));
            let at = f.var(at);
            f.while_(
                |f| {
                    let at = f.get(at);
                    let byte = peek(f, at, end);
                    let over = f.icmp_imm(IntCC::Equal, byte, -1);
                    malformed_if(f, over);
                    f.icmp_imm(IntCC::NotEqual, byte, i64::from(b'"'))
                },
                |f| {
                    let here = f.get(at);
                    let byte = f.load_byte(here);
                    let escape = f.icmp_imm(IntCC::Equal, byte, i64::from(b'\\'));
                    let (one, two) = (f.int(1), f.int(2));
                    let step = f.select(escape, two, one);
                    let next = f.iadd(here, step);
                    f.set(at, next);
                },
            );
            let at = f.get(at);
            f.return_(&[at]);
        })?;
        // Any value: everything up to the comma or closing bracket that ends it.
        let skip_value = function(module, library, "mixc_skip_value", 2, |f| {
            let (at, end) = (f.param(0), f.param(1));
            let at = f.var(at);
            let zero = f.int(0);
            let depth = f.var(zero);
            f.while_(
                |f| {
                    let at = f.get(at);
                    let byte = peek(f, at, end);
                    let over = f.icmp_imm(IntCC::Equal, byte, -1);
                    malformed_if(f, over);
                    let depth = f.get(depth);
                    let outside = f.icmp_imm(IntCC::Equal, depth, 0);
                    let mut ends = f.bool(false);
                    for c in [b',', b'}', b']'] {
                        let this = f.icmp_imm(IntCC::Equal, byte, i64::from(c));
                        ends = f.bor(ends, this);
                    }
                    let ends = f.band(ends, outside);
                    f.bxor_imm(ends, 1)
                },
                |f| {
                    let here = f.get(at);
                    let byte = f.load_byte(here);
                    let quote = f.icmp_imm(IntCC::Equal, byte, i64::from(b'"'));
                    f.if_else(
                        quote,
                        |f| {
                            let inside = f.iadd_imm(here, 1);
                            let close = f.call(skip_string, &[inside, end]);
                            let broken = f.icmp_imm(IntCC::Equal, close, 0);
                            malformed_if(f, broken);
                            let next = f.iadd_imm(close, 1);
                            f.set(at, next);
                        },
                        |f| {
                            for (c, change) in [(b'{', 1), (b'[', 1), (b'}', -1), (b']', -1)] {
                                let this = f.icmp_imm(IntCC::Equal, byte, i64::from(c));
                                let (step, none) = (f.int(change), f.int(0));
                                let step = f.select(this, step, none);
                                let old = f.get(depth);
                                let new = f.iadd(old, step);
                                f.set(depth, new);
                            }
                            let next = f.iadd_imm(here, 1);
                            f.set(at, next);
                        },
                    );
                },
            );
            let at = f.get(at);
            f.return_(&[at]);
        })?;
        // A number without sign, below 2^60, written to the third argument; the position after it.
        let number = function(module, library, "mixc_number", 3, |f| {
            let (at, end, into) = (f.param(0), f.param(1), f.param(2));
            let first = peek(f, at, end);
            let below = f.icmp_imm(IntCC::SignedLessThan, first, i64::from(b'0'));
            let above = f.icmp_imm(IntCC::SignedGreaterThan, first, i64::from(b'9'));
            let none = f.bor(below, above);
            malformed_if(f, none);
            let at = f.var(at);
            let zero = f.int(0);
            let value = f.var(zero);
            f.while_(
                |f| {
                    let at = f.get(at);
                    let byte = peek(f, at, end);
                    let low = f.icmp_imm(IntCC::SignedGreaterThanOrEqual, byte, i64::from(b'0'));
                    let high = f.icmp_imm(IntCC::SignedLessThanOrEqual, byte, i64::from(b'9'));
                    f.band(low, high)
                },
                |f| {
                    let here = f.get(at);
                    let byte = f.load_byte(here);
                    let digit = f.iadd_imm(byte, -i64::from(b'0'));
                    let old = f.get(value);
                    let huge = f.icmp_imm(IntCC::SignedGreaterThan, old, (1 << 60) / 10 - 1);
                    malformed_if(f, huge);
                    let tens = f.imul_imm(old, 10);
                    let new = f.iadd(tens, digit);
                    f.set(value, new);
                    let next = f.iadd_imm(here, 1);
                    f.set(at, next);
                },
            );
            let value = f.get(value);
            f.store(value, into, 0);
            let at = f.get(at);
            f.return_(&[at]);
        })?;
        Ok(Scanner { skip_space, skip_string, skip_value, number })
    }

    fn space(&self, f: &mut Code, at: Value, end: Value) -> Value {
        f.call(self.skip_space, &[at, end])
    }

    /// Calls a part that may find the text malformed.
    fn part(&self, f: &mut Code, function: FuncId, args: &[Value]) -> Value {
        let at = f.call(function, args);
        let broken = f.icmp_imm(IntCC::Equal, at, 0);
        malformed_if(f, broken);
        at
    }

    /// `"key" :` at `at`: the key's bounds and the position of the value.
    fn key(&self, f: &mut Code, at: Value, end: Value) -> (Value, Value, Value) {
        let at = self.space(f, at, end);
        let from = expect(f, at, end, b'"');
        let to = self.part(f, self.skip_string, &[from, end]);
        let at = f.iadd_imm(to, 1);
        let at = self.space(f, at, end);
        let at = expect(f, at, end, b':');
        (from, to, self.space(f, at, end))
    }

    /// The comma or closing bracket after an element: whether it was a comma, and the position after it.
    fn more(&self, f: &mut Code, at: Value, end: Value, close: u8) -> (Value, Value) {
        let at = self.space(f, at, end);
        let byte = peek(f, at, end);
        let comma = f.icmp_imm(IntCC::Equal, byte, i64::from(b','));
        let closed = f.icmp_imm(IntCC::Equal, byte, i64::from(close));
        let either = f.bor(comma, closed);
        let neither = f.bxor_imm(either, 1);
        malformed_if(f, neither);
        (comma, f.iadd_imm(at, 1))
    }

    /// A list of up to `limit` numbers at `at`, written to `into` (eight bytes each), their count to `into - 8`; the
    /// position after it. Longer lists count as `limit + 1`.
    fn numbers(&self, f: &mut Code, at: Value, end: Value, into: Value, limit: i64) -> Value {
        let zero = f.int(0);
        let count = f.var(zero);
        let at = expect(f, at, end, b'[');
        let at = self.space(f, at, end);
        let byte = peek(f, at, end);
        let empty = f.icmp_imm(IntCC::Equal, byte, i64::from(b']'));
        let after = f.iadd_imm(at, 1);
        let start = f.select(empty, after, at);
        let at = f.var(start);
        let some = f.bxor_imm(empty, 1);
        let go_on = f.var(some);
        f.while_(
            |f| f.get(go_on),
            |f| {
                let here = f.get(at);
                let here = self.space(f, here, end);
                let n = f.get(count);
                let most = f.int(limit);
                let slot = f.smin(n, most);
                let offset = f.ishl_imm(slot, 3);
                let slot = f.iadd(into, offset);
                let next = self.part(f, self.number, &[here, end, slot]);
                let n = f.iadd_imm(n, 1);
                let bound = f.int(limit + 1);
                let n = f.smin(n, bound);
                f.set(count, n);
                let (comma, next) = self.more(f, next, end, b']');
                f.set(go_on, comma);
                f.set(at, next);
            },
        );
        let count = f.get(count);
        f.store(count, into, -8);
        f.get(at)
    }
}

/// Most axes of a stored tensor.
pub const RANK: i64 = 16;

/// Words of the record that the entry scanner writes: seen keys, type, list of offsets, list of lengths.
mod record {
    pub const TYPE: i32 = 0;
    pub const OFFSETS: i64 = 16;
    pub const SHAPE: i64 = 16 + 8 * 3 + 8;
    pub const WORDS: usize = (SHAPE as usize / 8) + super::RANK as usize + 2;
}

/// Defines `fn(blobs, count, key, key length, shape, rank, element type number, result) -> code`: finds the tensor in
/// the first file that has it, checks its type (an f16 or bf16 is accepted for f32), shape and place.
pub fn define(module: &mut dyn Module, library: &mut Library) -> Result<FuncId, CodeError> {
    let scanner = Scanner::define(module, library)?;
    // `fn(at, end, record)`: an entry's object, from its opening brace.
    let entry = function(module, library, "mixc_weight_entry", 3, |f| {
        let (at, end, record) = (f.param(0), f.param(1), f.param(2));
        let unknown = f.int(0);
        f.store(unknown, record, record::TYPE);
        let (offsets, shape) = (f.iadd_imm(record, record::OFFSETS), f.iadd_imm(record, record::SHAPE));
        // Lists that do not appear have an impossible length.
        let absent = f.int(-1);
        f.store(absent, offsets, -8);
        f.store(absent, shape, -8);
        let at = expect(f, at, end, b'{');
        let at = f.var(at);
        let yes = f.bool(true);
        let go_on = f.var(yes);
        f.while_(
            |f| f.get(go_on),
            |f| {
                let here = f.get(at);
                let (from, to, value) = scanner.key(f, here, end);
                let is_type = is_word(f, from, to, "dtype");
                let is_shape = is_word(f, from, to, "shape");
                let is_offsets = is_word(f, from, to, "data_offsets");
                f.if_else(
                    is_type,
                    |f| {
                        let from = expect(f, value, end, b'"');
                        let to = scanner.part(f, scanner.skip_string, &[from, end]);
                        for dtype in DType::ALL {
                            let this = is_word(f, from, to, stored_name(dtype));
                            f.if_(this, |f| {
                                let number = f.int(type_number(dtype));
                                f.store(number, record, record::TYPE);
                            });
                        }
                        let next = f.iadd_imm(to, 1);
                        f.set(at, next);
                    },
                    |f| {
                        let list = f.bor(is_shape, is_offsets);
                        f.if_else(
                            list,
                            |f| {
                                f.if_else(
                                    is_shape,
                                    |f| {
                                        let next = scanner.numbers(f, value, end, shape, RANK);
                                        f.set(at, next);
                                    },
                                    |f| {
                                        let next = scanner.numbers(f, value, end, offsets, 2);
                                        f.set(at, next);
                                    },
                                );
                            },
                            |f| {
                                let next = scanner.part(f, scanner.skip_value, &[value, end]);
                                f.set(at, next);
                            },
                        );
                    },
                );
                let here = f.get(at);
                let (comma, next) = scanner.more(f, here, end, b'}');
                f.set(go_on, comma);
                f.set(at, next);
            },
        );
        let at = f.get(at);
        f.return_(&[at]);
    })?;
    // `fn(text, end, key, key length, record)`: 0 malformed, 1 not there, 2 found.
    let search = function(module, library, "mixc_weight_search", 5, |f| {
        let (text, end, key, length, record) = (f.param(0), f.param(1), f.param(2), f.param(3), f.param(4));
        let at = scanner.space(f, text, end);
        let at = expect(f, at, end, b'{');
        let at = scanner.space(f, at, end);
        let byte = peek(f, at, end);
        let empty = f.icmp_imm(IntCC::Equal, byte, i64::from(b'}'));
        f.if_(empty, |f| {
            let absent = f.int(1);
            f.return_(&[absent]);
        });
        let at = f.var(at);
        let yes = f.bool(true);
        let go_on = f.var(yes);
        f.while_(
            |f| f.get(go_on),
            |f| {
                let here = f.get(at);
                let (from, to, value) = scanner.key(f, here, end);
                let this = equals(f, from, to, key, length);
                f.if_(this, |f| {
                    scanner.part(f, entry, &[value, end, record]);
                    let found = f.int(2);
                    f.return_(&[found]);
                });
                let next = scanner.part(f, scanner.skip_value, &[value, end]);
                let (comma, next) = scanner.more(f, next, end, b'}');
                f.set(go_on, comma);
                f.set(at, next);
            },
        );
        let absent = f.int(1);
        f.return_(&[absent]);
    })?;
    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I64); 8];
    signature.returns = vec![AbiParam::new(types::I32)];
    define_clif(module, "mixc_find_weight", Linkage::Local, signature, |b, module| {
        let mut f = Code::new(b, module, library);
        find(&mut f, search);
        f.finish()
    })
}

fn find(f: &mut Code, search: FuncId) {
    let (blobs, count, key, length) = (f.param(0), f.param(1), f.param(2), f.param(3));
    let (shape, rank, wanted, result) = (f.param(4), f.param(5), f.param(6), f.param(7));
    let record = f.stack(record::WORDS);
    f.for_count(count, |f, k| {
        let offset = f.ishl_imm(k, 4);
        let blob = f.iadd(blobs, offset);
        let (data, size) = (f.load(types::I64, blob, 0), f.load(types::I64, blob, 8));
        let null = f.icmp_imm(IntCC::Equal, data, 0);
        f.return_if(null, Failure::Null.code());
        let short = f.icmp_imm(IntCC::UnsignedLessThan, size, 8);
        f.return_if(short, Failure::BadWeightFile.code());
        let header = f.load(types::I64, data, 0);
        let room = f.iadd_imm(size, -8);
        let long = f.icmp(IntCC::UnsignedGreaterThan, header, room);
        f.return_if(long, Failure::BadWeightFile.code());
        let text = f.iadd_imm(data, 8);
        let end = f.iadd(text, header);
        let outcome = f.call(search, &[text, end, key, length, record]);
        let broken = f.icmp_imm(IntCC::Equal, outcome, 0);
        f.return_if(broken, Failure::BadWeightFile.code());
        let found = f.icmp_imm(IntCC::Equal, outcome, 2);
        f.if_(found, |f| {
            let stored = f.load(types::I64, record, record::TYPE);
            let same = f.icmp(IntCC::Equal, stored, wanted);
            let want_f32 = f.icmp_imm(IntCC::Equal, wanted, type_number(DType::F32));
            let f16 = f.icmp_imm(IntCC::Equal, stored, type_number(DType::F16));
            let bf16 = f.icmp_imm(IntCC::Equal, stored, type_number(DType::BF16));
            let half = f.bor(f16, bf16);
            let widened = f.band(half, want_f32);
            let fine = f.bor(same, widened);
            let wrong = f.bxor_imm(fine, 1);
            f.return_if(wrong, Failure::WeightType.code());
            // The shape, and with it the number of bytes.
            let stored_rank = f.load(types::I64, record, record::SHAPE as i32 - 8);
            let other = f.icmp(IntCC::NotEqual, stored_rank, rank);
            f.return_if(other, Failure::WeightShape.code());
            let mut width = f.int(0);
            for dtype in DType::ALL {
                let this = f.icmp_imm(IntCC::Equal, stored, type_number(dtype));
                let bytes = f.int(dtype.bytes() as i64);
                width = f.select(this, bytes, width);
            }
            let bytes = f.var(width);
            f.for_count(rank, |f, axis| {
                let offset = f.ishl_imm(axis, 3);
                let want = f.iadd(shape, offset);
                let want = f.load(types::I64, want, 0);
                let have = f.iadd(record, offset);
                let have = f.load(types::I64, have, record::SHAPE as i32);
                let other = f.icmp(IntCC::NotEqual, want, have);
                f.return_if(other, Failure::WeightShape.code());
                let so_far = f.get(bytes);
                let product = f.imul(so_far, want);
                f.set(bytes, product);
            });
            let bytes = f.get(bytes);
            let offsets = f.load(types::I64, record, record::OFFSETS as i32 - 8);
            let from = f.load(types::I64, record, record::OFFSETS as i32);
            let to = f.load(types::I64, record, record::OFFSETS as i32 + 8);
            let pair = f.icmp_imm(IntCC::NotEqual, offsets, 2);
            let room = f.isub(room, header);
            let beyond = f.icmp(IntCC::UnsignedGreaterThan, to, room);
            let backwards = f.icmp(IntCC::UnsignedGreaterThan, from, to);
            let have = f.isub(to, from);
            let other = f.icmp(IntCC::NotEqual, have, bytes);
            let bad = f.bor(pair, beyond);
            let bad = f.bor(bad, backwards);
            let bad = f.bor(bad, other);
            f.return_if(bad, Failure::BadWeightFile.code());
            let at = f.iadd(end, from);
            f.store(at, result, found::DATA);
            f.store(stored, result, found::TYPE);
            let fine = f.int_of(types::I32, 0);
            f.return_(&[fine]);
        });
    });
    let missing = f.int_of(types::I32, i64::from(Failure::WeightMissing.code()));
    f.return_(&[missing]);
}
