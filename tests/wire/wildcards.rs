//! Which filter matches which topic.

use crate::harness::{ALL, each, each_alone};

/// Filters, and the numbers of the topics that each must get.
fn table(test: &mut crate::harness::Test<'_>, topics: &[&str], filters: &[(&str, &[usize])]) {
    test.run("pub connects");
    for (number, (filter, _)) in filters.iter().enumerate() {
        test.run(&format!("s{number} connects\n s{number} subscribes {filter} q1 ~end q1"));
    }
    for topic in topics {
        test.run(&format!("pub publishes {topic} q1 p={topic}"));
    }
    test.run("pub publishes ~end q1");
    for (number, (filter, wanted)) in filters.iter().enumerate() {
        for index in *wanted {
            let topic = topics[*index];
            test.run(&format!("s{number} gets {topic} q1 p={topic}\n// {filter}"));
        }
        test.run(&format!("s{number} gets ~end q1\n// {filter}"));
    }
}

#[test]
fn filters_match_their_topics_only() {
    // [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-4] [MQTT-3.3.2-3]
    // 3.1.1: [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.3-4] [MQTT-3.3.2-3]
    let topics =
        ["~/a", "~/a/b", "~/a/b/c", "~/A", "~//a", "~/", "~", "/~", "~/a/", "~/aa", "/~/a/b"];
    each(ALL, |test| {
        table(
            test,
            &topics,
            &[
                ("~/a", &[0]),
                ("~/A", &[3]),
                ("~/#", &[0, 1, 2, 3, 4, 5, 6, 8, 9]),
                ("~/+", &[0, 3, 5, 9]),
                ("~/+/+", &[1, 4, 8]),
                ("~/+/b", &[1]),
                ("~/a/#", &[0, 1, 2, 8]),
                ("~/a/b/c/#", &[2]),
                ("~/+/b/#", &[1, 2]),
                ("~/+/#", &[0, 1, 2, 3, 4, 5, 8, 9]),
                ("~/a/+", &[1, 8]),
                ("~/a/+/c", &[2]),
                ("~//+", &[4]),
                ("+/~", &[7]),
                ("+/~/#", &[7, 10]),
                ("/~", &[7]),
                ("~/a/b/c/d", &[]),
                ("~", &[6]),
            ],
        );
    });
}

#[test]
fn wildcards_at_the_start_pass_over_dollar_topics() {
    // [MQTT-4.7.2-1]; 3.1.1: [MQTT-4.7.2-1]
    each_alone(ALL, |test| {
        test.run(
            "
            all connects
            all subscribes # +/# +/broker/uptime
            sys connects
            sys subscribes $SYS/broker/uptime
        ",
        );
        // One that is retained and two that are new have passed by.
        for _ in 0..3 {
            assert_eq!(test.client("sys").packet().topic, "$SYS/broker/uptime");
        }
        test.run(
            "
            all < nothing
            all publishes a/$x q1 p=in-the-middle
            all gets a/$x p=in-the-middle
        ",
        );
    });
}

#[test]
fn no_normalisation_of_names() {
    // [MQTT-4.7.3-4] [MQTT-1.5.4-3]; 3.1.1: [MQTT-4.7.3-4] [MQTT-1.5.3-3]
    each(ALL, |test| {
        // A composed and a decomposed é, and a byte order mark.
        table(
            test,
            &["~/\u{e9}", "~/e\u{301}", "~/\u{feff}", "~/\u{feff}x"],
            &[
                ("~/\u{e9}", &[0]),
                ("~/e\u{301}", &[1]),
                ("~/\u{feff}", &[2]),
                ("~/\u{feff}x", &[3]),
                ("~/x", &[]),
                ("~/", &[]),
            ],
        );
    });
}
