//! What a revocation list keeps, and what it does when that is damaged.

use super::*;

fn subject(edge: &str, serial: &str) -> Subject {
    Subject {
        edge: EdgeName::new(edge).unwrap(),
        serial: serial.into(),
    }
}

fn name(edge: &str) -> EdgeName {
    EdgeName::new(edge).unwrap()
}

/// A directory with a list of two, and its copy.
fn two() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("revoked.txt");
    for edge in ["gw-1", "gw-2", "gw-1"] {
        Revoked::add(&path, &name(edge)).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "gw-1\ngw-2\n");
    (dir, path)
}

/// Changes bytes as rot does: the time of change stays.
fn rot(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let changed = file.metadata().unwrap().modified().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
    file.set_modified(changed).unwrap();
}

fn holds_both(path: &Path) {
    let list = Revoked::read(path).unwrap();
    assert_eq!(list.len(), 2);
    assert!(list.holds(&subject("gw-1", "11")) && list.holds(&subject("gw-2", "11")));
}

#[test]
fn entries() {
    let path = Path::new("revoked.txt");
    let list = Revoked::parse("# old\ngw-1\nserial:00AbC # lost\n\n", path).unwrap();
    assert_eq!(list.len(), 2);
    assert!(list.holds(&subject("gw-1", "11")));
    assert!(list.holds(&subject("gw-2", "0abc")));
    assert!(!list.holds(&subject("gw-2", "11")));
    for bad in ["gw 1", "serial:", "serial:xyz", "serial:00"] {
        assert!(Revoked::parse(bad, path).is_err(), "{bad}");
    }
}

/// Whatever one of the two files has become, who was revoked stays out.
#[test]
fn damage_to_one_file_lets_nobody_in() {
    let (_dir, path) = two();
    for which in [path.clone(), copy_of(&path)] {
        let whole = std::fs::read(&which).unwrap();
        for bit in 0..whole.len() * 8 {
            rot(&which, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            holds_both(&path);
            rot(&which, |bytes| bytes.clone_from(&whole));
        }
        for length in 0..whole.len() {
            rot(&which, |bytes| bytes.truncate(length));
            holds_both(&path);
            rot(&which, |bytes| bytes.clone_from(&whole));
        }
        std::fs::remove_file(&which).unwrap();
        std::fs::create_dir(&which).unwrap();
        holds_both(&path);
        std::fs::remove_dir(&which).unwrap();
        holds_both(&path);
        let (_dir, fresh) = two();
        let from = if which == path {
            fresh
        } else {
            copy_of(&fresh)
        };
        std::fs::copy(from, &which).unwrap();
        holds_both(&path);
    }
}

/// With both damaged nobody knows who was revoked; the error says what to do, and doing it helps.
#[test]
fn damage_to_both_files_is_no_list_until_somebody_writes_one() {
    let (_dir, path) = two();
    let copy = copy_of(&path);
    let damages: [fn(&Path); 4] = [
        |path| std::fs::remove_file(path).unwrap(),
        |path| rot(path, |bytes| bytes.fill(0)),
        |path| rot(path, |bytes| bytes.clear()),
        |path| rot(path, |bytes| bytes[0] = 0xff),
    ];
    for list in damages {
        for copied in &damages[1..] {
            let (_dir, fresh) = two();
            std::fs::copy(&fresh, &path).unwrap();
            std::fs::copy(copy_of(&fresh), &copy).unwrap();
            holds_both(&path);
            list(&path);
            copied(&copy);
            let error = Revoked::read(&path).unwrap_err().to_string();
            for part in [
                "no edge gets in",
                "revoked.txt",
                "revoked.copy.txt",
                "backup",
            ] {
                assert!(error.contains(part), "{error}");
            }
            Revoked::add(&path, &name("gw-3")).unwrap_err();
            std::fs::write(&path, "gw-2\ngw-1").unwrap();
            holds_both(&path);
            holds_both(&path);
        }
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&copy, "x").unwrap();
    Revoked::read(&path).unwrap_err();
    std::fs::write(&path, "# nobody\n").unwrap();
    assert!(Revoked::read(&path).unwrap().is_empty());
}

#[test]
fn edits_count_and_revoking_repairs() {
    let (_dir, path) = two();
    // Names that the operator takes away and puts there, in this order.
    for text in ["gw-1\n", "# none\n", "gw-1\ngw-2\ngw-4\n", "serial:0a\n"] {
        std::fs::write(&path, text).unwrap();
        let edited = Revoked::parse(text, &path).unwrap();
        assert_eq!(Revoked::read(&path).unwrap(), edited);
        assert_eq!(Revoked::read(&path).unwrap(), edited);
    }
    // A typing error is not taken, and is kept for whoever made it.
    std::fs::write(&path, "gw 9\n").unwrap();
    assert_eq!(Revoked::read(&path).unwrap().len(), 1);
    Revoked::add(&path, &name("gw-5")).unwrap();
    let list = Revoked::read(&path).unwrap();
    assert!(list.holds(&subject("gw-5", "11")) && list.holds(&subject("gw-9", "0a")));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "serial:0a\ngw-5\n");
    let aside = path.with_extension("damaged.txt");
    assert_eq!(std::fs::read_to_string(aside).unwrap(), "gw 9\n");
}

#[test]
fn changes_are_noticed_once() {
    let (_dir, path) = two();
    let (mut file, list) = RevokedFile::open(path.clone());
    assert_eq!(list.unwrap().len(), 2);
    assert!(file.changed().is_none());
    Revoked::add(&path, &name("gw-3")).unwrap();
    assert_eq!(file.changed().unwrap().unwrap().len(), 3);
    assert!(file.changed().is_none());
    std::fs::write(&path, "gw-1 and more\n").unwrap();
    assert_eq!(file.changed().unwrap().unwrap().len(), 3);
    assert!(file.changed().is_none());
    std::fs::write(&path, "gw-1\n").unwrap();
    assert_eq!(file.changed().unwrap().unwrap().len(), 1);
    assert!(file.changed().is_none());
}
