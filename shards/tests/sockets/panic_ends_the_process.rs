//! A shard that panics takes the process with it.

use std::os::unix::process::ExitStatusExt;

use shards::ConnId;

use crate::common::{Act, Base, TestIo, alone, is_alone, settings, start, wait_over, write};

const SIGABRT: i32 = 6;

struct Panic;

impl Act for Panic {
    fn bytes(&mut self, _: &mut Base, _: &mut TestIo, _: ConnId, _: &[u8]) {
        panic!("the handler broke");
    }
}

#[test]
fn a_panic_aborts() {
    if is_alone() {
        let rig = start(settings(2), |_| Panic);
        let mut client = rig.connect();
        write(&mut client, b"x");
        wait_over(&mut client);
        return;
    }
    let output = alone("panic_ends_the_process::a_panic_aborts", "ulimit -c 0;");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(SIGABRT), "{text}");
    assert!(text.contains("the handler broke"), "{text}");
}
