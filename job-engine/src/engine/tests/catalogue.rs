use super::*;
use crate::catalogue::{AccessEntry, IQN_PREFIX, MAX_LUN};
use crate::engine::AccessChange;

fn target(bench: &Bench, name: &str) -> String {
    bench.create_target(TargetRequest { name: name.to_owned(), ..Default::default() }).unwrap().name
}

fn map(bench: &Bench, disk: &Disk, target: &str, lun: Option<u16>) -> Result<u16, RequestError> {
    let request = MapRequest { disk: disk.id, target: target.to_owned(), lun };
    bench.map(request).map(|mapping| mapping.lun)
}

#[test]
fn a_short_name_gets_the_default_prefix_and_a_name_is_taken_only_once() {
    let bench = Bench::new();
    assert_eq!(target(&bench, "Demo"), format!("{IQN_PREFIX}demo"));
    assert_eq!(target(&bench, "iqn.2001-04.com.example:x"), "iqn.2001-04.com.example:x");
    for again in ["demo", "DEMO", "iqn.2026-01.io.lund:demo", "IQN.2001-04.com.example:X"] {
        let request = TargetRequest { name: again.to_owned(), ..Default::default() };
        assert_eq!(refusal(bench.create_target(request)), "ISCT-CFG-002", "{again}");
    }
    assert_eq!(bench.targets().len(), 2);
}

#[test]
fn names_and_aliases_that_break_the_rules_are_refused() {
    let bench = Bench::new();
    for bad in ["", "a b", "iqn.2026", "naa.xyz", "ä/"] {
        let request = TargetRequest { name: bad.to_owned(), ..Default::default() };
        assert_eq!(refusal(bench.create_target(request)), "ISCT-CFG-004", "{bad}");
    }
    let with = |alias: String| bench.create_target(TargetRequest { name: "t".to_owned(), alias });
    assert_eq!(refusal(with("x".repeat(256))), "ISCT-CFG-007");
    assert_eq!(refusal(with("a\nb".to_owned())), "ISCT-CFG-007");
    assert_eq!(with("ä".repeat(127)).unwrap().alias, "ä".repeat(127));
}

#[test]
fn a_mapping_without_a_lun_takes_the_lowest_free_one() {
    let bench = Bench::new();
    let name = target(&bench, "t");
    let disks = ["a", "b", "c", "d"].map(|name| bench.disk(name));
    assert_eq!(map(&bench, &disks[0], &name, None).unwrap(), 0);
    assert_eq!(map(&bench, &disks[1], &name, Some(2)).unwrap(), 2);
    assert_eq!(map(&bench, &disks[2], &name, None).unwrap(), 1);
    assert_eq!(map(&bench, &disks[3], &name, None).unwrap(), 3);
    bench.unmap(&name, 0).unwrap();
    assert_eq!(map(&bench, &disks[0], &name, None).unwrap(), 0);
    let luns: Vec<_> = bench.mappings().into_iter().map(|mapping| mapping.lun).collect();
    assert_eq!(luns, [0, 1, 2, 3]);
}

#[test]
fn a_lun_and_a_disk_are_taken_once_in_a_target_but_a_disk_may_be_in_several() {
    let bench = Bench::new();
    let (one, two) = (target(&bench, "one"), target(&bench, "two"));
    let (a, b) = (bench.disk("a"), bench.disk("b"));
    map(&bench, &a, &one, Some(5)).unwrap();
    assert_eq!(refusal(map(&bench, &b, &one, Some(5))), "ISCT-CFG-002");
    assert_eq!(refusal(map(&bench, &a, &one, Some(6))), "ISCT-CFG-002");
    assert_eq!(refusal(map(&bench, &a, &one, None)), "ISCT-CFG-002");
    assert_eq!(map(&bench, &a, &two, Some(5)).unwrap(), 5);
    assert_eq!(refusal(map(&bench, &b, &one, Some(MAX_LUN + 1))), "ISCT-CFG-007");
    assert_eq!(map(&bench, &b, &one, Some(MAX_LUN)).unwrap(), MAX_LUN);
}

#[test]
fn what_does_not_exist_can_neither_be_mapped_nor_unmapped_nor_removed() {
    let bench = Bench::new();
    let name = target(&bench, "t");
    let disk = bench.disk("a");
    let ghost = Disk { id: DiskId::generate(), ..disk.clone() };
    assert_eq!(refusal(map(&bench, &ghost, &name, None)), "ISCT-CFG-005");
    assert_eq!(refusal(map(&bench, &disk, "iqn.2026-01.io.lund:none", None)), "ISCT-CFG-005");
    assert_eq!(refusal(bench.unmap(&name, 0)), "ISCT-CFG-005");
    assert_eq!(refusal(bench.delete_target("none")), "ISCT-CFG-005");
}

#[test]
fn a_target_with_mappings_cannot_be_deleted_until_they_are_gone() {
    let bench = Bench::new();
    // One name is the beginning of the other: only the exact one counts.
    let (name, longer) = (target(&bench, "t"), target(&bench, "tt"));
    let disk = bench.disk("a");
    map(&bench, &disk, &name, None).unwrap();
    let refused = bench.delete_target(&name).unwrap_err();
    assert_eq!(refused.cim_error().message_id, "ISCT-CFG-006");
    assert_eq!(refused.cim_error().message_arguments, [name.clone(), "1".to_owned()]);
    bench.delete_target(&longer).unwrap();
    bench.unmap(&name, 0).unwrap();
    bench.delete_target(&name).unwrap();
    assert!(bench.targets().is_empty() && bench.mappings().is_empty());
    target(&bench, "t");
}

#[test]
fn a_disk_that_is_still_being_made_cannot_be_mapped() {
    let bench = Bench::new();
    let name = target(&bench, "t");
    let (id, disk) = bench.waiting("a");
    assert_eq!(refusal(map(&bench, &disk, &name, None)), "ISCT-CFG-005");
    assert_eq!(refusal(bench.delete_disk(disk.id)), "ISCT-CFG-005");
    bench.ask(id, RequestedState::Start);
    bench.end(id);
    assert_eq!(map(&bench, &disk, &name, None).unwrap(), 0);
}

#[test]
fn a_target_takes_256_luns_and_not_one_more() {
    let bench = Bench::new();
    let name = target(&bench, "t");
    let disk = bench.disk("a");
    {
        let mut state = bench.shared.state.lock();
        for lun in 0..256 {
            let mapping = Mapping { disk: DiskId::generate(), target: name.clone(), lun };
            state.apply(Change::PutMapping(mapping), start());
        }
    }
    assert_eq!(refusal(map(&bench, &disk, &name, None)), "ISCT-STG-002");
    bench.shared.state.lock().mappings.remove(&(name.clone(), 9));
    assert_eq!(map(&bench, &disk, &name, None).unwrap(), 9);
}

#[test]
fn access_entries_replace_each_other_by_their_conditions_and_the_last_one_leaves_nobody() {
    let bench = Bench::new();
    let name = target(&bench, "t");
    let entry = |initiator: &str, read_only| AccessEntry {
        initiator: Some(initiator.to_owned()),
        read_only,
        ..Default::default()
    };
    let change = |change| bench.change_access(&name, change).map(|target| target.access);
    let kept = || bench.targets()[0].access.clone();
    assert_eq!(kept(), None);
    let ann = "iqn.2026-01.example:ann";
    change(AccessChange::Allow(entry(ann, false))).unwrap();
    change(AccessChange::Allow(entry("*", false))).unwrap();
    change(AccessChange::Allow(entry("IQN.2026-01.example:Ann", true))).unwrap();
    assert_eq!(kept(), Some(vec![entry(ann, true), entry("*", false)]));
    let twice = vec![entry(ann, true), entry(ann, false)];
    for bad in [AccessChange::Replace(twice), AccessChange::Allow(AccessEntry::default())] {
        assert_eq!(refusal(change(bad)), "ISCT-CFG-007");
    }
    let without = |initiator: &str| {
        change(AccessChange::Disallow { initiator: Some(initiator.to_owned()), address: None })
    };
    assert_eq!(refusal(without("iqn.2026-01.example:bob")), "ISCT-CFG-005");
    assert_eq!(without(ann).unwrap(), Some(vec![entry("*", false)]));
    assert_eq!(without("*").unwrap(), Some(vec![]));
    assert_eq!(change(AccessChange::Open).unwrap(), None);
    assert_eq!(refusal(bench.change_access("none", AccessChange::Open)), "ISCT-CFG-005");
}
