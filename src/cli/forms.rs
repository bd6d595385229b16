//! `mixc forms`: the catalogue of operations, from their own definitions, and of the algorithms.

use super::Format;
use clap::Args;
use mixc::Error;
use mixc::ir::op::{Group, Op};

/// Arguments.
#[derive(Args, Debug)]
pub struct Forms {
    /// One operation or form in full
    name: Option<String>,
    /// How the catalogue is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Prints the catalogue.
pub fn run(c: &Forms) -> Result<(), Error> {
    match &c.name {
        Some(name) => one(name, c.format),
        None => all(c.format),
    }
}

fn one(name: &str, format: Format) -> Result<(), Error> {
    // An operator and the algorithm for it may have one name.
    let form = mixc::forms().iter().find(|(f, _)| *f == name);
    if let Some(op) = mixc::ir::ops::find(name) {
        if format == Format::Json {
            let mut value = describe(op);
            if let Some((form, doc)) = form {
                value["form"] = serde_json::json!({ "form": form, "doc": doc });
            }
            println!("{value}");
            return Ok(());
        }
        println!("{} {}{}\n", op.name, op.signature(), attrs(op));
        println!("{}\n", wrap(op.doc));
        for a in op.attrs {
            println!("  {{{}}}  {}", a.name, a.doc);
        }
        println!("\n{}", op.example.trim_end());
        if let Some((form, doc)) = form {
            println!("\nform {form}: {doc}");
        }
        return Ok(());
    }
    if let Some((form, doc)) = form {
        match format {
            Format::Json => println!("{}", serde_json::json!({ "form": form, "doc": doc })),
            _ => println!("{form}: {doc}"),
        }
        return Ok(());
    }
    let mut known: Vec<&str> = mixc::ir::ops::all().map(|o| o.name).collect();
    known.extend(mixc::forms().iter().map(|(f, _)| *f));
    let help = match mixc::ir::op::nearest(name, &known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`mixc forms` lists them".to_string(),
    };
    Err(Error::Usage(format!("no operation or form `{name}`; {help}")))
}

fn all(format: Format) -> Result<(), Error> {
    if format == Format::Json {
        let ops: Vec<_> = mixc::ir::ops::all().map(describe).collect();
        let forms: Vec<_> = mixc::forms().iter().map(|(f, d)| serde_json::json!({ "form": f, "doc": d })).collect();
        println!("{}", serde_json::json!({ "operations": ops, "forms": forms }));
        return Ok(());
    }
    for (group, heading) in
        [(Group::Layer, "Layers"), (Group::Operator, "Mixing operators"), (Group::Tensor, "Tensor operations")]
    {
        println!("{heading}");
        for op in mixc::ir::ops::all().filter(|o| o.group == group) {
            println!("  {} {}{}", op.name, op.signature(), attrs(op));
        }
        println!();
    }
    println!("Forms (how mixing and the rest is computed)");
    for (form, doc) in mixc::forms() {
        println!("  {form}: {doc}");
    }
    println!("\n`mixc forms NAME` prints one in full, with an example.");
    Ok(())
}

fn attrs(op: &Op) -> String {
    let names: Vec<&str> = op.attrs.iter().map(|a| a.name).collect();
    if names.is_empty() { String::new() } else { format!(" {{{}}}", names.join(", ")) }
}

fn describe(op: &Op) -> serde_json::Value {
    let group = match op.group {
        Group::Operator => "operator",
        Group::Layer => "layer",
        Group::Tensor => "tensor",
    };
    let attrs: Vec<_> =
        op.attrs.iter().map(|a| serde_json::json!({ "name": a.name, "required": a.required, "doc": a.doc })).collect();
    let operands: Vec<_> =
        op.operands.iter().map(|o| serde_json::json!({ "name": o.name, "optional": o.optional })).collect();
    serde_json::json!({
        "name": op.name, "group": group, "doc": op.doc, "operands": operands, "attrs": attrs, "example": op.example,
    })
}

/// Text in lines of at most 100 characters.
fn wrap(text: &str) -> String {
    let mut out = String::new();
    let mut line = 0;
    for word in text.split_whitespace() {
        if line > 0 && line + 1 + word.len() > 100 {
            out.push('\n');
            line = 0;
        } else if line > 0 {
            out.push(' ');
            line += 1;
        }
        out.push_str(word);
        line += word.len();
    }
    out
}
