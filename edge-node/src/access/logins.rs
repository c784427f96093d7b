//! Checking passwords, which takes long by design, beside the event loop.
//!
//! # Bounds
//! - One thread checks one password at a time: memory for one hash, and at most one core.
//! - [`WAITING_MAX`] logins wait, [`WAITING_OF_ONE_MAX`] of one address; more are told that the server is
//!   busy. So a flood from one address keeps no other out.
//! - A password that was good is good again without the work, as long as its line in the file is the
//!   same: clients that all come back after an outage need not wait for each other. Remembered is a
//!   keyed hash of it, one for each user.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use headwater_mqtt::ConnId;
use ring::hmac;
use tokio::sync::mpsc;

use super::passwords::Passwords;

/// See the module's docs.
pub const WAITING_MAX: usize = 64;
/// See the module's docs.
pub const WAITING_OF_ONE_MAX: usize = 16;
const STACK_BYTES: usize = 256 << 10;

/// A user that showed the password of this line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The user's name.
    pub user: String,
    /// The hash that the password fits.
    pub hash: Arc<str>,
}

/// What is known of a login at once.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is good.
    Good(Proof),
    /// An [`Answer`] comes.
    Later,
    /// Too many wait.
    Busy,
}

/// What a login came to.
#[derive(Debug)]
pub struct Answer {
    /// Whose login.
    pub conn: ConnId,
    /// `None`: refused.
    pub proof: Option<Proof>,
    remote: IpAddr,
    tag: hmac::Tag,
}

struct Question {
    conn: ConnId,
    remote: IpAddr,
    user: String,
    password: Bytes,
    tag: hmac::Tag,
}

/// See the [module](self). Dropped, it ends its thread.
pub struct Logins {
    passwords: Arc<Mutex<Arc<Passwords>>>,
    to_worker: SyncSender<Question>,
    waiting: HashMap<IpAddr, usize>,
    key: hmac::Key,
    /// By user: the line that a password was good for, and that password's keyed hash.
    proven: HashMap<String, (Arc<str>, hmac::Tag)>,
}

impl Logins {
    /// With its thread, which sends answers.
    pub fn start(
        passwords: Arc<Passwords>,
        key: &[u8; 32],
        answers: mpsc::UnboundedSender<Answer>,
    ) -> std::io::Result<Logins> {
        let passwords = Arc::new(Mutex::new(passwords));
        let (to_worker, questions) = sync_channel(WAITING_MAX);
        let shared = passwords.clone();
        std::thread::Builder::new()
            .name("edge-logins".into())
            .stack_size(STACK_BYTES)
            .spawn(move || work(&questions, &shared, &answers))?;
        Ok(Logins {
            passwords,
            to_worker,
            waiting: HashMap::new(),
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            proven: HashMap::new(),
        })
    }

    /// Asks whether this is the user's password.
    pub fn ask(&mut self, conn: ConnId, remote: IpAddr, user: &str, password: Bytes) -> Asked {
        let shown = shown(user, &password);
        if let Some((hash, proven)) = self.proven.get(user) {
            let is_same = hmac::verify(&self.key, &shown, proven.as_ref());
            if is_same.is_ok() && self.current(user).as_ref() == Some(hash) {
                return Asked::Good(Proof {
                    user: user.to_owned(),
                    hash: hash.clone(),
                });
            }
        }
        let waiting = self.waiting.entry(remote).or_default();
        if *waiting >= WAITING_OF_ONE_MAX {
            return Asked::Busy;
        }
        let question = Question {
            conn,
            remote,
            user: user.to_owned(),
            password,
            tag: hmac::sign(&self.key, &shown),
        };
        match self.to_worker.try_send(question) {
            Ok(()) => {
                *waiting += 1;
                Asked::Later
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                if *waiting == 0 {
                    self.waiting.remove(&remote);
                }
                Asked::Busy
            }
        }
    }

    /// Takes an answer; gives the proof if it still holds.
    pub fn answered(&mut self, answer: Answer) -> Option<Proof> {
        if let Some(waiting) = self.waiting.get_mut(&answer.remote) {
            *waiting -= 1;
            if *waiting == 0 {
                self.waiting.remove(&answer.remote);
            }
        }
        let proof = answer.proof.filter(|proof| self.holds(proof))?;
        let known = (proof.hash.clone(), answer.tag);
        self.proven.insert(proof.user.clone(), known);
        Some(proof)
    }

    /// Whether the user still has the password that it showed.
    pub fn holds(&self, proof: &Proof) -> bool {
        self.current(&proof.user).as_ref() == Some(&proof.hash)
    }

    /// Takes a new file, for what is asked from now on.
    pub fn replace(&mut self, passwords: Arc<Passwords>) {
        self.proven
            .retain(|user, (hash, _)| passwords.of(user) == Some(hash));
        *self.passwords.lock().expect("no holder panics") = passwords;
    }

    fn current(&self, user: &str) -> Option<Arc<str>> {
        let passwords = self.passwords.lock().expect("no holder panics");
        passwords.of(user).cloned()
    }
}

/// What is remembered of a login, hashed; the length keeps user and password apart.
fn shown(user: &str, password: &[u8]) -> Vec<u8> {
    [
        &(user.len() as u64).to_le_bytes(),
        user.as_bytes(),
        password,
    ]
    .concat()
}

fn work(
    questions: &Receiver<Question>,
    passwords: &Mutex<Arc<Passwords>>,
    answers: &mpsc::UnboundedSender<Answer>,
) {
    while let Ok(question) = questions.recv() {
        let passwords = passwords.lock().expect("no holder panics").clone();
        let hash = passwords.verify(&question.user, &question.password);
        let Question {
            conn,
            remote,
            user,
            tag,
            ..
        } = question;
        let proof = hash.map(|hash| Proof { user, hash });
        let answer = Answer {
            conn,
            proof,
            remote,
            tag,
        };
        if answers.send(answer).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::passwords::hash;
    use super::*;

    fn file(users: &[(&str, &str)]) -> Arc<Passwords> {
        let line = |(user, password): &(&str, &str)| {
            let hash = hash(password.as_bytes(), &[1; 16]).unwrap();
            format!("{user}:{hash}\n")
        };
        Arc::new(Passwords::parse(&users.iter().map(line).collect::<String>()).unwrap())
    }

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    struct World {
        logins: Logins,
        answers: mpsc::UnboundedReceiver<Answer>,
    }

    impl World {
        fn new(users: &[(&str, &str)]) -> World {
            let (sender, answers) = mpsc::unbounded_channel();
            let logins = Logins::start(file(users), &[3; 32], sender).unwrap();
            World { logins, answers }
        }

        fn ask(&mut self, user: &str, password: &str) -> Asked {
            let password = Bytes::copy_from_slice(password.as_bytes());
            self.logins.ask(ConnId(1), address(1), user, password)
        }

        fn answer(&mut self) -> Option<Proof> {
            let answer = self.answers.blocking_recv().unwrap();
            self.logins.answered(answer)
        }
    }

    #[test]
    fn a_good_password_is_known_again_until_its_line_changes() {
        let mut world = World::new(&[("anna", "red"), ("bob", "blue")]);
        assert_eq!(world.ask("anna", "red"), Asked::Later);
        let proof = world.answer().unwrap();
        assert_eq!(world.ask("anna", "red"), Asked::Good(proof.clone()));
        for (user, password) in [
            ("anna", "blue"),
            ("anna", ""),
            ("bob", "red"),
            ("carl", "red"),
        ] {
            assert_eq!(world.ask(user, password), Asked::Later, "{user} {password}");
            assert_eq!(world.answer(), None);
        }
        assert_eq!(world.ask("anna", "red"), Asked::Good(proof.clone()));
        world.logins.replace(file(&[("anna", "green")]));
        assert!(!world.logins.holds(&proof));
        assert_eq!(world.ask("anna", "red"), Asked::Later);
        assert_eq!(world.answer(), None);
    }

    /// One that was checked against the old file and arrives after the new one.
    #[test]
    fn an_answer_from_before_a_change_does_not_count() {
        let mut world = World::new(&[("anna", "red")]);
        assert_eq!(world.ask("anna", "red"), Asked::Later);
        let answer = world.answers.blocking_recv().unwrap();
        assert!(answer.proof.is_some());
        world.logins.replace(file(&[]));
        assert_eq!(world.logins.answered(answer), None);
    }

    #[test]
    fn a_flood_is_told_to_wait_and_leaves_room_for_others() {
        let mut world = World::new(&[("anna", "red")]);
        let flood: Vec<Asked> = (0..1_000).map(|_| world.ask("x", "y")).collect();
        let taken = flood.iter().filter(|asked| **asked == Asked::Later).count();
        assert_eq!(taken, WAITING_OF_ONE_MAX);
        let other = world
            .logins
            .ask(ConnId(2), address(2), "anna", Bytes::from_static(b"red"));
        assert_eq!(other, Asked::Later);
        for _ in 0..taken {
            assert_eq!(world.answer(), None);
        }
        assert!(world.answer().is_some());
        assert!(world.logins.waiting.is_empty());
        assert_eq!(world.ask("x", "y"), Asked::Later);
    }
}
