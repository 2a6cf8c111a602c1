use super::*;

fn scenario(text: &str) -> Result<Scenario> {
    toml::from_str::<Scenario>(text).unwrap().complete()
}

#[test]
fn kind_decides_the_numbers() {
    let fanout = scenario("kind = 'fanout'\npublishers = 7").unwrap();
    assert_eq!((fanout.publishers, fanout.subscribers), (1, 10));
    assert_eq!(fanout.receivers(), 10);
    assert!(scenario("kind = 'idle'\nsubscribers = 5").unwrap().is_silent());
    let slow = scenario("kind = 'slow'\nsubscribers = 5\nslow = 2").unwrap();
    assert_eq!((slow.receivers(), slow.subscribers_all()), (5, 7));
}

#[test]
fn bad_values_are_refused() {
    for text in [
        "qos = 3",
        "payload_bytes = 20",
        "kind = 'latency'",
        "kind = 'churn'",
        "version = 3",
        "kind = 'offline'",
        "kind = 'offline'\nqos = 1\nversion = 5",
        "kind = 'retained'",
        "kind = 'fanout'\nthreads = 2",
        "threads = 11",
        "ca_file = 'ca.pem'",
        "kind = 'topics'\ntopics = 5",
    ] {
        assert!(scenario(text).is_err(), "{text}");
    }
    assert!(toml::from_str::<Scenario>("colour = 1").is_err());
}

#[test]
fn parts_of_threads_are_the_whole() {
    let whole = scenario("kind = 'latency'\npublishers = 10\nrate = 1000\nthreads = 3").unwrap();
    let parts: Vec<Scenario> = (0..3).map(|index| whole.part(index)).collect();
    assert_eq!(parts.iter().map(|part| part.publishers).sum::<usize>(), 10);
    assert_eq!(parts.iter().map(|part| part.rate).sum::<u64>(), 1000);
    let last = parts.last().unwrap();
    assert_eq!(last.topic(last.publishers - 1), "perf/pairs/9");
    assert_eq!(last.heard(0), (0, 1), "places in the books are the thread's own");
    let alone = scenario("kind = 'fanin'\npublishers = 7").unwrap().part(0);
    assert_eq!((alone.publishers, alone.subscribers), (7, 1));
}

#[test]
fn mixed_has_all_qos_and_sizes() {
    let mixed = scenario("kind = 'mixed'\npublishers = 12").unwrap();
    assert_eq!(mixed.subscribers_all(), 13);
    let seen: Vec<(u8, usize)> =
        (0..12).map(|i| (mixed.qos_of(i), mixed.payload_bytes_of(i))).collect();
    assert!(seen.contains(&(0, 64)) && seen.contains(&(2, 4096)) && seen.contains(&(1, 256)));
    assert_eq!((mixed.qos_of(12), mixed.filters(12)), (2, vec!["perf/mixed/#".to_owned()]));
}

#[test]
fn every_topic_has_one_subscription() {
    let topics =
        scenario("kind = 'topics'\ntopics = 1000\nsubscribers = 7\nfilters = 'mixed'").unwrap();
    let filters: Vec<String> = (0..7).flat_map(|index| topics.filters(index)).collect();
    assert_eq!(filters.len(), 1000);
    assert_eq!(filters[0], "perf/topics/00000/00000000/v");
    assert_eq!(filters[1], "perf/topics/00000/00000001/+");
    assert_eq!(filters[2], "perf/topics/00000/00000002/#");
}

#[test]
fn files_of_the_scenarios_are_good() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let scenario = Scenario::load(&path).and_then(Scenario::complete);
        assert!(scenario.is_ok(), "{}: {:?}", path.display(), scenario.err());
    }
}
