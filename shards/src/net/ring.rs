//! The shard's own `io_uring`, made safe: operations in, events out.
//!
//! Promise: memory the kernel may touch stays where it is until the kernel has said it is done.
//! Receive buffers live in a [`Region`] that outlives the ring; what a send points to lives in a
//! [`Flight`], and what a file operation points to in an [`Errand`], that the ring keeps until the
//! completion.
//! One of the two files with unsafe code; the other is `sys.rs`.
//!
//! ```text
//!   user data:  kind:8 | generation:24 | index:32
//! ```

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{self, BufRingEntry, CancelBuilder, Fd};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};

use super::flight::Flight;
use crate::conn::ConnId;
use crate::disk::errand::Errand;
use crate::sys::Region;

const SUBMISSIONS: u32 = 1024;
const COMPLETIONS: u32 = 8192;
/// `IORING_RECVSEND_POLL_FIRST` of the kernel's `io_uring.h`.
const POLL_FIRST: u16 = 1;
const BUFFER_GROUP: u16 = 0;
/// Buffers filled in at the start; the rest is added when they run out.
const BUFFERS_FIRST: u16 = 4;
const PAGE_BYTES: usize = 4096;
/// How often and how long a ring that goes away waits for the kernel to let go.
const QUIET_TRIES: u32 = 50;
const QUIET_WAIT: Duration = Duration::from_millis(20);

/// What an operation was, in the top byte of its user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Accept = 1,
    Receive = 2,
    Send = 3,
    Poll = 4,
    Bell = 5,
    Knock = 6,
    Cancel = 7,
    File = 8,
}

impl Kind {
    fn of(user_data: u64) -> Option<Kind> {
        Some(match user_data >> 56 {
            1 => Kind::Accept,
            2 => Kind::Receive,
            3 => Kind::Send,
            4 => Kind::Poll,
            5 => Kind::Bell,
            6 => Kind::Knock,
            7 => Kind::Cancel,
            8 => Kind::File,
            _ => return None,
        })
    }

    fn word(self, generation: u32, index: u32) -> u64 {
        (self as u64) << 56 | u64::from(generation) << 32 | u64::from(index)
    }

    fn conn(self, conn: ConnId) -> u64 {
        self.word(conn.generation(), conn.slot())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the fields were packed from these widths")]
const fn unpack(user_data: u64) -> (u32, u32) {
    ((user_data >> 32) as u32 & crate::conn::GENERATION_MASK, user_data as u32)
}

/// A receive buffer with bytes in it. Goes back with [`Buffers::give_back`].
#[derive(Debug)]
pub(crate) struct Filled {
    buffer: u16,
    bytes: usize,
}

impl Filled {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What the kernel has finished.
#[derive(Debug)]
pub(crate) enum Event {
    Accepted {
        listener: u32,
        result: io::Result<OwnedFd>,
        more: bool,
    },
    Received {
        conn: ConnId,
        filled: Filled,
        more: bool,
    },
    /// End of the stream (0) or a negative error number; nothing is armed any more.
    ReceiveEnded {
        conn: ConnId,
        result: i32,
    },
    Sent {
        conn: ConnId,
        flight: Flight,
        result: i32,
    },
    /// A file operation ended: its result or negative error number, and what it opened.
    Ran {
        errand: Errand,
        result: i32,
        opened: Option<OwnedFd>,
    },
    /// Another shard has mail.
    Bell,
    /// Somebody outside the shards wants attention.
    Polled {
        more: bool,
    },
    /// A ring at another shard failed; it must be woken in another way.
    KnockFailed {
        shard: u32,
    },
    /// Nothing to do.
    Nothing,
}

/// How much a receive may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receive {
    /// One completion, then nothing is armed.
    Once,
    /// As many as come, until cancelled.
    Stream,
}

/// Operations and completions of one shard.
pub(crate) struct Ring {
    uring: std::mem::ManuallyDrop<IoUring>,
    region: std::mem::ManuallyDrop<Rc<Region>>,
    flights: Vec<Option<Flight>>,
    flights_free: Vec<u32>,
    errands: Vec<Option<Errand>>,
    errands_free: Vec<u32>,
    /// Operations that found the submission queue full even after a flush.
    backlog: VecDeque<squeue::Entry>,
    /// Operations whose last completion is still to come.
    armed: u64,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("armed", &self.armed).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Buffers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffers").field("provided", &self.provided).finish_non_exhaustive()
    }
}

/// Receive buffers shared by all connections of a shard.
pub(crate) struct Buffers {
    region: Rc<Region>,
    count: u16,
    buffer_bytes: u32,
    provided: u16,
    tail: u16,
}

/// Makes ring and buffers, on the thread that will use them.
pub(crate) fn create(count: u16, buffer_bytes: u32) -> io::Result<(Ring, Buffers)> {
    let uring = IoUring::builder()
        .setup_cqsize(COMPLETIONS)
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .build(SUBMISSIONS)?;
    let head_bytes = head_bytes(count);
    let region = Region::map(head_bytes + usize::from(count) * to_usize(buffer_bytes))?;
    let region = Rc::new(region);
    register(&uring, &region, count)?;
    let mut buffers =
        Buffers { region: Rc::clone(&region), count, buffer_bytes, provided: 0, tail: 0 };
    for _ in 0..BUFFERS_FIRST.min(count) {
        buffers.provide_next();
    }
    let ring = Ring {
        uring: std::mem::ManuallyDrop::new(uring),
        region: std::mem::ManuallyDrop::new(region),
        flights: Vec::new(),
        flights_free: Vec::new(),
        errands: Vec::new(),
        errands_free: Vec::new(),
        backlog: VecDeque::new(),
        armed: 0,
    };
    Ok((ring, buffers))
}

#[expect(unsafe_code, reason = "the kernel keeps the address")]
fn register(uring: &IoUring, region: &Region, count: u16) -> io::Result<()> {
    let address = region.start().addr().get() as u64;
    // SAFETY: the region starts with room for `count` entries (`create`), is page aligned, and
    // is unmapped only after the ring has gone (`Ring::drop`).
    unsafe { uring.submitter().register_buf_ring_with_flags(address, count, BUFFER_GROUP, 0) }
}

/// Bytes before the first buffer: the entries, on whole pages.
fn head_bytes(count: u16) -> usize {
    (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(PAGE_BYTES)
}

const fn to_usize(value: u32) -> usize {
    value as usize
}

impl Ring {
    pub(crate) fn as_raw_fd(&self) -> RawFd {
        self.uring.as_raw_fd()
    }

    /// Accepts on this listener until cancelled.
    pub(crate) fn accept(&mut self, fd: RawFd, listener: u32) {
        let operation = opcode::AcceptMulti::new(Fd(fd)).flags(libc::SOCK_CLOEXEC).build();
        self.arm(operation.user_data(Kind::Accept.word(0, listener)));
    }

    /// Receives into the shared buffers.
    pub(crate) fn receive(&mut self, fd: RawFd, conn: ConnId, receive: Receive) {
        let operation = match receive {
            // Polled first even if bytes are there: an attempt at once would overtake receives
            // that are ready already, and with them what the same peer sent before on another
            // connection, such as DISCONNECT.
            Receive::Once => opcode::Recv::new(Fd(fd), std::ptr::null_mut(), 0)
                .ioprio(POLL_FIRST)
                .buf_group(BUFFER_GROUP)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT),
            Receive::Stream => opcode::RecvMulti::new(Fd(fd), BUFFER_GROUP).build(),
        };
        self.arm(operation.user_data(Kind::Receive.conn(conn)));
    }

    /// Sends what `flight` has left. It comes back with the completion.
    pub(crate) fn send(&mut self, fd: RawFd, mut flight: Flight) {
        let index = self.flights_free.pop().unwrap_or_else(|| {
            self.flights.push(None);
            u32::try_from(self.flights.len() - 1).expect("one flight per connection, a u32")
        });
        let operation = flight.operation(fd).user_data(Kind::Send.word(0, index));
        if let Some(place) = self.flights.get_mut(to_usize(index)) {
            *place = Some(flight);
        }
        self.arm(operation);
    }

    /// Performs a file operation. It comes back with the completion.
    pub(crate) fn run(&mut self, mut errand: Errand) {
        let index = self.errands_free.pop().unwrap_or_else(|| {
            self.errands.push(None);
            u32::try_from(self.errands.len() - 1).expect("a log has few operations in flight")
        });
        let operation = errand.operation().user_data(Kind::File.word(0, index));
        if let Some(place) = self.errands.get_mut(to_usize(index)) {
            *place = Some(errand);
        }
        self.arm(operation);
    }

    /// Tells when `fd` becomes readable, again and again.
    pub(crate) fn poll(&mut self, fd: RawFd) {
        let readable = u32::from(libc::POLLIN.unsigned_abs());
        let operation = opcode::PollAdd::new(Fd(fd), readable).multi(true).build();
        self.arm(operation.user_data(Kind::Poll.word(0, 0)));
    }

    /// Rings at the ring of another shard.
    pub(crate) fn knock(&mut self, ring_fd: RawFd, shard: u32) {
        let operation = opcode::MsgRingData::new(Fd(ring_fd), 0, Kind::Bell.word(0, 0), None);
        let quiet = operation.build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push(quiet.user_data(Kind::Knock.word(0, shard)));
    }

    /// Cancels the receive of one connection.
    pub(crate) fn cancel_receive(&mut self, conn: ConnId) {
        self.cancel(CancelBuilder::user_data(Kind::Receive.conn(conn)));
    }

    /// Cancels everything that waits on `fd`.
    pub(crate) fn cancel_all(&mut self, fd: RawFd) {
        self.cancel(CancelBuilder::fd(Fd(fd)).all());
    }

    fn cancel(&mut self, which: CancelBuilder) {
        let operation = opcode::AsyncCancel2::new(which).build();
        let quiet = operation.flags(squeue::Flags::SKIP_SUCCESS);
        self.push(quiet.user_data(Kind::Cancel.word(0, 0)));
    }

    fn arm(&mut self, operation: squeue::Entry) {
        self.armed += 1;
        self.push(operation);
    }

    fn push(&mut self, operation: squeue::Entry) {
        if !self.backlog.is_empty() || !self.try_push(&operation) {
            // The kernel takes everything unless completions have overflowed; then they have to
            // be read first, and the operation waits for the next `enter`.
            let _ = self.enter_raw(0, EnterFlags::empty(), &types::SubmitArgs::new());
            self.refill();
            if !self.backlog.is_empty() || !self.try_push(&operation) {
                self.backlog.push_back(operation);
            }
        }
    }

    #[expect(unsafe_code, reason = "the operation may point to memory")]
    fn try_push(&mut self, operation: &squeue::Entry) -> bool {
        // SAFETY: only sends and file operations point to memory: to a flight or an errand, which
        // `send` or `run` has put (or, from the backlog, put before) into `flights` or `errands`
        // until the completion. The heap memory of either does not move with it.
        unsafe { self.uring.submission().push(operation).is_ok() }
    }

    fn refill(&mut self) {
        while let Some(operation) = self.backlog.pop_front() {
            if !self.try_push(&operation) {
                self.backlog.push_front(operation);
                return;
            }
        }
    }

    /// Submits everything, runs the kernel's deferred work, and, if `wait` is given, sleeps until
    /// something completes or that much time has passed (`Duration::MAX`: for ever).
    pub(crate) fn enter(&mut self, wait: Option<Duration>) -> io::Result<()> {
        self.refill();
        let flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        let result = match wait {
            None => self.enter_raw(0, flags, &types::SubmitArgs::new()),
            Some(Duration::MAX) => self.enter_raw(1, flags, &types::SubmitArgs::new()),
            Some(wait) => {
                let time = types::Timespec::from(wait);
                self.enter_raw(1, flags, &types::SubmitArgs::new().timespec(&time))
            }
        };
        match result.map_err(|error| (error.raw_os_error(), error)) {
            // Time over, a signal, or completions to be read first: the caller looks anyway.
            Ok(()) | Err((Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN), _)) => {
                Ok(())
            }
            Err((_, error)) => Err(error),
        }
    }

    #[expect(unsafe_code, reason = "raw system call")]
    fn enter_raw(
        &mut self,
        want: u32,
        flags: EnterFlags,
        args: &types::SubmitArgs<'_, '_>,
    ) -> io::Result<()> {
        let queued = u32::try_from(self.uring.submission().len()).unwrap_or(u32::MAX);
        let flags = (flags | EnterFlags::EXT_ARG).bits();
        // SAFETY: `args` is the extended argument the flag announces and lives until the return.
        unsafe { self.uring.submitter().enter(queued, want, flags, Some(args)) }.map(drop)
    }

    /// Whether an `enter` without waiting would do anything.
    pub(crate) fn has_work(&mut self) -> bool {
        let submission = self.uring.submission();
        !submission.is_empty()
            || submission.taskrun()
            || submission.cq_overflow()
            || !self.backlog.is_empty()
    }

    /// Whether completions wait to be taken.
    pub(crate) fn has_events(&mut self) -> bool {
        !self.uring.completion().is_empty()
    }

    /// Takes the next completion.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let completion = self.uring.completion().next()?;
        Some(self.decode(&completion))
    }

    #[expect(unsafe_code, reason = "takes ownership of an accepted or opened descriptor")]
    fn decode(&mut self, completion: &cqueue::Entry) -> Event {
        let (generation, index) = unpack(completion.user_data());
        let conn = ConnId::new(index, generation);
        let result = completion.result();
        let more = cqueue::more(completion.flags());
        let Some(kind) = Kind::of(completion.user_data()) else { return Event::Nothing };
        match kind {
            Kind::Accept => {
                self.disarm(more);
                let result = if result < 0 {
                    Err(io::Error::from_raw_os_error(-result))
                } else {
                    // SAFETY: an accept without fixed files yields a new descriptor, told once.
                    Ok(unsafe { OwnedFd::from_raw_fd(result) })
                };
                Event::Accepted { listener: index, result, more }
            }
            Kind::Receive => {
                self.disarm(more);
                match (cqueue::buffer_select(completion.flags()), usize::try_from(result)) {
                    (Some(buffer), Ok(bytes)) if bytes > 0 => {
                        Event::Received { conn, filled: Filled { buffer, bytes }, more }
                    }
                    _ => Event::ReceiveEnded { conn, result },
                }
            }
            Kind::Send => {
                self.disarm(false);
                let flight = self.flights.get_mut(to_usize(index)).and_then(Option::take);
                let flight = flight.expect("a send completes once and its flight was kept");
                self.flights_free.push(index);
                Event::Sent { conn: flight.conn(), flight, result }
            }
            Kind::Poll => {
                self.disarm(more);
                Event::Polled { more }
            }
            Kind::File => {
                self.disarm(false);
                let errand = self.errands.get_mut(to_usize(index)).and_then(Option::take);
                let errand = errand.expect("an errand completes once and was kept");
                self.errands_free.push(index);
                // SAFETY: an open without fixed files yields a new descriptor, told once.
                let opened = (errand.opens() && result >= 0)
                    .then(|| unsafe { OwnedFd::from_raw_fd(result) });
                Event::Ran { errand, result, opened }
            }
            Kind::Bell => Event::Bell,
            Kind::Knock if result < 0 => Event::KnockFailed { shard: index },
            Kind::Knock | Kind::Cancel => Event::Nothing,
        }
    }

    fn disarm(&mut self, more: bool) {
        if !more {
            self.armed = self.armed.checked_sub(1).expect("each operation ends once");
        }
    }

    /// Cancels everything and waits until the kernel points to nothing of ours.
    fn quiet(&mut self) -> bool {
        self.cancel(CancelBuilder::any());
        for _ in 0..QUIET_TRIES {
            if self.armed == 0 {
                break;
            }
            if self.enter(Some(QUIET_WAIT)).is_err() {
                break;
            }
            while self.next_event().is_some() {}
        }
        self.armed == 0
    }
}

impl Drop for Ring {
    #[expect(unsafe_code, reason = "the ring must go before the memory it points to")]
    fn drop(&mut self) {
        let quiet = self.quiet();
        // SAFETY: dropped only here; not used afterwards.
        unsafe { std::mem::ManuallyDrop::drop(&mut self.uring) };
        if quiet {
            // SAFETY: dropped only here; not used afterwards.
            unsafe { std::mem::ManuallyDrop::drop(&mut self.region) };
        } else {
            // The kernel may still read or write: better lose the memory than share it.
            std::mem::forget(std::mem::take(&mut self.flights));
            std::mem::forget(std::mem::take(&mut self.errands));
        }
    }
}

impl Buffers {
    /// The bytes of a filled buffer.
    #[expect(unsafe_code, reason = "the kernel wrote them")]
    pub(crate) fn bytes(&self, filled: &Filled) -> &[u8] {
        assert!(filled.buffer < self.provided && filled.bytes <= to_usize(self.buffer_bytes));
        let offset = self.offset(filled.buffer);
        // SAFETY: the buffer lies in the region and holds at least `bytes` bytes, both asserted
        // above. It belongs to us, not the kernel, because `filled` exists: it was made by the
        // completion, cannot be copied, and `give_back` consumes it.
        unsafe {
            std::slice::from_raw_parts(self.region.start().as_ptr().add(offset), filled.bytes)
        }
    }

    /// Lets the kernel fill the buffer again.
    #[expect(clippy::needless_pass_by_value, reason = "the token must not be used again")]
    pub(crate) fn give_back(&mut self, filled: Filled) {
        self.provide(filled.buffer);
    }

    /// Doubles the buffers in use, up to the maximum.
    pub(crate) fn grow(&mut self) {
        for _ in 0..self.provided.min(self.count - self.provided) {
            self.provide_next();
        }
    }

    /// Gives the memory of all buffers back to the system; they stay in use. Only without
    /// connections: a receive that the kernel has given to a worker fills one at any time. Not
    /// while a completion waits, as its bytes are in one of them.
    pub(crate) fn give_memory_back(&mut self, ring: &mut Ring) {
        if !ring.has_events() && !ring.uring.submission().cq_overflow() {
            self.region.forget(head_bytes(self.count));
        }
    }

    fn provide_next(&mut self) {
        let buffer = self.provided;
        self.provided += 1;
        self.provide(buffer);
    }

    fn offset(&self, buffer: u16) -> usize {
        head_bytes(self.count) + usize::from(buffer) * to_usize(self.buffer_bytes)
    }

    #[expect(unsafe_code, reason = "the entries are shared with the kernel")]
    fn provide(&mut self, buffer: u16) {
        assert!(buffer < self.count);
        let offset = self.offset(buffer);
        assert!(offset + to_usize(self.buffer_bytes) <= self.region.bytes());
        let entries = self.region.start().cast::<BufRingEntry>().as_ptr();
        // SAFETY: the region starts with `count` entries, a power of two, and the index is masked
        // by it; the buffer lies in the region (asserted). The kernel reads entries only below
        // the tail, so this one is ours until the release store. Field by field, because the last
        // field of entry 0 is the tail itself.
        unsafe {
            let entry = entries.add(usize::from(self.tail & (self.count - 1)));
            let address = self.region.start().as_ptr().add(offset).addr() as u64;
            (*entry).set_addr(address);
            (*entry).set_len(self.buffer_bytes);
            (*entry).set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(entries).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}
