//! Writes the seeds of every target under `corpus/`; with `list`, prints the targets' names; with
//! `replay TARGET FILE|DIR...`, runs inputs and prints the largest costs.

use std::path::Path;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        None => write_seeds(),
        Some("list") => fuzz::TARGETS.iter().for_each(|t| println!("{}", t.name)),
        Some("replay") if args.len() > 2 => replay(&args[1], &args[2..]),
        _ => panic!("usage: corpus [list | replay TARGET FILE|DIR...]"),
    }
}

fn write_seeds() {
    for target in fuzz::TARGETS {
        let dir = fuzz::corpus::root().join(target.name);
        std::fs::create_dir_all(&dir).expect("the corpus can be written");
        for (name, bytes) in (target.seeds)() {
            let path = dir.join(format!("seed-{name}"));
            std::fs::write(&path, bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
    }
}

fn replay(name: &str, paths: &[String]) {
    let target = fuzz::target(name).unwrap_or_else(|| panic!("there is no target {name}"));
    let (mut inputs, mut most) = (0, fuzz::Cost::default());
    let mut run = |path: &Path| {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let cost = fuzz::check(target, &bytes);
        inputs += 1;
        most.peak_bytes = most.peak_bytes.max(cost.peak_bytes);
        most.time = most.time.max(cost.time);
    };
    for path in paths.iter().map(Path::new) {
        if path.is_dir() {
            for entry in std::fs::read_dir(path).expect("a readable folder") {
                run(&entry.expect("a listed entry").path());
            }
        } else {
            run(path);
        }
    }
    println!(
        "{name}: {inputs} inputs, at most {} bytes and {:?}",
        most.peak_bytes, most.time
    );
}
