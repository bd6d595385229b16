//! Broken inputs made of good ones: a text is cut into tokens, which are dropped, repeated, exchanged and replaced by
//! others that have meaning; a weight file is changed in its lengths, its header and its bytes.

use mixc_ir::ops;

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 when `n` is.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.next() % n as u64) as usize }
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// Tokens that mean something somewhere.
const WORDS: [&str; 64] = [
    "ir",
    "1",
    "2",
    "weights",
    "dim",
    "func",
    "const",
    "weight",
    "splat",
    "dense",
    "call",
    "return",
    "mix",
    "_",
    "@main",
    "@f",
    "%x",
    "%y",
    "%q",
    "T",
    "P",
    "ceil",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "=",
    "+",
    "-",
    "*",
    "/",
    "..",
    "->",
    "0",
    "-1",
    "7",
    "16",
    "8192",
    "1099511627775",
    "4611686018427387904",
    "9223372036854775807",
    "-9223372036854775808",
    "99999999999999999999",
    "0.5",
    "1e308",
    "1e-320",
    "inf",
    "nan",
    "true",
    "false",
    "\"s\"",
    "\"",
    "\\",
    "\n",
    "// c\n",
    "$",
    "é",
    "\u{0}",
    "f32",
    "i64",
];

/// Text cut where the language cuts it, roughly: words with their sigils, digits, single signs, space.
fn tokens(text: &str) -> Vec<&str> {
    let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '%' | '@' | '.');
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let same = |c: char| {
            if word(first) { word(c) } else { first.is_whitespace() && c.is_whitespace() }
        };
        let end = rest.char_indices().find(|(k, c)| *k > 0 && !same(*c)).map_or(rest.len(), |(k, _)| k);
        out.push(&rest[..end]);
        rest = &rest[end..];
    }
    out
}

/// A dim expression of this depth at most.
fn dim(random: &mut Random, depth: usize) -> String {
    let inner = |random: &mut Random| dim(random, depth - 1);
    match if depth == 0 { random.below(3) } else { random.below(10) } {
        0 => "T".into(),
        1 => "P".into(),
        2 => random.below(20).to_string(),
        3 => format!("-{}", inner(random)),
        4 => format!("({})", inner(random)),
        5 => format!("ceil({}/{})", inner(random), 1 + random.below(9)),
        6 => format!("({})/{}", inner(random), 1 + random.below(9)),
        n => format!("({}){}({})", inner(random), ["+", "-", "*"][n - 7], inner(random)),
    }
}

/// A text of the corpus with a few changes.
pub fn text(random: &mut Random, corpus: &[String]) -> Vec<u8> {
    let source = random.pick(corpus).clone();
    let other = random.pick(corpus).clone();
    let mut parts: Vec<String> = tokens(&source).into_iter().map(String::from).collect();
    let foreign = tokens(&other);
    for _ in 0..1 + random.below(4) {
        let at = random.below(parts.len() + 1);
        let end = (at + random.below(6)).min(parts.len());
        match random.below(14) {
            0 => drop(parts.drain(at..end)),
            1 => {
                let copy = parts[at..end].to_vec();
                parts.splice(at..at, copy);
            }
            2 if at < parts.len() => {
                let with = random.below(parts.len());
                parts.swap(at, with);
            }
            3 | 4 if at < parts.len() => parts[at] = random.pick(&WORDS).to_string(),
            5 => parts.insert(at, random.pick(&WORDS).to_string()),
            6 | 7 if !foreign.is_empty() => {
                let from = random.below(foreign.len());
                let to = (from + random.below(30)).min(foreign.len());
                parts.splice(at..end, foreign[from..to].iter().map(|s| s.to_string()));
            }
            8 => {
                // Many of one thing: lists, nesting, chains of operators.
                let times = 1 << random.below(11);
                parts.insert(at, random.pick(&WORDS).repeat(times));
            }
            9 => {
                let names: Vec<&str> = ops::all().map(|op| op.name).collect();
                let name = random.pick(&names).to_string();
                // In the place of another operation, if one is near.
                let near = parts[at..].iter().position(|p| ops::find(p).is_some()).map_or(at, |k| at + k);
                if near < parts.len() {
                    parts[near] = name;
                }
            }
            10 => {
                // Numbers are where shapes go wrong.
                let digits = |p: &String| p.bytes().all(|b| b.is_ascii_digit());
                if let Some(near) = parts[at..].iter().position(digits) {
                    parts[at + near] = match random.below(3) {
                        0 => random.below(20).to_string(),
                        1 => random.pick(&WORDS).to_string(),
                        _ => dim(random, 3),
                    };
                }
            }
            11 => {
                // A dim in the place of every use of one symbol or number, so that shapes still fit each other.
                let dims = |p: &String| p == "T" || p == "P" || (p.len() < 4 && p.bytes().all(|b| b.is_ascii_digit()));
                if let Some(near) = parts[at..].iter().position(dims) {
                    let (old, new) = (parts[at + near].clone(), dim(random, 3));
                    // Declarations and attributes keep their numbers.
                    let mut brackets = 0usize;
                    for part in &mut parts {
                        match part.as_str() {
                            "[" => brackets += 1,
                            "]" => brackets = brackets.saturating_sub(1),
                            _ if brackets > 0 && *part == old => *part = new.clone(),
                            _ => {}
                        }
                    }
                }
            }
            12 => {
                // An attribute once more, beside itself.
                if let Some(near) = parts[at..].iter().position(|p| p == "{") {
                    let from = at + near + 1;
                    let length = parts[from..].iter().position(|p| p == "," || p == "}").unwrap_or(0);
                    let mut copy = parts[from..from + length].to_vec();
                    copy.push(", ".into());
                    parts.splice(from..from, copy);
                }
            }
            _ => {
                // An attribute that some operation has.
                let attrs: Vec<&str> = ops::all().flat_map(|op| op.attrs).map(|a| a.name).collect();
                if !attrs.is_empty() {
                    let attr = format!(" {{{} = {}}}", random.pick(&attrs), random.pick(&WORDS));
                    parts.insert(at, attr);
                }
            }
        }
    }
    let mut bytes = parts.concat().into_bytes();
    if random.below(20) == 0 && !bytes.is_empty() {
        let at = random.below(bytes.len());
        bytes[at] = random.next() as u8;
    }
    bytes
}

/// `n`, or once in a while a number near it.
fn slip(random: &mut Random, n: usize) -> usize {
    if random.below(20) == 0 { (n + random.below(9)).saturating_sub(4) } else { n }
}

/// A weight file that is right but for what was drawn wrongly: each number once in a while by a little.
fn drawn(random: &mut Random) -> Vec<u8> {
    const TYPES: [(&str, usize); 8] =
        [("F32", 4), ("BF16", 2), ("F64", 8), ("I64", 8), ("BOOL", 1), ("U8", 1), ("F8_E4M3", 1), ("I32", 4)];
    let (mut header, mut data) = (Vec::new(), 0usize);
    for k in 0..1 + random.below(5) {
        let (dtype, size) = *random.pick(&TYPES);
        let (rows, cols) = (random.below(4), 1 + random.below(6));
        let begin = slip(random, data);
        let end = slip(random, begin + rows * cols * size);
        let name = slip(random, k);
        header.push(format!(
            "\"w{name}\":{{\"dtype\":\"{dtype}\",\"shape\":[{rows},{cols}],\"data_offsets\":[{begin},{end}]}}"
        ));
        data = end;
    }
    let header = format!("{{{}}}", header.join(","));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 7);
    bytes
}

/// A weight file with a few changes, or drawn anew.
pub fn weights(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    if random.below(3) == 0 {
        return drawn(random);
    }
    let mut bytes = random.pick(corpus).clone();
    let length = bytes.first_chunk::<8>().map_or(0, |n| u64::from_le_bytes(*n)) as usize;
    let header = 8..(8 + length).min(bytes.len());
    for _ in 0..1 + random.below(3) {
        let at = header.start + random.below(header.len());
        match random.below(7) {
            0 if bytes.len() > 8 => bytes.truncate(random.below(bytes.len())),
            1 if bytes.len() >= 8 => {
                let new = match random.below(3) {
                    0 => random.next(),
                    1 => (length as u64).wrapping_add(random.below(40) as u64).wrapping_sub(20),
                    _ => u64::MAX - random.below(10) as u64,
                };
                bytes[..8].copy_from_slice(&new.to_le_bytes());
            }
            2 => bytes.extend(std::iter::repeat_n(0, random.below(40))),
            3 if at < bytes.len() => bytes[at] = random.next() as u8,
            4 if at < bytes.len() => bytes[at] = *random.pick(b"0123456789{}[],:\"-e."),
            _ => {
                // A piece of the header replaced, and the length put right again.
                let end = (at + random.below(8)).min(header.end).min(bytes.len());
                let pieces: [&[u8]; 8] =
                    [b"18446744073709551615", b"0", b"[", b"\"F32\"", b"\"a\":", b"]", b"[[[[[[[[", b"null"];
                if at <= end && at <= bytes.len() {
                    bytes.splice(at..end, random.pick(&pieces).iter().copied());
                    let now = (length + random.pick(&pieces).len()).saturating_sub(end - at);
                    if random.below(2) == 0 && bytes.len() >= 8 {
                        bytes[..8].copy_from_slice(&(now as u64).to_le_bytes());
                    }
                }
            }
        }
    }
    bytes
}
