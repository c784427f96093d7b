//! The password file: users and the argon2id hashes of their passwords.
//!
//! ```text
//! # A comment.
//! anna:$argon2id$v=19$m=7168,t=5,p=1$c2FsdHNhbHRzYWx0$...
//! ```
//! A user's name holds no `:`, `/`, `+`, `#` or control character and does not begin with `#`.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use argon2::password_hash::{Salt, SaltString};
use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version};

/// A file at most.
pub const FILE_BYTES_MAX: u64 = 8 << 20;
/// What `passwd` asks of argon2id: 7 MiB of memory and five passes, one of the settings that OWASP
/// names as equally strong. The others want more memory than a small gateway has to spare.
const MEMORY_KIB: u32 = 7 << 10;
const PASSES: u32 = 5;
/// Of a password that nobody knows, with these settings: for a file without users.
const NOBODY: &str = "$argon2id$v=19$m=7168,t=5,p=1$HYaJ9crjQXxbxms1auBJPw$FvDQEbZQpTR8ooQOSA2s8bHQu5mbs5QLtgDRfMG1aoA";
/// What a hash in the file may ask for: one is checked at a time, so this is all the memory it takes.
const MEMORY_KIB_MAX: u32 = 64 << 10;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 4;

/// Users and hashes of one file.
#[derive(Debug)]
pub struct Passwords {
    users: HashMap<String, Arc<str>>,
    /// Checked for users that are not there, so that they take as long.
    nobody: Arc<str>,
}

impl Passwords {
    /// Reads a file's text; an error names the line.
    pub fn parse(text: &str) -> Result<Passwords, String> {
        let mut users = HashMap::new();
        let mut nobody = None;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let in_line = |reason: String| format!("line {}: {reason}", number + 1);
            let (user, hash) = line
                .split_once(':')
                .ok_or_else(|| in_line("not user:hash".into()))?;
            check_user(user).map_err(in_line)?;
            check_hash(hash).map_err(in_line)?;
            let hash: Arc<str> = hash.into();
            nobody.get_or_insert_with(|| hash.clone());
            if users.insert(user.to_owned(), hash).is_some() {
                return Err(in_line(format!("the user {user:?} stands there twice")));
            }
        }
        let nobody = nobody.unwrap_or_else(|| NOBODY.into());
        Ok(Passwords { users, nobody })
    }

    /// The hash of a user's password.
    pub fn of(&self, user: &str) -> Option<&Arc<str>> {
        self.users.get(user)
    }

    /// Whether this is the user's password. Takes long, and as long for a user that is not there: the
    /// work of the first hash in the file. The hash that it was checked against comes with a yes.
    pub fn verify(&self, user: &str, password: &[u8]) -> Option<Arc<str>> {
        let known = self.users.get(user);
        let hash = known.unwrap_or(&self.nobody);
        let parsed = PasswordHash::new(hash).ok()?;
        let verified = argon2_of(&parsed)?.verify_password(password, &parsed);
        known.filter(|_| verified.is_ok()).cloned()
    }
}

fn check_user(user: &str) -> Result<(), String> {
    let is_bad = |c: char| c.is_control() || ":/+#".contains(c);
    if user.is_empty() || user.len() > 256 || user.contains(is_bad) || user != user.trim() {
        return Err(format!(
            "the user {user:?}: valid are 1 to 256 bytes without : / + # and control characters, \
             and no space at its ends"
        ));
    }
    Ok(())
}

fn check_hash(hash: &str) -> Result<(), String> {
    let valid = "set it with `edge-node passwd FILE USER`";
    let parsed = PasswordHash::new(hash).map_err(|e| format!("not a hash ({e}); {valid}"))?;
    if parsed.algorithm != Algorithm::Argon2id.ident() || parsed.hash.is_none() {
        return Err(format!("not an argon2id hash; {valid}"));
    }
    argon2_of(&parsed).map(drop).ok_or_else(|| {
        format!(
            "its parameters: valid are m to {MEMORY_KIB_MAX}, t to {PASSES_MAX}, p to {LANES_MAX} \
             and v=19; {valid}"
        )
    })
}

/// With the parameters of a hash, if they are within bounds.
fn argon2_of(hash: &PasswordHash<'_>) -> Option<Argon2<'static>> {
    let params = Params::try_from(hash).ok()?;
    let is_bounded = params.m_cost() <= MEMORY_KIB_MAX
        && params.t_cost() <= PASSES_MAX
        && params.p_cost() <= LANES_MAX
        && hash.version == Some(Version::V0x13.into());
    is_bounded.then(|| Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// A line's hash of a password.
pub fn hash(password: &[u8], salt: &[u8; 16]) -> Result<String, String> {
    let failed = |e: &dyn std::fmt::Display| format!("hashing: {e}");
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(|e| failed(&e))?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let salt = SaltString::encode_b64(salt).map_err(|e| failed(&e))?;
    let salt: Salt<'_> = salt.as_salt();
    let hash = argon2.hash_password(password, salt);
    hash.map(|hash| hash.to_string()).map_err(|e| failed(&e))
}

/// The text of a file with this user's hash set, or without the user. Other lines stay as they are.
/// `None`: there was no such user to remove.
pub fn edited(text: &str, user: &str, hash: Option<&str>) -> Result<Option<String>, String> {
    check_user(user)?;
    let is_users = |line: &&str| line.trim().split_once(':').is_some_and(|(u, _)| u == user);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = text.lines().position(|line| is_users(&line));
    match (at, hash) {
        (Some(at), Some(hash)) => lines[at] = format!("{user}:{hash}"),
        (None, Some(hash)) => lines.push(format!("{user}:{hash}")),
        (Some(at), None) => drop(lines.remove(at)),
        (None, None) => return Ok(None),
    }
    Ok(Some(lines.into_iter().map(|line| line + "\n").collect()))
}

/// Replaces a file: it has the new content or, after any failure or power cut, the old. Only its owner
/// may read it.
pub fn replace(path: &Path, content: &str) -> io::Result<()> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let new = dir.join(format!(
        ".{}.{}.new",
        name.to_string_lossy(),
        std::process::id()
    ));
    let written = (|| {
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Cheap parameters, as a file may have them.
    fn cheap(password: &str) -> String {
        let params = Params::new(8, 1, 1, None).unwrap();
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let salt = SaltString::encode_b64(&[7; 16]).unwrap();
        argon2
            .hash_password(password.as_bytes(), &salt)
            .unwrap()
            .to_string()
    }

    #[test]
    fn the_right_password_of_the_right_user_only() {
        let strong = hash(b"secret", &[9; 16]).unwrap();
        let text = format!("# users\n\n anna:{}\nbob:{strong}\n", cheap("red"));
        let passwords = Passwords::parse(&text).unwrap();
        assert_eq!(
            passwords.verify("anna", b"red").as_ref(),
            passwords.of("anna")
        );
        assert!(passwords.verify("bob", b"secret").is_some());
        for (user, password) in [
            ("anna", "secret"),
            ("anna", ""),
            ("bob", "red"),
            ("carl", "red"),
            ("", "red"),
            ("Anna", "red"),
        ] {
            assert_eq!(
                passwords.verify(user, password.as_bytes()),
                None,
                "{user} {password}"
            );
        }
    }

    /// Processor time of this thread, as Linux counts it.
    fn thread_time() -> std::time::Duration {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        let ns = text.split(' ').next().unwrap().parse().unwrap();
        std::time::Duration::from_nanos(ns)
    }

    /// Who asks for a user must not learn from the time whether there is one.
    #[test]
    fn an_unknown_user_costs_as_much_as_a_wrong_password() {
        let ours = hash(b"secret", &[9; 16]).unwrap();
        let parameters = |hash: &str| hash.rsplitn(3, '$').nth(2).unwrap().to_owned();
        assert_eq!(parameters(NOBODY), parameters(&ours));
        let passwords = Passwords::parse(&format!("anna:{ours}")).unwrap();
        let empty = Passwords::parse("").unwrap();
        // The shortest of several, by this thread's own time: other work on the machine only adds.
        let shortest = |passwords: &Passwords, user: &str| {
            let took = |_| {
                let started = thread_time();
                assert_eq!(passwords.verify(user, b"wrong"), None);
                thread_time() - started
            };
            (0..7).map(took).min().unwrap()
        };
        let wrong = shortest(&passwords, "anna");
        for unknown in [shortest(&passwords, "bob"), shortest(&empty, "anna")] {
            assert!(unknown > wrong / 2, "{unknown:?} beside {wrong:?}");
        }
    }

    #[test]
    fn damaged_lines_are_named() {
        let good = cheap("x");
        let cases = [
            ("anna".to_owned(), "user:hash"),
            ("anna:".to_owned(), "not a hash"),
            ("anna:plain text".to_owned(), "passwd"),
            (format!(":{good}"), "the user"),
            (format!("a/b:{good}"), "the user"),
            (format!("a+:{good}"), "the user"),
            (
                format!("anna:{}", good.replace("argon2id", "argon2i")),
                "argon2id",
            ),
            (
                format!("anna:{}", good.replace("m=8", "m=99999999")),
                "parameters",
            ),
            (
                format!("anna:{}", good.replace("t=1", "t=1000")),
                "parameters",
            ),
            (
                format!("anna:{}", good.replace("v=19", "v=16")),
                "parameters",
            ),
            (
                format!("anna:{}", &good[..good.rfind('$').unwrap()]),
                "argon2id",
            ),
            (format!("anna:{good}\n\nanna:{good}"), "line 3"),
        ];
        for (text, why) in cases {
            let error = Passwords::parse(&text).unwrap_err();
            assert!(
                error.contains(why) && error.contains("line "),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn a_change_leaves_other_lines_alone() {
        let text = "# all\nanna:1\n  bob:2\n";
        let set = |user, hash| edited(text, user, hash).unwrap();
        assert_eq!(set("bob", Some("3")).unwrap(), "# all\nanna:1\nbob:3\n");
        assert_eq!(
            set("carl", Some("4")).unwrap(),
            "# all\nanna:1\n  bob:2\ncarl:4\n"
        );
        assert_eq!(set("anna", None).unwrap(), "# all\n  bob:2\n");
        assert_eq!(set("carl", None), None);
        assert!(edited(text, "a:b", Some("1")).is_err());
        assert!(edited(text, "#a", Some("1")).is_err());
    }

    #[test]
    fn a_file_is_replaced_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passwords");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        replace(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
