//! A drive with a volatile cache: a FUSE file system of one file that forgets what was not synced.
//!
//! ```text
//!   broker ── ext4 ── loop device ── FUSE ── Cache: volatile blocks over the image file
//!                                               │ FSYNC: all of them go to the image
//!                                               └ power cut: each goes, stays out, or is torn
//! ```
//! The kernel's structures are those of `linux/fuse.h`, 7.31; all numbers in the machine's order.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, mount};

use crate::rng::Rng;

const BLOCK_BYTES: usize = 4096;

/// What a drive writes in one piece.
const SECTOR_BYTES: usize = 512;

/// Most bytes of one WRITE.
const WRITE_BYTES_MAX: u32 = 128 << 10;

/// The name of the one file.
pub(crate) const FILE_NAME: &str = "drive";

const ROOT: u64 = 1;
const FILE: u64 = 2;

const EIO: i32 = 5;
const ENOENT: i32 = 2;
const ENOSYS: i32 = 38;

/// The blocks that a power cut may lose.
struct Cache {
    image: File,
    bytes: u64,
    volatile: BTreeMap<u64, Vec<u8>>,
    has_power: bool,
}

/// A mounted drive.
pub(crate) struct Drive {
    cache: Arc<Mutex<Cache>>,
    server: JoinHandle<()>,
}

impl Drive {
    /// Serves `image` as a file in `path`, which is mounted.
    pub(crate) fn mount(image: &Path, path: &Path) -> Result<Self, String> {
        let image = File::options().read(true).write(true).open(image);
        let image = image.map_err(|error| error.to_string())?;
        let bytes = image.metadata().map_err(|error| error.to_string())?.len();
        let cache = Cache { image, bytes, volatile: BTreeMap::new(), has_power: true };
        let cache = Arc::new(Mutex::new(cache));
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let channel = rustix::fs::open("/dev/fuse", flags, Mode::empty());
        let channel = channel.map_err(|error| format!("/dev/fuse: {error}"))?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", channel.as_raw_fd());
        let options = CString::new(options).unwrap();
        mount("drive", path, "fuse", MountFlags::empty(), Some(options.as_c_str()))
            .map_err(|error| format!("fuse: {error}"))?;
        let shared = Arc::clone(&cache);
        let channel = File::from(channel);
        let server = std::thread::spawn(move || serve(&channel, &shared));
        Ok(Self { cache, server })
    }

    /// From now on everything fails.
    pub(crate) fn cut(&self) {
        self.cache.lock().unwrap().has_power = false;
    }

    /// After the unmount: what the cache held has reached the medium, or not, or in part.
    pub(crate) fn settle(self, rng: &mut Rng) {
        self.server.join().expect("the server has ended with the mount");
        let mut cache = self.cache.lock().unwrap();
        let volatile = std::mem::take(&mut cache.volatile);
        // A cache that is mostly lost shows other mistakes than one that is mostly kept.
        let kept = *rng.pick(&[0, 0, 100, 500, 900]);
        for (block, data) in volatile {
            let at = block * BLOCK_BYTES as u64;
            if rng.chance(kept) {
                cache.image.write_all_at(&data, at).unwrap();
                continue;
            }
            let torn = rng.chance(100);
            for sector in (0..BLOCK_BYTES).step_by(SECTOR_BYTES).filter(|_| torn) {
                if rng.chance(500) {
                    let piece = &data[sector..sector + SECTOR_BYTES];
                    cache.image.write_all_at(piece, at + sector as u64).unwrap();
                }
            }
        }
    }
}

impl Cache {
    fn block(&self, block: u64) -> std::io::Result<Vec<u8>> {
        if let Some(data) = self.volatile.get(&block) {
            return Ok(data.clone());
        }
        let mut data = vec![0; BLOCK_BYTES];
        self.image.read_exact_at(&mut data, block * BLOCK_BYTES as u64)?;
        Ok(data)
    }

    fn read(&self, mut offset: u64, bytes: usize) -> std::io::Result<Vec<u8>> {
        let end = (offset + bytes as u64).min(self.bytes);
        let mut out = Vec::with_capacity(bytes);
        while offset < end {
            let from = usize::try_from(offset % BLOCK_BYTES as u64).unwrap();
            let count = (BLOCK_BYTES - from).min(usize::try_from(end - offset).unwrap());
            let data = self.block(offset / BLOCK_BYTES as u64)?;
            out.extend(&data[from..from + count]);
            offset += count as u64;
        }
        Ok(out)
    }

    fn write(&mut self, mut offset: u64, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            let block = offset / BLOCK_BYTES as u64;
            let from = usize::try_from(offset % BLOCK_BYTES as u64).unwrap();
            let (head, tail) = bytes.split_at((BLOCK_BYTES - from).min(bytes.len()));
            let mut data = self.block(block)?;
            data[from..from + head.len()].copy_from_slice(head);
            self.volatile.insert(block, data);
            offset += head.len() as u64;
            bytes = tail;
        }
        Ok(())
    }

    fn sync(&mut self) -> std::io::Result<()> {
        for (block, data) in std::mem::take(&mut self.volatile) {
            self.image.write_all_at(&data, block * BLOCK_BYTES as u64)?;
        }
        Ok(())
    }
}

/// Answers the kernel until the mount is gone.
fn serve(channel: &File, cache: &Mutex<Cache>) {
    let mut request = vec![0; WRITE_BYTES_MAX as usize + 4096];
    loop {
        let count = match std::io::Read::read(&mut &*channel, &mut request) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let request = &request[..count];
        // 0 length, 4 operation, 8 number, 16 node, 24 uid, 28 gid, 32 pid; the body at 40.
        let unique = number(request, 8);
        let Some(answer) = answer(request, &mut cache.lock().unwrap()) else { continue };
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(error) => (-error, Vec::new()),
        };
        let mut reply = Vec::with_capacity(16 + body.len());
        put32(&mut reply, u32::try_from(16 + body.len()).unwrap());
        reply.extend(error.to_ne_bytes());
        put64(&mut reply, &[unique]);
        reply.extend(body);
        // A request that was interrupted meanwhile is not waited for any more.
        let _ = std::io::Write::write(&mut &*channel, &reply);
    }
}

/// What one request comes to; none for those that want no answer.
fn answer(request: &[u8], cache: &mut Cache) -> Option<Result<Vec<u8>, i32>> {
    let node = number(request, 16);
    let body = &request[40..];
    let powered = |result: std::io::Result<Vec<u8>>, has_power: bool| {
        if has_power { result.map_err(|_| EIO) } else { Err(EIO) }
    };
    let has_power = cache.has_power;
    Some(match u32::from_ne_bytes(request[4..8].try_into().unwrap()) {
        // FORGET, INTERRUPT, BATCH_FORGET
        2 | 36 | 42 => return None,
        // LOOKUP
        1 if body == format!("{FILE_NAME}\0").as_bytes() => Ok(entry(cache.bytes)),
        1 => Err(ENOENT),
        // GETATTR, SETATTR (times)
        3 | 4 => {
            let mut out = Vec::new();
            put64(&mut out, &[1, 0]);
            attributes(&mut out, node, cache.bytes);
            Ok(out)
        }
        // OPEN, OPENDIR
        14 | 27 => Ok(vec![0; 16]),
        // READ: 8 offset, 16 bytes
        15 => {
            let bytes = usize::try_from(number(body, 16) & 0xffff_ffff).unwrap();
            powered(cache.read(number(body, 8), bytes), has_power)
        }
        // WRITE: 8 offset, 16 bytes; the data at 40
        16 => {
            let data = &body[40..];
            let bytes = u32::try_from(data.len()).unwrap();
            let done = if has_power { cache.write(number(body, 8), data) } else { Ok(()) };
            let mut out = bytes.to_ne_bytes().to_vec();
            put32(&mut out, 0);
            powered(done.map(|()| out), has_power)
        }
        // STATFS
        17 => {
            let mut out = Vec::new();
            put64(&mut out, &[cache.bytes / BLOCK_BYTES as u64, 0, 0, 2, 0]);
            put32(&mut out, u32::try_from(BLOCK_BYTES).unwrap());
            out.resize(80, 0);
            Ok(out)
        }
        // RELEASE, FLUSH, RELEASEDIR, DESTROY
        18 | 25 | 29 | 38 => Ok(Vec::new()),
        // FSYNC
        20 => {
            let done = if has_power { cache.sync() } else { Ok(()) };
            powered(done.map(|()| Vec::new()), has_power)
        }
        // INIT
        26 => Ok(init()),
        _ => Err(ENOSYS),
    })
}

fn init() -> Vec<u8> {
    let mut out = Vec::new();
    // Version, read-ahead, no flags; queues; largest write; times in nanoseconds.
    for value in [7, 31, 128 << 10, 0, 0, WRITE_BYTES_MAX, 1] {
        put32(&mut out, value);
    }
    out.resize(64, 0);
    out
}

fn entry(bytes: u64) -> Vec<u8> {
    let mut out = Vec::new();
    // Node, generation, how long name and attributes are valid (s, s, ns, ns).
    put64(&mut out, &[FILE, 0, 3600, 3600, 0]);
    attributes(&mut out, FILE, bytes);
    out
}

fn attributes(out: &mut Vec<u8>, node: u64, bytes: u64) {
    let (mode, bytes) = if node == ROOT { (0o040_700, 0) } else { (0o100_600, bytes) };
    // Inode, bytes, sectors; three times; their nanoseconds; mode, links, owner, device, block.
    put64(out, &[node, bytes, bytes / SECTOR_BYTES as u64, 0, 0, 0]);
    for value in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0] {
        put32(out, value);
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_ne_bytes());
}

fn put64(out: &mut Vec<u8>, values: &[u64]) {
    out.extend(values.iter().flat_map(|value| value.to_ne_bytes()));
}
