//! Stops one thread of a process and lets it go on, as a debugger does.
#![allow(unsafe_code)] // Safety: ptrace with requests that take no memory of ours, on our own child.

use std::io;

/// A stopped thread. It goes on when this is dropped.
pub struct Frozen(libc::pid_t);

/// Stops the thread of our child `pid` that is called `name`; the others go on.
pub fn freeze(pid: u32, name: &str) -> Frozen {
    let thread = find(pid, name);
    ptrace(libc::PTRACE_SEIZE, thread).unwrap();
    let frozen = Frozen(thread);
    ptrace(libc::PTRACE_INTERRUPT, thread).unwrap();
    let mut status = 0;
    // SAFETY: `status` is an integer that the call fills in.
    let stopped = unsafe { libc::waitpid(thread, &mut status, libc::__WALL) };
    assert_eq!(stopped, thread, "{}", io::Error::last_os_error());
    assert!(libc::WIFSTOPPED(status), "{status:#x}");
    frozen
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = ptrace(libc::PTRACE_DETACH, self.0);
    }
}

fn ptrace(request: libc::c_uint, thread: libc::pid_t) -> io::Result<()> {
    // SAFETY: these requests read neither address nor data: both are 0.
    match unsafe { libc::ptrace(request, thread, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn find(pid: u32, name: &str) -> libc::pid_t {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let threads = tasks.map(|task| task.unwrap().path());
    let mut named = threads.filter(|path| {
        let comm = std::fs::read_to_string(path.join("comm"));
        comm.is_ok_and(|comm| comm.trim_end() == name)
    });
    let path = named
        .next()
        .unwrap_or_else(|| panic!("no thread is called {name}"));
    path.file_name().unwrap().to_str().unwrap().parse().unwrap()
}
