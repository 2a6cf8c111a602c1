//! A directory on a disk that keeps exactly what it promises, and no more.
//!
//! Promise to the log: what a successful sync covered survives a crash; it covers the writes that
//! had *completed* when it was issued. Everything else is up to chance: after a crash each 512-byte
//! sector with unsynced writes holds what was there before, any of the newer contents, zeros, or
//! the start of one and the rest of another. Names that were created, changed or removed are there
//! or not until the directory is synced. Operations in flight complete in any order.
//!
//! A sync that fails loses what it should have kept for good, although reading still shows it
//! until the crash, and a later sync succeeds: this is what Linux file systems do. When the process
//! alone ends, reading shows what was written, synced or not; of what a failed sync has lost it
//! shows what the medium has, or, through the page cache, all of it, as if it were there.

use std::collections::BTreeMap;

use crate::log::{Action, File, Lane, Operation, Outcome};

use super::Prng;

/// Unit that a disk writes at once, at best.
const SECTOR_BYTES: usize = 512;
/// `errno` of a broken disk.
const EIO: i32 = 5;
/// `errno` of a full one.
const ENOSPC: i32 = 28;

/// How often what goes wrong, per mille of the operations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Writes that fail, partly done.
    pub write_errors: u64,
    /// Writes that end early.
    pub short_writes: u64,
    /// Syncs that fail once and lose what they covered.
    pub sync_errors: u64,
    /// Bytes of all files together; creating or filling more fails.
    pub space_bytes: Option<usize>,
}

#[derive(Clone, Debug)]
struct Pending {
    id: u64,
    offset: usize,
    bytes: Vec<u8>,
    completed: bool,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    /// What a crash leaves for sure.
    stable: Vec<u8>,
    /// What reading shows.
    current: Vec<u8>,
    /// Unsynced, in the order of issue.
    pending: Vec<Pending>,
    /// What a failed sync has lost.
    failed: Vec<Pending>,
}

#[derive(Clone, Copy, Debug)]
enum NameChange {
    Put(File, u64),
    Rename(File, File),
    Remove(File),
}

#[derive(Debug)]
struct InFlight {
    operation: Operation,
    /// Of a write: its number. Of a sync: how many writes it covers, as the highest number.
    covers: Vec<u64>,
    names: usize,
}

/// The disk. Operations are submitted, then complete one by one.
#[derive(Debug)]
pub struct Disk {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<File, u64>,
    stable_names: BTreeMap<File, u64>,
    name_changes: Vec<NameChange>,
    in_flight: Vec<InFlight>,
    next_id: u64,
    faults: Faults,
    prng: Prng,
    /// Syncs that succeeded.
    pub syncs: u64,
    /// Errors that were returned.
    pub errors: u64,
}

impl Disk {
    /// An empty directory; all that is random comes from `seed`.
    pub fn new(seed: u64, faults: Faults) -> Disk {
        Disk {
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            stable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            in_flight: Vec::new(),
            next_id: 0,
            faults,
            prng: Prng::stream(seed, "disk"),
            syncs: 0,
            errors: 0,
        }
    }

    /// From now on this goes wrong.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Puts a file there, as after a sync of file and directory.
    pub fn install(&mut self, file: File, bytes: &[u8]) {
        let id = self.fresh_id();
        let (stable, current) = (bytes.to_vec(), bytes.to_vec());
        self.inodes.insert(id, Inode { stable, current, ..Inode::default() });
        self.names.insert(file, id);
        self.stable_names.insert(file, id);
    }

    /// Removes a file for good; false if there is none.
    pub fn uninstall(&mut self, file: File) -> bool {
        self.stable_names.remove(&file);
        self.names.remove(&file).is_some()
    }

    /// Names that reading shows.
    pub fn files(&self) -> Vec<File> {
        self.names.keys().copied().collect()
    }

    /// What reading shows; empty if there is no such file.
    pub fn read(&self, file: File) -> &[u8] {
        let inode = self.names.get(&file).and_then(|id| self.inodes.get(id));
        inode.map_or(&[], |inode| &inode.current)
    }

    /// Operations in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Begins an operation. From here on a crash may leave any part of it.
    ///
    /// # Panics
    /// If the offset is beyond all memory.
    pub fn submit(&mut self, operation: Operation) {
        let mut covers = Vec::new();
        match &operation.action {
            Action::Write(write) => {
                let (offset, bytes) = (write.offset(), write.bytes().to_vec());
                let id = self.fresh_id();
                covers.push(id);
                let offset = usize::try_from(offset).expect("simulated files are short");
                if let Some(inode) = self.inode(write.file) {
                    inode.pending.push(Pending { id, offset, bytes, completed: false });
                }
            }
            Action::Sync(file) => {
                if let Some(inode) = self.inode(*file) {
                    let completed = inode.pending.iter().filter(|pending| pending.completed);
                    covers.extend(completed.map(|pending| pending.id));
                }
            }
            Action::Create(_) | Action::Rename(..) | Action::SyncDirectory | Action::Remove(_) => {}
        }
        let names = self.name_changes.len();
        self.in_flight.push(InFlight { operation, covers, names });
    }

    /// One operation in flight ends, any of them; `None` if there is none.
    pub fn complete_one(&mut self) -> Option<(Operation, Outcome)> {
        if self.in_flight.is_empty() {
            return None;
        }
        let index = self.prng.index(self.in_flight.len());
        let InFlight { operation, covers, names } = self.in_flight.swap_remove(index);
        let outcome = match &operation.action {
            Action::Write(write) => self.end_write(write.file, &covers),
            Action::Sync(file) => self.end_sync(*file, &covers),
            Action::Create(file) => self.create(*file),
            Action::Rename(source, target) => self.rename(*source, *target),
            Action::Remove(file) => self.remove(*file),
            Action::SyncDirectory => self.sync_directory(names),
        };
        if let Outcome::Failed(_) = outcome {
            self.errors += 1;
        }
        Some((operation, outcome))
    }

    /// One operation of this lane ends as if it had been done, without being done: what a lying
    /// driver or drive does. `None` if the lane has no sync in flight.
    pub fn skip_sync(&mut self, lane: Lane) -> Option<(Operation, Outcome)> {
        let index = self.in_flight.iter().position(|flight| {
            flight.operation.lane == lane
                && matches!(flight.operation.action, Action::Sync(File::Segment(_)))
        })?;
        Some((self.in_flight.swap_remove(index).operation, Outcome::Done))
    }

    /// Power fails. Afterwards nothing is in flight and all that is there is stable.
    pub fn crash(&mut self) {
        self.in_flight.clear();
        // One crash in four leaves all that was written, as the end of a process does.
        let keep_all = self.prng.chance(250);
        let orderly = self.prng.chance(250);
        let mut names = self.stable_names.clone();
        for change in std::mem::take(&mut self.name_changes) {
            if keep_all || self.prng.chance(500) {
                apply(&mut names, change);
            }
        }
        for inode in self.inodes.values_mut() {
            let mut prng = Prng::new(self.prng.bits());
            if keep_all {
                for pending in &inode.pending {
                    overwrite(&mut inode.stable, pending.offset, &pending.bytes);
                }
            } else if orderly {
                // Everything up to some write, that one torn.
                let whole = prng.index(inode.pending.len() + 1);
                for (index, pending) in inode.pending.iter().enumerate() {
                    let bytes = match index.cmp(&whole) {
                        std::cmp::Ordering::Less => pending.bytes.len(),
                        std::cmp::Ordering::Equal => prng.index(pending.bytes.len() + 1),
                        std::cmp::Ordering::Greater => 0,
                    };
                    let part = pending.bytes.get(..bytes).unwrap_or_default();
                    overwrite(&mut inode.stable, pending.offset, part);
                }
            } else {
                scatter(inode, &mut prng);
            }
            inode.pending.clear();
            inode.failed.clear();
            inode.current.clone_from(&inode.stable);
        }
        let reachable: Vec<u64> = names.values().copied().collect();
        self.inodes.retain(|id, _| reachable.contains(id));
        self.names.clone_from(&names);
        self.stable_names = names;
    }

    /// The process ends, and power does not fail: what was written is there, synced or not, and of
    /// what was in flight any part. With `direct` writes, what a failed sync has lost is there for
    /// good or gone, each write by itself; without, the page cache goes on to show it.
    pub fn end_process(&mut self, direct: bool) {
        while !self.in_flight.is_empty() {
            if self.prng.chance(500) {
                self.complete_one();
                continue;
            }
            let InFlight { operation, covers, .. } = self.in_flight.swap_remove(0);
            let kept = self.prng.bits();
            if let Action::Write(write) = &operation.action
                && let Some(inode) = self.inode(write.file)
                && let Some(part) = inode.pending.iter_mut().find(|part| covers.contains(&part.id))
            {
                let sectors = u64::try_from(part.bytes.len() / SECTOR_BYTES).unwrap_or_default();
                let kept = usize::try_from(kept % (sectors + 1)).unwrap_or_default();
                part.bytes.truncate(kept * SECTOR_BYTES);
                part.completed = true;
                let (offset, bytes) = (part.offset, part.bytes.clone());
                overwrite(&mut inode.current, offset, &bytes);
            }
        }
        let reachable: Vec<u64> =
            self.names.values().chain(self.stable_names.values()).copied().collect();
        self.inodes.retain(|id, _| reachable.contains(id));
        for inode in self.inodes.values_mut().filter(|_| direct) {
            for lost in inode.failed.drain(..) {
                if self.prng.chance(500) {
                    overwrite(&mut inode.stable, lost.offset, &lost.bytes);
                }
            }
            inode.current.clone_from(&inode.stable);
            for written in inode.pending.iter().filter(|pending| pending.completed) {
                overwrite(&mut inode.current, written.offset, &written.bytes);
            }
        }
        // What failed has ended without being done.
        for inode in self.inodes.values_mut() {
            inode.pending.retain(|pending| pending.completed);
        }
    }

    /// A file is synced, without fail.
    pub fn sync_now(&mut self, file: File) {
        if let Some(inode) = self.inode(file) {
            for written in inode.pending.drain(..).filter(|pending| pending.completed) {
                overwrite(&mut inode.stable, written.offset, &written.bytes);
            }
        }
    }

    /// All that reading shows of a file is written anew beside it, synced, and takes its place.
    pub fn copy_and_sync(&mut self, file: File) {
        let bytes = self.read(file).to_vec();
        self.install(file, &bytes);
    }

    /// The directory is synced, as before an opening of the log.
    pub fn sync_names(&mut self) {
        self.name_changes.clear();
        self.stable_names.clone_from(&self.names);
    }

    /// Changes what is stored behind the log's back, as rot does. The file may change its length.
    pub fn rot(&mut self, file: File, change: impl FnOnce(&mut Vec<u8>)) {
        if let Some(inode) = self.inode(file) {
            change(&mut inode.stable);
            inode.current.clone_from(&inode.stable);
            inode.pending.clear();
        }
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn inode(&mut self, file: File) -> Option<&mut Inode> {
        let id = self.names.get(&file)?;
        self.inodes.get_mut(id)
    }

    fn is_full(&self, more_bytes: usize) -> bool {
        let used = || self.inodes.values().map(|inode| inode.current.len()).sum::<usize>();
        self.faults.space_bytes.is_some_and(|space| used() + more_bytes > space)
    }

    fn end_write(&mut self, file: File, covers: &[u64]) -> Outcome {
        let id = covers.first().copied().unwrap_or_default();
        let (fails, ends_early) = (
            self.prng.chance(self.faults.write_errors),
            self.prng.chance(self.faults.short_writes),
        );
        let cut = self.prng.bits();
        let length = self.read(file).len();
        let more = self.inode(file).and_then(|inode| {
            let write = inode.pending.iter().find(|pending| pending.id == id)?;
            Some((write.offset + write.bytes.len()).saturating_sub(length))
        });
        let Some(more) = more else { return Outcome::Failed(EIO) };
        let full = more > 0 && self.is_full(more);
        let Some(inode) = self.inode(file) else { return Outcome::Failed(EIO) };
        let Some(write) = inode.pending.iter_mut().find(|pending| pending.id == id) else {
            return Outcome::Failed(EIO);
        };
        if full {
            inode.pending.retain(|pending| pending.id != id);
            return Outcome::Failed(ENOSPC);
        }
        if fails {
            return Outcome::Failed(EIO);
        }
        if ends_early {
            let sectors = u64::try_from(write.bytes.len() / SECTOR_BYTES).unwrap_or_default();
            let kept = usize::try_from(cut % (sectors + 1)).unwrap_or_default() * SECTOR_BYTES;
            write.bytes.truncate(kept);
        }
        write.completed = true;
        let (offset, bytes) = (write.offset, write.bytes.clone());
        overwrite(&mut inode.current, offset, &bytes);
        Outcome::Wrote(bytes.len())
    }

    fn end_sync(&mut self, file: File, covers: &[u64]) -> Outcome {
        let fails = self.prng.chance(self.faults.sync_errors);
        let Some(inode) = self.inode(file) else { return Outcome::Failed(EIO) };
        if !fails {
            for pending in inode.pending.iter().filter(|pending| covers.contains(&pending.id)) {
                overwrite(&mut inode.stable, pending.offset, &pending.bytes);
            }
        }
        let (covered, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut inode.pending).into_iter().partition(|p| covers.contains(&p.id));
        inode.pending = rest;
        if fails {
            inode.failed.extend(covered);
            return Outcome::Failed(EIO);
        }
        self.syncs += 1;
        Outcome::Done
    }

    fn create(&mut self, file: File) -> Outcome {
        if self.is_full(1) {
            return Outcome::Failed(ENOSPC);
        }
        let id = self.fresh_id();
        self.inodes.insert(id, Inode::default());
        self.change_name(NameChange::Put(file, id));
        Outcome::Done
    }

    fn rename(&mut self, source: File, target: File) -> Outcome {
        if !self.names.contains_key(&source) {
            return Outcome::Failed(EIO);
        }
        self.change_name(NameChange::Rename(source, target));
        Outcome::Done
    }

    fn remove(&mut self, file: File) -> Outcome {
        self.change_name(NameChange::Remove(file));
        let (names, stable) = (&self.names, &self.stable_names);
        let used = |id: &u64| names.values().chain(stable.values()).any(|used| used == id);
        self.inodes.retain(|id, _| used(id));
        Outcome::Done
    }

    fn change_name(&mut self, change: NameChange) {
        apply(&mut self.names, change);
        self.name_changes.push(change);
    }

    fn sync_directory(&mut self, covered: usize) -> Outcome {
        if self.prng.chance(self.faults.sync_errors) {
            return Outcome::Failed(EIO);
        }
        let covered = covered.min(self.name_changes.len());
        for change in self.name_changes.drain(..covered) {
            apply(&mut self.stable_names, change);
        }
        // Another sync in flight covers that much less.
        for flight in &mut self.in_flight {
            flight.names = flight.names.saturating_sub(covered);
        }
        self.syncs += 1;
        Outcome::Done
    }
}

fn apply(names: &mut BTreeMap<File, u64>, change: NameChange) {
    match change {
        NameChange::Put(file, id) => {
            names.insert(file, id);
        }
        NameChange::Rename(source, target) => {
            if let Some(id) = names.remove(&source) {
                names.insert(target, id);
            }
        }
        NameChange::Remove(file) => {
            names.remove(&file);
        }
    }
}

fn overwrite(target: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if target.len() < offset + bytes.len() {
        target.resize(offset + bytes.len(), 0);
    }
    if let Some(place) = target.get_mut(offset..offset + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Each sector by itself: old, one of the new contents, torn, or zero.
fn scatter(inode: &mut Inode, prng: &mut Prng) {
    let mut sectors: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
    for pending in &inode.pending {
        for (index, content) in pending.bytes.chunks(SECTOR_BYTES).enumerate() {
            let at = pending.offset + index * SECTOR_BYTES;
            sectors.entry(at).or_default().push(content.to_vec());
        }
    }
    let kept = prng.below(1001);
    for (at, contents) in sectors {
        let Some(content) = contents.get(prng.index(contents.len())) else { continue };
        if prng.chance(kept) {
            overwrite(&mut inode.stable, at, content);
        } else if prng.chance(100) {
            let torn = prng.index(content.len());
            let torn = content.get(..torn).unwrap_or_default();
            overwrite(&mut inode.stable, at, torn);
        } else if prng.chance(50) {
            overwrite(&mut inode.stable, at, &vec![0; content.len()]);
        }
    }
}

#[cfg(test)]
mod tests;
