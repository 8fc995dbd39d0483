//! Which schema the database has: written down in it, raised by migrations, refused if it is newer.
//!
//! The number rises with every change of what records mean that an older version would get wrong.
//! New kinds of jobs and new optional fields do not need that: they are taken as they come.

use super::record::{put_schema, schema};
use super::{Batch, Store, StoreError};

/// Makes of a database with one schema one with the next, in the transaction that raises its number.
pub(crate) type Migration = fn(&dyn Store) -> Result<Batch, StoreError>;

/// The migration at place n leads from schema n to n + 1. Databases from before there was a number
/// have schema 0.
pub(crate) const MIGRATIONS: &[Migration] = &[
    // Only the number is new.
    |_| Ok(Batch::default()),
    // Pools are new: an older version would look for their disks in the default pool.
    |_| Ok(Batch::default()),
];

/// The schema of this version.
pub(crate) fn current() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

/// Brings the database to the schema of this version, a step a transaction: a crash between two of
/// them is continued at the next start.
///
/// # Errors
/// `TooNew` for a schema that this version does not know: nothing has been changed then.
pub(crate) fn migrate(store: &mut dyn Store, migrations: &[Migration]) -> Result<(), StoreError> {
    let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    // A number that cannot be read is a damaged record; what is damaged else shows in its place.
    let found = schema(store)?.unwrap_or(known);
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    if schema(store)? == Some(known) {
        return Ok(());
    }
    let first = usize::try_from(found).unwrap_or(usize::MAX);
    for (number, migration) in (found..).zip(migrations.iter().skip(first)) {
        let mut batch = migration(store)?;
        put_schema(&mut batch, number.saturating_add(1))?;
        store.commit(&batch)?;
        tracing::info!(schema = number.saturating_add(1), "the database was migrated");
    }
    if found == known {
        let mut batch = Batch::default();
        put_schema(&mut batch, known)?;
        store.commit(&batch)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemContents, MemStore, Tree};

    fn name_it(store: &dyn Store) -> Result<Batch, StoreError> {
        let mut batch = Batch::default();
        let seen = store.get(Tree::Records, b"name")?.map_or(0, |value| value.len());
        batch.put_raw(Tree::Records, b"name", vec![b'x'; seen + 1]);
        Ok(batch)
    }

    #[test]
    fn every_missing_migration_is_done_once_and_in_order_over_a_crash_too() {
        let contents = MemContents::default();
        let all: &[Migration] = &[name_it, name_it, name_it];
        migrate(&mut MemStore::open(&contents), &all[..1]).unwrap();
        // The second of two steps does not come to its end.
        contents.fail_after(Some(1), false);
        assert!(migrate(&mut MemStore::open(&contents), all).is_err());
        contents.fail_after(None, false);
        for _ in 0..2 {
            let mut store = MemStore::open(&contents);
            migrate(&mut store, all).unwrap();
            assert_eq!(schema(&store), Ok(Some(3)));
            assert_eq!(store.get(Tree::Records, b"name").unwrap().unwrap(), b"xxx");
        }
    }

    #[test]
    fn a_schema_from_the_future_is_refused_and_left_alone() {
        let contents = MemContents::default();
        let all: &[Migration] = &[name_it, name_it];
        migrate(&mut MemStore::open(&contents), all).unwrap();
        let commits = contents.commits();
        let refused = migrate(&mut MemStore::open(&contents), &all[..1]).unwrap_err();
        assert_eq!(refused, StoreError::TooNew { found: 2, known: 1 });
        assert_eq!(contents.commits(), commits);
    }

    #[test]
    fn a_number_that_cannot_be_read_is_written_again() {
        let mut store = MemStore::open(&MemContents::default());
        migrate(&mut store, MIGRATIONS).unwrap();
        let mut batch = Batch::default();
        batch.put_raw(Tree::Meta, b"schema", b"?".to_vec());
        store.commit(&batch).unwrap();
        assert_eq!(schema(&store), Ok(None));
        migrate(&mut store, MIGRATIONS).unwrap();
        assert_eq!(schema(&store), Ok(Some(current())));
    }
}
