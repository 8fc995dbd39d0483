use super::*;
use crate::catalogue::{AccessEntry, LunView};
use crate::engine::{Expose, ExposeTo, ExposeUnit, Hide};

const TARGET: &str = "iqn.2026-01.io.lund:view";
const A: &str = "iqn.2026-01.example:a";
const B: &str = "iqn.2026-01.example:b";

fn unit(disk: &Disk) -> ExposeUnit {
    ExposeUnit { disk: disk.id, lun: None, read_only: false }
}

fn request(units: Vec<ExposeUnit>, initiators: &[&str]) -> Expose {
    Expose {
        target: TARGET.to_owned(),
        create: None,
        units,
        initiators: initiators.iter().map(|&name| name.to_owned()).collect(),
        to: ExposeTo::Everybody,
    }
}

fn view(bench: &Bench, disk: &Disk, initiators: &[&str]) -> Target {
    let create = Some(String::new());
    bench.expose(Expose { create, ..request(vec![unit(disk)], initiators) }).unwrap()
}

/// What somebody is shown: the target's LUNs, with whether they are read-only.
fn seen(target: &Target, initiator: &str) -> Option<Vec<(u16, bool)>> {
    let entries = target.access.iter().flatten();
    let mut of = entries.filter(|entry| entry.initiator.as_deref() == Some(initiator));
    let entry: &AccessEntry = of.next()?;
    let list = entry.luns.as_ref().map(|luns| {
        let one = |view: &LunView| (view.lun, view.read_only);
        luns.iter().map(one).collect()
    });
    Some(list.unwrap_or_else(|| vec![(u16::MAX, false)]))
}

fn luns(bench: &Bench) -> Vec<u16> {
    bench.mappings().into_iter().map(|mapping| mapping.lun).collect()
}

#[test]
fn a_view_is_made_whole_or_not_at_all_and_lets_in_nobody_else() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    let ghost = Disk { id: DiskId::generate(), ..disk.clone() };
    let create = Some(String::new());
    let bad = Expose { create, ..request(vec![unit(&disk), unit(&ghost)], &[A]) };
    assert_eq!(refusal(bench.expose(bad)), "ISCT-CFG-005");
    assert!(bench.targets().is_empty() && bench.mappings().is_empty());

    let (_, events) = bench.listen();
    let made = view(&bench, &disk, &[A]);
    assert_eq!(made.access.as_ref().unwrap().len(), 1);
    assert_eq!(luns(&bench), [0]);
    // Who may use the target is known before there is anything to use.
    let order: Vec<_> = bench.heard(&events).into_iter().map(|event| event.change).collect();
    assert!(matches!(order[0], ChangeKind::TargetCreated(_)), "{order:?}");
    assert!(matches!(order[1], ChangeKind::MappingCreated(_)), "{order:?}");
}

#[test]
fn what_is_exposed_to_some_is_not_seen_by_the_others() {
    let bench = Bench::new();
    let (one, two) = (bench.disk("one"), bench.disk("two"));
    view(&bench, &one, &[A]);
    let to = ExposeTo::These;
    let target = bench.expose(Expose { to, ..request(vec![unit(&two)], &[B]) }).unwrap();
    assert_eq!(seen(&target, A).unwrap(), [(0, false)]);
    assert_eq!(seen(&target, B).unwrap(), [(1, false)]);

    // Hidden from the only one who sees it, it is no LUN any more.
    let hide = Hide { target: TARGET.to_owned(), ..Hide::default() };
    let (disks, initiators) = (vec![two.id], vec![B.to_owned()]);
    bench.hide(Hide { disks, initiators, ..hide.clone() }).unwrap();
    assert_eq!(luns(&bench), [0]);
    let target = bench.targets().remove(0);
    assert_eq!((seen(&target, A), seen(&target, B)), (Some(vec![(0, false)]), None));
    bench.hide(Hide { remove: true, ..hide }).unwrap();
    assert!(bench.targets().is_empty() && bench.mappings().is_empty());
}

#[test]
fn an_open_target_stays_open_for_what_it_had() {
    let bench = Bench::new();
    let (one, two) = (bench.disk("one"), bench.disk("two"));
    let name = TARGET.to_owned();
    bench.create_target(TargetRequest { name, ..Default::default() }).unwrap();
    bench.expose(request(vec![unit(&one)], &[])).unwrap();
    assert_eq!(bench.targets()[0].access, None);
    let to = ExposeTo::These;
    let target = bench.expose(Expose { to, ..request(vec![unit(&two)], &[A]) }).unwrap();
    assert_eq!(seen(&target, "*").unwrap(), [(0, false)]);
    assert_eq!(seen(&target, A).unwrap(), [(1, false)]);
}

#[test]
fn read_only_is_kept_for_whoever_comes_later() {
    let bench = Bench::new();
    let (one, two) = (bench.disk("one"), bench.disk("two"));
    view(&bench, &one, &[A]);
    let read_only = ExposeUnit { read_only: true, ..unit(&two) };
    let target = bench.expose(request(vec![read_only], &[])).unwrap();
    assert_eq!(seen(&target, A).unwrap(), [(0, false), (1, true)]);
    let target = bench.expose(request(vec![], &[B])).unwrap();
    assert_eq!(seen(&target, B).unwrap(), [(0, false), (1, true)]);
}

#[test]
fn a_lun_that_is_taken_and_an_initiator_that_is_unknown_are_refused() {
    let bench = Bench::new();
    let (one, two) = (bench.disk("one"), bench.disk("two"));
    view(&bench, &one, &[A]);
    let at = |disk: &Disk, lun| ExposeUnit { lun: Some(lun), ..unit(disk) };
    assert_eq!(refusal(bench.expose(request(vec![at(&two, 0)], &[]))), "ISCT-CFG-002");
    assert_eq!(refusal(bench.expose(request(vec![at(&one, 5)], &[]))), "ISCT-CFG-002");
    assert_eq!(refusal(bench.expose(request(vec![], &["no name"]))), "ISCT-CFG-007");
    let hide = Hide { target: TARGET.to_owned(), ..Hide::default() };
    let initiators = vec![B.to_owned()];
    assert_eq!(refusal(bench.hide(Hide { initiators, ..hide.clone() })), "ISCT-CFG-005");
    let disks = vec![two.id];
    assert_eq!(refusal(bench.hide(Hide { disks, ..hide })), "ISCT-CFG-005");
    assert_eq!(luns(&bench), [0]);
}

/// Under which numbers somebody sees which LUNs of the target.
fn numbers(target: &Target, initiator: &str) -> Vec<(u16, u16)> {
    let mut entries = target.access.iter().flatten();
    let entry = entries.find(|entry| entry.initiator.as_deref() == Some(initiator)).unwrap();
    entry.luns.iter().flatten().map(|view| (view.seen, view.lun)).collect()
}

#[test]
fn some_see_a_disk_under_a_number_of_their_own() {
    let bench = Bench::new();
    let [one, two, three] = ["one", "two", "three"].map(|name| bench.disk(name));
    view(&bench, &one, &[A]);
    let to_b = |disk: &Disk, lun: Option<u16>| {
        let unit = ExposeUnit { lun, ..unit(disk) };
        bench.expose(Expose { to: ExposeTo::These, ..request(vec![unit], &[B]) })
    };
    // It has LUN 0 for everybody else; what is new gets another one than that.
    to_b(&one, Some(2)).unwrap();
    let target = to_b(&two, Some(0)).unwrap();
    assert_eq!(numbers(&target, B), [(2, 0), (0, 1)]);
    assert_eq!((seen(&target, A).unwrap(), luns(&bench)), (vec![(0, false)], vec![0, 1]));
    // The same once more is nothing new, another number for it is refused, as is one that is taken.
    assert_eq!(to_b(&two, Some(0)).unwrap(), target);
    assert_eq!(to_b(&two, None).unwrap(), target);
    assert_eq!(refusal(to_b(&two, Some(7))), "ISCT-CFG-002");
    assert_eq!(refusal(to_b(&three, Some(2))), "ISCT-CFG-002");
    assert_eq!(refusal(to_b(&three, Some(0x4000))), "ISCT-CFG-007");
    assert_eq!((bench.targets(), luns(&bench)), (vec![target], vec![0, 1]));
    // Without a number it is the target's, unless they see something else there.
    let target = to_b(&three, None).unwrap();
    assert_eq!(numbers(&target, B), [(2, 0), (0, 1), (1, 2)]);
}
