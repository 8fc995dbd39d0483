use uuid::Uuid;

use super::*;
use crate::engine::events::KEPT;

fn target(bench: &Bench, name: &str) {
    bench.create_target(TargetRequest { name: name.to_owned(), ..Default::default() }).unwrap();
}

/// Numbers of the events, and where they end.
fn numbers(events: &Events) -> Vec<u64> {
    events.events.iter().map(|event| event.sequence).collect()
}

#[test]
fn a_reader_goes_on_where_it_stopped_however_little_it_takes_at_a_time() {
    let bench = Bench::new();
    bench.disk("before");
    let begin = bench.events(None, 100);
    assert!(begin.events.is_empty() && !begin.lost);
    let (_, told) = bench.listen();
    bench.disk("after");
    target(&bench, "t");
    let told: Vec<_> = bench.heard(&told).iter().map(|event| event.sequence).collect();
    assert!(told.len() > 3);
    for most in [1, 2, 100] {
        let (mut position, mut read) = (begin.position, Vec::new());
        loop {
            let more = bench.events(Some(position), most);
            assert!(!more.lost && more.events.len() <= most);
            if more.events.is_empty() {
                break;
            }
            read.extend(numbers(&more));
            position = more.position.to_string().parse().unwrap();
        }
        assert_eq!(read, told);
        assert_eq!(position.sequence, bench.snapshot().sequence);
    }
}

#[test]
fn a_reader_that_was_away_for_too_long_is_told_so_and_memory_stays_bounded() {
    let bench = Bench::new();
    let begin = bench.events(None, 1).position;
    bench.post(|core| {
        for _ in 0..=KEPT {
            let target = Target {
                name: "t".to_owned(),
                alias: String::new(),
                created: start(),
                access: None,
            };
            core.commit(crate::failpoint::CATALOGUE, vec![Change::PutTarget(target)]).unwrap();
        }
    });
    bench.until("all of them", |state| state.sequence > u64::try_from(KEPT).unwrap());
    let late = bench.events(Some(begin), 1);
    assert!(late.lost && late.events.is_empty());
    assert_eq!(late.position.sequence, bench.snapshot().sequence);
    let just = EventPosition { sequence: begin.sequence + 1, ..begin };
    let found = bench.events(Some(just), usize::MAX);
    assert_eq!((found.lost, found.events.len()), (false, KEPT));
    let future = EventPosition { sequence: late.position.sequence + 1, ..begin };
    assert!(bench.events(Some(future), 1).lost, "nobody was there yet");
}

#[test]
fn a_position_of_another_start_of_the_engine_is_not_taken_for_one_of_this() {
    let mut bench = Bench::new();
    target(&bench, "t");
    let position = bench.events(None, 1).position;
    bench.restart();
    target(&bench, "u");
    assert!(bench.events(Some(position), 1).lost);
}

#[test]
fn a_reader_that_waits_is_woken_by_the_next_change_and_by_the_end() {
    let bench = &Bench::new();
    let begin = bench.events(None, 1).position;
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| bench.wait_events(begin, 10, PATIENCE));
        target(bench, "t");
        let found = reader.join().unwrap();
        assert!(matches!(found.events[0].change, ChangeKind::TargetCreated(_)));
        let position = found.position;
        let reader = scope.spawn(move || bench.wait_events(position, 10, PATIENCE));
        bench.engine.shutdown();
        let found = reader.join().unwrap();
        assert_eq!((found.events.len(), found.position), (0, position));
    });
}

#[test]
fn what_is_no_position_is_refused() {
    let stream = Uuid::new_v4().simple().to_string();
    for text in ["", "7", "-", &stream, &format!("{stream}-"), &format!("{stream}-+1"), "x-1"] {
        assert_eq!(text.parse::<EventPosition>(), Err(BadEventPosition), "{text}");
    }
}
