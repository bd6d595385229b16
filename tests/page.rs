//! `mixc explain --html`: a page for every example and every conformance case, well-formed, complete in itself, the same
//! every time.

use mixc::explain::explain;
use mixc::{Model, Request, Target};
use std::path::{Path, PathBuf};

/// The machine whose costs were measured, wherever the tests run.
fn measured() -> Target {
    Target::parse("znver4").expect("the target is known")
}

/// Elements that have no end.
const VOID: [&str; 2] = ["meta", "br"];

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// The name of a start tag's element, its attributes checked: `name="value"`, each once.
fn start_tag(tag: &str) -> Result<&str, String> {
    let (name, mut rest) = tag.split_once([' ', '\n']).unwrap_or((tag, ""));
    if !is_name(name) {
        return Err(format!("`<{tag}>` has no name"));
    }
    let mut seen: Vec<&str> = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(name);
        }
        let (attribute, after) =
            rest.split_once("=\"").ok_or_else(|| format!("`<{tag}>`: an attribute without value"))?;
        let (value, after) = after.split_once('"').ok_or_else(|| format!("`<{tag}>`: an open quotation"))?;
        if !is_name(attribute) || value.contains('<') || seen.contains(&attribute) {
            return Err(format!("`<{tag}>`: attribute `{attribute}`"));
        }
        entities(value)?;
        seen.push(attribute);
        rest = after;
    }
}

/// Every `&` begins an entity.
fn entities(text: &str) -> Result<(), String> {
    for (k, _) in text.match_indices('&') {
        let known = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
        if !known.iter().any(|e| text[k..].starts_with(e)) {
            return Err(format!("a bare `&` in `{}`", text[k..].chars().take(40).collect::<String>()));
        }
    }
    Ok(())
}

/// What is wrong with a document, if anything: elements close in the order that they were opened.
fn well_formed(html: &str) -> Result<(), String> {
    let mut rest = html.strip_prefix("<!DOCTYPE html>").ok_or("it does not begin as a document")?;
    let mut open: Vec<&str> = Vec::new();
    while let Some(at) = rest.find('<') {
        let text = &rest[..at];
        if open.last() != Some(&"style") {
            entities(text)?;
        }
        if open.is_empty() && !text.trim().is_empty() {
            return Err(format!("text outside of the document: {text}"));
        }
        let (tag, after) = rest[at + 1..].split_once('>').ok_or("a tag without end")?;
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            let last = open.pop();
            if last != Some(name) {
                return Err(format!("`</{name}>` closes {last:?}"));
            }
            continue;
        }
        let (tag, closed) = tag.strip_suffix('/').map_or((tag, false), |t| (t, true));
        let name = start_tag(tag)?;
        if !closed && !VOID.contains(&name) {
            open.push(name);
        }
    }
    match (open.last(), rest.trim()) {
        (None, "") => Ok(()),
        (Some(name), _) => Err(format!("`<{name}>` is not closed")),
        (None, rest) => Err(format!("after the end: {rest}")),
    }
}

/// Nothing is fetched and nothing runs.
fn complete_in_itself(html: &str) -> Result<(), String> {
    for outside in ["http:", "https:", "src=", "href=", "<script", "@import", "<link", "<iframe"] {
        if html.contains(outside) {
            return Err(format!("`{outside}` in the page"));
        }
    }
    Ok(())
}

fn page(path: &Path) -> Result<String, String> {
    let model = Model::load(path).map_err(|e| e.to_string())?;
    let request = Request::default();
    let stages = model.stages(&measured(), &request).map_err(|e| e.to_string())?;
    Ok(mixc::page::page(&stages, &explain(&stages, &request, "native")))
}

fn models(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        println!("skipped: there is no {}", folder.display());
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "ir"));
    paths.sort();
    paths
}

#[test]
fn every_example_and_case_gives_a_well_formed_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let conformance = std::env::var_os("MIXC_CONFORMANCE").map_or(root.join("../shared/conformance"), PathBuf::from);
    let mut count = 0;
    for folder in [root.join("examples"), root.join("examples/speed"), conformance] {
        for path in models(&folder) {
            count += 1;
            let html = page(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            well_formed(&html).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            complete_in_itself(&html).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert!(html.contains("<h2>Kernels</h2>") && html.contains("<h2>Derivation</h2>"), "{}", path.display());
        }
    }
    println!("{count} pages");
    assert!(count >= 8, "only {count} models were found");
}

#[test]
fn equal_inputs_give_equal_pages_that_show_the_parts() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/attention.ir");
    let html = page(&path).unwrap();
    assert_eq!(html, page(&path).unwrap());
    for part in ["class=\"grid\"", "softmax(", "prefers-color-scheme: dark", "class=\"bound\"", "<td>flash</td>"] {
        assert!(html.contains(part), "{part}");
    }
}

#[test]
fn markup_in_what_is_shown_stays_text() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/attention.ir");
    let model = Model::load(&path).unwrap();
    let mut stages = model.stages(&measured(), &Request::default()).unwrap();
    for value in stages.program.values.iter_mut().chain(&mut stages.rewritten.program.values) {
        value.name = format!("<b onclick='x'>&{}", value.name);
    }
    let mut e = explain(&stages, &Request::default(), "<i>\"target\"");
    e.approx.push("</style><script>".into());
    e.rules.push(mixc::explain::AppliedRule { name: "a<b".into(), exact: false, site: "&".into() });
    let html = mixc::page::page(&stages, &e);
    well_formed(&html).unwrap();
    assert!(!html.contains("<b onclick") && !html.contains("<script"));
}

#[test]
fn what_is_malformed_is_seen() {
    for bad in [
        "<html></html>",
        "<!DOCTYPE html><p>a",
        "<!DOCTYPE html><b><i></b></i>",
        "<!DOCTYPE html><p>a & b</p>",
        "<!DOCTYPE html><p class=x></p>",
        "<!DOCTYPE html><p class=\"x\" class=\"y\"></p>",
        "<!DOCTYPE html><p></p></p>",
        "<!DOCTYPE html><p title=\"a<b\"></p>",
        "<!DOCTYPE html><p></p>x",
    ] {
        assert!(well_formed(bad).is_err(), "{bad}");
    }
    assert!(well_formed("<!DOCTYPE html><p class=\"x\">a &amp; b<br></p>").is_ok());
    assert!(complete_in_itself("<img src=\"x\">").is_err());
}
