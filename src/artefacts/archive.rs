//! Static libraries: one object with its symbol table, in the common `ar` format (System V variant), no times, no owners.

use super::exported;
use crate::Error;
use mixc_backends::cpu::abi::Interface;
use object::{Object, ObjectSection, ObjectSymbol};

/// A member's header: name, then time, owner, group, mode and size in decimal, blank-padded.
fn header(name: &str, size: usize) -> String {
    format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 644)
}

/// `libNAME.a` with the object as its only member.
pub fn library(i: &Interface, object: &[u8]) -> Result<Vec<u8>, Error> {
    let symbols = exported(i);
    let names: Vec<u8> = symbols.iter().flat_map(|s| s.bytes().chain([0])).collect();
    let table = 4 + 4 * symbols.len() + names.len();
    // A name of up to 15 characters stands in the header, a longer one in a member of long names.
    let member = format!("{}.o/", i.name);
    let long = member.len() > 16;
    let long_names = if long { format!("{member}\n") } else { String::new() };
    let even = |n: usize| n + n % 2;
    let at = 8 + 60 + even(table) + if long { 60 + even(long_names.len()) } else { 0 };
    let at = u32::try_from(at).map_err(|_| Error::Bug("the archive's symbol table is too long".into()))?;
    let mut out = b"!<arch>\n".to_vec();
    let mut part = |name: &str, bytes: &[u8]| {
        out.extend(header(name, bytes.len()).bytes());
        out.extend(bytes);
        if bytes.len() % 2 == 1 {
            out.push(b'\n');
        }
    };
    let mut index = (symbols.len() as u32).to_be_bytes().to_vec();
    index.extend(symbols.iter().flat_map(|_| at.to_be_bytes()));
    index.extend(names);
    part("/", &index);
    if long {
        part("//", long_names.as_bytes());
    }
    part(if long { "/0" } else { &member }, object);
    Ok(out)
}

/// Functions of an object with their sizes in bytes, by name.
pub fn symbols(object: &[u8]) -> Result<String, Error> {
    let file = object::File::parse(object).map_err(|e| Error::Bug(format!("the object does not parse: {e}")))?;
    let mut lines: Vec<String> = file
        .symbols()
        .filter(|s| s.kind() == object::SymbolKind::Text)
        .filter_map(|s| Some(format!("{} {} bytes", s.name().ok()?, s.size())))
        .collect();
    lines.sort();
    let code: u64 = file.sections().filter(|s| s.kind() == object::SectionKind::Text).map(|s| s.size()).sum();
    lines.push(format!("code {code} bytes\n"));
    Ok(lines.join("\n"))
}
