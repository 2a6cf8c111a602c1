//! Rules against Mosquitto's words, against a slow reading of them, and against hostile names.

use super::*;
use crate::topic::{Filter, TopicName};
use proptest::collection::vec;
use proptest::prelude::*;

fn access(file: &str) -> Access {
    let mut builder = Builder::new();
    builder.file(file).expect("a valid file");
    builder.build()
}

/// `alice may publish a/b`, with `-` for anonymous; the client is `USER-1`.
fn may(access: &Access, case: &str) -> bool {
    let words: Vec<&str> = case.split_whitespace().collect();
    let [user, action, topic] = words[..] else { panic!("three words: {case}") };
    let action = match action {
        "publish" => Action::Publish,
        "subscribe" => Action::Subscribe,
        "receive" => Action::Receive,
        other => panic!("unknown action {other}"),
    };
    let client_id = format!("{user}-1");
    let user = (user != "-").then_some(user);
    let who = Who { client_id: &client_id, user, ..Who::default() };
    authorise(access, who, action, topic) == Verdict::Allow
}

#[track_caller]
fn check(file: &str, allowed: &[&str], denied: &[&str]) {
    let access = access(file);
    for case in allowed {
        assert!(may(&access, case), "{case} is denied by\n{file}");
    }
    for case in denied {
        assert!(!may(&access, case), "{case} is allowed by\n{file}");
    }
}

#[test]
fn without_rules_only_the_servers_own_trees_are_closed() {
    let access = Access::allow_all();
    for case in ["- publish $SYS", "- publish $SYS/broker/uptime", "- publish $CONTROL/x"] {
        assert!(!may(&access, case), "{case}");
    }
    for case in ["- subscribe $CONTROL/#", "- receive $CONTROL/x"] {
        assert!(!may(&access, case), "{case}");
    }
    for case in ["- publish a", "- publish a/$SYS", "- publish $SYSTEM/x", "- publish /$SYS"] {
        assert!(may(&access, case), "{case}");
    }
    for case in ["- subscribe #", "- subscribe $SYS/#", "- receive $SYS/x", "a receive x"] {
        assert!(may(&access, case), "{case}");
    }
}

#[test]
fn an_empty_file_denies_everything() {
    let all = ["- publish a", "- subscribe #", "a receive x", "a subscribe a", "a publish a/b"];
    check("", &[], &all);
    check("# nothing\n\n", &[], &all);
    assert!(!may(&Builder::new().build(), "a publish a"));
}

#[test]
fn lines_before_the_first_user_are_of_anonymous_clients() {
    check(
        "topic read news/#\nuser alice\ntopic alice/#\ntopic write news/alice",
        &[
            "- receive news/x",
            "- subscribe news/#",
            "alice publish alice/x",
            "alice receive alice",
            "alice publish news/alice",
        ],
        &[
            "- publish news/x",
            "- receive alice/x",
            "alice receive news/x",
            "alice receive news/alice",
            "bob receive news/x",
            "bob publish alice/x",
        ],
    );
}

#[test]
fn a_denial_wins_wherever_it_stands() {
    let secret = "user a\ntopic deny f/secret/#\ntopic readwrite f/#\n";
    check(
        secret,
        &["a publish f/x", "a subscribe f/#", "a subscribe f/+", "a subscribe #"],
        &[
            "a publish f/secret",
            "a receive f/secret/x",
            "a subscribe f/secret/#",
            "a subscribe f/secret/+/x",
        ],
    );
    check("user a\ntopic readwrite f/#\ntopic deny f/x", &["a publish f/y"], &["a publish f/x"]);
}

#[test]
fn patterns_are_the_second_stage() {
    // As Mosquitto: what the user's own lines decide, no pattern changes.
    check(
        "user a\ntopic write own/a\npattern deny own/%u\npattern read own/#",
        &["a publish own/a", "b receive own/a", "- receive own/b"],
        &["a receive own/a", "b receive own/b"],
    );
    check(
        "pattern readwrite dev/%c/#\npattern read user/%u\npattern write in/%u-%c/x",
        &[
            "a publish dev/a-1/x",
            "a receive dev/a-1",
            "a subscribe dev/+/x",
            "a subscribe #",
            "a subscribe +/#",
            "a receive user/a",
            "a publish in/a-a-1/x",
            "- publish dev/--1/x",
        ],
        &[
            "a publish dev/b-1/x",
            "a subscribe dev/b-1/#",
            "a receive user/b",
            "- receive user/-",
            "- subscribe user/+",
            "a publish in/a-b-1/x",
            "a publish in/a/x",
        ],
    );
}

#[test]
fn names_are_plain_text_in_topic_lines() {
    check("user a\ntopic x/%u", &["a publish x/%u"], &["a publish x/a"]);
}

#[test]
fn names_never_widen_a_pattern() {
    let file = "pattern readwrite x/%u/y\npattern readwrite c/%c/#\npattern readwrite %u/z\n\
                pattern readwrite pre%u/x\n";
    let access = access(file);
    let topics = ["x/a/y", "x//y", "c/a", "c", "a/z", "a/b/z", "$SYS/z", "prea/x", "pre/x", "x/y"];
    for name in ["#", "+", "a/b", "/", "a/+", "", "a#", "\0", "$SYS", "%c", "%u", "..", ".*", "a/"]
    {
        let who = Who { client_id: name, user: Some(name), ..Who::default() };
        for topic in topics.iter().chain(&["+", "#", "x/+/y", "c/#", "+/#"]) {
            for action in [Action::Publish, Action::Receive, Action::Subscribe] {
                if action != Action::Subscribe && topic.contains(['+', '#']) {
                    continue;
                }
                let allowed = authorise(&access, who, action, topic) == Verdict::Allow;
                let plain = !name.is_empty() && !name.contains(['/', '+', '#', '\0']);
                assert!(!allowed || (plain && action == Action::Subscribe), "{name:?} {topic}");
            }
        }
        // A usable name reaches its own place and no more.
        let own = format!("x/{name}/y");
        let plain = TopicName::parse(&own).is_ok() && own.split('/').count() == 3;
        let allowed = authorise(&access, who, Action::Publish, &own) == Verdict::Allow;
        assert_eq!(allowed, plain && !name.is_empty(), "{name:?}");
    }
}

#[test]
fn a_name_that_cannot_be_used_does_not_escape_a_denial() {
    let access = access("pattern readwrite #\npattern deny closed/%u/#\n");
    let publish = |user, topic| {
        let who = Who { client_id: "c", user, ..Who::default() };
        authorise(&access, who, Action::Publish, topic) == Verdict::Allow
    };
    assert!(!publish(Some("a/b"), "closed/a/b/x"));
    assert!(!publish(Some("+"), "closed/x"));
    assert!(publish(Some("+"), "open"));
    assert!(publish(Some("a"), "closed/b"));
    assert!(publish(None, "closed/b"), "nobody is not an odd name");
}

#[test]
fn dollar_topics_need_a_rule_of_their_own() {
    // [MQTT-4.7.2-1]
    check(
        "topic #\ntopic read +/broker/#",
        &["- publish a", "- subscribe #"],
        &["- receive $SYS/broker/x", "- subscribe $SYS/#", "- publish $x", "- subscribe $x/+"],
    );
    check(
        "topic $SYS/#\ntopic $CONTROL/#\ntopic $x/+",
        &["- receive $SYS/broker/x", "- subscribe $SYS/broker/#", "- publish $x/y"],
        &[
            "- publish $SYS/broker/x",
            "- publish $CONTROL/x",
            "- subscribe $CONTROL/#",
            "- subscribe #",
            "- subscribe +/y",
        ],
    );
}

#[test]
fn a_subscription_is_allowed_if_some_of_it_is() {
    check(
        "user a\ntopic read f/x/y\ntopic read g/+/z\ntopic write w/#",
        &[
            "a subscribe f/x/y",
            "a subscribe f/#",
            "a subscribe +/x/+",
            "a subscribe f/+/y",
            "a subscribe f/x/#",
            "a subscribe f/x/y/#",
            "a subscribe g/q/#",
            "a subscribe g/+/+",
            "a subscribe +/+/z",
        ],
        &[
            "a subscribe f",
            "a subscribe f/x",
            "a subscribe f/+",
            "a subscribe f/x/y/z",
            "a subscribe f/x/y/z/#",
            "a subscribe w/#",
            "a subscribe w/x",
            "a subscribe g/q/y",
        ],
    );
}

#[test]
fn the_format_is_kept_to() {
    let fault = |text: &str| Builder::new().file(text).expect_err(text).to_string();
    for (text, expected) in [
        (
            "topik a",
            "line 1: \"topik\" is none of topic, pattern, user, and a comment has # in its \
                     first column",
        ),
        (
            "\n topic a\n  # x",
            "line 3: \"#\" is none of topic, pattern, user, and a comment has # \
                               in its first column",
        ),
        ("topic", "line 1: a topic is missing"),
        ("topic read ", "line 1: a topic is missing"),
        ("user\n", "line 1: a user name is missing"),
        ("user a\0b", "line 1: a user name has no null character"),
        ("topic reed a", "line 1: \"reed\" is none of read, write, readwrite, deny"),
        (
            "topic read a/#/b",
            "line 1: \"a/#/b\": '#' stands alone or after '/', and is the last \
                              character of a topic filter",
        ),
        ("topic read $share/g/a", "line 1: \"$share/g/a\": a rule names topics, without $share"),
        (
            "topic\ta",
            "line 1: \"topic\\ta\" is none of topic, pattern, user, and a comment has # \
                      in its first column",
        ),
        (
            "\u{feff}topic a",
            "line 1: \"\u{feff}topic\" is none of topic, pattern, user, and a \
                             comment has # in its first column",
        ),
    ] {
        // The reader of a log sees it escaped as `{:?}` does.
        let found = fault(text);
        assert_eq!(found.replace("\\u{feff}", "\u{feff}"), expected, "{text:?}");
    }
}

#[test]
fn white_space_is_taken_as_mosquitto_does() {
    check(
        "#c\r\n  topic   read   a b  \r\nuser  al ice \r\ntopic x\r\n\r\n",
        &["- receive a"].map(|_| "- subscribe #"),
        &["- receive a"],
    );
    let access =
        access("topic read a b\nuser al ice\ntopic x y/z\n".replace("x y/z", "x").as_str());
    let who = |user| Who { client_id: "c", user, ..Who::default() };
    assert_eq!(authorise(&access, who(None), Action::Receive, "a b"), Verdict::Allow);
    assert_eq!(authorise(&access, who(Some("al ice")), Action::Receive, "x"), Verdict::Allow);
}

#[test]
fn roles_are_of_users_of_all_and_of_nobody() {
    let list = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<String>>();
    let mut builder = Builder::new();
    for (users, publish, subscribe, deny) in [
        ("* anonymous", "", "news/#", ""),
        ("alice bob", "dev/%u/#", "dev/%u/#", "dev/+/key"),
        ("bob", "", "#", "news/secret"),
    ] {
        let (users, publish) = (list(users), list(publish));
        let (subscribe, deny) = (list(subscribe), list(deny));
        let role =
            RoleRules { users: &users, publish: &publish, subscribe: &subscribe, deny: &deny };
        builder.role(role).expect("a valid role");
    }
    let access = builder.build();
    for case in [
        "- receive news/a",
        "carol receive news/a",
        "alice publish dev/alice/x",
        "bob receive other",
        "alice receive news/secret",
    ] {
        assert!(may(&access, case), "{case}");
    }
    for case in [
        "- publish news/a",
        "alice publish dev/bob/x",
        "alice publish dev/alice/key",
        "bob receive news/secret",
        "bob publish news/a",
        "carol receive other",
    ] {
        assert!(!may(&access, case), "{case}");
    }
    let users = [String::new()];
    let role = RoleRules { users: &users, ..RoleRules::default() };
    assert_eq!(Builder::new().role(role), Err(AclFault::NoUser));
}

#[test]
fn claims_take_the_place_of_the_users_rules() {
    let file = access("user a\ntopic readwrite file\npattern read all\n");
    let claims = Rules::new(["token/%u"], ["token/#"], ["token/no"]).expect("valid");
    for access in [&file, &Access::allow_all()] {
        let may = |action, topic| {
            let who =
                Who { client_id: "c", user: Some("a"), claims: Some(&claims), ..Who::default() };
            authorise(access, who, action, topic) == Verdict::Allow
        };
        assert!(may(Action::Publish, "token/a"));
        assert!(may(Action::Receive, "token/x"));
        assert!(!may(Action::Receive, "token/no"));
        assert!(!may(Action::Publish, "file"));
        assert_eq!(may(Action::Receive, "all"), access.is_ruled());
    }
    assert!(Rules::new(["a+"], [], []).is_err());
}

/// The rules read one by one, as the manual says them.
fn slowly(rules: &[(String, bool, u8)], user: &str, action: Action, topic: &str) -> bool {
    let expand = |text: &str| text.replace("%u", user);
    let holds = |rights: u8| match action {
        Action::Publish => rights & 1 != 0,
        Action::Receive | Action::Subscribe => rights & 2 != 0,
    };
    let name = TopicName::parse(topic).expect("a topic");
    let matching = |deny: bool| {
        rules.iter().any(|(text, denies, rights)| {
            let filter = Filter::parse(&expand(text), 100).expect("a filter");
            *denies == deny && holds(*rights) && filter.matches(name)
        })
    };
    !matching(true) && matching(false)
}

const LEVEL: &str = "(a|b|ab|\\+|%u|a%u|\\$a|)";

fn path() -> impl Strategy<Value = String> {
    (vec(LEVEL, 1..5), any::<bool>()).prop_map(|(mut levels, open)| {
        if open {
            levels.push("#".into());
        }
        let path = levels.join("/");
        if path.is_empty() { "a".into() } else { path }
    })
}

/// Topics and filters over the same levels.
fn topic() -> impl Strategy<Value = String> {
    vec("(a|b|ab|aa|\\$a|)", 1..5).prop_map(|levels| {
        let topic = levels.join("/");
        if topic.is_empty() { "b".into() } else { topic }
    })
}

proptest! {
    #[test]
    fn a_search_finds_what_the_rules_say_one_by_one(
        rules in vec((path(), any::<bool>(), 1_u8..4), 0..12),
        topics in vec(topic(), 1..8),
        user in "(a|b|ab)",
    ) {
        let line = |(filter, deny, rights): &(String, bool, u8)| {
            let word = match (deny, rights) {
                (true, _) => "deny",
                (false, 1) => "write",
                (false, 2) => "read",
                (false, _) => "readwrite",
            };
            format!("pattern {word} {filter}")
        };
        let text = rules.iter().map(line).collect::<Vec<_>>().join("\n");
        let access = access(&text);
        // `deny` takes all rights.
        let rules: Vec<_> =
            rules.into_iter().map(|(f, deny, r)| (f, deny, if deny { 3 } else { r })).collect();
        let who = Who { client_id: "c", user: Some(&user), ..Who::default() };
        for topic in &topics {
            for action in [Action::Publish, Action::Receive] {
                let found = authorise(&access, who, action, topic) == Verdict::Allow;
                prop_assert_eq!(found, slowly(&rules, &user, action, topic), "{} {}", text, topic);
            }
        }
    }

    /// Whoever may receive a topic may subscribe to every filter that matches it, unless the filter
    /// as a whole is denied, which then denies the topic too.
    #[test]
    fn a_filter_is_allowed_if_a_topic_of_it_is(
        rules in vec((path(), any::<bool>()), 0..8),
        filter in path(),
        topics in vec(topic(), 1..20),
        user in "(a|b|ab)",
    ) {
        let lines: Vec<String> = rules
            .iter()
            .map(|(path, deny)| format!("pattern {} {path}", if *deny { "deny" } else { "read" }))
            .collect();
        let access = access(&lines.join("\n"));
        let filter = filter.replace("%u", "a");
        let parsed = Filter::parse(&filter, 100).expect("a filter");
        let who = Who { client_id: "c", user: Some(&user), ..Who::default() };
        let may = |action, topic: &str| authorise(&access, who, action, topic) == Verdict::Allow;
        let subscribes = may(Action::Subscribe, parsed.path());
        for topic in &topics {
            let matches = parsed.matches(TopicName::parse(topic).expect("a topic"));
            if matches && may(Action::Receive, topic) {
                prop_assert!(subscribes, "{:?} {} {}", lines, filter, topic);
            }
        }
        if !parsed.has_wildcard() && subscribes {
            prop_assert!(may(Action::Receive, &filter), "{:?} {}", lines, filter);
        }
    }
}

#[test]
fn who_is_known_by_name_alone_has_the_rules_of_open_listeners_that_may_be_his() {
    let rules = |topic: &str| Arc::new(access(&format!("user a\ntopic {topic}\n")));
    let at = |own, is_open, users: Option<&str>| At { own, is_open, users: users.map(Arc::from) };
    let may = |access: &Access, users, topic: &str| {
        let who = Who { client_id: "c", user: Some("a"), users, ..Who::default() };
        authorise(access, who, Action::Publish, topic) == Verdict::Allow
    };
    let own = || vec![rules("x"), rules("y"), rules("z")];
    let (first, second) = (Users::Own("first"), Users::Own("second"));
    let listeners = vec![
        at(Some(0), true, Some("first")),
        at(Some(1), true, Some("second")),
        at(Some(2), false, Some("first")),
    ];
    let rules = Access::allow_all().with_own(own(), listeners.clone());
    let found = |users| ["x", "y", "z", "none"].map(|topic| may(&rules, users, topic));
    // What no open listener follows allows nothing: neither the common rules nor those of a
    // closed one.
    assert_eq!(found(Users::Unknown), [true, true, false, false]);
    assert_eq!(found(first), [true, false, false, false]);
    assert_eq!(found(second), [false, true, false, false]);
    assert_eq!(found(Users::Common), [false; 4]);
    assert_eq!(found(Users::Own("gone")), [false; 4]);
    // The common rules count where an open listener follows them.
    let listeners = listeners.into_iter().chain([at(None, true, None)]).collect();
    let rules = Access::allow_all().with_own(own(), listeners);
    assert!(may(&rules, Users::Common, "none") && may(&rules, Users::Unknown, "none"));
    assert!(!may(&rules, first, "none") && may(&rules, first, "x"));
    // Without rules of their own the listeners do not matter.
    let rules = Access::allow_all().with_own(Vec::new(), vec![at(None, true, Some("first"))]);
    assert!(may(&rules, Users::Common, "none"));
}
