//! A file operation on its way, and the memory and descriptors the kernel uses meanwhile.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{opcode, squeue};

use crate::log::{Action, AlignedBuffer, Operation};

/// Rights of new files.
const FILE_MODE: u32 = 0o600;

/// What an errand is for.
#[derive(Debug)]
pub(crate) enum Duty {
    /// The log waits for it.
    Log(Operation),
    /// A read waits for the descriptor of this segment.
    Open { read: usize, segment: u64 },
    /// A read waits for the bytes.
    Read { read: usize },
}

/// What the kernel is to do.
#[derive(Debug)]
pub(crate) enum Call {
    /// Writes what the log's operation holds, at most so many bytes.
    Write {
        file: Rc<OwnedFd>,
        bytes_max: usize,
    },
    /// fdatasync, or fsync of a directory.
    Sync {
        file: Rc<OwnedFd>,
        directory: bool,
    },
    Open {
        directory: Rc<OwnedFd>,
        path: CString,
        flags: i32,
    },
    Rename {
        directory: Rc<OwnedFd>,
        source: CString,
        target: CString,
    },
    Unlink {
        directory: Rc<OwnedFd>,
        path: CString,
    },
    Read {
        file: Rc<OwnedFd>,
        offset: u64,
        buffer: AlignedBuffer,
    },
}

/// One operation, from its submission to its completion. Boxed: what the kernel knows stays.
#[derive(Debug)]
pub(crate) struct Errand(Box<Inner>);

#[derive(Debug)]
struct Inner {
    duty: Duty,
    call: Call,
}

impl Errand {
    pub(crate) fn new(duty: Duty, call: Call) -> Errand {
        Errand(Box::new(Inner { duty, call }))
    }

    /// Does it bring a descriptor?
    pub(crate) fn opens(&self) -> bool {
        matches!(self.0.call, Call::Open { .. })
    }

    pub(crate) fn unpack(self) -> (Duty, Call) {
        let Inner { duty, call } = *self.0;
        (duty, call)
    }

    /// The operation. It points into this errand's heap memory and names its descriptors.
    pub(crate) fn operation(&mut self) -> squeue::Entry {
        let Inner { duty, call } = &mut *self.0;
        match call {
            Call::Write { file, bytes_max } => {
                let Duty::Log(Operation { action: Action::Write(write), .. }) = duty else {
                    unreachable!("only the log writes");
                };
                let bytes = write.bytes();
                let count = length(bytes.len().min(*bytes_max));
                let fd = Fd(file.as_raw_fd());
                opcode::Write::new(fd, bytes.as_ptr(), count).offset(write.offset()).build()
            }
            Call::Sync { file, directory } => {
                let flags = if *directory { FsyncFlags::empty() } else { FsyncFlags::DATASYNC };
                opcode::Fsync::new(Fd(file.as_raw_fd())).flags(flags).build()
            }
            Call::Open { directory, path, flags } => {
                let open = opcode::OpenAt::new(Fd(directory.as_raw_fd()), path.as_ptr());
                open.flags(*flags).mode(FILE_MODE).build()
            }
            Call::Rename { directory, source, target } => {
                let fd = Fd(directory.as_raw_fd());
                opcode::RenameAt::new(fd, source.as_ptr(), fd, target.as_ptr()).build()
            }
            Call::Unlink { directory, path } => {
                opcode::UnlinkAt::new(Fd(directory.as_raw_fd()), path.as_ptr()).build()
            }
            Call::Read { file, offset, buffer } => {
                let bytes = buffer.as_mut_slice();
                let count = length(bytes.len());
                let fd = Fd(file.as_raw_fd());
                opcode::Read::new(fd, bytes.as_mut_ptr(), count).offset(*offset).build()
            }
        }
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("one operation moves a few MiB at most")
}
