//! An [`Outgoing`] on its way: what is left of it, and the memory the kernel reads meanwhile.

use std::os::fd::RawFd;

use io_uring::types::Fd;
use io_uring::{opcode, squeue};

use crate::conn::ConnId;
use crate::outgoing::Outgoing;
use crate::sys;

/// Most pieces of one operation; the rest follows as after a short send. The kernel's limit.
const PIECES_MAX: usize = 1024;
/// Most bytes of one operation; the kernel's limit is a little below 2 GiB.
const SEND_BYTES_MAX: usize = 1 << 30;
/// The kernel tries again by itself after a short send where it can.
const FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// One send, from `Io::send` until its last byte has left.
///
/// Boxed, so that the addresses the kernel knows stay when the flight moves.
#[derive(Debug)]
pub(crate) struct Flight(Box<Inner>);

#[derive(Debug)]
struct Inner {
    conn: ConnId,
    outgoing: Outgoing,
    sent_bytes: usize,
    total_bytes: usize,
    pieces: Vec<libc::iovec>,
    message: libc::msghdr,
}

impl Flight {
    pub(crate) fn new() -> Flight {
        Flight(Box::new(Inner {
            conn: ConnId::new(0, 0),
            outgoing: Outgoing::default(),
            sent_bytes: 0,
            total_bytes: 0,
            pieces: Vec::new(),
            message: sys::empty_message(),
        }))
    }

    /// Starts at the first byte of `outgoing`.
    pub(crate) fn load(&mut self, conn: ConnId, outgoing: Outgoing) {
        let inner = &mut *self.0;
        inner.conn = conn;
        inner.total_bytes = outgoing.total_bytes();
        inner.sent_bytes = 0;
        inner.outgoing = outgoing;
        assert!(inner.total_bytes > 0, "an empty send would never complete");
    }

    /// Gives the buffers back and forgets the addresses.
    pub(crate) fn unload(&mut self) -> Outgoing {
        let inner = &mut *self.0;
        inner.pieces.clear();
        inner.message = sys::empty_message();
        std::mem::take(&mut inner.outgoing)
    }

    pub(crate) fn conn(&self) -> ConnId {
        self.0.conn
    }

    /// Counts bytes the kernel took. `true`: that was all.
    pub(crate) fn advance(&mut self, bytes: usize) -> bool {
        let inner = &mut *self.0;
        inner.sent_bytes += bytes;
        assert!(inner.sent_bytes <= inner.total_bytes, "the kernel took more than there was");
        inner.sent_bytes == inner.total_bytes
    }

    /// The operation that sends what is left. Points into this flight's heap memory.
    pub(crate) fn operation(&mut self, fd: RawFd) -> squeue::Entry {
        let inner = &mut *self.0;
        if inner.outgoing.shared.is_empty() {
            let rest = inner.outgoing.bytes.get(inner.sent_bytes..).unwrap_or_default();
            let bytes = u32::try_from(rest.len().min(SEND_BYTES_MAX)).expect("less than 4 GiB");
            return opcode::Send::new(Fd(fd), rest.as_ptr(), bytes).flags(FLAGS).build();
        }
        inner.pieces.clear();
        let mut room = SEND_BYTES_MAX;
        for slice in inner.outgoing.slices(inner.sent_bytes).take(PIECES_MAX) {
            let bytes = slice.len().min(room);
            let start = slice.as_ptr().cast_mut().cast();
            inner.pieces.push(libc::iovec { iov_base: start, iov_len: bytes });
            room -= bytes;
            if room == 0 {
                break;
            }
        }
        inner.message.msg_iov = inner.pieces.as_mut_ptr();
        inner.message.msg_iovlen = inner.pieces.len();
        opcode::SendMsg::new(Fd(fd), &raw const inner.message).flags(FLAGS.unsigned_abs()).build()
    }
}
