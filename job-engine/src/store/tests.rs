use std::io::Write as _;
use std::path::Path;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::catalogue::Target;
use crate::engine::Change;

fn target(name: &str) -> Target {
    Target {
        name: name.to_owned(),
        alias: String::new(),
        created: Timestamp::from_second(1_800_000_000).unwrap(),
        access: None,
    }
}

fn entry(number: u64, name: &str) -> JournalEntry {
    JournalEntry {
        time: Timestamp::from_second(1_800_000_000).unwrap(),
        number,
        reset: false,
        schema: current_schema(),
        changes: vec![Change::PutTarget(target(name))],
    }
}

fn put(batch: &mut Batch, tree: Tree, name: &str) {
    batch.put(tree, name.as_bytes(), &target(name)).unwrap();
}

fn batch_of(names: &[&str]) -> Batch {
    let mut batch = Batch::default();
    names.iter().for_each(|name| put(&mut batch, Tree::Targets, name));
    batch
}

fn names(store: &dyn Store) -> Vec<String> {
    let (targets, bad) = load::<Target>(store, Tree::Targets).unwrap();
    assert!(bad.is_empty(), "{bad:?}");
    targets.into_iter().map(|target| target.name).collect()
}

fn sled(directory: &Path) -> SledStore {
    let opened = SledStore::open(directory).unwrap();
    assert_eq!(opened.moved_to, None);
    opened.store
}

#[test]
fn a_record_with_a_flipped_bit_is_reported_and_the_others_are_read() {
    let contents = MemContents::default();
    let mut store = MemStore::open(&contents);
    store.commit(&batch_of(&["a", "b", "c"])).unwrap();
    let sealed = store.get(Tree::Targets, b"b").unwrap().unwrap();
    for bit in 0..sealed.len() * 8 {
        let mut value = sealed.clone();
        value[bit / 8] ^= 1 << (bit % 8);
        let mut batch = Batch::default();
        batch.put_raw(Tree::Targets, b"b", value);
        store.commit(&batch).unwrap();
        let (good, bad) = load::<Target>(&store, Tree::Targets).unwrap();
        assert_eq!(good, [target("a"), target("c")], "bit {bit}");
        assert_eq!((bad[0].tree, bad[0].key.as_slice()), (Tree::Targets, b"b".as_slice()));
    }
}

#[test]
fn the_mark_is_0_in_a_new_database_and_not_guessed_in_a_damaged_one() {
    let mut store = MemStore::open(&MemContents::default());
    assert_eq!(mark(&store), Ok(Some(0)));
    let mut batch = Batch::default();
    put_mark(&mut batch, 77).unwrap();
    store.commit(&batch).unwrap();
    assert_eq!(mark(&store), Ok(Some(77)));
    let operation = batch.operations()[0].clone();
    let mut bad = Batch::default();
    bad.put_raw(Tree::Meta, &operation.key, b"?".to_vec());
    store.commit(&bad).unwrap();
    assert_eq!(mark(&store), Ok(None));
}

#[test]
fn a_journal_says_after_a_reopen_what_was_appended() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, entries) = Journal::open(directory.path()).unwrap();
    assert_eq!((entries.len(), journal.number()), (0, 0));
    journal.append(&entry(1, "a")).unwrap();
    journal.append(&entry(2, "b")).unwrap();
    drop(journal);
    let (journal, entries) = Journal::open(directory.path()).unwrap();
    assert_eq!(entries, [entry(1, "a"), entry(2, "b")]);
    assert_eq!(journal.number(), 2);
}

#[test]
fn wherever_the_last_line_is_torn_the_lines_before_it_stay_and_the_next_one_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.jsonl");
    let (mut journal, _) = Journal::open(directory.path()).unwrap();
    journal.append(&entry(1, "a")).unwrap();
    let first = std::fs::read(&path).unwrap().len();
    journal.append(&entry(2, "b")).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for length in (first..whole.len()).step_by(7).chain([whole.len() - 1]) {
        std::fs::write(&path, &whole[..length]).unwrap();
        let (mut journal, entries) = Journal::open(directory.path()).unwrap();
        assert_eq!(entries, [entry(1, "a")], "{length}");
        journal.append(&entry(2, "c")).unwrap();
        drop(journal);
        let (_, entries) = Journal::open(directory.path()).unwrap();
        assert_eq!(entries, [entry(1, "a"), entry(2, "c")], "{length}");
    }
}

#[test]
fn a_damaged_line_in_the_middle_costs_that_line_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.jsonl");
    let (mut journal, _) = Journal::open(directory.path()).unwrap();
    for (number, name) in [(1, "a"), (2, "b"), (3, "c")] {
        journal.append(&entry(number, name)).unwrap();
    }
    let whole = std::fs::read(&path).unwrap();
    let length = whole.len() / 3;
    for at in length..2 * length - 1 {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let (_, entries) = Journal::open(directory.path()).unwrap();
        assert_eq!(entries, [entry(1, "a"), entry(3, "c")], "byte {at}");
    }
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"\xff\xfe no JSON\n\n").unwrap();
    let (_, entries) = Journal::open(directory.path()).unwrap();
    assert_eq!(entries.last(), Some(&entry(3, "c")));
}

#[test]
fn a_rotated_journal_keeps_one_file_before_and_begins_with_everything() {
    let directory = tempfile::tempdir().unwrap();
    let everything = JournalEntry { reset: true, ..entry(2, "all") };
    let (mut journal, _) = Journal::open(directory.path()).unwrap();
    journal.append(&entry(1, "old")).unwrap();
    journal.rotate(&everything).unwrap();
    journal.append(&entry(3, "new")).unwrap();
    drop(journal);
    let (mut journal, entries) = Journal::open(directory.path()).unwrap();
    assert_eq!(entries, [entry(1, "old"), everything.clone(), entry(3, "new")]);
    journal.rotate(&JournalEntry { number: 4, ..everything.clone() }).unwrap();
    let (_, entries) = Journal::open(directory.path()).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), [2, 3, 4]);
}

#[test]
fn a_crash_inside_of_a_rotation_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (mut journal, _) = Journal::open(directory.path()).unwrap();
    journal.append(&entry(1, "old")).unwrap();
    journal.rotate(&JournalEntry { reset: true, ..entry(2, "all") }).unwrap();
    drop(journal);
    // Between the two renames the file has only its new name.
    std::fs::rename(path("journal.jsonl"), path("journal.new.jsonl")).unwrap();
    let (_, entries) = Journal::open(directory.path()).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), [1, 2]);
    // Before the first one a half-written new file lies beside the whole old one.
    std::fs::write(path("journal.new.jsonl"), b"{\"crc").unwrap();
    let (_, entries) = Journal::open(directory.path()).unwrap();
    assert_eq!(entries.len(), 2);
}

#[test]
fn a_journal_is_rotated_when_it_is_large() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(directory.path()).unwrap();
    journal.append(&entry(1, &"x".repeat(1 << 19))).unwrap();
    assert!(!journal.is_large());
    journal.append(&entry(2, &"x".repeat(1 << 19))).unwrap();
    assert!(journal.is_large());
    journal.rotate(&entry(3, "all")).unwrap();
    assert!(!journal.is_large());
}

/// Each transaction would write all of a large catalogue.
#[test]
fn a_journal_that_begins_with_much_is_not_rotated_before_as_much_has_come() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(directory.path()).unwrap();
    journal.rotate(&JournalEntry { reset: true, ..entry(1, &"x".repeat(3 << 20)) }).unwrap();
    assert!(!journal.is_large());
    journal.append(&entry(2, &"x".repeat(2 << 20))).unwrap();
    drop(journal);
    // It knows after a restart.
    let (mut journal, _) = Journal::open(directory.path()).unwrap();
    assert!(!journal.is_large());
    journal.append(&entry(3, &"x".repeat(1 << 20))).unwrap();
    assert!(journal.is_large());
}

#[test]
fn what_sled_has_committed_is_there_after_a_reopen() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("db");
    let mut store = sled(&database);
    store.commit(&batch_of(&["a", "b"])).unwrap();
    let mut second = batch_of(&["c"]);
    second.delete(Tree::Targets, b"a");
    second.delete(Tree::Disks, b"was never there");
    store.commit(&second).unwrap();
    assert_eq!(names(&store), ["b", "c"]);
    drop(store);
    let mut store = sled(&database);
    assert_eq!(names(&store), ["b", "c"]);
    assert_eq!(store.get(Tree::Targets, b"a"), Ok(None));
    assert!(store.scan(Tree::Disks).unwrap().is_empty(), "trees are apart");
    store.reopen().unwrap();
    store.commit(&Batch::default()).unwrap();
    assert_eq!(names(&store), ["b", "c"]);
}

#[test]
fn within_a_batch_the_last_operation_on_a_key_counts() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = sled(directory.path());
    let mut batch = batch_of(&["a", "b"]);
    batch.delete(Tree::Targets, b"a");
    batch.delete(Tree::Targets, b"c");
    put(&mut batch, Tree::Targets, "c");
    store.commit(&batch).unwrap();
    assert_eq!(names(&store), ["b", "c"]);
}

#[test]
fn a_snapshot_that_a_crash_left_half_made_does_not_keep_sled_from_opening() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = sled(directory.path());
    store.commit(&batch_of(&["a"])).unwrap();
    drop(store);
    let unfinished = directory.path().join("snap.00000000000000FF.generating");
    std::fs::write(&unfinished, b"half").unwrap();
    assert_eq!(names(&sled(directory.path())), ["a"]);
    assert!(!unfinished.exists());
}

#[test]
fn a_database_that_is_given_up_is_kept_aside_and_a_new_one_is_empty() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("db");
    let mut all = Vec::new();
    for name in ["a", "b"] {
        let mut store = sled(&database);
        store.commit(&batch_of(&[name])).unwrap();
        let opened = store.give_up("a test").unwrap();
        assert!(names(&opened.store).is_empty());
        all.push(opened.moved_to.unwrap());
    }
    assert_ne!(all[0], all[1], "within one second too");
    assert_eq!(names(&sled(&all[0])), ["a"]);
    assert_eq!(names(&sled(&all[1])), ["b"]);
}

#[test]
fn a_database_in_a_place_that_is_no_directory_is_unavailable_and_not_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("db");
    std::fs::write(&file, b"somebody's data").unwrap();
    let error = SledStore::open(&file).unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert_eq!(std::fs::read(&file).unwrap(), b"somebody's data");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn sled_and_memory_hold_the_same_after_the_same_transactions(
        transactions in prop::collection::vec(
            prop::collection::vec((0..6_usize, 0..4_u8, prop::option::of(any::<u16>())), 0..6),
            0..8,
        )
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut sled_store = sled(directory.path());
        let mut memory = MemStore::open(&MemContents::default());
        for transaction in transactions {
            let mut batch = Batch::default();
            for (tree, key, value) in transaction {
                match value {
                    Some(value) => batch.put(Tree::ALL[tree], &[key], &value).unwrap(),
                    None => batch.delete(Tree::ALL[tree], &[key]),
                }
            }
            sled_store.commit(&batch).unwrap();
            memory.commit(&batch).unwrap();
        }
        drop(sled_store);
        let sled_store = sled(directory.path());
        for tree in Tree::ALL {
            prop_assert_eq!(sled_store.scan(tree).unwrap(), memory.scan(tree).unwrap());
        }
    }
}
