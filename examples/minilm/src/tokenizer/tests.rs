//! Token ids against those of the model's published tokenizer.
//!
//! `tokens.json` holds texts with their published ids. `vocabulary_excerpt.txt` holds, with its line number, every
//! entry of the model's vocabulary that occurs anywhere in those texts, so that each cut meets the same competitors as
//! with the whole vocabulary.

use super::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<i64>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../tests/data/tokens.json")).expect("the cases are valid JSON")
}

/// The excerpt with a filler, which no text contains, on every line that it leaves out.
fn tokenizer() -> Tokenizer {
    let excerpt = include_str!("../../tests/data/vocabulary_excerpt.txt");
    let mut lines = Vec::new();
    for entry in excerpt.lines() {
        let (number, piece) = entry.split_once(' ').expect("a number and a piece");
        let number: usize = number.parse().expect("a line number");
        lines.extend((lines.len()..number).map(|line| format!("[filler {line}]")));
        lines.push(piece.to_owned());
    }
    Tokenizer::from_lines(&lines.join("\n")).expect("the excerpt is a vocabulary")
}

#[test]
fn ids_are_those_of_the_published_tokenizer() {
    let tokenizer = tokenizer();
    for Case { text, ids } in cases() {
        assert_eq!(tokenizer.encode(&text, 512), ids, "{text:?}");
    }
}

#[test]
fn truncation_keeps_the_start_and_both_ends() {
    let tokenizer = tokenizer();
    for Case { text, ids } in cases() {
        for longest in 2..ids.len() + 2 {
            let mut expected = ids.clone();
            if longest < ids.len() {
                expected.truncate(longest - 1);
                expected.push(102);
            }
            assert_eq!(tokenizer.encode(&text, longest), expected, "{text:?} cut to {longest}");
        }
    }
    assert_eq!(tokenizer.encode("a man", 0), [101, 102]);
    assert_eq!(tokenizer.encode(&"a ".repeat(100_000), 512).len(), 512);
    assert_eq!(tokenizer.encode(&"[MASK]".repeat(10_000), 512).len(), 512);
}

#[test]
fn characters_that_separate_do_so_anywhere() {
    let tokenizer = tokenizer();
    let (man, food) = (2158, 2833);
    for separator in [" ", "\t", "\r\n", "\u{a0}", "\u{3000}", "\u{2003}"] {
        assert_eq!(
            tokenizer.encode(&format!("{separator}man{separator}{separator}food{separator}"), 9),
            [101, man, food, 102]
        );
    }
    for dropped in
        ["\0", "\u{1}", "\u{7f}", "\u{ad}", "\u{200b}", "\u{feff}", "\u{fffd}", "\u{e000}", "\u{301}", "\u{b}"]
    {
        assert_eq!(tokenizer.encode(&format!("{dropped}m{dropped}an{dropped}"), 9), [101, man, 102], "{dropped:?}");
    }
}

#[test]
fn any_text_has_ids_of_the_vocabulary() {
    let tokenizer = tokenizer();
    // xorshift64 (Marsaglia 2003): the same texts on every run
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for _ in 0..2000 {
        let length = next(130);
        let text: String = (0..length)
            .filter_map(|_| char::from_u32(next([0x80, 0x3000, 0x11_0000][length as usize % 3]) as u32))
            .collect();
        let ids = tokenizer.encode(&text, 512);
        assert_eq!((ids.first(), ids.last()), (Some(&101), Some(&102)), "{text:?}");
        assert!(
            ids.len() <= 512 && ids.iter().all(|id| tokenizer.pieces.values().any(|known| known == id)),
            "{text:?}"
        );
    }
}

#[test]
fn broken_vocabularies_are_rejected() {
    let error = |text: &str| Tokenizer::from_lines(text).unwrap_err().to_string();
    assert!(error("").contains("[PAD]"));
    assert!(error("[PAD]\n[UNK]\n[CLS]\n").contains("[SEP]"));
    assert!(error("[PAD]\na\nb\na\n").contains("line 2 and again on line 4"));
    assert!(
        Tokenizer::from_lines("[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\nx\r\n")
            .is_ok_and(|tokenizer| tokenizer.encode("X", 9) == [2, 4, 3])
    );

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vocab.txt");
    assert!(matches!(Tokenizer::load(&path), Err(VocabularyError::Unreadable(..))));
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(matches!(Tokenizer::load(&path), Err(VocabularyError::Unreadable(..))));
    File::create(&path).unwrap().set_len(LARGEST_VOCABULARY_BYTES + 1).unwrap();
    assert!(matches!(Tokenizer::load(&path), Err(VocabularyError::TooLarge(_))));
}
