//! `edge-node passwd`: sets and removes users in a password file.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::Path;

use edge_node::access::passwords::{Passwords, edited, hash, replace};

/// As much as MQTT can carry.
const PASSWORD_BYTES_MAX: u64 = 65_535;

/// Sets the user's password, asked for twice at a terminal or read from stdin up to its end, or removes
/// the user. What was done, in words.
pub fn passwd(file: &Path, user: &str, delete: bool) -> Result<String, String> {
    let named = |e: &dyn std::fmt::Display| format!("{}: {e}", file.display());
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !delete => String::new(),
        Err(error) => return Err(named(&error)),
    };
    // A name that cannot be is told before a password is asked for.
    edited(&text, user, Some("")).map_err(|e| named(&e))?;
    let hash = match delete {
        true => None,
        false => {
            let mut salt = [0; 16];
            getrandom::fill(&mut salt).map_err(|e| format!("randomness: {e}"))?;
            let password = password().map_err(|e| format!("password: {e}"))?;
            Some(hash(&password, &salt)?)
        }
    };
    let new = edited(&text, user, hash.as_deref()).map_err(|e| named(&e))?;
    let new = new.ok_or_else(|| named(&format!("there is no user {user:?}")))?;
    // What a running node would not take is not written.
    Passwords::parse(&new).map_err(|e| named(&e))?;
    replace(file, &new).map_err(|e| named(&e))?;
    let done = if delete { "removed" } else { "set" };
    Ok(format!("{}: {user} {done}", file.display()))
}

fn password() -> io::Result<Vec<u8>> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
    let stdin = io::stdin();
    let password = if stdin.is_terminal() {
        let quiet = Quiet::begin()?;
        let first = prompt("Password: ")?;
        let second = prompt("Again: ")?;
        drop(quiet);
        if first != second {
            return Err(invalid("the two are not the same"));
        }
        first
    } else {
        let mut all = Vec::new();
        stdin
            .lock()
            .take(PASSWORD_BYTES_MAX + 2)
            .read_to_end(&mut all)?;
        without_line_end(all)
    };
    if password.is_empty() || password.len() as u64 > PASSWORD_BYTES_MAX {
        return Err(invalid("valid are 1 to 65,535 bytes"));
    }
    Ok(password)
}

fn prompt(text: &str) -> io::Result<Vec<u8>> {
    let mut err = io::stderr();
    write!(err, "{text}")?;
    err.flush()?;
    let mut line = Vec::new();
    let stdin = io::stdin().lock();
    stdin
        .take(PASSWORD_BYTES_MAX + 2)
        .read_until(b'\n', &mut line)?;
    writeln!(err)?;
    Ok(without_line_end(line))
}

fn without_line_end(mut line: Vec<u8>) -> Vec<u8> {
    if line.ends_with(b"\n") {
        line.pop();
    }
    if line.ends_with(b"\r") {
        line.pop();
    }
    line
}

/// The terminal does not show what is typed, until this is dropped.
struct Quiet(libc::termios);

#[allow(unsafe_code)] // Safety: two calls with a struct of ours; see below.
impl Quiet {
    fn begin() -> io::Result<Quiet> {
        // SAFETY: a termios is numbers and arrays of them: zeros are one.
        let mut shown: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: `shown` is a struct that the call fills in.
        if unsafe { libc::tcgetattr(libc::STDIN_FILENO, &mut shown) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut hidden = shown;
        hidden.c_lflag &= !libc::ECHO;
        Quiet::set(&hidden)?;
        Ok(Quiet(shown))
    }

    fn set(to: &libc::termios) -> io::Result<()> {
        // SAFETY: `to` is a filled-in struct that the call only reads.
        match unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSAFLUSH, to) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = Quiet::set(&self.0);
    }
}
