//! x
fn main() {
    for p in std::env::args().skip(1) {
        let s = std::fs::read(&p).unwrap();
        match mixc_ir::verify::check_bytes(&s) {
            Ok(t) => {
                let text = mixc_ir::text::print_program(&t);
                match mixc_ir::verify::check(&text) {
                    Ok(_) => println!("{p}: ok {} nodes", t.nodes.len()),
                    Err(e) => println!("{p}: BAD ROUND {e:?}\n{text}"),
                }
            }
            Err(d) => println!("{}", mixc_ir::text::report::render(&p, &String::from_utf8_lossy(&s), &d, false)),
        }
    }
}
