//! A peer that resets in the middle of a send costs nobody else anything.

use std::time::Duration;

use shards::Cause;
use socket2::SockRef;

use crate::common::{Seen, echo, pattern, read, write};

#[test]
fn reset_in_mid_send_is_told_once() {
    let mut rig = echo(1);
    let mut bystander = rig.connect();
    for _ in 0..10 {
        let mut client = rig.connect();
        // Far more than the kernel buffers for somebody who does not read.
        let bytes = pattern(12 << 20);
        write(&mut client, &bytes);
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a socket option");
        drop(client);
        assert_eq!(rig.wait_closed().0, Cause::Reset);
        write(&mut bystander, b"hello");
        assert_eq!(read(&mut bystander, 5), b"hello");
    }
    drop(bystander);
    rig.wait_closed();
    assert!(!rig.stop().iter().any(|seen| matches!(seen, Seen::Closed(..))));
}
