//! The header of a safetensors file: eight bytes of length, JSON, then the tensors' bytes without gaps.
//!
//! Nothing in it is believed before it is compared with the bytes that are there, and no more memory is taken than the
//! header itself has bytes, times a small constant.

use super::{Stored, StoredType};
use crate::diag::Diagnostic;
use crate::text::limits::MAX_RANK;
use crate::text::{quote, shorten};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Bytes of a header. The format's own implementation stops at the same number.
const MAX_HEADER: u64 = 100_000_000;
/// Diagnostics of one file; the rest is cut.
const MAX_FOUND: usize = 100;

/// One tensor as the header describes it.
struct Entry {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    begin: u64,
    end: u64,
}

/// The tensors of the file named `file`, in the order of their bytes, or everything that is wrong with it.
pub fn read<'a>(file: &str, bytes: &'a [u8]) -> Result<Vec<(String, Stored<'a>)>, Vec<Diagnostic>> {
    let wrong = |message: String| Diagnostic::global("E0401", format!("{}: {message}", quote(file)));
    let (entries, data) = split(bytes).map_err(|message| vec![wrong(message)])?;
    let mut found = Vec::new();
    let mut tensors = Vec::new();
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|k| (entries[*k].begin, entries[*k].end));
    let mut at = 0;
    for entry in order.into_iter().map(|k| &entries[k]) {
        let mut report = |message: String| {
            if found.len() < MAX_FOUND {
                found.push(wrong(format!("tensor {} {message}", quote(&shorten(&entry.name)))));
            }
        };
        // Where the bytes are is looked at even when the type is unknown, so that one error does not cause others.
        if entry.begin < at {
            report(format!("starts at byte {}, within the one before it, which ends at {at}", entry.begin));
        } else if entry.begin > at {
            report(format!("starts at byte {}, {} bytes behind the one before it", entry.begin, entry.begin - at));
        }
        at = at.max(entry.end);
        match stored(entry, data) {
            Ok(tensor) => tensors.push((entry.name.clone(), tensor)),
            Err(message) => report(message),
        }
    }
    if found.is_empty() && at != data.len() as u64 {
        found.push(wrong(format!("{} bytes at the end belong to no tensor", data.len() as u64 - at)));
    }
    let mut names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    for pair in names.windows(2).filter(|pair| pair[0] == pair[1]).take(MAX_FOUND) {
        let message = format!("{}: tensor {} is there twice", quote(file), quote(&shorten(pair[0])));
        found.push(Diagnostic::global("E0406", message));
    }
    if found.is_empty() { Ok(tensors) } else { Err(found) }
}

/// The entries and the bytes behind the header.
fn split(bytes: &[u8]) -> Result<(Vec<Entry>, &[u8]), String> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(format!("a file of {} bytes is no safetensors file", bytes.len()));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER {
        return Err(format!("a header of {length} bytes; at most {MAX_HEADER} are read"));
    }
    if length > rest.len() as u64 {
        return Err(format!("the header should have {length} bytes, the file has {} more", rest.len()));
    }
    let (header, data) = rest.split_at(length as usize);
    let header =
        std::str::from_utf8(header).map_err(|e| format!("the header is not UTF-8 text at byte {}", e.valid_up_to()))?;
    let Entries(entries) = serde_json::from_str(header).map_err(|e| format!("the header does not parse: {e}"))?;
    Ok((entries, data))
}

/// The tensor of an entry, if its bytes are all there.
fn stored<'a>(entry: &Entry, data: &'a [u8]) -> Result<Stored<'a>, String> {
    let Some(dtype) = StoredType::parse(&entry.dtype) else {
        return Err(format!("has the unknown element type {}", quote(&shorten(&entry.dtype))));
    };
    if entry.begin > entry.end || entry.end > data.len() as u64 {
        return Err(format!("has bytes {}..{} of {}", entry.begin, entry.end, data.len()));
    }
    let elements = entry.shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
    let bits = elements.and_then(|n| n.checked_mul(dtype.bits()));
    if bits != (entry.end - entry.begin).checked_mul(8) {
        let shape = &entry.shape;
        return Err(format!("of {} and shape {shape:?} has {} bytes", entry.dtype, entry.end - entry.begin));
    }
    let shape: Option<Vec<usize>> = entry.shape.iter().map(|d| usize::try_from(*d).ok()).collect();
    let shape = shape.ok_or("is too long for this machine")?;
    Ok(Stored { dtype, shape, bytes: &data[entry.begin as usize..entry.end as usize] })
}

/// The header's map, repeated names included.
struct Entries(Vec<Entry>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Entries;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Entries, M::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<std::collections::BTreeMap<String, String>>()?;
                        continue;
                    }
                    let Description { dtype, shape, begin, end } = map.next_value()?;
                    entries.push(Entry { name, dtype, shape, begin, end });
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Map)
    }
}

struct Description {
    dtype: String,
    shape: Vec<u64>,
    begin: u64,
    end: u64,
}

impl<'de> Deserialize<'de> for Description {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Description, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Description;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("dtype, shape and data_offsets")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Description, M::Error> {
                let (mut dtype, mut shape, mut offsets) = (None, None, None);
                while let Some(key) = map.next_key::<String>()? {
                    let fresh = match key.as_str() {
                        "dtype" => dtype.replace(map.next_value::<String>()?).is_none(),
                        "shape" => shape.replace(map.next_value::<Lengths>()?.0).is_none(),
                        "data_offsets" => offsets.replace(map.next_value::<(u64, u64)>()?).is_none(),
                        _ => map.next_value::<IgnoredAny>().map(|_| true)?,
                    };
                    if !fresh {
                        return Err(M::Error::custom(format!("`{key}` is given twice")));
                    }
                }
                let missing = M::Error::missing_field;
                let (begin, end) = offsets.ok_or_else(|| missing("data_offsets"))?;
                let (dtype, shape) = (dtype.ok_or_else(|| missing("dtype"))?, shape.ok_or_else(|| missing("shape"))?);
                Ok(Description { dtype, shape, begin, end })
            }
        }
        deserializer.deserialize_map(Map)
    }
}

/// A shape of at most [`MAX_RANK`] axes.
struct Lengths(Vec<u64>);

impl<'de> Deserialize<'de> for Lengths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Lengths, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Lengths;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX_RANK} lengths")
            }
            fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Lengths, S::Error> {
                let mut lengths = Vec::new();
                while let Some(length) = seq.next_element()? {
                    if lengths.len() == MAX_RANK {
                        return Err(S::Error::invalid_length(MAX_RANK + 1, &self));
                    }
                    lengths.push(length);
                }
                Ok(Lengths(lengths))
            }
        }
        deserializer.deserialize_seq(List)
    }
}
