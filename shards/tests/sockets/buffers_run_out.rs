//! More input than receive buffers: everybody is served, later.

use crate::common::{Plain, pattern, read, settings, start, write};

#[test]
fn buffers_exhausted_delay_but_lose_nothing() {
    let mut settings = settings(1);
    settings.buffers = 2;
    settings.buffer_bytes = 64;
    let rig = start(settings, |_| Plain);
    let mut clients: Vec<_> = (0..50).map(|_| rig.connect()).collect();
    let bytes = pattern(10_000);
    for client in &mut clients {
        write(client, &bytes);
    }
    for client in &mut clients {
        assert_eq!(read(client, bytes.len()), bytes);
    }
    drop(clients);
    assert!(rig.wait_closed().1.buffers_exhausted > 0);
}
