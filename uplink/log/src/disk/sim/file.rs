//! An open file of a [`SimDisk`].

use std::io;
use std::sync::MutexGuard;

use super::{Crash, SimDisk, State, eio, fires, index, off};
use crate::disk::DiskFile;

pub(super) struct SimFile {
    pub disk: SimDisk,
    pub ino: u64,
    pub life: u64,
    pub writable: bool,
}

impl SimFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        state.up()?;
        if state.life == self.life {
            Ok(state)
        } else {
            Err(off())
        }
    }

    fn changing(&self) -> io::Result<MutexGuard<'_, State>> {
        if self.writable {
            self.state()
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        if state.unreadable == Some(self.ino) {
            state.counters.eio += 1;
            return Err(eio());
        }
        let live = &state.content(self.ino).live;
        let from = index(at)?.min(live.len());
        let n = buf.len().min(live.len() - from);
        buf[..n].copy_from_slice(&live[from..from + n]);
        state.counters.bytes_read += n as u64;
        Ok(n)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.changing()?;
        let at = index(at)?;
        let len = state.content(self.ino).live.len() as u64;
        state.grow(len, (at + bytes.len()) as u64)?;
        let crash = state.operation(false)?;
        let fails = fires(&mut state.fail_write);
        // A crash or an error in a write leaves half of it; a power cut may tear that further.
        let half = (crash.is_some() && crash != Some(Crash::Power)) || fails;
        let done = if half {
            &bytes[..bytes.len() / 2]
        } else {
            bytes
        };
        state.content(self.ino).write(done, at);
        state.counters.writes += 1;
        state.counters.bytes_written += done.len() as u64;
        if let Some(how) = crash {
            state.crash(how);
            return Err(off());
        }
        if fails {
            state.counters.eio += 1;
            return Err(eio());
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.content(self.ino).live.len() as u64)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.changing()?;
        let len = state.content(self.ino).live.len() as u64;
        state.grow(len, bytes)?;
        state.operation_or_crash(false)?;
        state.content(self.ino).set_len(index(bytes)?);
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let len = self.len()?;
        if len < bytes {
            self.set_len(bytes)
        } else {
            Ok(())
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.changing()?;
        state.operation_or_crash(true)?;
        state.counters.syncs += 1;
        let State {
            files,
            rng,
            counters,
            fail_sync,
            fail_sync_full,
            ..
        } = &mut *state;
        let content = files.entry(self.ino).or_default();
        if fires(fail_sync) {
            counters.eio += 1;
            content.fail_sync(rng);
            return Err(match fail_sync_full {
                true => io::ErrorKind::StorageFull.into(),
                false => eio(),
            });
        }
        content.sync();
        Ok(())
    }
}
