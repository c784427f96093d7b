//! libFuzzer's way in: the target is named by FUZZ_TARGET. Built and started by `tests/fuzz/run`.
#![no_main]

use std::sync::OnceLock;

use fuzz::Target;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fn chosen() -> &'static Target {
    TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names the target");
        fuzz::target(&name).unwrap_or_else(|| panic!("there is no target {name}"))
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::check(chosen(), data);
});
