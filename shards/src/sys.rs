//! The few system calls the standard library lacks, each behind a safe function.
//!
//! One of the two files with unsafe code; the other is `net/ring.rs`.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;

/// A counter in the kernel that another thread can poll; wakes a shard from outside.
#[derive(Debug)]
pub(crate) struct EventFd(File);

impl EventFd {
    #[expect(unsafe_code, reason = "the standard library has no eventfd")]
    pub(crate) fn new() -> io::Result<EventFd> {
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above has just made this descriptor and nobody else knows it.
        Ok(EventFd(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Wakes whoever polls. A full counter means that it has been woken often enough.
    pub(crate) fn ring(&self) {
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }

    pub(crate) fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Lets the allocator give back to the system what this thread has freed.
#[expect(unsafe_code, reason = "the allocator's crate has no safe function for it")]
pub(crate) fn give_memory_back() {
    // SAFETY: takes no pointers, and may be called at any time by any thread, whoever allocates.
    unsafe { mi_collect(true) }
}

// The crate declares it behind a feature that needs another crate for C's names of integers.
#[expect(unsafe_code, reason = "a function of C")]
unsafe extern "C" {
    fn mi_collect(force: bool);
}

use libmimalloc_sys as _;

/// Smallest page of all architectures; advice for less than a larger page is refused, and ignored.
const PAGE_BYTES: usize = 4096;

/// Zeroed memory of whole pages, touched only when used.
#[derive(Debug)]
pub(crate) struct Region {
    start: NonNull<u8>,
    bytes: usize,
}

impl Region {
    #[expect(unsafe_code, reason = "an allocator would touch the pages to zero them")]
    pub(crate) fn map(bytes: usize) -> io::Result<Region> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: an anonymous mapping at a place the kernel chooses aliases nothing.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Region { start, bytes })
    }

    /// First byte; page aligned. Valid for `bytes()` bytes while the region lives.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives the memory of the whole pages behind `from` back to the system; what is read there
    /// next is zero.
    #[expect(unsafe_code, reason = "the standard library has no memory advice")]
    pub(crate) fn forget(&self, from: usize) {
        let from = from.next_multiple_of(PAGE_BYTES).min(self.bytes);
        let bytes = self.bytes - from;
        // SAFETY: the range lies in the mapping and begins on a page. Its bytes stay readable and
        // writable; that they change is what the caller asks for.
        unsafe { libc::madvise(self.start.as_ptr().add(from).cast(), bytes, libc::MADV_DONTNEED) };
    }
}

impl Drop for Region {
    #[expect(unsafe_code, reason = "gives back what `map` took")]
    fn drop(&mut self) {
        // SAFETY: `start` and `bytes` are those of one successful mmap, unmapped only here.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// CPUs this process may run on, ascending.
#[expect(unsafe_code, reason = "the standard library tells only their number")]
pub(crate) fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: a CPU set is a plain array of bits; all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the given number of bytes into `set`.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let count = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    // SAFETY: `cpu` is less than CPU_SETSIZE, the number of bits of the set.
    Ok((0..count).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// A soft limit of this process; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Open descriptors.
    Descriptors,
    /// Bytes locked in memory.
    LockedBytes,
}

#[expect(unsafe_code, reason = "the standard library has no resource limits")]
pub(crate) fn soft_limit(limit: Limit) -> io::Result<Option<u64>> {
    let resource = match limit {
        Limit::Descriptors => libc::RLIMIT_NOFILE,
        Limit::LockedBytes => libc::RLIMIT_MEMLOCK,
    };
    let mut value = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit`, which `value` is.
    if unsafe { libc::getrlimit(resource, &raw mut value) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((value.rlim_cur != libc::RLIM_INFINITY).then_some(value.rlim_cur))
}

/// Gives the calling thread a niceness and a slice of time of its own. Only slices of at least
/// Linux 6.12 count.
#[expect(unsafe_code, reason = "the standard library does not schedule")]
pub(crate) fn schedule(nice: i32, slice_ns: u64) -> io::Result<()> {
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).unwrap_or_default(),
        sched_policy: libc::SCHED_OTHER.cast_unsigned(),
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: slice_ns,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes, which `attributes` has.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A message header without address, data and control.
#[expect(unsafe_code, reason = "the header has private padding on some systems")]
pub(crate) fn empty_message() -> libc::msghdr {
    // SAFETY: null pointers with zero counts are a valid header.
    unsafe { std::mem::zeroed() }
}

/// One line of the system's list of users, or of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Room for the texts of one entry.
const ENTRY_BYTES: usize = 64 << 10;

/// Looks a user up, wherever the system keeps its users.
#[expect(unsafe_code, reason = "the standard library does not look users up")]
pub(crate) fn user(name: &CStr) -> io::Result<Option<Entry>> {
    // SAFETY: integers and null pointers are a valid entry.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    let mut texts = vec![0; ENTRY_BYTES];
    // SAFETY: `name` ends with a zero; the other pointers are to live memory of the stated size,
    // and only numbers of `entry` are read after the call.
    let result = unsafe {
        let (texts, bytes) = (texts.as_mut_ptr(), texts.len());
        libc::getpwnam_r(name.as_ptr(), &raw mut entry, texts, bytes, &raw mut found)
    };
    match result {
        0 if found.is_null() => Ok(None),
        0 => Ok(Some(Entry { uid: entry.pw_uid, gid: entry.pw_gid })),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Looks a group up.
#[expect(unsafe_code, reason = "the standard library does not look groups up")]
pub(crate) fn group(name: &CStr) -> io::Result<Option<u32>> {
    // SAFETY: integers and null pointers are a valid entry.
    let mut entry: libc::group = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    let mut texts = vec![0; ENTRY_BYTES];
    // SAFETY: as in `user`.
    let result = unsafe {
        let (texts, bytes) = (texts.as_mut_ptr(), texts.len());
        libc::getgrnam_r(name.as_ptr(), &raw mut entry, texts, bytes, &raw mut found)
    };
    match result {
        0 if found.is_null() => Ok(None),
        0 => Ok(Some(entry.gr_gid)),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Becomes a user with its groups, in all threads of the process: the C library tells each of them,
/// where the kernel would change the calling one alone.
#[expect(unsafe_code, reason = "the standard library changes no user")]
pub(crate) fn become_user(name: &CStr, entry: Entry) -> io::Result<()> {
    let Entry { uid, gid } = entry;
    let told = |result: libc::c_int| match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: `name` ends with a zero.
    told(unsafe { libc::initgroups(name.as_ptr(), gid) })?;
    // SAFETY: takes no pointers.
    told(unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: takes no pointers.
    told(unsafe { libc::setresuid(uid, uid, uid) })
}

/// Tries to become root again; says whether that was possible.
#[expect(unsafe_code, reason = "the standard library changes no user")]
pub(crate) fn can_become_root() -> bool {
    // SAFETY: takes no pointers.
    unsafe { libc::setresuid(0, 0, 0) == 0 || libc::setuid(0) == 0 }
}
