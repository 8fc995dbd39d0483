//! What a loss of power leaves.

use super::*;
use crate::mem_file::FileEvent;

/// What the disk held after a step, how many events there were then, and whether all of it was
/// durable.
struct Moment {
    events: usize,
    contents: Vec<u8>,
    flushed: bool,
}

/// Every sector holds what it held at the last flush that had ended, or what a later step wrote.
fn check(moments: &[Moment], count: usize, found: &[u8]) {
    let last = moments.iter().rposition(|moment| moment.flushed && moment.events <= count).unwrap();
    // The step that was under way counts too.
    let next = moments.iter().position(|moment| moment.events > count).unwrap_or(moments.len());
    let possible = &moments[last..(next + 1).min(moments.len())];
    for (sector, bytes) in found.chunks(512).enumerate() {
        let at = sector * 512;
        let same = |moment: &Moment| {
            moment.contents.get(at..at + bytes.len()).unwrap_or(&[0; 512][..bytes.len()]) == bytes
        };
        assert!(
            possible.iter().any(same),
            "after {count} events sector {sector} holds what nobody wrote: {:x?}",
            &bytes[..8]
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_flushed_survives_a_loss_of_power_at_any_moment(
        variant in prop::sample::select(&VARIANTS[..]),
        prelude in steps(6),
        steps in steps(10),
        crashes in prop::collection::vec((0.0f64..=1.0, any::<u64>()), 12),
    ) {
        let size = 3 * MIB + MIB / 2;
        let disk = Disk::new(variant, size);
        let model = disk.model(size);
        let mut image = Some(disk.open());
        for (at, step) in prelude.iter().enumerate() {
            run(&disk, &mut image, &model, at, step);
        }
        image.as_ref().unwrap().flush().unwrap();
        let base = disk.file.contents();
        disk.file.record();
        let moment = |flushed| Moment {
            events: disk.file.events().len(),
            contents: model.contents(),
            flushed,
        };
        let mut moments = vec![moment(true)];
        for (at, step) in steps.iter().enumerate() {
            run(&disk, &mut image, &model, at + 100, step);
            moments.push(moment(matches!(step.0, Step::Flush | Step::Reopen)));
        }
        let events: Vec<FileEvent> = disk.file.events();
        for (place, seed) in crashes {
            let count = (events.len() as f64 * place) as usize;
            let mut state = seed;
            let keep = || {
                // xorshift64: which half of what was not flushed is lost.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                seed % 4 == 0 || (seed % 4 != 1 && state % 2 == 0)
            };
            let left = MemFile::after_crash(&base, &events, count, keep);
            let opened = disk.try_open(Arc::new(MemFile::new(left, LIMIT)));
            let opened = opened.unwrap_or_else(|error| panic!("after {count} events: {error}"));
            let found = read_at(&opened, 0, opened.size_bytes() as usize).unwrap();
            check(&moments, count, &found);
            // It can go on.
            write_at(&opened, MIB, &[0x77; 4096]);
            prop_assert_eq!(read_at(&opened, MIB, 4096).unwrap(), [0x77; 4096]);
        }
    }
}

#[test]
fn a_failed_write_leaves_an_image_that_goes_on() {
    use crate::fault::Fault;
    for variant in [VARIANTS[0], VARIANTS[3]] {
        for skip in 0..4 {
            for operation in [Operation::Write, Operation::Resize, Operation::Flush] {
                let disk = Disk::new(variant, 4 * MIB);
                let model = disk.model(4 * MIB);
                let image = disk.open();
                write_at(&image, 0, &[1; 512]);
                write_at(&model, 0, &[1; 512]);
                disk.file.inject(Fault::errno(operation, 28).after(skip).times(1));
                for place in [MIB + 4096, 2 * MIB, 3 * MIB] {
                    let data = vec![place.to_le_bytes()[2]; 70_000];
                    if image.write(&[IoSlice::new(&data)], place, Durability::Cached).is_err() {
                        // What a failed write leaves in its own range is anybody's guess.
                        image.write(&[IoSlice::new(&data)], place, Durability::Cached).unwrap();
                    }
                    write_at(&model, place, &data);
                }
                disk.file.heal();
                compare(&image, &model);
                drop(image);
                compare(&disk.open(), &model);
            }
        }
    }
}
