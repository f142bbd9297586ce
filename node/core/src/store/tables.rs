//! The database over its checked file: made, opened, and its errors told apart. Knows no content of
//! the tables. Start reading at [`Tables::open`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase as _, StorageBackend,
    TableDefinition, WriteTransaction,
};

use super::block_file::{Access, BlockFile, Damage, Format, format_of};
use super::bodies::End;
use super::rehearsal::Rehearsal;
use super::schema::SCHEMA_VERSION;
use super::{StoreError, Table};

/// Block hash → place of its body in the files.
pub(super) const BODIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("bodies");
/// Key in [`Table::Meta`] of where the body files end.
pub(super) const BODIES_END: &[u8] = b"bodies_end";
/// The schema version of databases without checksums, the last before this format.
const OLD_VERSION: u32 = 1;

/// The definition of a table.
pub(super) fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(match table {
        Table::Entries => "entries",
        Table::BestChain => "best_chain",
        Table::Undo => "undo",
        Table::Accounts => "accounts",
        Table::StateNodes => "state_nodes",
        Table::StaleNodes => "stale_nodes",
        Table::Transactions => "transactions",
        Table::AccountTransactions => "account_transactions",
        Table::Meta => "meta",
        Table::Certificates => "certificates",
        Table::Links => "links",
        Table::FinalPath => "final_path",
        Table::Evidence => "evidence",
        Table::Staged => "staged",
        Table::LeadingVotes => "leading_votes",
    })
}

impl Damage {
    /// An error of the database: damage, if the file's reads or the database found some.
    pub(super) fn error(&self, error: impl Into<redb::Error>) -> StoreError {
        let error = error.into();
        match (self.found(), &error) {
            (Some(what), _) => StoreError::Damaged(what),
            (None, redb::Error::Corrupted(what)) => StoreError::Damaged(what.clone()),
            (None, _) => StoreError::database(error),
        }
    }
}

/// The open database.
pub(super) struct Tables {
    database: Database,
    damage: Damage,
}

impl Tables {
    /// Makes a database with empty tables in a new file. If `syncs` is false, it does not survive a
    /// crash of the machine.
    pub(super) fn create<B: StorageBackend>(
        path: &Path,
        cache_bytes: usize,
        syncs: bool,
        wrap: impl FnOnce(BlockFile) -> B,
    ) -> Result<Self, StoreError> {
        let file = BlockFile::create(path, SCHEMA_VERSION, syncs)?;
        let damage = file.damage();
        let database = Builder::new()
            .set_cache_size(cache_bytes)
            .create_with_backend(wrap(file))
            .map_err(|error| damage.error(error))?;
        let tables = Self { database, damage };
        let fail = |error: redb::Error| tables.error(error);
        let transaction = tables.write(true)?;
        for definition in Table::ALL.into_iter().map(definition).chain([BODIES]) {
            transaction
                .open_table(definition)
                .map_err(|error| fail(error.into()))?;
        }
        transaction.commit().map_err(|error| fail(error.into()))?;
        Ok(tables)
    }

    /// Opens the database at `path` to write to it.
    pub(super) fn open<B: StorageBackend>(
        path: &Path,
        cache_bytes: usize,
        wrap: impl FnOnce(BlockFile) -> B,
    ) -> Result<Self, StoreError> {
        let (file, sound) = open_file(path, Access::Write)?;
        let damage = file.damage();
        Self::over(wrap(file), damage, path, cache_bytes, sound, !sound)
    }

    /// Opens the database at `path` without changing it. With `check`, every block is read and the
    /// database's own checks are made.
    pub(super) fn rehearse(
        path: &Path,
        cache_bytes: usize,
        check: bool,
    ) -> Result<Self, StoreError> {
        let (file, sound) = open_file(path, Access::Read)?;
        let damage = file.damage();
        let rehearsal = Rehearsal::new(file).map_err(|error| StoreError::io(path, error))?;
        Self::over(rehearsal, damage, path, cache_bytes, sound, check || !sound)
    }

    fn over<B: StorageBackend>(
        backend: B,
        damage: Damage,
        path: &Path,
        cache_bytes: usize,
        sound: bool,
        check: bool,
    ) -> Result<Self, StoreError> {
        let mut builder = Builder::new();
        builder
            .set_cache_size(cache_bytes)
            .set_check_integrity_on_open(check);
        let open = || builder.create_with_backend(backend);
        let header = || StoreError::Damaged(format!("{}: the database's header", path.display()));
        let opened = if sound {
            open()
        } else {
            // The header's checksum is wrong, and nothing else protects the header's fields. The
            // database checks all that they lead to, but does not promise to refuse each wrong
            // value without a panic. This is the only place where it sees damaged bytes.
            catch_unwind(AssertUnwindSafe(open)).map_err(|_| header())?
        };
        match opened {
            Ok(database) => Ok(Self { database, damage }),
            Err(DatabaseError::DatabaseAlreadyOpen) => Err(StoreError::Locked {
                path: path.parent().unwrap_or(path).to_owned(),
            }),
            Err(error) if sound || damage.found().is_some() => Err(damage.error(error)),
            Err(_) => Err(header()),
        }
    }

    /// An error of the database.
    pub(super) fn error(&self, error: impl Into<redb::Error>) -> StoreError {
        self.damage.error(error)
    }

    /// What is damaged, as far as reads have found.
    pub(super) fn damage(&self) -> &Damage {
        &self.damage
    }

    /// The tables as they stand now.
    pub(super) fn read(&self) -> Result<ReadTransaction, StoreError> {
        self.database
            .begin_read()
            .map_err(|error| self.error(error))
    }

    /// Begins to change the tables. The commit is on disk on return if `on_disk`, and otherwise with
    /// the next one that is.
    pub(super) fn write(&self, on_disk: bool) -> Result<WriteTransaction, StoreError> {
        let begun = self.database.begin_write();
        let mut transaction = begun.map_err(|error| self.error(error))?;
        let durability = if on_disk {
            redb::Durability::Immediate
        } else {
            redb::Durability::None
        };
        transaction
            .set_durability(durability)
            .map_err(|error| self.error(error))?;
        // With it, a start after a crash takes milliseconds; without it, redb scans the file. It
        // also makes redb name a commit only once all of its blocks are on disk, so that a start
        // never reads a block that a crash tore.
        transaction.set_quick_repair(on_disk);
        Ok(transaction)
    }

    /// Where the body files end.
    pub(super) fn bodies_end(&self) -> Result<End, StoreError> {
        let transaction = self.read()?;
        let meta = transaction
            .open_table(definition(Table::Meta))
            .map_err(|error| self.error(error))?;
        match meta.get(BODIES_END).map_err(|error| self.error(error))? {
            None => Ok(End::default()),
            Some(bytes) => End::from_bytes(bytes.value())
                .ok_or_else(|| StoreError::Damaged("end of the body files".to_owned())),
        }
    }

    /// Closes the database, with everything on disk.
    pub(super) fn close(self) -> Result<(), StoreError> {
        let Self { database, damage } = self;
        database.close().map_err(|error| damage.error(error))
    }
}

/// Opens a file of this program's version. Also returns whether the database's header is sound; if
/// not, the database may read it, and has to check it.
fn open_file(path: &Path, access: Access) -> Result<(BlockFile, bool), StoreError> {
    let damaged = |what: &str| StoreError::Damaged(format!("{}: {what}", path.display()));
    let found = match format_of(path)? {
        Format::Version(found) => found,
        Format::Old => OLD_VERSION,
        Format::Unknown => return Err(damaged("its first bytes")),
    };
    if found != SCHEMA_VERSION {
        return Err(StoreError::WrongSchema {
            path: path.parent().unwrap_or(path).to_owned(),
            found,
            expected: SCHEMA_VERSION,
        });
    }
    let file = BlockFile::open(path, access)?;
    let len = file.len().map_err(|error| StoreError::io(path, error))?;
    if len == 0 {
        // The database would begin anew in a file without blocks.
        return Err(damaged("it has no blocks"));
    }
    let sound = file.header_is_sound()?;
    if !sound {
        tracing::warn!(path = %path.display(), "the database's header is damaged: checking the whole file");
        file.trust_header();
    }
    Ok((file, sound))
}
