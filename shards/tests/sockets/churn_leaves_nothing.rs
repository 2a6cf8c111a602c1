//! Connections that come and go leave neither descriptors nor memory behind.

use crate::common::{alone, assert_passed, echo, is_alone, read, wait_over, write};

const CYCLES: usize = 4_000;

#[test]
fn many_cycles_leave_nothing() {
    if !is_alone() {
        return assert_passed(&alone("churn_leaves_nothing::many_cycles_leave_nothing", ""));
    }
    let mut rig = echo(2);
    let cycle = |count: usize| {
        for index in 0..count {
            let mut client = rig.connect();
            if index % 4 == 0 {
                // Ends with bytes nobody has read.
                write(&mut client, b"unread");
                continue;
            }
            write(&mut client, b"x");
            read(&mut client, 1);
            client.shutdown(std::net::Shutdown::Write).expect("connected");
            wait_over(&mut client);
        }
        for _ in 0..count {
            rig.wait_closed();
        }
    };
    cycle(500);
    let (descriptors, kilobytes) = (descriptors(), resident_kilobytes());
    cycle(CYCLES);
    assert_eq!(self::descriptors(), descriptors);
    let grown = resident_kilobytes().saturating_sub(kilobytes);
    assert!(grown < 1024, "{grown} kB more than before");
    rig.stop();
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("proc is mounted").count()
}

fn resident_kilobytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let line = status.lines().find(|line| line.starts_with("RssAnon")).expect("Linux tells");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}
