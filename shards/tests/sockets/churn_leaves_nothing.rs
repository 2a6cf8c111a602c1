//! Connections that come and go leave neither descriptors nor memory behind.

use crate::common::{alone, assert_passed, echo, is_alone, pattern, read, wait_over, write};
use std::sync::atomic::{AtomicBool, Ordering};

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

/// When the last connection has gone, the receive buffers' memory is given back; what comes next is
/// received into them all the same.
#[test]
fn who_comes_after_all_have_gone_loses_nothing() {
    let mut rig = echo(1);
    let bytes = pattern(30_000);
    for _ in 0..20 {
        let wave: Vec<_> = (0..100).map(|_| rig.connect()).collect();
        for mut client in wave {
            write(&mut client, &bytes);
            assert!(read(&mut client, bytes.len()) == bytes, "other bytes came back");
        }
        for _ in 0..100 {
            rig.wait_closed();
        }
    }
    rig.stop();
}

/// When most connections have gone, tables shrink around those that stay.
#[test]
fn who_stays_loses_nothing_when_the_others_go() {
    let mut rig = echo(1);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut steady = rig.connect();
        let over = &over;
        scope.spawn(move || {
            let bytes = pattern(30_000);
            while !over.load(Ordering::Relaxed) {
                write(&mut steady, &bytes);
                assert!(read(&mut steady, bytes.len()) == bytes, "other bytes came back");
            }
        });
        for _ in 0..20 {
            let mut wave: Vec<_> = (0..100).map(|_| rig.connect()).collect();
            for client in &mut wave {
                write(client, b"x");
                read(client, 1);
            }
            let count = wave.len();
            drop(wave);
            for _ in 0..count {
                rig.wait_closed();
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    rig.stop();
}
