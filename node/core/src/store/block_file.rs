//! The file under the database: blocks of 4 KiB, each with a checksum that every read compares. A
//! damaged block is an error of the read, so the database never works on damaged bytes. Knows
//! nothing of what the blocks contain. Start reading at [`BlockFile`].
//!
//! ```text
//! block 0               name and version of the format, checksum
//! block 1               checksums of the next 512 blocks, 8 bytes each; zero: never written
//! blocks 2 to 513       the database's bytes 0 to 2 MiB
//! block 514             checksums of the next 512 blocks, and so on
//! ```
//!
//! The database's first block, its header, is the only one that the database writes in place. It
//! carries its checksum itself, in the same sector: a disk writes a sector wholly or not at all, so
//! a crash can't separate the two. Every other block is written before a commit refers to it, and
//! so is its checksum: [`BlockFile::sync_data`] brings both to disk.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

use super::StoreError;
use super::checksum::checksum;

/// Bytes of a block: the database's page size.
pub(super) const BLOCK_BYTES: usize = 4_096;
const BLOCK: u64 = BLOCK_BYTES as u64;
/// Blocks whose checksums fill one block.
const GROUP_BLOCKS: u64 = BLOCK / 8;
/// Most blocks of checksums that are kept in memory: 4 MiB, for 2 GiB of data.
const GROUPS_MAX: usize = 1_024;
/// Bytes that the database's header may take, and its checksum: together one sector.
const HEADER_BYTES: usize = 504;
const SECTOR_BYTES: usize = 512;
/// The first bytes of the file.
const NAME: [u8; 16] = *b"pithead store\r\n\x1a";
/// The first bytes of a database without checksums, as versions before this format wrote it.
const OLD_NAME: [u8; 9] = *b"redb\x1a\n\xa9\r\n";
/// Bytes of the name, the version, and four zeros. Their checksum follows.
const FORMAT_BYTES: usize = NAME.len() + 8;

/// What a file turns out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A file of this format, with the version of its content.
    Version(u32),
    /// A database without checksums.
    Old,
    /// Nothing that this program writes, or damaged in its first bytes.
    Unknown,
}

/// The first damage that a file met, for whoever has to report it: the database passes on only that
/// some read failed.
#[derive(Debug, Clone, Default)]
pub(super) struct Damage(Arc<Mutex<Option<String>>>);

impl Damage {
    /// What is damaged; `None` if nothing was found.
    pub(super) fn found(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn note(&self, what: String) -> io::Error {
        let error = io::Error::new(io::ErrorKind::InvalidData, what.clone());
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(what);
        error
    }
}

/// Whether a file is opened to be written or only to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Write,
    Read,
}

/// The file. It is locked as long as it is open.
#[derive(Debug)]
pub(super) struct BlockFile {
    file: File,
    path: PathBuf,
    sums: Mutex<BTreeMap<u64, Group>>,
    damage: Damage,
    /// Whether syncs reach the disk. A file that no crash has to survive can do without.
    syncs: bool,
    /// Whether the header is read although its checksum is wrong.
    trusts_header: AtomicBool,
}

/// The checksums of one group of blocks.
#[derive(Debug)]
struct Group {
    sums: Vec<u64>,
    /// Whether they differ from those in the file.
    changed: bool,
}

/// What the file at `path` is.
pub(super) fn format_of(path: &Path) -> Result<Format, StoreError> {
    let mut start = [0; FORMAT_BYTES + 8];
    let file = File::open(path).map_err(|error| StoreError::io(path, error))?;
    let mut filled = 0;
    while filled < start.len() {
        match file.read_at(&mut start[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(StoreError::io(path, error)),
        }
    }
    let (format, sum) = start.split_at(FORMAT_BYTES);
    if sum == checksum(0, format).to_le_bytes() && format.starts_with(&NAME) {
        let version = format[NAME.len()..NAME.len() + 4].try_into();
        return Ok(version.map_or(Format::Unknown, |version| {
            Format::Version(u32::from_le_bytes(version))
        }));
    }
    Ok(if start.starts_with(&OLD_NAME) {
        Format::Old
    } else {
        Format::Unknown
    })
}

impl BlockFile {
    /// Makes a new file for content of a version, in place of what is there.
    pub(super) fn create(path: &Path, version: u32, syncs: bool) -> Result<Self, StoreError> {
        let fail = |error| StoreError::io(path, error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .map_err(fail)?;
        let mut block = NAME.to_vec();
        block.extend_from_slice(&version.to_le_bytes());
        block.resize(FORMAT_BYTES, 0);
        block.extend_from_slice(&checksum(0, &block).to_le_bytes());
        block.resize(BLOCK_BYTES, 0);
        file.write_all_at(&block, 0).map_err(fail)?;
        Ok(Self::of(file, path, syncs))
    }

    /// Opens a file whose format is known.
    pub(super) fn open(path: &Path, access: Access) -> Result<Self, StoreError> {
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::Write)
            .open(path)
            .map_err(|error| StoreError::io(path, error))?;
        Ok(Self::of(file, path, true))
    }

    fn of(file: File, path: &Path, syncs: bool) -> Self {
        Self {
            file,
            path: path.to_owned(),
            sums: Mutex::default(),
            damage: Damage::default(),
            syncs,
            trusts_header: AtomicBool::new(false),
        }
    }

    /// What is damaged, as far as reads have found.
    pub(super) fn damage(&self) -> Damage {
        self.damage.clone()
    }

    /// Whether the database's header is as it was written.
    pub(super) fn header_is_sound(&self) -> Result<bool, StoreError> {
        match self.read_sector() {
            Ok(sector) => Ok(is_sound(&sector)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(StoreError::io(&self.path, error)),
        }
    }

    /// Lets the database read its header although its checksum is wrong, until it is written. The
    /// database must then check everything that the header leads to.
    pub(super) fn trust_header(&self) {
        self.trusts_header.store(true, Ordering::Relaxed);
    }

    fn read_sector(&self) -> io::Result<[u8; SECTOR_BYTES]> {
        let mut sector = [0; SECTOR_BYTES];
        self.file.read_exact_at(&mut sector, place_of(0))?;
        Ok(sector)
    }

    fn read_header(&self, out: &mut [u8]) -> io::Result<()> {
        let sector = self.read_sector()?;
        if !is_sound(&sector) && !self.trusts_header.load(Ordering::Relaxed) {
            return Err(self.damaged(0));
        }
        let Some(header) = sector[..HEADER_BYTES].get(..out.len()) else {
            return Err(unaligned());
        };
        out.copy_from_slice(header);
        Ok(())
    }

    fn write_header(&self, data: &[u8]) -> io::Result<()> {
        let mut sector = [0; SECTOR_BYTES];
        let Some(header) = sector[..HEADER_BYTES].get_mut(..data.len()) else {
            return Err(unaligned());
        };
        header.copy_from_slice(data);
        let sum = checksum(0, &sector[..HEADER_BYTES]);
        sector[HEADER_BYTES..].copy_from_slice(&sum.to_le_bytes());
        self.file.write_all_at(&sector, place_of(0))?;
        self.trusts_header.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// The stored checksums of `count` blocks of one group.
    fn sums_of(&self, first: u64, count: usize) -> io::Result<Vec<u64>> {
        let mut groups = self.lock_sums();
        let group = self.group(&mut groups, first / GROUP_BLOCKS)?;
        let from = in_group(first);
        Ok(group.sums.iter().skip(from).take(count).copied().collect())
    }

    fn set_sums(&self, first: u64, data: &[u8]) -> io::Result<()> {
        let mut groups = self.lock_sums();
        let group = self.group(&mut groups, first / GROUP_BLOCKS)?;
        let slots = group.sums.iter_mut().skip(in_group(first));
        for ((slot, block), number) in slots.zip(data.chunks(BLOCK_BYTES)).zip(first..) {
            *slot = checksum(number, block);
        }
        group.changed = true;
        Ok(())
    }

    fn lock_sums(&self) -> MutexGuard<'_, BTreeMap<u64, Group>> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The checksums of a group, which are read if they are not in memory.
    fn group<'a>(
        &self,
        groups: &'a mut BTreeMap<u64, Group>,
        number: u64,
    ) -> io::Result<&'a mut Group> {
        if !groups.contains_key(&number) {
            if groups.len() >= GROUPS_MAX {
                self.write_sums(groups)?;
                groups.clear();
            }
            let mut bytes = vec![0; BLOCK_BYTES];
            self.file
                .read_exact_at(&mut bytes, place_of_sums(number))
                .map_err(|error| self.cut_off(error))?;
            let sums = bytes
                .chunks_exact(8)
                .map(|bytes| bytes.try_into().map_or(0, u64::from_le_bytes))
                .collect();
            let group = Group {
                sums,
                changed: false,
            };
            groups.insert(number, group);
        }
        groups
            .get_mut(&number)
            .ok_or_else(|| io::Error::other("a group of checksums is gone"))
    }

    fn write_sums(&self, groups: &mut BTreeMap<u64, Group>) -> io::Result<()> {
        for (number, group) in groups.iter_mut().filter(|(_, group)| group.changed) {
            let bytes: Vec<u8> = group
                .sums
                .iter()
                .flat_map(|sum| sum.to_le_bytes())
                .collect();
            self.file.write_all_at(&bytes, place_of_sums(*number))?;
            group.changed = false;
        }
        Ok(())
    }

    fn damaged(&self, block: u64) -> io::Error {
        let place = place_of(block);
        let path = self.path.display();
        self.damage.note(format!(
            "{path}: the block at byte {place} is not as it was written"
        ))
    }

    /// An error of a read; the end of the file comes too early only if the file is damaged.
    fn cut_off(&self, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            let path = self.path.display();
            return self
                .damage
                .note(format!("{path} ends before its last block"));
        }
        error
    }
}

impl StorageBackend for BlockFile {
    fn len(&self) -> io::Result<u64> {
        let blocks = self.file.metadata()?.len() / BLOCK;
        let (groups, rest) = (
            blocks.saturating_sub(1) / (GROUP_BLOCKS + 1),
            blocks.saturating_sub(1) % (GROUP_BLOCKS + 1),
        );
        Ok((groups * GROUP_BLOCKS + rest.saturating_sub(1)) * BLOCK)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset == 0 {
            return self.read_header(out);
        }
        let mut rest = out;
        for run in runs(offset, rest.len())? {
            let (part, after) = rest.split_at_mut(run.count * BLOCK_BYTES);
            self.file
                .read_exact_at(part, place_of(run.first))
                .map_err(|error| self.cut_off(error))?;
            let sums = self.sums_of(run.first, run.count)?;
            for ((block, sum), number) in part.chunks(BLOCK_BYTES).zip(sums).zip(run.first..) {
                if checksum(number, block) != sum {
                    return Err(self.damaged(number));
                }
            }
            rest = after;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let blocks = len / BLOCK;
        if !len.is_multiple_of(BLOCK) {
            return Err(unaligned());
        }
        // Checksums of blocks that are cut off must not be written behind the new end.
        self.lock_sums().split_off(&blocks.div_ceil(GROUP_BLOCKS));
        self.file.set_len(match blocks.checked_sub(1) {
            None => BLOCK,
            Some(last) => place_of(last) + BLOCK,
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.write_sums(&mut self.lock_sums())?;
        if self.syncs {
            self.file.sync_data()?;
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset == 0 {
            return self.write_header(data);
        }
        let mut rest = data;
        for run in runs(offset, rest.len())? {
            let (part, after) = rest.split_at(run.count * BLOCK_BYTES);
            self.file.write_all_at(part, place_of(run.first))?;
            self.set_sums(run.first, part)?;
            rest = after;
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.write_sums(&mut self.lock_sums())?;
        self.file.unlock()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        whole(start, end)?;
        as_lock(self.file.try_lock())
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        whole(start, end)?;
        as_lock(self.file.try_lock_shared())
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        whole(start, end)?;
        self.file.unlock().map_err(BackendError::Io)
    }
}

/// Blocks of one group that follow one another, in the file as well.
struct Run {
    first: u64,
    count: usize,
}

/// The runs that `len` bytes from `offset` consist of.
fn runs(offset: u64, len: usize) -> io::Result<Vec<Run>> {
    if !offset.is_multiple_of(BLOCK) || !len.is_multiple_of(BLOCK_BYTES) {
        return Err(unaligned());
    }
    let mut found = Vec::new();
    let mut first = offset / BLOCK;
    let mut left = len / BLOCK_BYTES;
    while left > 0 {
        let room = BLOCK_BYTES / 8 - in_group(first);
        let count = left.min(room);
        found.push(Run { first, count });
        first += count as u64;
        left -= count;
    }
    Ok(found)
}

fn in_group(block: u64) -> usize {
    // Less than 512, so it fits anywhere.
    usize::try_from(block % GROUP_BLOCKS).unwrap_or(0)
}

/// Where a group's checksums are in the file.
fn place_of_sums(group: u64) -> u64 {
    (1 + group * (GROUP_BLOCKS + 1)) * BLOCK
}

/// Where a block of the database is in the file.
fn place_of(block: u64) -> u64 {
    place_of_sums(block / GROUP_BLOCKS) + (1 + block % GROUP_BLOCKS) * BLOCK
}

fn is_sound(sector: &[u8; SECTOR_BYTES]) -> bool {
    let (header, sum) = sector.split_at(HEADER_BYTES);
    checksum(0, header).to_le_bytes() == sum
}

fn unaligned() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "the database reads and writes whole blocks, apart from its header",
    )
}

/// Locks are on the whole file only.
fn whole(start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
    match (start, end) {
        (Bound::Unbounded | Bound::Included(0), Bound::Unbounded) => Ok(()),
        _ => Err(BackendError::Unsupported),
    }
}

fn as_lock(result: Result<(), std::fs::TryLockError>) -> Result<bool, BackendError> {
    match result {
        Ok(()) => Ok(true),
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        Err(std::fs::TryLockError::Error(error)) => Err(BackendError::Io(error)),
    }
}
