//! Rules and who they are for.

use super::*;

const FILE: &str = "
# Without a user:
topic read public/#
topic deny public/secret/#

user anna
topic sensors/anna/#
topic read all/+/state
topic write commands
topic   deny\tsensors/anna/secret
topic readwrite with space/x y

user bob
user anna
topic write later

pattern write devices/%c/#
pattern read inbox/%u
pattern read mixed-%c-%u-100%/+
pattern deny devices/%c/firmware
";

fn acl() -> Acl {
    Acl::parse(FILE).unwrap()
}

fn who<'a>(client: &'a str, user: &'a str) -> Who<'a> {
    let user = Some(user).filter(|user| !user.is_empty());
    Who { client, user }
}

#[test]
fn each_rule_is_for_whom_it_stands() {
    let acl = acl();
    // Client, user, topic; read, write.
    let cases = [
        ("c", "", "public/a", true, false),
        ("c", "", "public/secret/a", false, false),
        ("c", "", "public/secret", false, false),
        ("c", "", "sensors/anna/x", false, false),
        ("c", "anna", "public/a", false, false),
        ("c", "anna", "sensors/anna/x", true, true),
        ("c", "anna", "sensors/anna", true, true),
        ("c", "anna", "sensors/anna/secret", false, false),
        ("c", "anna", "all/1/state", true, false),
        ("c", "anna", "all/1/2/state", false, false),
        ("c", "anna", "commands", false, true),
        ("c", "anna", "later", false, true),
        ("c", "anna", "with space/x y", true, true),
        ("c", "bob", "sensors/anna/x", false, false),
        ("c", "bob", "public/a", false, false),
        ("c", "nobody", "public/a", false, false),
        ("c", "bob", "devices/c/temp", false, true),
        ("c", "", "devices/c/temp", false, true),
        ("c", "", "devices/d/temp", false, false),
        ("c", "", "devices/c/firmware", false, false),
        ("c", "bob", "inbox/bob", true, false),
        ("c", "bob", "inbox/anna", false, false),
        ("c", "", "inbox/", false, false),
        ("c", "bob", "mixed-c-bob-100%/x", true, false),
        ("c", "bob", "mixed-c-bobo-100%/x", false, false),
    ];
    for (client, user, topic, read, write) in cases {
        let who = who(client, user);
        assert_eq!(
            acl.allows(who, Act::Read, topic),
            read,
            "{who:?} read {topic}"
        );
        assert_eq!(
            acl.allows(who, Act::Write, topic),
            write,
            "{who:?} write {topic}"
        );
    }
}

/// A name with a wildcard or a level in it must not widen a pattern, nor be let in by a literal one.
#[test]
fn names_cannot_widen_a_pattern() {
    let acl = acl();
    for name in ["#", "+", "a/b", "+/#", "c/../d", "x#", "a+"] {
        for topic in [
            "devices/c/temp",
            "devices/d/temp",
            "devices/a/b/c",
            "devices/#/t",
            "devices/+/t",
        ] {
            assert!(
                !acl.allows(who(name, "bob"), Act::Write, topic),
                "{name} {topic}"
            );
            assert!(
                !acl.allows(who("c", name), Act::Write, topic),
                "user {name} {topic}"
            );
        }
        assert!(
            !acl.allows(who("c", name), Act::Read, "inbox/bob"),
            "{name}"
        );
        assert!(!acl.allows_filter(who(name, "bob"), "inbox/bob"), "{name}");
    }
    // %u in a name is text, not a pattern.
    assert!(!acl.allows(who("%u", "bob"), Act::Write, "devices/bob/t"));
    assert!(acl.allows(who("%u", "bob"), Act::Write, "devices/%u/t"));
}

#[test]
fn subscriptions_are_refused_when_nothing_can_come() {
    let acl = acl();
    let cases = [
        ("c", "", "#", true),
        ("c", "", "public/#", true),
        ("c", "", "public/+", true),
        ("c", "", "public/secret/#", false),
        ("c", "", "public/secret/+/x", false),
        ("c", "", "+/secret/x", true),
        ("c", "", "sensors/#", false),
        ("c", "", "$SYS/#", false),
        ("c", "anna", "#", true),
        ("c", "anna", "sensors/+/x", true),
        ("c", "anna", "all/#", true),
        ("c", "anna", "all/+/+", true),
        ("c", "anna", "all/+", false),
        ("c", "anna", "commands", false),
        ("c", "anna", "sensors/anna/secret", false),
        ("c", "anna", "$share/g/sensors/anna/#", true),
        ("c", "anna", "$share/sensors/commands", false),
        ("c", "bob", "#", true),
        ("c", "bob", "inbox/bob", true),
        ("c", "bob", "inbox/+", true),
        ("c", "bob", "inbox/anna", false),
        ("c", "bob", "devices/c/#", false),
    ];
    for (client, user, filter, may) in cases {
        let who = who(client, user);
        assert_eq!(acl.allows_filter(who, filter), may, "{who:?} {filter}");
    }
}

/// `covers` and `overlaps` agree with what the filters match, over all short topics.
#[test]
fn filters_cover_and_overlap_as_their_topics_say() {
    let levels = ["a", "b", "$x"];
    let mut topics: Vec<String> = levels.map(String::from).to_vec();
    for _ in 0..2 {
        let longer = topics
            .iter()
            .flat_map(|t| ["a", "b"].map(|l| format!("{t}/{l}")));
        topics = topics.iter().cloned().chain(longer).collect();
    }
    let mut filters: Vec<String> = ["a", "b", "+", "#", "$x"].map(String::from).to_vec();
    for _ in 0..2 {
        let open = filters.iter().filter(|f| !f.ends_with('#'));
        let longer = open.flat_map(|f| ["a", "+", "#"].map(|l| format!("{f}/{l}")));
        filters = filters.iter().cloned().chain(longer).collect();
    }
    for one in &filters {
        for two in &filters {
            let of = |f: &String| -> Vec<&String> {
                topics.iter().filter(|t| topic::matches(f, t)).collect()
            };
            let (ones, twos) = (of(one), of(two));
            let shared = ones.iter().any(|t| twos.contains(t));
            // Topics here have three levels at most: filters that meet deeper are left out.
            if shared {
                assert!(overlaps(one, two, None), "{one} {two}");
            }
            if overlaps(one, two, None) {
                let deep = one.matches('/').count().max(two.matches('/').count()) > 1;
                assert!(shared || deep, "{one} {two} share nothing");
            }
            if covers(one, two, None) {
                assert!(twos.iter().all(|t| ones.contains(t)), "{one} covers {two}");
            }
        }
    }
}

#[test]
fn errors_name_the_line_and_what_is_valid() {
    let cases = [
        ("topic read a\nuser\n", "line 2", "NAME"),
        ("topic", "line 1", "FILTER"),
        ("\n\ntopic maybe a", "line 3", "readwrite"),
        ("topic read a/#/b", "line 1", "a/#/b"),
        ("allow read a", "line 1", "pattern"),
        ("pattern read x%c#", "line 1", "x%c#"),
        ("topic read $share/g/a", "line 1", "$share"),
    ];
    for (text, line, why) in cases {
        let error = Acl::parse(text).unwrap_err();
        assert!(
            error.contains(line) && error.contains(why),
            "{text:?}: {error}"
        );
    }
    assert_eq!(Acl::parse("").unwrap(), Acl::default());
}

#[test]
fn without_a_rule_nothing_is_allowed() {
    let acl = Acl::parse("# nothing").unwrap();
    assert!(!acl.allows(who("c", ""), Act::Read, "a"));
    assert!(!acl.allows_filter(who("c", "anna"), "#"));
}
