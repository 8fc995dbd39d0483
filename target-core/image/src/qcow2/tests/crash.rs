//! A loss of power at any moment costs space at most: what was flushed is there, and the tables
//! do not contradict each other.

use proptest::prelude::*;

use super::*;

const SIZE: u64 = 256 << 10;
const SECTOR: u64 = 512;
const SECTORS: usize = (SIZE / SECTOR) as usize;

#[derive(Debug, Clone)]
enum Step {
    Write,
    Unmap,
    Zero,
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<(Step, u64, u64)>> {
    let step = prop_oneof![
        6 => Just(Step::Write),
        3 => Just(Step::Unmap),
        1 => Just(Step::Zero),
        2 => Just(Step::Flush)
    ];
    let length = prop_oneof![1_u64..20, (1_u64..8).prop_map(|n| n * 16)];
    prop::collection::vec((step, 0_u64..SECTORS as u64 - 1, length), 1..30)
}

/// What a sector may hold after a crash: what was flushed, and everything since.
type Allowed = Vec<Vec<u8>>;

/// After so many events of the file: what each sector may hold. From the flush before on.
struct Moment {
    events: usize,
    allowed: Allowed,
}

fn run(file: &Arc<MemFile>, steps: &[(Step, u64, u64)]) -> Vec<Moment> {
    let image = open(file);
    file.record();
    let mut allowed: Allowed = vec![vec![0]; SECTORS];
    let mut moments = vec![Moment { events: 0, allowed: allowed.clone() }];
    for (at, (step, sector, length)) in steps.iter().enumerate() {
        let length = (*length).min(SECTORS as u64 - sector);
        let (offset, bytes) = (sector * SECTOR, length * SECTOR);
        let fill = u8::try_from(at % 255 + 1).unwrap();
        let range = usize::try_from(*sector).unwrap()..usize::try_from(sector + length).unwrap();
        let value = match step {
            Step::Write => fill,
            Step::Unmap | Step::Zero => 0,
            Step::Flush => {
                image.flush().unwrap();
                allowed
                    .iter_mut()
                    .for_each(|values| values.drain(..values.len() - 1).for_each(drop));
                moments.push(Moment { events: file.events().len(), allowed: allowed.clone() });
                continue;
            }
        };
        // Any part of it may be there from its first event on.
        allowed[range].iter_mut().for_each(|values| values.push(value));
        moments.push(Moment { events: file.events().len(), allowed: allowed.clone() });
        match step {
            Step::Write => {
                write(&image, offset, &vec![fill; usize::try_from(bytes).unwrap()]).unwrap();
            }
            Step::Unmap => image.unmap(offset, bytes).unwrap(),
            Step::Zero => image.write_zeroes(offset, bytes, false).unwrap(),
            Step::Flush => {}
        }
    }
    drop(image);
    moments
}

fn check_after(bytes: Vec<u8>, moment: &Moment, what: &str) {
    let file = Arc::new(MemFile::new(bytes, FILE_LIMIT));
    let report = check_file(&*file, false).unwrap();
    assert_eq!(report.errors, Vec::new(), "{what}");
    let image = open(&file);
    let contents = read(&image, 0, usize::try_from(SIZE).unwrap()).unwrap();
    for (sector, bytes) in contents.chunks(512).enumerate() {
        let value = bytes[0];
        assert!(bytes.iter().all(|byte| *byte == value), "{what}: sector {sector} is torn");
        let allowed = &moment.allowed[sector];
        assert!(allowed.contains(&value), "{what}: sector {sector} holds {value}, not {allowed:?}");
    }
    // It goes on as if nothing had been.
    write(&image, 1000, &[0xaa; 70_000]).unwrap();
    image.unmap(0, SIZE / 2).unwrap();
    drop(image);
    assert_eq!(check_file(&*file, false).unwrap().errors, Vec::new(), "{what}");
    let report = check_file(&*file, true).unwrap();
    assert_eq!(report.repaired, report.leaked_clusters > 0);
    assert_eq!(sound(&file), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_any_crash_flushed_data_is_there_and_the_tables_are_sound(
        cluster_bits in prop_oneof![Just(9_u32), Just(12), Just(16)],
        steps in steps(),
        seed in any::<u64>(),
    ) {
        let shape = Shape::new(cluster_bits, SIZE);
        let file = shape.file();
        let base = file.contents();
        let moments = run(&file, &steps);
        let events = file.events();
        let mut random = seed | 1;
        let mut next = move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let points = 40.min(events.len() + 1);
        for point in 0..points {
            let count = if points == events.len() + 1 {
                point
            } else {
                usize::try_from(next() % (events.len() as u64 + 1)).unwrap()
            };
            let moment = moments.iter().rev().find(|moment| moment.events <= count).unwrap();
            // Nothing, everything, or any part of what was not flushed.
            let mode = next() % 4;
            let keep = || match mode {
                0 => false,
                1 => true,
                _ => next() % 2 == 0,
            };
            let left = MemFile::after_crash(&base, &events, count, keep);
            check_after(left, moment, &format!("{count} of {} events, mode {mode}", events.len()));
        }
    }
}
