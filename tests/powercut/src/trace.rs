//! What a process asked of its files and sockets, read from strace's output.
//!
//! strace stops a process at the entry and at the exit of each call, so the lines' order is an order
//! in which things happened: a call has not begun before its entry, and is over at its exit.
//!
//! ```text
//! 17 pwrite64(11, "\x68\x77", 2, 4096) = 2         entry and exit at once
//! 17 fdatasync(11 <unfinished ...>                 entry
//! 18 sendto(9, "\x40\x02\x00\x01", 4, 0, NULL, 0) = 4
//! 17 <... fdatasync resumed>) = 0                  exit
//! ```

use std::collections::HashMap;

/// What strace is asked to show: everything that changes files, and what clients say and hear.
pub const CALLS: &str = "openat,open,creat,close,dup,dup2,dup3,fcntl,chdir,fchdir,write,pwrite64,writev,\
     pwritev,pwritev2,ftruncate,truncate,fallocate,rename,renameat,renameat2,link,linkat,symlink,\
     symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,fsync,fdatasync,sync_file_range,msync,mmap,\
     copy_file_range,sendfile,splice,io_uring_setup,sendto,sendmsg,sendmmsg,recvfrom,\
     accept,accept4";

/// A place in the order of all entries and exits.
pub type Moment = usize;

/// A call that succeeded or had not returned when the trace ended.
#[derive(Debug)]
pub struct Call {
    pub name: String,
    args: Vec<String>,
    pub entry: Moment,
    /// `Moment::MAX`: it never returned.
    pub exit: Moment,
    /// What it returned, 0 if it did not.
    pub returned: i64,
}

impl Call {
    /// A number among the arguments.
    pub fn number(&self, index: usize) -> Result<u64, String> {
        let text = self.text(index)?;
        text.parse()
            .map_err(|_| format!("{}: argument {index} is {text}, not a number", self.name))
    }

    /// An argument as strace shows it.
    pub fn text(&self, index: usize) -> Result<&str, String> {
        let found = self.args.get(index).map(String::as_str);
        found.ok_or_else(|| format!("{} without argument {index}", self.name))
    }

    /// All strings in an argument, one behind the other: a buffer, a path, an iovec.
    pub fn bytes(&self, index: usize) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        for quoted in self.text(index)?.split('"').skip(1).step_by(2) {
            for byte in quoted.split("\\x").skip(1) {
                let parsed = u8::from_str_radix(byte, 16);
                bytes.push(parsed.map_err(|_| format!("{}: not hex: {byte}", self.name))?);
            }
        }
        Ok(bytes)
    }

    /// A path among the arguments.
    pub fn path(&self, index: usize) -> Result<String, String> {
        String::from_utf8(self.bytes(index)?).map_err(|e| format!("{}: {e}", self.name))
    }
}

/// All calls that succeeded, in the order of their exits, and how many moments there are.
pub fn parse(text: &str) -> Result<(Vec<Call>, Moment), String> {
    let mut open: HashMap<&str, (Moment, String)> = HashMap::new();
    let mut calls = Vec::new();
    let mut moments = 0;
    for (moment, line) in text.lines().enumerate() {
        moments = moment + 1;
        let (pid, rest) = line.split_once(' ').ok_or_else(|| odd(moment, line))?;
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        if let Some(begun) = rest.strip_suffix("<unfinished ...>") {
            open.insert(pid, (moment, begun.trim_end().to_owned()));
            continue;
        }
        let (entry, whole) = match rest.strip_prefix("<... ") {
            None => (moment, rest.to_owned()),
            Some(resumed) => {
                let (_, tail) = resumed
                    .split_once("resumed>")
                    .ok_or_else(|| odd(moment, line))?;
                let (entry, begun) = open.remove(pid).ok_or_else(|| odd(moment, line))?;
                (entry, begun + tail)
            }
        };
        if let Some(call) = returned(&whole, entry, moment).ok_or_else(|| odd(moment, line))? {
            calls.push(call);
        }
    }
    let mut cut_off: Vec<_> = open.into_values().collect();
    cut_off.sort();
    for (entry, begun) in cut_off {
        let (name, args) = begun.split_once('(').ok_or_else(|| odd(entry, &begun))?;
        let (name, args) = (name.to_owned(), split(args));
        let (exit, returned) = (Moment::MAX, 0);
        calls.push(Call {
            name,
            args,
            entry,
            exit,
            returned,
        });
    }
    Ok((calls, moments))
}

/// `None` in it: the call failed.
fn returned(whole: &str, entry: Moment, exit: Moment) -> Option<Option<Call>> {
    let (name, rest) = whole.split_once('(')?;
    // Strings are shown in hex: the first `) = ` ends the arguments.
    let mut ends = rest.match_indices(')').map(|(at, _)| rest.split_at(at));
    let (args, result) = ends.find_map(|(args, tail)| {
        let result = tail[1..].trim_start().strip_prefix("= ")?;
        Some((args, result))
    })?;
    let result = result.split_whitespace().next()?;
    let returned: i64 = match result.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok()?,
        None if result == "?" => return Some(None),
        None => result.parse().ok()?,
    };
    if returned < 0 {
        return Some(None);
    }
    let (name, args) = (name.to_owned(), split(args));
    Some(Some(Call {
        name,
        args,
        entry,
        exit,
        returned,
    }))
}

/// Arguments at commas that stand outside of brackets.
fn split(args: &str) -> Vec<String> {
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for c in args.chars() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            _ => {}
        }
        match c {
            ',' if depth == 0 => parts.push(String::new()),
            c => parts.last_mut().expect("it starts with one").push(c),
        }
    }
    parts
        .into_iter()
        .map(|part| part.trim().to_owned())
        .collect()
}

fn odd(moment: Moment, line: &str) -> String {
    let shown: String = line.chars().take(120).collect();
    format!(
        "line {} of the trace is not understood: {shown}",
        moment + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_overlap_keep_their_entry_and_exit() {
        let text = "7 pwrite64(11, \"\\x68\\x77\", 2, 4096) = 2\n\
                    7 fdatasync(11 <unfinished ...>\n\
                    8 writev(9, [{iov_base=\"\\x40\\x02\", iov_len=2}, {iov_base=\"\\x00\", iov_len=1}], 2) = 3\n\
                    8 mkdir(\"\\x61\", 0777) = -1 EEXIST (File exists)\n\
                    7 <... fdatasync resumed>)          = 0\n\
                    8 fsync(3 <unfinished ...>\n";
        let (calls, moments) = parse(text).expect("this is how strace writes");
        assert_eq!(moments, 6);
        let seen: Vec<_> = calls
            .iter()
            .map(|c| (c.name.as_str(), c.entry, c.exit))
            .collect();
        let expected = [
            ("pwrite64", 0, 0),
            ("writev", 2, 2),
            ("fdatasync", 1, 4),
            ("fsync", 5, Moment::MAX),
        ];
        assert_eq!(seen, expected);
        assert_eq!(calls[0].bytes(1), Ok(b"hw".to_vec()));
        assert_eq!(calls[0].number(3), Ok(4096));
        assert_eq!(calls[1].bytes(1), Ok(vec![0x40, 2, 0]));
        assert!(parse("7 what is this").is_err());
    }
}
