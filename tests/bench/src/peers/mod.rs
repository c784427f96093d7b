//! The programs that are measured beside Headwater. `tests/bench/peers` brings them; one that is
//! missing is an error that says so, never a row left out.

pub mod kafka;
pub mod mqtt;

use std::path::PathBuf;

/// Where `tests/bench/peers` puts things: beside the profile's folder that this program runs in.
fn folder() -> Result<PathBuf, String> {
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let target = exe.ancestors().nth(2).ok_or("no target folder")?;
    Ok(target.join("peers"))
}

fn missing(what: &str) -> String {
    format!("{what} is missing: run tests/bench/peers first")
}
