use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::catalogue::{AccessEntry, AccessState, AccessStateChange, StoredAccessState};
use crate::engine::{Configuration, WantedTarget, condition_holds, under};

const A: &str = "iqn.2026-01.io.lund:a";
const B: &str = "iqn.2026-01.io.lund:b";

fn wanted(name: &str, luns: &[(u16, &Disk)]) -> WantedTarget {
    let luns = luns.iter().map(|(lun, disk)| (*lun, disk.id)).collect();
    WantedTarget { name: name.to_owned(), luns, ..WantedTarget::default() }
}

fn targets(list: Vec<WantedTarget>) -> Configuration {
    Configuration { targets: Some(list), ..Configuration::default() }
}

fn luns(bench: &Bench) -> Vec<(String, u16, DiskId)> {
    bench.mappings().into_iter().map(|it| (it.target, it.lun, it.disk)).collect()
}

fn entry(initiator: &str) -> AccessEntry {
    AccessEntry { initiator: Some(initiator.to_owned()), ..AccessEntry::default() }
}

#[test]
fn everything_of_it_is_one_transaction_and_what_is_so_already_is_left_alone() {
    let mut bench = Bench::new();
    let (one, two) = (bench.disk("one"), bench.disk("two"));
    bench.configure(None, targets(vec![wanted(A, &[(0, &one), (1, &two)])])).unwrap();
    let commits = bench.contents.commits();
    let (_, events) = bench.listen();
    let read_only = vec![(two.id, true)];
    let records = vec![("limit/disk/x".to_owned(), Some("{}".to_owned()))];
    let next = Configuration {
        read_only,
        records,
        ..targets(vec![wanted(A, &[(0, &one)]), wanted(B, &[(5, &two)])])
    };
    bench.check_configuration(&next).unwrap();
    assert_eq!(bench.contents.commits(), commits, "a check changes nothing");
    let generation = bench.configure(None, next.clone()).unwrap();
    assert_eq!(bench.contents.commits(), commits + 1);
    // A LUN goes before it comes, a disk is protected before it can be written.
    let told: Vec<_> = bench.heard(&events).into_iter().map(|event| event.change).collect();
    assert!(
        matches!(
            &told[..],
            [
                ChangeKind::MappingDeleted(_),
                ChangeKind::TargetCreated(_),
                ChangeKind::DiskChanged(_),
                ChangeKind::MappingCreated(_),
            ]
        ),
        "{told:?}"
    );
    assert_eq!(luns(&bench), [(A.to_owned(), 0, one.id), (B.to_owned(), 5, two.id)]);
    assert_eq!(bench.configure(None, next).unwrap(), generation);
    assert_eq!(bench.contents.commits(), commits + 1, "it is so already");
    bench.restart();
    assert_eq!(bench.generation(), generation);
    assert!(bench.engine.disk(&two.id).unwrap().read_only);
    assert_eq!(bench.configure(None, targets(Vec::new())).unwrap(), generation + 1);
    assert!(bench.targets().is_empty() && bench.mappings().is_empty());
    assert_eq!(bench.disks().len(), 2, "no disk goes");
}

#[test]
fn nothing_is_done_if_one_part_is_not_possible() {
    let bench = Bench::new();
    let one = bench.disk("one");
    let (_, waiting) = bench.waiting("waiting");
    bench.configure(None, targets(vec![wanted(A, &[(0, &one)])])).unwrap();
    let (before, commits) = (bench.generation(), bench.contents.commits());
    let entries = |list| WantedTarget { access: Some(list), ..wanted(A, &[]) };
    let state = |target: &str| Configuration {
        access_states: Some(vec![StoredAccessState {
            group: 1,
            target: Some(target.to_owned()),
            state: AccessState::Standby,
            explicit: false,
        }]),
        ..targets(vec![wanted(A, &[])])
    };
    let wrong = [
        (targets(vec![wanted(B, &[]), wanted("demo", &[])]), "ISCT-CFG-004"),
        (targets(vec![wanted(B, &[]), wanted(B, &[])]), "ISCT-CFG-007"),
        (targets(vec![wanted(B, &[(0, &one), (0, &one)])]), "ISCT-CFG-007"),
        (targets(vec![wanted(B, &[(0, &one), (1, &one)])]), "ISCT-CFG-007"),
        (targets(vec![wanted(B, &[(0x4000, &one)])]), "ISCT-CFG-007"),
        (targets(vec![wanted(B, &[(0, &waiting)])]), "ISCT-CFG-005"),
        (targets(vec![entries(vec![entry("host")])]), "ISCT-CFG-007"),
        (targets(vec![entries(vec![entry("*"), entry("*")])]), "ISCT-CFG-007"),
        (targets(vec![entries(vec![AccessEntry::default()])]), "ISCT-CFG-007"),
        (targets((0..1025).map(|n| wanted(&format!("{A}{n}"), &[])).collect()), "ISCT-STG-002"),
        (state(B), "ISCT-CFG-005"),
        (
            Configuration { read_only: vec![(waiting.id, true)], ..targets(Vec::new()) },
            "ISCT-CFG-005",
        ),
    ];
    for (wanted, message) in wrong {
        assert_eq!(refusal(bench.check_configuration(&wanted)), message, "{wanted:?}");
        assert_eq!(refusal(bench.configure(None, wanted.clone())), message, "{wanted:?}");
    }
    assert_eq!((bench.generation(), bench.contents.commits()), (before, commits));
    assert_eq!(luns(&bench), [(A.to_owned(), 0, one.id)]);
}

#[test]
fn a_disk_that_a_job_works_on_gets_no_lun_and_keeps_those_that_it_has() {
    let bench = Bench::new();
    let one = bench.disk("one");
    bench.configure(None, targets(vec![wanted(A, &[(0, &one)])])).unwrap();
    let later = Submission {
        scheduled_start_time: Some(start() + Duration::from_secs(3600)),
        ..Submission::default()
    };
    bench.expand_disk_with(one.id, 2 * MIB, later).unwrap();
    let more = vec![wanted(A, &[(0, &one)]), wanted(B, &[(0, &one)])];
    assert_eq!(refusal(bench.configure(None, targets(more))), "ISCT-CFG-001");
    let protect = Configuration { read_only: vec![(one.id, true)], ..Configuration::default() };
    assert_eq!(refusal(bench.configure(None, protect)), "ISCT-CFG-001");
    bench.configure(None, targets(vec![wanted(A, &[(0, &one)]), wanted(B, &[])])).unwrap();
}

#[test]
fn every_change_of_the_configuration_raises_its_generation_and_no_other_does() {
    let bench = Bench::new();
    let mut last = bench.generation();
    assert_eq!(last, 0);
    let mut rises = |what: &str, rises: bool| {
        let now = bench.generation();
        assert_eq!(now, last + u64::from(rises), "{what}");
        last = now;
    };
    let disk = bench.disk("d");
    rises("a disk", true);
    let name = bench.create_target(TargetRequest { name: "a".into(), ..Default::default() });
    rises("a target", true);
    let name = name.unwrap().name;
    let map = MapRequest { disk: disk.id, target: name.clone(), lun: None };
    bench.map(map).unwrap();
    rises("a LUN", true);
    bench.change_access(&name, AccessChange::Allow(entry("*"))).unwrap();
    rises("access", true);
    bench.change_access(&name, AccessChange::Allow(entry("*"))).unwrap();
    rises("the same access", false);
    bench.set_read_only(disk.id, true).unwrap();
    rises("protection", true);
    bench.save_record("limit/initiator/i".to_owned(), Some("{}".to_owned())).unwrap();
    rises("a limit", true);
    bench.save_record("chap-account/u".to_owned(), None).unwrap();
    rises("an account", true);
    bench.save_record("indications/x".to_owned(), Some("{}".to_owned())).unwrap();
    rises("a subscription", false);
    bench.save_reservations(disk.id, Some(vec![1])).unwrap();
    rises("a reservation", false);
    let put = AccessStateChange::Put(StoredAccessState {
        group: 1,
        target: None,
        state: AccessState::Standby,
        explicit: false,
    });
    bench.save_access_states(vec![put]).unwrap();
    rises("an access state", true);
    bench.unmap(&name, 0).unwrap();
    rises("an unmapping", true);
    let grown = bench.expand_disk(disk.id, 2 * MIB).unwrap();
    bench.end(grown);
    rises("a size", true);
    bench.delete_target(&name).unwrap();
    rises("a deletion", true);
    let gone = bench.delete_disk(disk.id).unwrap();
    bench.end(gone);
    bench.until_swept();
    rises("a disk's deletion", true);
}

#[test]
fn states_that_initiators_have_set_stay_unless_an_operator_says_otherwise() {
    let bench = Bench::new();
    let set = |group, state, explicit| StoredAccessState {
        group,
        target: Some(A.to_owned()),
        state,
        explicit,
    };
    let (standby, active) = (AccessState::Standby, AccessState::ActiveOptimized);
    let of = |states| Configuration {
        access_states: Some(states),
        ..targets(vec![wanted(A, &[]), wanted(B, &[])])
    };
    bench.configure(None, of(vec![set(1, standby, false), set(2, standby, false)])).unwrap();
    let by_initiator = AccessStateChange::Put(set(2, active, true));
    bench.save_access_states(vec![by_initiator]).unwrap();
    bench.configure(None, of(vec![set(3, standby, false)])).unwrap();
    assert_eq!(bench.access_states(), [set(2, active, true), set(3, standby, false)]);
    bench.configure(None, of(vec![set(2, standby, false)])).unwrap();
    assert_eq!(bench.access_states(), [set(2, standby, false)]);
    bench.configure(None, targets(vec![wanted(B, &[])])).unwrap();
    assert_eq!(bench.access_states(), [], "they go with their target");
}

#[test]
fn of_changes_for_one_generation_one_is_made_and_they_never_mix() {
    let bench = Bench::new();
    let disks: Vec<_> = ["a", "b", "c", "d"].iter().map(|name| bench.disk(name)).collect();
    for round in 0..50 {
        let generation = bench.generation();
        let done: Vec<bool> = std::thread::scope(|scope| {
            let attempts: Vec<_> = disks
                .iter()
                .enumerate()
                .map(|(number, disk)| {
                    let name =
                        |letter: &str| format!("iqn.2026-01.io.lund:{letter}-{round}-{number}");
                    let both = targets(vec![
                        wanted(&name("one"), &[(0, disk)]),
                        wanted(&name("two"), &[(0, disk)]),
                    ]);
                    let engine = &bench.engine;
                    scope.spawn(move || match engine.configure(Some(vec![generation]), both) {
                        Ok(new) => new == generation + 1,
                        Err(error) => {
                            assert_eq!(error.cim_error().message_id, "ISCT-CFG-010");
                            false
                        }
                    })
                })
                .collect();
            attempts.into_iter().map(|attempt| attempt.join().unwrap()).collect()
        });
        assert_eq!(done.iter().filter(|done| **done).count(), 1, "{done:?}");
        let winner = done.iter().position(|done| *done).unwrap();
        let found: BTreeMap<String, DiskId> =
            luns(&bench).into_iter().map(|(name, _, disk)| (name, disk)).collect();
        let wanted: BTreeMap<String, DiskId> = ["one", "two"]
            .map(|letter| {
                (format!("iqn.2026-01.io.lund:{letter}-{round}-{winner}"), disks[winner].id)
            })
            .into();
        assert_eq!(found, wanted);
    }
}

#[test]
fn a_condition_is_looked_at_when_the_engine_comes_to_the_request_and_once() {
    let bench = Bench::new();
    let create = |name: &str| TargetRequest { name: name.to_owned(), ..Default::default() };
    let holds = Arc::new(AtomicBool::new(true));
    let condition = || -> Option<Condition> {
        let holds = holds.clone();
        Some(Arc::new(move || holds.load(Ordering::SeqCst)))
    };
    // The engine's thread is busy while the request is made, and the state changes meanwhile.
    let (begun, wait) = channel::<()>();
    let (go, gone) = channel::<()>();
    let busy = bench.post(move |_| {
        begun.send(()).unwrap();
        gone.recv().unwrap();
    });
    wait.recv().unwrap();
    let refused = std::thread::scope(|scope| {
        let request = scope.spawn(|| under(condition(), || bench.create_target(create("a"))));
        holds.store(false, Ordering::SeqCst);
        go.send(()).unwrap();
        request.join().unwrap()
    });
    busy.recv().unwrap();
    assert_eq!(refusal(refused), "ISCT-CFG-010");
    // Of several requests the first one has it, and nobody else afterwards.
    holds.store(true, Ordering::SeqCst);
    under(condition(), || {
        bench.create_target(create("b")).unwrap();
        holds.store(false, Ordering::SeqCst);
        bench.create_target(create("c")).unwrap();
    });
    under(condition(), || {});
    bench.create_target(create("d")).unwrap();
    // So it is for what the engine does not hold.
    under(condition(), || assert_eq!([condition_holds(), condition_holds()], [false, true]));
    assert!(condition_holds());
    assert_eq!(bench.targets().len(), 3);
}
