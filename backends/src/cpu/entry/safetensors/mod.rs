//! Finding a tensor in safetensors files, in generated code: a scanner over the header's JSON that never reads outside
//! the file, whatever is in it. White space and the order of keys are free.
//!
//! A position is an address; 0 stands for "malformed".

mod scanner;

use crate::cpu::abi::Failure;
use crate::cpu::code::Code;
use crate::cpu::functions::Library;
use crate::cpu::module::{CodeError, define_clif};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AbiParam, types};
use cranelift_module::{FuncId, Linkage, Module};
use mixc_ir::dtype::DType;
use scanner::{Scanner, equals, expect, function, is_word, peek};

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
