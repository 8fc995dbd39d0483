use std::fs::File;
use std::io::IoSliceMut;

use rustix::fs::Advice;
use rustix::io::{ReadWriteFlags, preadv2};

use super::*;
use crate::file::ImageFile;

const KIB: u64 = 1 << 10;
const READ: u64 = 64 * KIB;

/// Reads one behind the other: all that was asked for, in one piece.
fn run(streams: &mut Streams, from: u64, count: u64) -> Range<u64> {
    let mut all = 0..0;
    for number in 0..count {
        let offset = from + number * READ;
        let range = streams.begin(offset, READ);
        if !range.is_empty() {
            assert!(all.is_empty() || range.start == all.end, "asked for twice, or left out");
            assert!(range.end > offset + READ && range.end <= offset + READ + MOST);
            all = if all.is_empty() { range } else { all.start..range.end };
        }
    }
    all
}

#[test]
fn a_slow_stream_is_read_ahead_ever_further() {
    let mut streams = Streams::default();
    assert!(streams.begin(0, READ).is_empty());
    streams.has_waited(READ);
    assert!(streams.begin(READ, READ).is_empty());
    assert!(streams.begin(2 * READ, READ).is_empty());
    // With its own bytes, and in front of the rest.
    assert_eq!(streams.begin(3 * READ, READ), 3 * READ..4 * READ + FIRST);
    assert!(streams.begin(4 * READ, READ).is_empty(), "there is enough ahead");
    let all = run(&mut streams, 5 * READ, 100);
    assert_eq!(all.start, 4 * READ + FIRST);
    assert!(all.end > 104 * READ + MOST / 2, "{} ahead", all.end - 104 * READ);
}

#[test]
fn a_quick_medium_is_left_to_the_system() {
    assert!(run(&mut Streams::default(), 0, 100).is_empty());
}

#[test]
fn reads_at_random_are_no_stream() {
    let mut streams = Streams::default();
    for number in 0..1000_u64 {
        let offset = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        assert!(streams.begin(offset, READ).is_empty());
        streams.has_waited(offset + READ);
    }
    assert_eq!(streams.all.len(), STREAMS);
    // One place again and again, or backwards.
    let mut streams = Streams::default();
    for number in 0..100 {
        for offset in [SLACK * 8, SLACK * 80 - number * READ] {
            assert!(streams.begin(offset, READ).is_empty());
            streams.has_waited(offset + READ);
        }
    }
}

#[test]
fn several_streams_are_told_apart() {
    let mut streams = Streams::default();
    let mut asked = [0; STREAMS];
    for number in 0..20 {
        for (stream, asked) in (0..).zip(&mut asked) {
            let offset = stream * (1 << 30) + number * READ;
            let range = streams.begin(offset, READ);
            streams.has_waited(offset + READ);
            *asked += u32::from(!range.is_empty());
            assert!(range.is_empty() || (range.start >= offset && range.end <= offset + 2 * MOST));
        }
    }
    assert!(asked.iter().all(|asked| *asked >= 3), "{asked:?}");
}

#[test]
fn reads_that_come_out_of_their_order_are_one_stream() {
    let mut streams = Streams::default();
    let mut asked = 0..0;
    for number in 0..40 {
        // 1, 0, 3, 2, ...
        let offset = (number ^ 1) * READ;
        let range = streams.begin(offset, READ);
        streams.has_waited(offset + READ);
        if !range.is_empty() {
            assert!(asked.is_empty() || range.start == asked.end);
            asked = if asked.is_empty() { range } else { asked.start..range.end };
        }
    }
    assert_eq!(streams.all.len(), 1);
    assert!(asked.end > 40 * READ + MOST / 2);
}

#[test]
fn a_stream_that_starts_anew_elsewhere_is_another_one() {
    let mut streams = Streams::default();
    streams.begin(0, READ);
    streams.has_waited(READ);
    assert!(!run(&mut streams, READ, u64::from(READS)).is_empty());
    // It is not known to be slow there.
    assert!(run(&mut streams, 1 << 40, 100).is_empty());
    assert!(streams.begin(u64::MAX, READ).is_empty());
}

#[test]
fn only_what_a_read_has_waited_for_has_the_system_asked_for_more() {
    let ahead = ReadAhead::default();
    let mut asked = Vec::new();
    for number in 0..READS + 4 {
        let (mut start, now) = (None, Instant::now);
        let fetch = |range| asked.push((number, range));
        let answer = ahead.read(u64::from(number) * READ, READ, fetch, || {
            // The third one finds a medium that is slow.
            while number == 2 && start.get_or_insert_with(now).elapsed() < SLOW {}
            number
        });
        assert_eq!(answer, number);
    }
    assert_eq!(asked.first().map(|(number, _)| *number), Some(READS - 1), "{asked:?}");
}

#[test]
fn what_is_asked_for_comes_to_be_in_memory() {
    const LENGTH: usize = 16 << 20;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.img");
    std::fs::write(&path, vec![7; 2 * LENGTH]).unwrap();
    let file = File::open(&path).unwrap();
    file.sync_all().unwrap();
    // Asking for a byte has the system read a little around it, and then no more.
    rustix::fs::fadvise(&file, 0, None, Advice::Random).unwrap();
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    let was_cached = |offset: usize| {
        let byte = &mut [0];
        let bufs = &mut [IoSliceMut::new(byte)];
        let read = preadv2(&file, bufs, offset as u64, ReadWriteFlags::NOWAIT);
        read.is_ok_and(|count| count == 1)
    };
    let places = |range: Range<usize>| range.step_by(256 << 10);
    if preadv2(&file, &mut [], 0, ReadWriteFlags::NOWAIT).is_err()
        || places(LENGTH..2 * LENGTH).any(was_cached)
    {
        eprintln!("skipped: this file system does not say what is in memory, or it drops nothing");
        return;
    }
    let image = ImageFile::open(path.as_path(), true).unwrap();
    image.fetch(0..LENGTH as u64);
    let comes = places(0..LENGTH).any(|offset| {
        let cached = was_cached(offset);
        if !cached {
            std::thread::sleep(Duration::from_millis(50));
        }
        cached
    });
    assert!(comes);
}
